"""What pages ask of the front desk beside calls and chats: context, availability, feedback, live news."""

from __future__ import annotations

from typing import Any

import pytest

from config.errors import TheirError
from kb_portal.article import Article
from kb_portal.tracking import Tracker
from pbx.skills import Rule
from tests.pbx.centre import Centre


def article(article_id: str, provider: str, product: str | None, *skills: str) -> Article:
    return Article(
        article_id,
        provider,
        product,
        article_id,
        article_id.title(),
        "",
        5,
        "",
        "",
        (),
        (),
        "",
        (),
        skills,
        0.0,
    )


async def read(centre: Centre, customer: str, *articles: Article, seconds: float = 74.0) -> str:
    tracker = Tracker(centre.portal, centre.house.events, centre.house.now)
    visit = ""
    for each in articles:
        view = await tracker.open_view(customer, article=each)
        centre.clock.advance(seconds)
        await tracker.beat(customer, view.view_id, seconds)
        visit = view.visit_id
    await centre.settle()
    return visit


async def test_what_was_read_decides_whom_a_contact_goes_to_and_is_told_to_them() -> None:
    centre = await Centre.open()
    pairing = article("pairing", "thermea", "boiler", "wifi")
    await centre.portal.add_article(pairing)
    await centre.agent("ana", heating=5)
    await centre.agent("bo", wifi=4)
    visit = await read(centre, "maria", pairing)
    contact = await centre.desk.request("maria", "chat", "boiler", "pairing", visit, "It will not pair")
    await centre.settle()
    assert [call.to for call in centre.phone.rung] == ["<sip:bo@warmline.test>"]
    assert centre.phone.rung[0].header("Subject") == "Chat: Boiler 200 - Pairing"
    context = await centre.desk.context(contact.id)
    assert context.customer is not None
    assert context.trail is not None
    assert [(view.title, view.seconds) for view in context.trail.views] == [("Pairing", 74.0)]
    reasons = ("read 'Pairing' for 74 s", "asked for help from 'Pairing'")
    assert context.contact.needs[0].reasons == reasons
    assert context.first_words == "It will not pair"
    (event,) = centre.events("contact.skills_inferred")
    assert tuple(event.facts["skills"][0]["reasons"]) == reasons


async def test_the_article_help_was_asked_from_counts_however_short_the_look_at_it_was() -> None:
    centre = await Centre.open()
    await centre.portal.add_article(article("pairing", "thermea", "boiler", "wifi"))
    await centre.agent("bo", wifi=4)
    contact = await centre.desk.request("maria", "chat", "boiler", "pairing", None, "hello")
    assert [need.skill for need in contact.needs if need.required] == ["wifi"]


async def test_a_providers_agents_see_nothing_of_what_was_read_about_another_providers_products() -> None:
    centre = await Centre.open()
    await centre.portal.add_ownership("o-2", "maria", "camera", "", None)
    ours, theirs = article("leak", "thermea", "boiler", "heating"), article("lens", "lumio", "camera", "wifi")
    general = article("plan", "lumio", None, "billing")
    for each in (ours, theirs, general):
        await centre.portal.add_article(each)
    visit = await read(centre, "maria", theirs, general, ours)
    contact = await centre.desk.request("maria", "chat", "boiler", None, visit, "hello")
    context = await centre.desk.context(contact.id)
    assert context.trail is not None
    assert [view.title for view in context.trail.views] == ["Leak"]
    assert [owned.product.id for owned in context.trail.products_owned] == ["boiler"]
    assert {need.skill for need in contact.needs} == {"heating"}


async def test_what_was_searched_among_another_providers_pages_is_hidden_from_a_providers_agents() -> None:
    centre = await Centre.open()
    await centre.portal.add_ownership("o-2", "maria", "camera", "", None)
    ours, theirs = article("leak", "thermea", "boiler", "heating"), article("lens", "lumio", "camera", "wifi")
    for each in (ours, theirs):
        await centre.portal.add_article(each)
    tracker = Tracker(centre.portal, centre.house.events, centre.house.now)
    visit = ""
    for step in (ours, "it drips", ours, "my other device", theirs, "a foggy lens", theirs, "hm", ours):
        centre.clock.advance(5)
        if isinstance(step, str):
            await tracker.searched("maria", step, 0)
        else:
            visit = (await tracker.open_view("maria", article=step)).visit_id
    contact = await centre.desk.request("maria", "chat", "boiler", None, visit, "hello")
    context = await centre.desk.context(contact.id)
    assert context.trail is not None
    assert [search.text for search in context.trail.searches] == ["it drips"]


