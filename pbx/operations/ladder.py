"""SIP messages as a ladder of arrows, one column a party, for a terminal.

What is drawn came off the wire, and a hostile message may hold anything: whatever is not printable is shown as an
escape, so that no terminal is ever told to do something.
"""

from __future__ import annotations

import time
import unicodedata
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sip_trunk.sip.uri import bracketed
from sip_trunk.trace import Brief, brief

US = "Warmline"
_MARGIN = 11  # where the time stands
_NARROWEST = 18
_MOST_IDS = 5_000
_MOST_SEEN = 2_000

_RESET, _BOLD, _DIM, _RED, _GREEN, _CYAN = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[36m"


@dataclass(frozen=True, slots=True)
class Strokes:
    """What lines are drawn with."""

    post: str = "│"
    line: str = "─"
    right: str = "▶"
    left: str = "◀"
    cut: str = "…"


ASCII = Strokes("|", "-", ">", "<", "~")


def clean(text: str) -> str:
    """`text` with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    number = ord(c)
    if 0xDC80 <= number <= 0xDCFF:  # an octet that was no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def cells(text: str) -> list[str]:
    """`text` by the cells it takes: a wide character is followed by an empty one, a mark stands with its letter."""
    found: list[str] = []
    for c in text:
        if unicodedata.combining(c) and found:
            found[-1] += c
        elif unicodedata.east_asian_width(c) in "WF":
            found += (c, "")
        else:
            found.append(c)
    return found


def fit(text: str, width: int, cut: str) -> list[str]:
    """The cells of `text`, at most `width` of them."""
    whole = cells(text)
    if len(whole) <= width:
        return whole
    kept = whole[: max(0, width - 1)]
    if kept and len(whole) > len(kept) and whole[len(kept)] == "":
        kept = [*kept[:-1], " "]  # half of a wide character
    return [*kept, *cut][:width]


@dataclass(slots=True)
class _Group:
    """The legs of one conversation: what shares a Session-ID or Call-ID."""

    number: int
    began: float
    parties: list[str] = field(default_factory=list)
    headings: dict[str, str] = field(default_factory=dict)
    seen: OrderedDict[tuple[object, ...], int] = field(default_factory=OrderedDict)
    name: str = ""


class Ladder:
    """Gives the lines for each message as it comes.

    width: columns of the terminal. colours: whether it has any. strokes: ASCII where nothing else can be written.
    raw: whole messages too.
    """

    def __init__(
        self, *, width: int = 100, colours: bool = False, strokes: Strokes | None = None, raw: bool = False
    ) -> None:
        self._width = max(40, width)
        self._colours = colours
        self._strokes = strokes or Strokes()
        self._raw = raw
        self._groups: OrderedDict[str, _Group] = OrderedDict()  # by id
        self._count = 0
        self._shown: tuple[int, int] | None = None

    def lines(self, record: Mapping[str, Any]) -> list[str]:
        """What to print for one message, as the server's trace tells of it."""
        text = str(record["text"])
        message = brief(text.encode("utf-8", "surrogateescape"))
        group = self._group_of(message, float(record["at"]))
        party = f"{record['transport']} {bracketed(str(record['host']))}:{record['port']}"
        if party not in group.headings:
            group.parties.append(party)
            group.headings[party] = str(record["party"])
        self._name_party(group, party, message, sent=bool(record["sent"]))
        times = self._times_seen(group, party, record, text)
        lines: list[str] = []
        if self._shown != (group.number, len(group.parties)):
            self._shown = (group.number, len(group.parties))
            lines += self._heading(group, message)
        lines.append(self._arrow(group, party, message, record, times))
        if self._raw:
            lines += [
                f"{'':{_MARGIN}}{clean(line)}" for line in text.rstrip().replace("\r\n", "\n").split("\n")
            ]
            lines.append("")
        return lines

    def _group_of(self, message: Brief, at: float) -> _Group:
        group = next((self._groups[each] for each in message.ids if each in self._groups), None)
        if group is None:
            self._count += 1
            group = _Group(self._count, at)
        for each in message.ids:
            self._groups[each] = group
            self._groups.move_to_end(each)
        while len(self._groups) > _MOST_IDS:
            self._groups.popitem(last=False)
        return group

    @staticmethod
    def _name_party(group: _Group, party: str, message: Brief, *, sent: bool) -> None:
        """Say whose phone it is, as soon as a message tells: From of what it sends, To of what it gets."""
        heading = group.headings[party]
        if " " in heading or message.status is not None:
            return
        address = _header(message, "to", "t") if sent else _header(message, "from", "f")
        user = address.partition("sip:")[2].partition("@")[0] if "@" in address else ""
        if user:
            group.headings[party] = f"{heading} {user[:40]}"

    @staticmethod
    def _times_seen(group: _Group, party: str, record: Mapping[str, Any], text: str) -> int:
        key = (party, record["sent"], hash(text))
        times = group.seen.pop(key, 0) + 1
        group.seen[key] = times
        if len(group.seen) > _MOST_SEEN:
            group.seen.popitem(last=False)
        return times

    # Drawing

    def _heading(self, group: _Group, message: Brief) -> list[str]:
        s = self._strokes
        began = (
            time.strftime("%H:%M:%S", time.localtime(group.began)) + f".{int(group.began * 1000) % 1000:03d}"
        )
        session = next((f"session {each} " for each in message.ids if each != message.call_id), "")
        title = fit(f"{s.line * 2} {group.number}  {began}  {session}", self._width, s.cut)
        title += [s.line] * (self._width - len(title))
        call = fit(f"{'':{_MARGIN}}Call-ID {clean(message.call_id)}", self._width, s.cut)
        lines = ["", self._painted("".join(title), _BOLD), self._painted("".join(call), _DIM)]
        columns = self._columns(group)
        if columns is None:
            return lines
        names = [US if each is None else group.headings[each] for each in self._order(group)]
        places = ["" if each is None else each for each in self._order(group)]
        for row in (names, places):
            line = [" "] * self._width
            for middle, name in zip(columns, row, strict=True):
                shown = fit(clean(name), self._step(group) - 2, s.cut)
                start = max(0, middle - len(shown) // 2)
                line[start : start + len(shown)] = shown
            lines.append(self._painted("".join(line[: self._width]).rstrip(), _CYAN))
        return lines

    @staticmethod
    def _order(group: _Group) -> list[str | None]:
        """The columns from left to right: whoever came first, ourselves, the others."""
        return [group.parties[0], None, *group.parties[1:]]

    def _step(self, group: _Group) -> int:
        return (self._width - _MARGIN) // (len(group.parties) + 1)

    def _columns(self, group: _Group) -> list[int] | None:
        """The middle of each; None when there is no room for them side by side."""
        step = self._step(group)
        if step < _NARROWEST:
            return None
        return [_MARGIN + step * place + step // 2 for place in range(len(group.parties) + 1)]

    def _arrow(self, group: _Group, party: str, message: Brief, record: Mapping[str, Any], times: int) -> str:
        s = self._strokes
        offset = f"{float(record['at']) - group.began:+.3f}"[: _MARGIN - 2]
        label = clean(_label(message))
        if times > 1:
            label = f"again({times}) {label}"
        colour = (
            _DIM if times > 1 else _GREEN if message.status is None else _RED if message.status >= 400 else ""
        )
        columns = self._columns(group)
        if columns is None:
            way = f"{US} {s.line}{s.right}" if record["sent"] else f"{US} {s.left}{s.line}"
            line = f"{offset:{_MARGIN}}{way} {party} {clean(group.headings[party])}  {label}"
            return self._painted("".join(fit(line, self._width, s.cut)), colour)
        order = self._order(group)
        theirs, ours = columns[order.index(party)], columns[order.index(None)]
        low, high = min(theirs, ours), max(theirs, ours)
        line_cells = [" "] * (columns[-1] + 1)
        for column in columns:
            line_cells[column] = s.post
        rightward = (ours if record["sent"] else theirs) == low
        shaft = [s.line] * (high - low - 1)
        shaft[-1 if rightward else 0] = s.right if rightward else s.left
        shown = fit(f" {label} ", len(shaft) - 3, s.cut)
        # Beside us, not in the middle: another party's post may stand there.
        start = (len(shaft) - len(shown)) // 2
        shaft[start : start + len(shown)] = shown
        line_cells[low + 1 : high] = shaft
        left = f"{offset:{_MARGIN}}"
        drawn = "".join(line_cells)[_MARGIN:]
        return f"{left}{self._painted(drawn, colour)}"

    def _painted(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colours and colour else text


def _label(message: Brief) -> str:
    sdp = " +sdp" if message.has_sdp else ""
    if message.status is not None:
        return f"{message.start[8:].strip()}{sdp} ({message.method})"
    parts = message.start.split(" ")
    if len(parts) < 3:
        return f"? {message.start[:60]}"
    return f"{message.method}{sdp} {parts[1]}"


def _header(message: Brief, *names: str) -> str:
    for line in message.head.split("\n")[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() in names:
            return value
    return ""
