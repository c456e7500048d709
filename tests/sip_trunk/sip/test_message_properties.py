"""What holds for every message: reading changes nothing, cutting changes nothing, nothing is read twice or in vain."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sip_trunk.sip import extension_headers as extension
from sip_trunk.sip import header_values as h
from sip_trunk.sip import message as message_module
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Message, Request
from sip_trunk.sip.multipart import body_parts
from sip_trunk.sip.parser import StreamParser, parse
from sip_trunk.sip.uri import SipUri, parse_uri
from tests.fuzz import sip_messages
from tests.sip_trunk.sip.torture_messages import FOUND, RFC4475, RFC5118

CORPUS = [*RFC4475.values(), *RFC5118.values(), *FOUND.values()]


def _sound(data: bytes) -> bool:
    try:
        return parse(data).to_bytes() == data
    except BadMessage:
        return False


SOUND = [data for data in CORPUS if _sound(data)]

# -- what a phone may write for one and the same thing

gap = st.sampled_from(["", " ", "  ", "\t", "\r\n ", " \r\n\t "])
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=12)
token = st.text(alphabet="abcXYZ0189-.!%*_+`'~", min_size=1, max_size=8)
user = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
host = st.sampled_from(["example.com", "192.0.2.1", "[2001:db8::7]", "a.b-c.example", "h"])
value = st.one_of(st.none(), token, words.map(h.quote_string))
params = st.dictionaries(token.map(str.lower).filter(lambda name: name != "tag"), value, max_size=4)


def escaped(name: str) -> str:
    return '"' + "".join("\\" + letter if letter in '"\\\0' else letter for letter in name) + '"'


Address = tuple[str, str, str, dict[str, str | None]]


@dataclass
class Meant:
    """What a written message is to say."""

    from_: Address
    contacts: list[Address]
    branches: list[str]
    call_id: str
    cseq: tuple[int, str]
    body: bytes


@st.composite
def addresses(draw: st.DrawFn) -> Address:
    """A name-addr as somebody might write it; and the name, the user and the parameters that are meant."""
    name, who, what = draw(words), draw(user), draw(params)
    uri = SipUri(user=who, host="example.com")
    text = draw(gap) + (escaped(name) + draw(gap) if name or draw(st.booleans()) else "") + f"<{uri}>"
    for key, content in what.items():
        written = key.upper() if draw(st.booleans()) else key
        text += draw(gap) + ";" + draw(gap) + written
        if content is not None:
            text += draw(gap) + "=" + draw(gap) + content
    return text, name, who, what


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, Meant]:
    """A request as somebody might write it, and what is meant."""
    method, call_id, body = draw(token), draw(token), draw(st.binary(max_size=40))
    froms, contacts = draw(addresses()), draw(st.lists(addresses(), max_size=4))
    branches = draw(st.lists(token, min_size=1, max_size=4))
    colon = draw(st.sampled_from([":", " :", "\t: "]))
    number = draw(st.integers(0, 2**31 - 1))
    lines = [
        f"{draw(st.sampled_from(['f', 'F', 'From', 'FROM']))}{colon}{froms[0]};tag=1",
        f"{draw(st.sampled_from(['t', 'To', 'tO']))}{colon} <sip:b@h>",
        f"{draw(st.sampled_from(['i', 'Call-ID', 'call-id']))}{colon} {call_id}",
        f"CSeq{colon}{draw(gap)}{number:0{draw(st.integers(1, 10))}}\r\n {method}",
        f"{draw(st.sampled_from(['l', 'Content-Length']))}{colon} {len(body)}",
    ]
    vias = [f"SIP/2.0{draw(gap)}/UDP  {draw(host)};branch={branch}" for branch in branches]
    if draw(st.booleans()):
        lines.append(f"v{colon}" + f"{draw(gap)},{draw(gap)}".join(vias))
    else:
        lines += [f"Via{colon}{via}" for via in vias]
    joined = draw(st.booleans())
    if contacts and joined:
        lines.append(f"m{colon}" + f"{draw(gap)},".join(text for text, *_ in contacts))
    else:
        lines += [f"Contact{colon}{text}" for text, *_ in contacts]
    order = draw(st.permutations(range(len(lines[:5]))))
    text = "\r\n".join(
        [f"{method} sip:us@example.com SIP/2.0", *(lines[at] for at in order), *lines[5:], "", ""]
    )
    return text.encode() + body, Meant(froms, contacts, branches, call_id, (number, method), body)


@settings(max_examples=80)
@given(messages())
def test_what_is_meant_is_read_however_it_is_written(written: tuple[bytes, Meant]) -> None:
    data, meant = written
    message = parse(data)
    assert [via.branch for via in message.vias] == meant.branches
    assert (message.call_id, message.cseq, message.body) == (meant.call_id, meant.cseq, meant.body)
    assert message.from_.tag == "1"
    for address, (_, name, who, what) in zip(
        [message.from_, *message.contacts], [meant.from_, *meant.contacts], strict=True
    ):
        assert (address.display, address.uri.user) == (name, who)
        assert {key: value for key, value in address.params.items() if key != "tag"} == what
    assert message.to_bytes() == data


@given(st.sampled_from(SOUND))
def test_reading_changes_nothing(data: bytes) -> None:
    message = parse(data)
    for name in sip_messages.PROPERTIES:
        try:
            getattr(message, name)
        except BadMessage:
            pass
    assert message.to_bytes() == data


@settings(max_examples=60)
@given(st.data())
def test_a_stream_may_be_cut_anywhere(data: st.DataObject) -> None:
    one = st.one_of(st.sampled_from(SOUND), messages().map(lambda made: made[0]), st.just(b"\r\n\r\n"))
    several = data.draw(st.lists(one, min_size=1, max_size=4))
    stream = b"".join(several)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    parser = StreamParser()
    found = [item for piece in pieces for item in parser.feed(piece)]
    assert [item for item in found if isinstance(item, Message)] == [
        parse(one) for one in several if one != b"\r\n\r\n"
    ]
    assert parser.idle


pieces = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [
            b"\r\n",
            b"\r\n ",
            b"\r\n\r\n",
            b";",
            b",",
            b'"',
            b"\\",
            b"<",
            b">",
            b"\0",
            b"%",
            b"%00",
            b":",
            b"@",
            b"[",
            b"=",
            b"::",
            b" ",
            b"\t",
            b"\xff",
            b"\xc3",
            b"sip:",
            b"tel:",
            b"*",
            b"v:",
            b"l:",
            b"99999999999",
            b"multipart/",
        ]
    ),
)


@settings(max_examples=250)
@given(
    st.sampled_from(CORPUS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), pieces), min_size=1, max_size=4),
)
def test_no_damage_to_a_torture_message_raises_anything_else(
    data: bytes, damages: list[tuple[float, int, bytes]]
) -> None:
    for where, removed, inserted in damages:
        at = int(where * len(data))
        data = data[:at] + inserted + data[at + removed :]
    sip_messages.check(data)


@given(st.sampled_from(sip_messages.READERS), st.text(max_size=60))
def test_no_text_raises_anything_else(read: Callable[[str], object], text: str) -> None:
    try:
        read(text)
    except BadMessage:
        pass


# -- lazily


def counted(monkeypatch: pytest.MonkeyPatch, *names: str) -> dict[str, int]:
    calls = dict.fromkeys(names, 0)

    def watch(name: str) -> None:
        real = getattr(message_module, name)

        def read(*arguments: object) -> object:
            calls[name] += 1
            return real(*arguments)

        monkeypatch.setattr(message_module, name, read)

    for name in names:
        watch(name)
    return calls


def test_what_was_parsed_is_kept() -> None:
    data = RFC4475["wsinv"].replace(b"Route:", b"P-Asserted-Identity: <sip:a@h\r\nRoute:")
    message = parse(data)
    assert isinstance(message, Request)
    for name in ("from_", "to", "top_via", "vias", "cseq", "contacts", "routes"):
        assert getattr(message, name) is getattr(message, name)
    # Nobody has asked for this one yet.
    with pytest.raises(BadMessage):
        message.addresses("P-Asserted-Identity")


@pytest.mark.skipif(
    not str(message_module.__file__).endswith(".py"), reason="compiled functions call each other unseen"
)
def test_a_header_is_parsed_when_asked_for_and_at_most_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(
        monkeypatch, "parse_name_addr", "parse_via", "parse_cseq", "parse_contacts", "parse_media_type"
    )
    data = RFC4475["wsinv"].replace(b"Route:", b"P-Asserted-Identity: <sip:a@h>\r\nRoute:")
    message = parse(data)
    assert isinstance(message, Request)
    # What every message is checked for: From, To, the one Contact and Route; the top Via; CSeq.
    assert calls == {
        "parse_name_addr": 4,
        "parse_via": 1,
        "parse_cseq": 1,
        "parse_contacts": 0,
        "parse_media_type": 0,
    }
    for _ in range(3):
        _ = (
            message.from_,
            message.to,
            message.top_via,
            message.vias,
            message.cseq,
            message.contacts,
            message.routes,
        )
    assert calls["parse_name_addr"] == 4
    assert calls["parse_via"] == 1 + 3  # all three hops, when somebody wants them
    assert (calls["parse_cseq"], calls["parse_contacts"]) == (1, 0)
    assert message.to_bytes() == data


def test_a_changed_header_leaves_the_others_as_they_came() -> None:
    message = parse(RFC4475["wsinv"])
    message.headers.set("Subject", "new")
    before, after = RFC4475["wsinv"].split(b"s :\r\n")
    assert message.to_bytes() == before + b"Subject: new\r\n" + after


# -- never the square of the length

HOSTILE: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
    "spaces in a name": (h.parse_name_addr, lambda n: "a" + " " * n + "b"),
    "vertical tabs before no address": (h.parse_name_addr, lambda n: "\v" * n),
    "escapes in an open quote": (h.parse_name_addr, lambda n: '"' + '\\"' * (n // 2)),
    "parameters": (h.parse_name_addr, lambda n: "<sip:a@h>" + ";a" * (n // 2)),
    "spaced parameters": (
        h.parse_name_addr,
        lambda n: "<sip:a@h>" + "".join(f" ; p{i} = 1" for i in range(n // 10)),
    ),
    "spaces after parameters": (h.parse_params, lambda n: ";a" + " " * n + "!"),
    "quotes in parameters": (h.parse_params, lambda n: ';a="' + '\\"' * (n // 2)),
    "brackets": (h.split_list, lambda n: "<" * n + ","),
    "open quotes": (h.split_list, lambda n: "," + '"a' * (n // 2) + '"'),
    "hyphens in a host": (parse_uri, lambda n: "sip:a@" + "a-" * (n // 2)),
    "colons in a user": (parse_uri, lambda n: "sip:" + "a:" * (n // 2)),
    "colons in brackets": (parse_uri, lambda n: "sip:[" + ":" * n + "]"),
    "uri parameters": (parse_uri, lambda n: "sip:h" + "".join(f";p{i}" for i in range(n // 6))),
    "uri headers": (parse_uri, lambda n: "sip:h?" + "&".join(f"a{i}=1" for i in range(n // 6))),
    "bad escapes": (parse_uri, lambda n: "sip:" + "%41" * (n // 3) + "%4@h"),
    "digits": (parse_uri, lambda n: "tel:" + "1" * n + "!"),
    "visual separators": (parse_uri, lambda n: "tel:+" + "-." * (n // 2)),
    "spaces in a via": (h.parse_via, lambda n: "SIP/2.0/UDP h" + " " * n + "x"),
    "spaces before a via": (h.parse_via, lambda n: "\t " * (n // 2) + "x"),
    "dots in a via": (h.parse_via, lambda n: "SIP/2.0/UDP " + "a." * (n // 2) + "-"),
    "digits of a cseq": (h.parse_cseq, lambda n: "1" + " " * n),
    "privacy": (extension.parse_privacy, lambda n: ";" * n),
    "a call id": (extension.parse_replaces, lambda n: "a" * n + ";to-tag=1;from-tag=2"),
    "an index": (
        lambda value: extension.parse_history_info([value]),
        lambda n: "<sip:a@h>;index=" + "1." * (n // 2),
    ),
    "folds": (
        lambda text: parse(text.encode()),
        lambda n: "A b SIP/2.0\r\nX: a" + "\r\n " * (n // 3) + "\r\n\r\n",
    ),
    "delimiters": (
        lambda text: body_parts(Request("A", "sip:h", [], text.encode(), "multipart/mixed;boundary=b")),
        lambda n: "\r\n--b" * (n // 5),
    ),
    "padding of delimiters": (
        lambda text: body_parts(Request("A", "sip:h", [], text.encode(), "multipart/mixed;boundary=b")),
        lambda n: "\r\n--b" + " " * n + "x",
    ),
    "a trickle into a stream": (
        lambda text: [parser.feed(b"x") for parser in [StreamParser()] for _ in text],
        lambda n: "x" * n,
    ),
    "keep-alives": (lambda text: StreamParser().feed(text.encode()), lambda n: "\r\n" * (n // 2)),
}


def _cost(read: Callable[[str], object], text: str) -> float:
    best = 60.0
    for _ in range(3):
        began = time.process_time()
        try:
            read(text)
        except BadMessage:
            pass
        best = min(best, time.process_time() - began)
    return best


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_takes_the_square_of_its_length_to_read(name: str) -> None:
    read, text = HOSTILE[name]
    small, large = _cost(read, text(2_000)), _cost(read, text(32_000))
    # Sixteen times the length: the square of it would be 256 times the work.
    assert large < 64 * small + 0.004
