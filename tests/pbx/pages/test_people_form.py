"""What people type into an entry, and what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_presence.roster import Agent, Skill
from config.errors import TheirError
from pbx.pages import languages
from pbx.pages.people_form import WrongEntry, base_of, entry, fields_of, skill_name, typed

ANA = Agent(
    "agent-ana", "Ana", "ana", "hash", {Skill("wifi-pairing"): 3, Skill("Billing EU"): 5}, ("pt", "en"), ("thermea",),
    standby=True, chats=3,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("wifi pairing", "wifi-pairing"),
        (" WiFi_Pairing ", "wifi-pairing"),
        ("billing  eu", "Billing EU"),
        ("Gas Law", "gas-law"),
        ("", ""),
    ],
)
def test_a_skill_is_called_as_it_is_called_already(text: str, name: str) -> None:
    assert skill_name(text, ANA.skills) == name


@pytest.mark.parametrize(
    ("text", "codes"),
    [("", ()), ("de", ("de",)), ("German, EN; pt-BR", ("de", "en", "pt-br")), ("en, english,, en", ("en",))],
)
def test_languages_by_code_or_name(text: str, codes: tuple[str, ...]) -> None:
    assert languages.codes(text) == codes


@pytest.mark.parametrize("text", ["klingon", "e", "en de", "<b>", "-", ",".join(languages.NAMES)])
def test_what_is_no_language(text: str) -> None:
    with pytest.raises(TheirError):
        languages.codes(text)


def posted(fields: dict[str, object]) -> dict[bytes, list[bytes]]:
    """What a browser sends of the form as it is shown."""
    sent: dict[bytes, list[bytes]] = {}
    for name in ("name", "login", "languages", "serves", "chats"):
        sent[name.encode()] = [str(fields[name]).encode()]
    for name in ("standby", "supervisor"):
        if fields[name]:
            sent[name.encode()] = [b"yes"]
    rows: list[dict[str, str]] = fields["rows"]  # type: ignore[assignment]
    for place, row in enumerate(rows):
        sent[b"skill-%d" % place] = [row["skill"].encode()]
        sent[b"level-%d" % place] = [row["level"].encode()]
    providers: list[str] = fields["providers"]  # type: ignore[assignment]
    sent[b"provider"] = [each.encode() for each in providers]
    return sent


def test_what_is_shown_and_sent_back_untouched_is_the_same_entry() -> None:
    read = entry(
        typed(posted(fields_of(ANA))),
        ANA,
        known_skills=set(ANA.skills),
        providers={"thermea"},
        may_serve_all=False,
    )
    assert base_of(read) == base_of(ANA)


def test_the_order_of_skills_is_no_change() -> None:
    other = Agent(
        **{
            **{name: getattr(ANA, name) for name in ANA.__slots__},
            "skills": dict(reversed(list(ANA.skills.items()))),
        }
    )
    assert base_of(other) == base_of(ANA)
    assert base_of(other) != base_of(Agent("agent-ana", "Ana", "ana", "hash"))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *(
                    b"name",
                    b"login",
                    b"languages",
                    b"serves",
                    b"provider",
                    b"chats",
                    b"standby",
                    b"supervisor",
                ),
                *(b"skill-0", b"level-0", b"skill-99", b"level-99", b"skill-x", b"skill-1000", b"\xff"),
            ]
        ),
        st.lists(st.binary(max_size=40), max_size=2),
    )
)
def test_whatever_is_sent_is_an_entry_within_the_wall_or_told_to_be_wrong(
    sent: dict[bytes, list[bytes]],
) -> None:
    try:
        read = entry(typed(sent), None, known_skills=(), providers={"thermea"}, may_serve_all=False)
    except WrongEntry:
        return
    assert read.provider_ids == ("thermea",)
    assert all(1 <= level <= 5 for level in read.skills.values())
    assert read.name.isprintable()
