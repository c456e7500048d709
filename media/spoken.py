"""Makes one more prompt, from a text or from any sound file, in all codecs; see `media.prompts`.

python -m media.spoken DIR NAME [SOURCE]     the text is read from standard input
"""

from __future__ import annotations

import sys
from pathlib import Path

from media.prompt_making import RATE, make_one, read_sound, speak, write_wav


def make(folder: Path, name: str, text: str = "", source: Path | None = None) -> None:
    """Raises what reading the source or writing raises; nothing half-made is left under its name."""
    path = folder / f"{name}.wav"
    write_wav(path, read_sound(source, RATE) / 32767 if source is not None else speak(text, path))
    make_one(folder, name)


if __name__ == "__main__":
    folder, name, *rest = sys.argv[1:]
    make(Path(folder), name, "" if rest else sys.stdin.read(), Path(rest[0]) if rest else None)
