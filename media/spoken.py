"""Makes one sound that can be played as a file ("file:" and its path): from a text, or from another sound file.

python -m media.spoken MADE.wav [SOURCE]     the text is read from standard input
"""

from __future__ import annotations

import os
import sys
import wave
from pathlib import Path

import numpy as np

from media.prompt_making import RATE, read_sound, speak
from media.speech import WIDE, Resampler, Samples, clipped


def make(path: Path, text: str = "", source: Path | None = None) -> None:
    """Raises what reading the source or writing raises; nothing half-made is left under `path`."""
    if source is not None:
        samples: Samples = read_sound(source, WIDE)
    else:
        samples = Resampler(RATE, WIDE)(clipped(speak(text, path) * 32767))
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    with wave.open(str(unfinished), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(WIDE)
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    unfinished.replace(path)


if __name__ == "__main__":
    given = [Path(each) for each in sys.argv[1:]]
    make(given[0], "" if given[1:] else sys.stdin.read(), given[1] if given[1:] else None)
