"""Run a target under atheris: python -m tests.fuzz TARGET [CORPUS…] [-libfuzzer_option=value…]"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    name, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["sip_trunk.sip", "media"]):
        target = importlib.import_module(f"tests.fuzz.{name}")
    folders = [Path(argument) for argument in arguments if Path(argument).is_dir()]
    if folders:
        for number, seed in enumerate(target.seeds()):
            (folders[0] / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *arguments], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
