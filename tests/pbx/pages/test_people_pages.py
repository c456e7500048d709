"""The supervisor's pages of people: who may change whom, what is in force at once, and what is told of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.web.resource import Resource

from agent_presence.roster import Agent
from pbx.api.site import WarmlineSite, build_root
from pbx.pages.panels import SoftphoneSetup
from pbx.pages.people import PeoplePages
from pbx.pages.people_form import base_of
from pbx.people import People
from pbx.skills import Rule
from tests.conftest import run
from tests.pbx.centre import Centre
from tests.pbx.web import Browser, CookieLogins, Reply, words

ALL = "/agent/people"
ANA = f"{ALL}/agent-ana"


class Passwords(CookieLogins):
    async def hash_password(self, password: str) -> str:
        return f"hash of {password}"

    async def end_all(self, kind: str, subject: str) -> None:
        self.ended.add(subject)


class Rig:
    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        house = centre.house
        self.roster, self.states = house.roster, house.states
        house.roster.on_change += [centre.dispatch.agent_changed, centre.expected_wait.agent_changed]
        self.logins = Passwords()
        logins: Any = self.logins
        self.people = People(
            house.roster, house.states, house.location, centre.staffing, centre.contacts, logins, house.events,
            house.now,
        )  # fmt: skip
        pages = PeoplePages(
            self.people, house.roster, house.states, house.location, centre.portal, centre.rules, logins,
            setup=SoftphoneSetup("warmline.test", "192.0.2.1:5060", ("UDP",)), chats=2, clock=centre.clock,
            now=house.now,
        )  # fmt: skip
        root = build_root(
            api=Resource(), pages=Resource(), supervisor=Resource(), portal=Resource(), sip=None,
            more={"agent/people": pages.resource()},
        )  # fmt: skip
        self.site = WarmlineSite(root, centre.clock, access_log=lambda line: None)
        self.carla = self.browser("agent-carla")
        self.lena = self.browser("agent-lena")
        self.ana = self.browser("agent-ana")
        self.stranger = Browser(self.site)

    def browser(self, agent_id: str) -> Browser:
        return Browser(self.site, {"warmline_agent": agent_id})

    def agent(self, name: str = "ana") -> Agent:
        agent = self.roster.agent(f"agent-{name}")
        assert agent is not None
        return agent

    def fields(self, who: str = "ana", /, **changes: Any) -> dict[str, Any]:
        """What the form of this agent posts when nothing was typed."""
        agent = self.agent(who)
        skills = {
            f"{what}-{place}": str(value)
            for place, (skill, level) in enumerate(sorted(agent.skills.items()))
            for what, value in (("skill", skill), ("level", level))
        }
        return {
            "base": base_of(agent),
            "name": agent.name,
            "login": agent.login,
            "languages": ", ".join(agent.languages),
            "serves": "some" if agent.provider_ids else "all",
            "chats": str(agent.chats or ""),
            **({"supervisor": "yes"} if agent.supervisor else {}),
            **({"provider": agent.provider_ids[0]} if agent.provider_ids else {}),
            **skills,
            **changes,
        }

    async def save(self, by: Browser, who: str = "ana", /, **changes: Any) -> Reply:
        return await by.submit(f"{ALL}/agent-{who}", self.fields(who, **changes))


async def open_rig() -> Rig:
    centre = await Centre.open()
    for name, providers in (("carla", ()), ("lena", ("lumio",))):
        await centre.house.roster.add_agent(
            name.title(), name, "hash", skills={}, provider_ids=providers, supervisor=True,
            agent_id=f"agent-{name}",
        )  # fmt: skip
    await centre.agent("ana", heating=3)
    return Rig(centre)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = run(open_rig())
    yield rig
    for call in tuple(rig.centre.clock.getDelayedCalls()):
        call.cancel()


def secret(reply: Reply) -> str:
    found = re.search(r'id="secret">([^<]+)<', reply.body)
    assert found is not None, words(reply)
    return found[1]


# Who may see and change whom


@pytest.mark.parametrize("path", ["", "/new", "/agent-ana"])
async def test_only_a_supervisor_sees_anything(rig: Rig, path: str) -> None:
    assert (await rig.stranger.get(ALL + path)).status == 401
    assert (await rig.ana.get(ALL + path)).status == 404
    reply = await rig.carla.get(ALL + path)
    assert reply.status == 200
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "no-store"


POSTS = (
    "/new", "/agent-ana", "/agent-ana/password", "/agent-ana/phones", "/agent-ana/phones/device-ana/password",
    "/agent-ana/phones/device-ana/remove", "/agent-ana/deactivate", "/agent-ana/rest", "/agent-ana/back",
)  # fmt: skip


@pytest.mark.parametrize("path", POSTS)
async def test_nothing_is_done_without_the_token_or_by_who_is_no_supervisor(rig: Rig, path: str) -> None:
    before = rig.agent(), rig.roster.devices_of("agent-ana"), rig.roster.agents()
    fields = rig.fields(name="Eve", sure="yes", end="yes")
    for csrf in (None, "guess"):
        assert (await rig.carla.submit(ALL + path, fields, csrf=csrf)).status == 403
    assert (await rig.ana.submit(ALL + path, fields)).status == 404
    assert (await rig.stranger.submit(ALL + path, fields)).status == 401
    assert (rig.agent(), rig.roster.devices_of("agent-ana"), rig.roster.agents()) == before


@pytest.mark.parametrize("path", [path for path in POSTS if path != "/new"])
async def test_a_supervisor_of_one_provider_changes_nobody_who_serves_others_too(rig: Rig, path: str) -> None:
    before = rig.agent(), rig.roster.devices_of("agent-ana")
    reply = await rig.lena.submit(ALL + path, rig.fields(name="Eve", sure="yes", end="yes"))
    assert reply.status == 403, words(reply)
    assert (rig.agent(), rig.roster.devices_of("agent-ana")) == before
    page = await rig.lena.get(ANA)
    assert "They serve other providers as well" in words(page)
    assert "<button" not in page.body.partition('<main id="main">')[2]
    assert "device-ana" not in page.body


async def test_each_provider_stands_once_in_the_entry_of_somebody_who_serves_it(rig: Rig) -> None:
    page = await rig.carla.get(f"{ALL}/agent-lena")
    assert page.body.count('name="provider" value="lumio"') == 1


async def test_of_who_serves_other_providers_alone_nothing_is_told(rig: Rig) -> None:
    await rig.roster.add_agent(
        "Theo Thermea", "theo", "x", skills={"pumps": 2}, provider_ids=("thermea",), agent_id="agent-theo"
    )
    assert "Theo" in words(await rig.carla.get(ALL))
    for path in (ALL, f"{ALL}?q=theo", f"{ALL}/new"):
        body = (await rig.lena.get(path)).body
        assert "Theo" not in body
        assert "pumps" not in body
        assert "Thermea" not in body.replace("Theo Thermea", "")
    theirs, nobodys = await rig.lena.get(f"{ALL}/agent-theo"), await rig.lena.get(f"{ALL}/agent-nobody")
    assert (theirs.status, words(theirs)) == (nobodys.status, words(nobodys)) == (404, words(nobodys))
    assert (await rig.lena.submit(f"{ALL}/agent-theo/password", {})).status == 404


@pytest.mark.parametrize(
    "given", [{"serves": "all"}, {"provider": "thermea"}, {"provider": "nobody"}, {"provider": ""}]
)
async def test_nobody_gets_a_wider_wall_than_the_supervisors_own(rig: Rig, given: dict[str, str]) -> None:
    fields = {"name": "Mia", "login": "mia", "serves": "some", "provider": "lumio", **given}
    assert (await rig.lena.submit(f"{ALL}/new", fields)).status == 422
    assert rig.roster.by_login("mia") is None
    added = await rig.lena.submit(f"{ALL}/new", {**fields, "serves": "some", "provider": "lumio"})
    assert added.status == 200
    mia = rig.roster.by_login("mia")
    assert mia is not None
    assert mia.provider_ids == ("lumio",)
    changed = {**fields, "base": base_of(mia)}
    assert (await rig.lena.submit(f"{ALL}/{mia.id}", changed)).status == 422
    assert rig.roster.by_login("mia") == mia


async def test_nobody_locks_themselves_out(rig: Rig) -> None:
    assert (await rig.save(rig.carla, "carla", supervisor="")).status == 409
    reply = await rig.save(rig.carla, "carla", serves="some", provider="lumio")
    assert "You cannot change your own providers" in words(reply)
    reply = await rig.carla.submit(f"{ALL}/agent-carla/deactivate", {"sure": "yes"})
    assert reply.status == 409
    assert rig.agent("carla").supervisor
    assert (await rig.save(rig.carla, "carla", languages="it")).status == 303, (
        "their skills and languages they may"
    )


# An entry


async def test_somebody_new_gets_a_login_and_then_a_phone(rig: Rig) -> None:
    reply = await rig.carla.submit(
        f"{ALL}/new",
        {
            "name": "Zoë Ünal", "login": " Zoe ", "skill-0": "Heating", "level-0": "4", "skill-1": "Gas law",
            "level-1": "2", "skill-2": "", "level-2": "3", "languages": "tr, English", "serves": "some",
            "provider": "thermea", "chats": "3",
        },
    )  # fmt: skip
    assert reply.status == 200
    zoe = rig.roster.by_login("zoe")
    assert zoe is not None
    assert zoe.password_hash == f"hash of {secret(reply)}"
    assert dict(zoe.skills) == {"heating": 4, "gas-law": 2}, "a skill that is known keeps its name"
    assert (zoe.name, zoe.languages, zoe.provider_ids, zoe.chats) == (
        "Zoë Ünal",
        ("tr", "en"),
        ("thermea",),
        3,
    )
    reply = await rig.carla.submit(f"{ALL}/{zoe.id}/phones", {"name": "Softphone"})
    (device,) = rig.roster.devices_of(zoe.id)
    assert (device.name, device.username) == ("Softphone", "zoe")
    given = rig.roster.credentials_of("zoe")
    assert given is not None
    assert secret(reply) not in repr(device)
    assert "192.0.2.1:5060" in words(reply)
    added, phone = rig.centre.events("agent.added")[0], rig.centre.events("device.added")[0]
    assert (added.agent, added.facts["by"], added.facts["skills"]) == (
        zoe.id, "agent-carla", {"heating": 4, "gas-law": 2},
    )  # fmt: skip
    assert (phone.agent, phone.facts["by"], phone.facts["username"]) == (zoe.id, "agent-carla", "zoe")
    told = repr(rig.centre.house.told)
    assert "hash of" not in told
    assert secret(reply) not in told
    again = await rig.centre.house.again()
    assert again.roster.agents() == rig.roster.agents()


async def test_a_changed_level_changes_who_is_chosen(rig: Rig) -> None:
    await rig.centre.rules.put(
        "thermea", [Rule("product", "boiler", "heating", 5.0, 3)], author="x", note="", base=0
    )
    await rig.centre.agent("bo", heating=1)
    await rig.centre.settle()
    first = await rig.centre.asks("maria", "chat", "hello")
    assert first.agent_id == "agent-ana", "Bo knows too little of heating"
    rig.centre.phone.rung[-1].pick_up()
    await rig.centre.settle()
    await rig.centre.desk.end(first.id, "customer")
    await rig.centre.passes(120)
    assert (await rig.save(rig.carla, "ana", **{"level-0": "2"})).status == 303
    assert (await rig.save(rig.carla, "bo", **{"level-0": "3"})).status == 303
    second = await rig.centre.asks("maria", "chat", "again")
    assert second.agent_id == "agent-bo"
    changed = [(event.agent, event.facts) for event in rig.centre.events("agent.changed")]
    assert changed[0] == (
        "agent-ana", {"by": "agent-carla", "changed": {"skills": [{"heating": 3}, {"heating": 2}]}},
    )  # fmt: skip


async def test_who_waits_is_given_to_who_has_just_learnt_it(rig: Rig) -> None:
    await rig.states.not_ready("agent-ana")
    await rig.centre.agent("bo", wifi=3)
    contact = await rig.centre.asks("maria", "chat", "hello")
    assert contact.agent_id is None
    await rig.save(rig.carla, "bo", **{"skill-5": "heating", "level-5": "5"})
    await rig.centre.settle()
    assert contact.agent_id == "agent-bo"


async def test_a_wall_put_up_is_there_at_once(rig: Rig) -> None:
    assert (await rig.save(rig.carla, "ana", serves="some", provider="lumio")).status == 303
    contact = await rig.centre.asks("maria", "chat", "hello")
    await rig.centre.settle()
    assert contact.agent_id is None


async def test_how_many_chats_at_once_is_each_agents_own(rig: Rig) -> None:
    assert (await rig.save(rig.carla, "ana", chats="1")).status == 303
    first = await rig.centre.asks("maria", "chat", "hello")
    rig.centre.phone.rung[-1].pick_up()
    await rig.centre.settle()
    assert first.agent_id == "agent-ana"
    second = await rig.centre.asks("jonas", "chat", "hello")
    await rig.centre.settle()
    assert second.agent_id is None
    assert (await rig.save(rig.carla, "ana", chats="3")).status == 303
    await rig.centre.settle()
    assert second.agent_id == "agent-ana"


WRONG = (
    ({"name": " "}, "Please give a name"),
    ({"name": "x" * 101}, "Please give a name"),
    ({"login": "-x"}, "A login has small letters"),
    ({"login": "cust-1"}, "A login has small letters"),
    ({"login": "carla"}, "The login carla is taken"),
    ({"level-0": "6"}, "The level of heating is a number from 1 to 5."),
    ({"level-0": ""}, "The level of heating is a number from 1 to 5."),
    ({"skill-1": "HEATING", "level-1": "2"}, "heating is there twice"),
    ({"skill-1": "x" * 61, "level-1": "2"}, "A skill is a word or a few"),
    ({"skill-1": "a\x00b", "level-1": "2"}, "A skill is a word or a few"),
    ({"languages": "en, Klingonese!"}, "is no language known here"),
    ({"chats": "0"}, "a number from 1 to 20"),
    ({"chats": "21"}, "a number from 1 to 20"),
    ({"chats": "٣"}, "a number from 1 to 20"),
    ({"serves": "some", "provider": ""}, "Please choose a provider"),
)


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=lambda each: str(each)[:30])
async def test_what_is_wrong_is_told_and_what_was_typed_stays(
    rig: Rig, changes: dict[str, str], said: str
) -> None:
    before = rig.agent()
    reply = await rig.save(rig.carla, **{"languages": "pt, en", **changes})
    assert reply.status in (409, 422)
    assert said in words(reply)
    if "languages" not in changes:
        assert 'value="pt, en"' in reply.body
    assert rig.agent() == before
    assert rig.centre.events("agent.changed") == []


async def test_a_level_of_none_takes_the_skill_away_and_nothing_changed_tells_nothing(rig: Rig) -> None:
    assert (await rig.save(rig.carla)).status == 303
    assert rig.centre.events("agent.changed") == []
    assert (await rig.save(rig.carla, **{"level-0": "0"})).status == 303
    assert dict(rig.agent().skills) == {}


async def test_of_two_supervisors_the_second_is_told(rig: Rig) -> None:
    fields = rig.fields(languages="pt")
    assert (await rig.save(rig.carla, languages="en")).status == 303
    reply = await rig.carla.submit(ANA, fields)
    assert reply.status == 409
    assert "Somebody else has changed this entry" in words(reply)
    assert rig.agent().languages == ("en",)


async def test_people_are_found_by_name_skill_and_language(rig: Rig) -> None:
    await rig.save(rig.carla, languages="de")
    for wanted, found in (
        ("ana", True),
        ("HEAT", True),
        ("german heating", True),
        ("wifi", False),
        ("%00", False),
    ):
        reply = await rig.carla.get(f"{ALL}?q={wanted.replace(' ', '+')}")
        assert reply.status in (200, 400)
        assert (f'href="{ANA}"' in reply.body) is found
    for page in ("0", "-1", "x", "9999999999"):
        assert (await rig.carla.get(f"{ALL}?page={page}")).status == 200


async def test_names_are_shown_as_text(rig: Rig) -> None:
    await rig.save(rig.carla, name="<b>Ana</b>", **{"skill-1": '"><i>', "level-1": "1"})
    for path in (ALL, ANA):
        body = (await rig.carla.get(path)).body
        assert "<b>Ana" not in body
        assert "<i>" not in body


async def test_a_new_password_logs_out_everywhere(rig: Rig) -> None:
    reply = await rig.carla.submit(f"{ANA}/password", {})
    assert rig.agent().password_hash == f"hash of {secret(reply)}"
    assert rig.logins.ended == {"agent-ana"}
    (told,) = rig.centre.events("agent.password_changed")
    assert (told.agent, dict(told.facts)) == ("agent-ana", {"by": "agent-carla"})


# Phones


async def test_a_phone_taken_back_is_rung_no_more_and_its_password_opens_nothing(rig: Rig) -> None:
    assert "Take back Phone?" in words(await rig.carla.submit(f"{ANA}/phones/device-ana/remove", {}))
    assert rig.roster.credentials_of("ana") is not None
    reply = await rig.carla.submit(f"{ANA}/phones/device-ana/remove", {"sure": "yes"})
    assert reply.headers["location"] == f"{ANA}?done=removed"
    assert rig.roster.credentials_of("ana") is None
    assert rig.centre.house.location.bindings(rig.centre.house.location.aor("ana")) == ()
    assert rig.centre.state() == "Offline"
    (gone,) = rig.centre.events("device.unregistered")
    assert gone.facts["reason"] == "the phone was taken back"
    contact = await rig.centre.asks("maria", "chat", "hello")
    assert contact.agent_id is None
    again = await rig.centre.house.again()
    assert again.roster.devices_of("agent-ana") == ()


async def test_phones_have_names_of_their_own(rig: Rig) -> None:
    await rig.roster.add_agent("Ana Two", "ana-2", "x", skills={})
    await rig.carla.submit(f"{ANA}/phones", {"name": "Mobile"})
    names = [device.username for device in rig.roster.devices_of("agent-ana")]
    assert names == ["ana", "ana-3"], "a colleague is called by ana-2"
    assert (await rig.carla.submit(f"{ANA}/phones", {"name": "mobile"})).status == 409
    assert (await rig.carla.submit(f"{ANA}/phones", {"name": "  "})).status == 422
    assert (await rig.carla.submit(f"{ANA}/phones", {"name": "x" * 61})).status == 422
    for number in range(8):
        assert (await rig.carla.submit(f"{ANA}/phones", {"name": f"P{number}"})).status == 200
    assert (await rig.carla.submit(f"{ANA}/phones", {"name": "one more"})).status == 409
    taken = await rig.carla.submit(
        f"{ALL}/new", {"name": "X", "login": "ana-3", "serves": "all"}
    )  # or calls to the new one would come to Ana's phone
    assert taken.status == 409


async def test_a_phone_of_somebody_else_is_not_theirs(rig: Rig) -> None:
    await rig.centre.agent("bo", wifi=1)
    for path in ("device-bo/remove", "device-bo/password", "device-none/remove"):
        assert (await rig.carla.submit(f"{ANA}/phones/{path}", {"sure": "yes"})).status == 404
    assert rig.roster.credentials_of("bo") is not None


async def test_a_new_password_of_a_phone_is_shown_once(rig: Rig) -> None:
    before = rig.roster.credentials_of("ana")
    reply = await rig.carla.submit(f"{ANA}/phones/device-ana/password", {})
    assert secret(reply)
    assert rig.roster.credentials_of("ana") != before
    assert secret(reply) not in (await rig.carla.get(ANA)).body


# Coming and going


async def test_who_is_deactivated_is_asked_for_nothing_and_logged_out(rig: Rig) -> None:
    asked = await rig.carla.submit(f"{ANA}/deactivate", {})
    assert "Deactivate Ana?" in words(asked)
    assert rig.roster.agent("agent-ana") is not None
    reply = await rig.carla.submit(f"{ANA}/deactivate", {"sure": "yes"})
    assert reply.headers["location"] == f"{ALL}?done=left"
    assert rig.roster.agent("agent-ana") is None
    assert rig.roster.by_login("ana") is None
    assert rig.roster.credentials_of("ana") is None
    assert rig.logins.ended == {"agent-ana"}
    assert rig.centre.state() == "Offline"
    assert rig.centre.staffing.agent_name("agent-ana") == "Ana", "what they did is told by their name"
    assert (await rig.ana.get(ALL)).status == 401
    contact = await rig.centre.asks("maria", "chat", "hello")
    assert contact.agent_id is None
    (left,) = rig.centre.events("agent.left")
    assert (left.agent, dict(left.facts)) == ("agent-ana", {"by": "agent-carla", "ended": []})
    again = await rig.centre.house.again()
    assert again.roster.agent("agent-ana") is None
    assert [agent.name for agent in again.roster.left()] == ["Ana"]
    assert again.roster.devices_of("agent-ana") == ()


async def test_a_conversation_is_not_cut_without_a_word(rig: Rig) -> None:
    contact = await rig.centre.asks("maria", "chat", "hello")
    rig.centre.phone.rung[-1].pick_up()
    await rig.centre.settle()
    for fields in ({}, {"sure": "yes"}):
        said = words(await rig.carla.submit(f"{ANA}/deactivate", fields))
        assert "Ana is busy now: with Maria" in said
        assert contact.open
        assert rig.roster.agent("agent-ana") is not None
    assert (await rig.carla.submit(f"{ANA}/rest", {})).headers["location"] == f"{ANA}?done=resting"
    assert rig.states.of("agent-ana").pending_not_ready
    assert contact.open
    await rig.carla.submit(f"{ANA}/deactivate", {"sure": "yes", "end": "yes"})
    assert rig.roster.agent("agent-ana") is None
    assert not contact.open
    ended = [event for event in rig.centre.events("contact.ended") if event.contact == contact.id]
    assert ended[0].facts["reason"] == "Ana was deactivated by Carla"
    assert rig.centre.events("agent.left")[0].facts["ended"] == [contact.id]
    assert rig.centre.state() == "Offline"


async def test_who_is_being_asked_is_let_answer_first(rig: Rig) -> None:
    contact = await rig.centre.asks("maria", "chat", "hello")
    assert contact.agent_id == "agent-ana"
    reply = await rig.carla.submit(f"{ANA}/deactivate", {"sure": "yes", "end": "yes"})
    assert reply.status == 409
    assert "is being asked for a contact just now" in words(reply)
    assert rig.states.of("agent-ana").wants_ready, "nothing was changed"
    rig.centre.phone.rung[-1].pick_up()
    await rig.centre.settle()
    assert contact.state.value == "connected"


async def test_who_comes_back_has_a_new_password_and_no_phone(rig: Rig) -> None:
    await rig.carla.submit(f"{ANA}/deactivate", {"sure": "yes"})
    assert "Who has left 1" in words(await rig.carla.get(ALL))
    taken = await rig.carla.submit(f"{ALL}/new", {"name": "Ana B", "login": "ana", "serves": "all"})
    assert "The login ana is taken" in words(taken)
    page = await rig.carla.get(ANA)
    assert f'action="{ANA}/back"' in page.body
    for path in ("password", "phones", "deactivate", "rest"):
        assert (await rig.carla.submit(f"{ANA}/{path}", {"name": "X", "sure": "yes"})).status == 409
    assert (await rig.lena.get(ANA)).status == 404
    reply = await rig.carla.submit(f"{ANA}/back", {})
    ana = rig.agent()
    assert ana.password_hash == f"hash of {secret(reply)}"
    assert dict(ana.skills) == {"heating": 3}
    assert rig.roster.devices_of("agent-ana") == ()
    assert (await rig.carla.submit(f"{ANA}/back", {})).status == 409
    assert len(rig.centre.events("agent.returned")) == 1


async def test_why_still_names_who_has_left_of_the_time_before(rig: Rig) -> None:
    from pbx.past import Past

    centre = rig.centre
    contact = await centre.asks("maria", "chat", "hello")
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    await centre.desk.end(contact.id, "customer")
    await centre.passes(120)
    await rig.carla.submit(f"{ANA}/deactivate", {"sure": "yes"})
    past = Past(centre.house.database, centre.store, rig.roster, centre.dispatch.policies.strategies)
    (choice,) = await past.why(await past.contact(contact.id), centre.house.now())
    assert {each.agent_id: each.name for each in choice.candidates}["agent-ana"] == "Ana"
    later = await centre.asks("jonas", "chat", "hello")
    (choice,) = await past.why(await past.contact(later.id), centre.house.now() + 1)
    assert "agent-ana" not in {each.agent_id for each in choice.candidates}


@pytest.mark.parametrize("chats", ["0001000000", "0001" + "0" * 30, "0001" + "0" * 5000, "21", "0"])
async def test_nobody_has_more_chats_than_the_most(rig: Rig, chats: str) -> None:
    before = rig.agent().chats
    assert (await rig.save(rig.carla, chats=chats)).status == 422
    assert rig.agent().chats == before


async def test_of_two_who_save_at_once_one_is_told_to_look_again(rig: Rig) -> None:
    await rig.save(rig.carla, "ana", supervisor="yes")
    demoted = rig.fields("ana")
    del demoted["supervisor"]
    also = Browser(rig.site, {"warmline_agent": "agent-carla"})
    saved = await asyncio.gather(
        rig.carla.submit(ANA, demoted), also.submit(ANA, rig.fields("ana", name="Ana Maria"))
    )
    assert sorted(reply.status for reply in saved) == [303, 409]
    assert rig.agent().supervisor is (saved[0].status == 409)
