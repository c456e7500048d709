"""XML as small status bodies carry it, read from the network: no DTD, no entities, bounded in every direction."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn
from xml.parsers import expat

from sip_trunk.sip.errors import BadMessage

LARGEST = 4096
DEEPEST = 8
MOST_ELEMENTS = 64

_BETWEEN = "\n"
"""Parts a namespace from a name, and can stand in neither."""


@dataclass(slots=True)
class Element:
    """`text` is what stands directly in it, trimmed."""

    namespace: str
    name: str
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def child(self, name: str) -> Element | None:
        """The only child of that name in the element's own namespace. Raises BadMessage when there are several."""
        found = [child for child in self.children if child.name == name and child.namespace == self.namespace]
        if len(found) > 1:
            raise BadMessage(f"Several <{name}>")
        return found[0] if found else None

    def words(self, name: str) -> str | None:
        """The text of that only child. Raises BadMessage."""
        found = self.child(name)
        return found.text if found is not None else None


def parse_xml(body: bytes) -> Element:
    """The root element. Raises BadMessage: 413 for a body beyond LARGEST, 400 for everything else."""
    if len(body) > LARGEST:
        raise BadMessage("XML Too Large", 413)
    reader = _Reader()
    # Told so here, what a document declares its encoding to be is not asked; but for UTF-16's own mark it is UTF-8.
    parser = expat.ParserCreate("utf-8", _BETWEEN)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    # Without a DTD there are no entities but XML's own five, so nothing can grow or be fetched.
    parser.StartDoctypeDeclHandler = _no_declarations
    parser.EntityDeclHandler = _no_declarations
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError) as error:
        raise BadMessage("Bad XML") from error
    if reader.root is None:
        raise BadMessage("Bad XML")
    return reader.root


class _Reader:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MOST_ELEMENTS or len(self._open) >= DEEPEST:
            raise BadMessage("Too Much XML")
        namespace, _, local = name.rpartition(_BETWEEN)
        element = Element(namespace, local)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, name: str) -> None:
        element = self._open.pop()
        element.text = element.text.strip()

    def text(self, text: str) -> None:
        self._open[-1].text += text


def _no_declarations(*declared: object) -> NoReturn:
    raise BadMessage("XML Declarations Are Not Taken")


def moment(text: str) -> float:
    """An xs:dateTime as epoch seconds; one without a zone is in UTC. Raises BadMessage."""
    try:
        found = datetime.fromisoformat(text)
        # In UTC, for within hours of the first or last year a zone leads to one that cannot be written again.
        return (found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise BadMessage("Bad date") from error


def written(at: float) -> str:
    """Epoch seconds as an xs:dateTime in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
