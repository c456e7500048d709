"""The supervisor's pages: who may see what, what they say, and what the editor of rules does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.web.resource import Resource

from agent_presence.roster import Agent
from pbx.api.site import WarmlineSite, build_root
from pbx.contact import CallBack
from pbx.pages.rules_form import ROWS, edited
from pbx.pages.supervisor import Centre as Looked
from pbx.pages.supervisor import SupervisorPages
from pbx.past import Past
from pbx.rule_text import WrongRules
from pbx.skills import Rule
from pbx.store import contact_table
from tests.conftest import run
from tests.pbx.centre import Centre
from tests.pbx.web import CSRF, Browser, CookieLogins, words

INVOICE = Rule("search", "invoice", "billing")


class Rig:
    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        logins: Any = CookieLogins()
        past = Past(
            centre.house.database, centre.store, centre.house.roster, centre.dispatch.policies.strategies
        )
        pages = SupervisorPages(
            Looked(
                centre.house.roster,
                centre.house.states,
                centre.contacts,
                lambda: centre.dispatch.floor,
                past,
                centre.rules,
                centre.portal,
            ),
            logins,
            clock=centre.clock,
            now=centre.house.now,
        )
        root = build_root(
            api=Resource(), pages=Resource(), supervisor=pages.resource(), portal=Resource(), sip=None
        )
        self.site = WarmlineSite(root, centre.clock, access_log=lambda line: None)
        self.carla = self.browser("agent-carla")
        self.lena = self.browser("agent-lena")
        self.ana = self.browser("agent-ana")
        self.stranger = Browser(self.site)

    def browser(self, agent_id: str) -> Browser:
        return Browser(self.site, {"warmline_agent": agent_id})


async def hire(centre: Centre, name: str, *providers: str) -> Agent:
    return await centre.house.roster.add_agent(
        name.title(),
        name,
        "hash",
        skills={},
        provider_ids=providers,
        supervisor=True,
        agent_id=f"agent-{name}",
    )


async def open_rig() -> Rig:
    centre = await Centre.open()
    await hire(centre, "carla")
    await hire(centre, "lena", "lumio")
    await centre.agent("ana", heating=3)
    await centre.rules.put("thermea", [INVOICE], author="the sample", note="")
    return Rig(centre)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = run(open_rig())
    yield rig
    for call in tuple(rig.centre.clock.getDelayedCalls()):
        call.cancel()


# Who may see it

PATHS = ("", "/now", "/find?contact=c_1", "/contacts/c_1/why", "/rules", "/rules/thermea")


@pytest.mark.parametrize("path", PATHS)
async def test_only_a_supervisor_sees_anything(rig: Rig, path: str) -> None:
    assert (await rig.stranger.get(f"/agent/supervisor{path}")).status == 401
    # To a colleague it is as if there were nothing.
    assert (await rig.ana.get(f"/agent/supervisor{path}")).status == 404
    reply = await rig.ana.get("/agent/supervisor")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "no-store"


async def test_a_supervisor_sees_the_contacts_of_their_providers_alone(rig: Rig) -> None:
    contact = await rig.centre.asks("maria", "chat", "hello")
    path = f"/agent/supervisor/contacts/{contact.id}/why"
    assert "Maria" in words(await rig.carla.get("/agent/supervisor"))
    assert "Maria" not in words(await rig.lena.get("/agent/supervisor"))
    assert (await rig.carla.get(path)).status == 200
    theirs, nobodys = await rig.lena.get(path), await rig.lena.get("/agent/supervisor/contacts/c_none/why")
    assert (theirs.status, words(theirs)) == (nobodys.status, words(nobodys)) == (404, words(nobodys))
    assert (await rig.lena.get("/agent/supervisor/rules/thermea")).status == 404
    first = await rig.lena.get("/agent/supervisor/rules")
    assert first.headers["location"] == "/agent/supervisor/rules/lumio"
    put = {"base": "1", "note": ""}
    assert (await rig.lena.submit("/agent/supervisor/rules/thermea", put)).status == 404
    assert (
        await rig.lena.submit("/agent/supervisor/rules/thermea/back", {**put, "version": "1"})
    ).status == 404


async def test_of_agents_who_serve_other_providers_alone_nothing_is_told(rig: Rig) -> None:
    await rig.centre.house.roster.add_agent(
        "Lumio Only", "luo", "hash", skills={}, provider_ids=("lumio",), agent_id="agent-luo"
    )
    await hire(rig.centre, "theo", "thermea")
    theo = rig.browser("agent-theo")
    contact = await rig.centre.asks("maria", "chat", "hello")
    assert "Lumio Only" not in words(await theo.get("/agent/supervisor"))
    path = f"/agent/supervisor/contacts/{contact.id}/why"
    assert "Lumio Only" not in words(await theo.get(path))
    assert "Lumio Only" not in (await theo.get(path, Accept="application/json")).body
    assert "Lumio Only" in words(await rig.carla.get(path))


async def test_which_contacts_of_other_providers_an_agent_was_busy_with_is_not_told(rig: Rig) -> None:
    await hire(rig.centre, "theo", "thermea")
    first = await rig.centre.asks("maria", "chat", "hello")
    rig.centre.phone.rung[-1].pick_up()
    await rig.centre.settle()
    second = await rig.centre.asks("jonas")
    await rig.centre.calls_in(second)
    path = f"/agent/supervisor/contacts/{second.id}/why"
    theo, carla = rig.browser("agent-theo"), rig.carla
    assert first.id in words(await theo.get(path)), "of the same provider"
    await rig.centre.house.database.write(
        contact_table.update().where(contact_table.c.id == first.id).values(provider_id="lumio")
    )
    for reply in (await theo.get(path), await theo.get(path, Accept="application/json")):
        assert reply.status == 200
        assert first.id not in reply.body
    assert "is with somebody" in words(await theo.get(path))
    assert first.id in words(await carla.get(path)), "who serves all providers"


async def test_no_skill_of_other_providers_agents_is_shown_among_the_rules(rig: Rig) -> None:
    await rig.centre.house.roster.add_agent(
        "Lumio Only", "luo", "hash", skills={"cameras": 2}, provider_ids=("lumio",)
    )
    assert "cameras" not in (await rig.carla.get("/agent/supervisor/rules/thermea")).body
    assert "cameras" in (await rig.carla.get("/agent/supervisor/rules/lumio")).body


# What it says


async def test_who_waits_and_why_stands_on_the_first_page(rig: Rig) -> None:
    await rig.centre.house.states.not_ready("agent-ana")
    await rig.centre.asks("maria", "chat", "hello")
    await rig.centre.passes(75)
    said = words(await rig.carla.get("/agent/supervisor/now"))
    assert "1 waiting · longest 75 s" in said
    assert "Ana: not ready" in said
    assert "heating" in said
    await rig.centre.house.states.ready("agent-ana")
    await rig.centre.settle()
    said = words(await rig.carla.get("/agent/supervisor/now"))
    assert "Ana is being asked" in said


async def test_contacts_are_found_by_name_and_number_behind_the_wall(rig: Rig) -> None:
    first = await rig.centre.asks("maria", "chat", "hello")
    await rig.centre.desk.end(first.id, "customer")
    second = await rig.centre.asks("maria", "chat", "again")
    await rig.centre.asks("jonas", "chat", "hello")
    await rig.centre.settle()
    await rig.centre.house.database.write(
        contact_table.update().where(contact_table.c.id == first.id).values(number="+15550100001")
    )

    async def found(wanted: str, by: Browser) -> list[str]:
        reply = await by.get(f"/agent/supervisor/find?contact={wanted}")
        assert reply.status == 200
        return re.findall(r'href="/agent/supervisor/contacts/(c_[0-9a-z]+)/why"', reply.body)

    assert await found("MARIA", rig.carla) == [second.id, first.id], "the newest first"
    for number in ("%2B1+555-0100001", "0015550100001", "0001"):
        assert await found(number, rig.carla) == ([first.id] if number != "0001" else [])
    assert await found("5550100", rig.carla) == [first.id]
    for nobody in ("m", "zebedee", "001", "%25", "%27+OR+1=1", "%3Cb%3E"):
        assert await found(nobody, rig.carla) == []
    assert await found("maria", rig.lena) == [], "of another provider"
    assert await found("5550100", rig.lena) == []
    tried = [(await rig.carla.get("/agent/supervisor/find?contact=maria")).status for _ in range(40)]
    assert tried[-1] == 429


async def test_who_is_to_be_called_back_is_told_from_who_waits_on_the_line(rig: Rig) -> None:
    await rig.centre.house.states.not_ready("agent-ana")
    await rig.centre.asks("jonas", "chat", "hello")
    contact = await rig.centre.asks("maria", "voice")
    now = rig.centre.house.now()
    for back, said in (
        (CallBack("", now), "To be called back in their page, as soon as somebody is free for it"),
        (CallBack("+15550100001", now), "To be called back on +15…01, as soon as somebody is free for it"),
        (
            CallBack("", now, attempts=2, not_before=now + 90),
            "To be called back in their page, again in 85 s: tried 2 times, not answered",
        ),
    ):
        contact.call_back = back
        await rig.centre.passes(5)
        seen = words(await rig.carla.get("/agent/supervisor/now"))
        assert said.replace("85 s", f"{back.not_before - rig.centre.house.now():.0f} s") in seen
        assert "call back asked" in seen
        assert "1 waiting · 1 to be called back · longest" in seen
        contact.call_back = None


async def test_nobody_who_waits_is_told_too(rig: Rig) -> None:
    assert "Nobody waits." in words(await rig.carla.get("/agent/supervisor/now"))


async def test_a_contact_is_found_by_its_id(rig: Rig) -> None:
    reply = await rig.carla.get("/agent/supervisor/find?contact=%20c_1%20")
    assert reply.headers["location"] == "/agent/supervisor/contacts/c_1/why"
    assert (await rig.carla.get("/agent/supervisor/find?contact=")).headers["location"] == "/agent/supervisor"
    evil = await rig.carla.get("/agent/supervisor/find?contact=c_1/../../logout%3F")
    assert evil.headers["location"] == "/agent/supervisor/contacts/c_1%2F..%2F..%2Flogout%3F/why"
    assert (await rig.carla.get("/agent/supervisor/find?contact=" + "x" * 101)).status == 400


async def test_why_is_told_as_a_page_and_as_json(rig: Rig) -> None:
    await rig.centre.agent("bo", wifi=3)
    contact = await rig.centre.asks("maria", "chat", "hello")
    rig.centre.phone.rung[0].refuse(603)
    await rig.centre.settle()
    path = f"/agent/supervisor/contacts/{contact.id}/why"
    said = words(await rig.carla.get(path))
    assert "Ana was asked: declined" in said
    assert "Bo does not have heating" in said
    assert "With heating Bo would have been asked first" in said
    told = (await rig.carla.get(path, Accept="application/json")).json()
    assert told["contact"] == contact.id
    first = told["choices"][0]
    assert (first["chosen"], first["outcome"], first["agrees"]) == ("agent-ana", "declined", True)


async def test_what_customers_and_rules_say_is_shown_as_text(rig: Rig) -> None:
    await rig.centre.rules.put(
        "thermea",
        [Rule("search", '"><script>alert(1)</script>', "billing")],
        author="<b>x</b>",
        note="<i>",
        base=1,
    )
    reply = await rig.carla.get("/agent/supervisor/rules/thermea")
    assert reply.status == 200
    assert "<script>alert" not in reply.body
    assert "&lt;script&gt;alert" in reply.body
    assert "<b>x</b>" not in reply.body


# The editor


def row(number: str, rule: Rule, **more: str) -> dict[str, str]:
    fields = {
        "when": rule.when,
        "value": rule.value,
        "skill": rule.skill,
        "weight": f"{rule.weight:g}",
        "level": str(rule.level),
        **more,
    }
    return {f"{name}-{number}": value for name, value in fields.items()}


async def test_rules_are_changed_added_and_removed_in_one_go(rig: Rig) -> None:
    pump, code = Rule("search", "pump", "heating"), Rule("error", "E119", "heating", 2.0, 3)
    await rig.centre.rules.put("thermea", [INVOICE, pump], author="x", note="", base=1)
    reply = await rig.carla.submit(
        "/agent/supervisor/rules/thermea",
        {
            "base": "2",
            "note": "codes",
            **row("0", INVOICE, weight="0,5"),
            **row("1", pump, remove="yes"),
            **row("n0", code),
            **row("n1", Rule("search", "", "")),
        },
    )
    assert (reply.status, reply.headers["location"]) == (303, "/agent/supervisor/rules/thermea")
    current = rig.centre.rules.current("thermea")
    assert current.rules == (Rule("search", "invoice", "billing", 0.5), code)
    assert (current.version, current.author, current.note) == (3, "Carla", "codes")
    said = words(await rig.carla.get("/agent/supervisor/rules/thermea"))
    assert "Version 3 is in force" in said
    assert "Nobody has billing" in said


async def test_wrong_rules_are_told_and_what_was_typed_stays(rig: Rig) -> None:
    wrong = row("n0", Rule("error", "E119", "heating"), weight="heavy")
    reply = await rig.carla.submit(
        "/agent/supervisor/rules/thermea", {"base": "1", "note": "my note", **row("0", INVOICE), **wrong}
    )
    assert reply.status == 422
    assert "Rule 2: the weight should be a number from 0 to 10." in words(reply)
    assert 'value="heavy"' in reply.body
    assert 'value="my note"' in reply.body
    assert rig.centre.rules.current("thermea").version == 1


async def test_of_two_supervisors_the_second_is_told(rig: Rig) -> None:
    await rig.centre.rules.put("thermea", [], author="Somebody", note="", base=1)
    reply = await rig.carla.submit(
        "/agent/supervisor/rules/thermea", {"base": "1", "note": "", **row("n0", INVOICE)}
    )
    assert reply.status == 409
    assert "Somebody else has changed these rules" in words(reply)


async def test_nothing_changed_is_no_new_version(rig: Rig) -> None:
    await rig.carla.submit("/agent/supervisor/rules/thermea", {"base": "1", "note": "", **row("0", INVOICE)})
    assert rig.centre.rules.current("thermea").version == 1


async def test_an_earlier_version_is_looked_at_and_put_back(rig: Rig) -> None:
    await rig.centre.rules.put("thermea", [], author="x", note="all gone", base=1)
    said = words(await rig.carla.get("/agent/supervisor/rules/thermea?version=1"))
    assert "This is version 1, which is no longer in force" in said
    reply = await rig.carla.submit("/agent/supervisor/rules/thermea/back", {"base": "2", "version": "1"})
    assert reply.status == 303
    assert rig.centre.rules.current("thermea").rules == (INVOICE,)
    outdated = await rig.carla.submit("/agent/supervisor/rules/thermea/back", {"base": "2", "version": "1"})
    assert outdated.status == 409


@pytest.mark.parametrize("path", ["/rules/thermea", "/rules/thermea/back"])
async def test_a_form_from_elsewhere_changes_nothing(rig: Rig, path: str) -> None:
    fields = {"base": "1", "note": "", "version": "1", **row("0", INVOICE, remove="yes")}
    for csrf in (None, "guess"):
        assert (await rig.carla.submit(f"/agent/supervisor{path}", fields, csrf=csrf)).status == 403
    assert rig.centre.rules.current("thermea").version == 1
    assert (await rig.carla.submit(f"/agent/supervisor{path}", {**fields, "base": "x"})).status == 422
    assert CSRF not in str(rig.stranger.cookies)


@pytest.mark.parametrize(
    "query", ["version=0", "version=x", "page=0", "page=99999", "q=%00", "q=%ff", "page=-1"]
)
async def test_nonsense_in_the_address_breaks_nothing(rig: Rig, query: str) -> None:
    assert (await rig.carla.get(f"/agent/supervisor/rules/thermea?{query}")).status in (200, 400, 404, 422)


async def test_many_rules_come_in_pages_and_only_those_shown_come_back(rig: Rig) -> None:
    many = [Rule("search", f"word{number}", "heating") for number in range(2000)]
    await rig.centre.rules.put("thermea", many, author="x", note="", base=1)
    reply = await rig.carla.get("/agent/supervisor/rules/thermea?page=2")
    assert f'name="value-{ROWS}"' in reply.body
    assert 'name="value-0"' not in reply.body
    await rig.carla.submit(
        "/agent/supervisor/rules/thermea", {"base": "2", "note": "", **row(str(ROWS), INVOICE)}
    )
    current = rig.centre.rules.current("thermea").rules
    assert current[ROWS] == INVOICE
    assert len(current) == 2000
    assert (await rig.carla.get("/agent/supervisor/rules/thermea?q=word199")).body.count("<tr>") == 12


def test_what_is_posted_of_rows_that_are_not_there_is_nothing() -> None:
    posted = {b"when-7": [b"search"], b"value-7": [b"x"], b"skill-7": [b"y"], b"when-x": [b"tag"]}
    assert edited([INVOICE], posted) == (INVOICE,)
    with pytest.raises(WrongRules):
        edited([INVOICE], {b"when-0": [b"\xff"]})
