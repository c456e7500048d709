"""Jinja2 templates and the few files beside them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class Assets:
    """The files of `static/`, read once; their addresses change with their content, so browsers may keep them."""

    def __init__(self, folder: Path = HERE / "static", prefix: str = "/agent/static/") -> None:
        self._prefix = prefix
        self._files = {
            path.name: (path.read_bytes(), KINDS[path.suffix])
            for path in sorted(folder.iterdir())
            if path.suffix in KINDS
        }
        self._stamps = {name: hashlib.sha256(raw).hexdigest()[:12] for name, (raw, _) in self._files.items()}

    def url(self, name: str) -> str:
        return f"{self._prefix}{name}?v={self._stamps[name]}"

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Content and media type."""
        return self._files.get(name)


class Drawing:
    """Draws a template; everything it is given is escaped."""

    def __init__(self, assets: Assets) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["asset"] = assets.url

    def draw(self, template: str, **values: Any) -> str:
        values.setdefault("csrf", "")
        return self._environment.get_template(template).render(values)

    def line(self, message: dict[str, Any]) -> str:
        """One line of a chat."""
        module: Any = self._environment.get_template("macros.html").module
        return str(module.line(message)).strip()
