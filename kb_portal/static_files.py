"""The portal's own files (styles, scripts, drawings), held in memory and served under a name that changes with them.

Every address carries the hash of the whole tree, so that a browser may keep a file for a year and relative imports
between scripts still stay within one version.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
_WORTH_PACKING = 1024


@dataclass(frozen=True, slots=True)
class StaticFile:
    content: bytes
    packed: bytes | None
    content_type: str
    lasting: bool


class StaticFiles:
    """The files below `folder` as they were when this was made; others than the known types are not served."""

    def __init__(self, folder: Path) -> None:
        digest = hashlib.sha256()
        self._files: dict[str, StaticFile] = {}
        for path in sorted(folder.rglob("*")):
            content_type = _TYPES.get(path.suffix)
            if content_type is None or not path.is_file():
                continue
            name = path.relative_to(folder).as_posix()
            content = path.read_bytes()
            digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
            packed = gzip.compress(content, 9) if len(content) >= _WORTH_PACKING else None
            self._files[name] = StaticFile(content, packed, content_type, lasting=False)
        self.version = digest.hexdigest()[:12]

    def url(self, name: str) -> str:
        """The lasting address of a file."""
        return f"/static/{self.version}/{name}"

    def find(self, path: str) -> StaticFile | None:
        """The file at what follows /static/, with or without the version. An old version's address gives today's."""
        file = self._files.get(path)
        if file is not None:
            return file
        version, _, name = path.partition("/")
        file = self._files.get(name)
        if file is None or len(version) != len(self.version):
            return None
        return StaticFile(file.content, file.packed, file.content_type, lasting=version == self.version)