async def test_earlier_contacts_with_other_providers_are_not_shown() -> None:
    centre = await Centre.open()
    await centre.portal.add_ownership("o-2", "maria", "camera", "", None)
    for product in ("camera", "boiler"):
        contact = await centre.desk.request("maria", "chat", product, None, None, "hello")
        await centre.desk.end(contact.id, "customer")
        await centre.desk.feedback(contact.id, True, "quick")
        await centre.passes(5)
    contact = await centre.desk.request("maria", "chat", "boiler", None, None, "again")
    context = await centre.desk.context(contact.id)
    assert [(past.product_name, past.helped, past.comment) for past in context.past] == [
        ("Boiler 200", True, "quick")
    ]


async def test_another_customers_visit_is_never_used() -> None:
    centre = await Centre.open()
    leak = article("leak", "thermea", "boiler", "heating")
    await centre.portal.add_article(leak)
    visit = await read(centre, "jonas", leak)
    contact = await centre.desk.request("maria", "chat", "boiler", None, visit, "hello")
    assert contact.facts.visit_id is None


async def test_availability_tells_now_wait_and_none() -> None:
    centre = await Centre.open()
    assert await centre.desk.availability("maria", "boiler") == {
        "chat": "none",
        "voice": "none",
        "video": "none",
    }
    await centre.agent()
    assert await centre.desk.availability("maria", "boiler") == {
        "chat": "now",
        "voice": "now",
        "video": "none",
    }
    contact = await centre.asks("jonas")
    await centre.calls_in(contact)
    assert await centre.desk.availability("maria", "boiler") == {
        "chat": "wait",
        "voice": "wait",
        "video": "none",
    }


async def test_a_page_hears_of_every_change_and_of_its_place() -> None:
    centre = await Centre.open()
    first = await centre.asks("maria", "chat", "one")
    second = await centre.asks("jonas", "chat", "two")
    told: list[tuple[str, dict[str, Any]]] = []
    stop = centre.desk.listen(second.id, lambda kind, data: told.append((kind, data)))
    assert centre.desk.view(second)["position"] == 2
    await centre.desk.end(first.id, "customer")
    await centre.passes(1.5)
    assert [(kind, data["position"]) for kind, data in told] == [("state", 1)]
    await centre.agent()
    centre.phone.rung[0].pick_up()
    await centre.settle()
    states = [data["state"] for kind, data in told if kind == "state"]
    assert states[1:] == ["ringing", "connected"]
    assert told[-1][0] == "delivered"
    assert centre.desk.view(second)["agent"] == {"name": "Ana"}
    stop()
    told.clear()
    await centre.desk.end(second.id, "customer")
    assert told == []


async def test_the_agent_who_is_only_rung_is_not_named_to_the_customer() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks("maria", "chat", "one")
    view = centre.desk.view(contact)
    assert (view["state"], view["agent"]) == ("ringing", None)


async def test_only_the_agent_of_a_chat_may_write_in_it_from_a_page() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks("maria", "chat", "one")
    with pytest.raises(TheirError):
        await centre.desk.agent_says("agent-ana", contact.id, "k", "too early")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    with pytest.raises(TheirError) as refused:
        await centre.desk.agent_says("agent-bo", contact.id, "k", "not mine")
    assert refused.value.status == 403
    await centre.desk.agent_says("agent-ana", contact.id, "k", "from the page")
    assert [line["from"] for line in await centre.desk.messages(contact.id)] == ["customer", "agent"]


async def test_rules_lead_from_searches_to_skills() -> None:
    centre = await Centre.open()
    await centre.rules.put("thermea", (Rule("search", "invoice", "billing"),), author="ana", note="")
    await centre.agent("bo", billing=1)
    tracker = Tracker(centre.portal, centre.house.events, centre.house.now)
    await tracker.searched("maria", "my invoice is wrong", 0)
    contact = await centre.asks("maria", "chat", "hello")
    assert contact.needs[0].reasons == ("searched 'my invoice is wrong' and found nothing",)
    assert len(centre.phone.rung) == 1
