"""What the context page says: who asks, what, why it came to this agent, what was read before, and what was earlier."""

from __future__ import annotations

from typing import Any

from agent_presence.roster import Agent
from kb_portal.visit import Trail
from pbx.contact import Facts, State
from pbx.front_desk import Context
from pbx.pages import words
from pbx.store import PastContact

STATE_WORDS = {
    State.WAITING: "waiting",
    State.RINGING: "rings for you; waiting",
    State.CONNECTED: "with you",
    State.ENDED: "ended",
}
# To whoever is asked about it by a colleague, or has passed it on and writes it up.
ELSEWHERE_WORDS = {
    **STATE_WORDS,
    State.RINGING: "rings elsewhere; waiting",
    State.CONNECTED: "with a colleague",
}


def context_page(context: Context, agent: Agent, now: float) -> dict[str, Any]:
    contact, facts = context.contact, context.contact.facts
    steps = _steps(context.trail, facts)
    return {
        "ask": _ask(context, agent, now),
        "who": _who(context),
        "needs": [
            {
                "skill": words.skill(need.skill),
                "level": agent.skills.get(need.skill, 0) if need.required else 0,
                "required": need.required,
                "reasons": ", ".join(need.reasons),
            }
            for need in contact.needs
        ],
        "steps": steps,
        "no_steps": (
            "They came by telephone, and nothing is known of what they read."
            if not facts.from_app
            else "They asked for help without reading first."
        ),
        "owned": _owned(context.trail, facts),
        "past": [_past(past) for past in context.past if past.id != contact.id],
    }


def _ask(context: Context, agent: Agent, now: float) -> dict[str, Any]:
    contact, facts = context.contact, context.contact.facts
    since = contact.connected_at if contact.state is State.CONNECTED else facts.asked_at
    if contact.state is State.ENDED:
        since = contact.ended_at
    since = since or facts.asked_at
    product = facts.product_name or facts.provider_name or "a product we do not know"
    wish = {"chat": "write with you", "voice": "talk", "video": "talk and show you something"}[facts.channel]
    if facts.trunk is not None:
        wish = "talk, by telephone"
    return {
        "channel": str(facts.channel),
        "channel_word": words.CHANNEL_WORDS[facts.channel],
        "state_word": (STATE_WORDS if contact.agent_id == agent.id else ELSEWHERE_WORDS)[contact.state],
        "since": since,
        "since_words": f"for {words.length(now - since)}" if contact.open else "",
        "words": f"About {product}"
        + (f", while reading “{facts.article_title}”" if facts.article_title else "")
        + f". They would like to {wish}.",
        "first_words": context.first_words,
    }


def _who(context: Context) -> dict[str, Any]:
    facts, customer = context.contact.facts, context.customer
    known: list[tuple[str, str]] = [("Name", facts.caller)]
    if facts.provider_name:
        known.append(("Customer of", facts.provider_name))
    if customer is not None:
        known.append(("E-mail", customer.email))
        if customer.phone:
            proved = "" if customer.phone_proved else " (not proved to be theirs)"
            known.append(("Phone", customer.phone + proved))
    if facts.trunk is not None:
        known.append(("Calls from", facts.number or "a withheld number"))
        known.append(("Came by", f"telephone ({facts.trunk})"))
        if customer is None:
            known.append(("Known", "no: nobody has proved this number to be theirs"))
    return {"name": facts.caller, "facts": known}


def _owned(trail: Trail | None, facts: Facts) -> list[dict[str, Any]]:
    if trail is None:
        return []
    return [
        {
            "name": owned.product.name,
            "more": " · ".join(
                part
                for part in (
                    owned.provider_name,
                    f"serial {owned.serial}" if owned.serial else "",
                    f"since {words.date(owned.bought_at)}" if owned.bought_at else "",
                )
                if part
            ),
            "asked": owned.product.id == facts.product_id,
        }
        for owned in trail.products_owned
        # The provider's wall: what other companies sold them is not for this contact.
        if owned.product.provider_id == facts.provider_id
    ]


def _steps(trail: Trail | None, facts: Facts) -> list[dict[str, Any]]:
    """Everything read and searched, in order; the latest view of the article in view is marked."""
    if trail is None:
        return []
    longest = max((view.seconds for view in trail.views), default=0.0)
    in_view = [
        view.opened_at for view in trail.views if view.article_id and view.article_id == facts.article_id
    ]
    steps: list[tuple[float, dict[str, Any]]] = []
    for view in trail.views:
        is_article = view.article_id is not None
        steps.append(
            (
                view.opened_at,
                {
                    "kind": "article" if is_article else "product",
                    "title": view.title,
                    "how": f"read for {words.reading_time(view.seconds)}"
                    if is_article
                    else words.reading_time(view.seconds),
                    "bar": round(100 * view.seconds / longest) if is_article and longest > 0 else 0,
                    "in_view": is_article and bool(in_view) and view.opened_at == in_view[-1],
                },
            )
        )
    for search in trail.searches:
        found = {0: "found nothing", 1: "1 article found"}.get(search.hits, f"{search.hits} articles found")
        steps.append(
            (search.at, {"kind": "search", "title": search.text, "how": found, "bar": 0, "in_view": False})
        )
    steps.sort(key=lambda step: step[0])
    return [{**step, "time": words.clock_time(at), "iso": words.iso(at)} for at, step in steps]


def _past(past: PastContact) -> dict[str, Any]:
    ending = words.DISPOSITION_WORDS.get(
        past.disposition or "", "still open" if past.ended_at is None else "ended"
    )
    if past.connected_at is not None and past.ended_at is not None:
        ending = f"{words.length(past.ended_at - past.connected_at)} with an agent; {ending}"
    if past.helped is not None:
        ending += "; it helped" if past.helped else "; it did not help"
    return {
        "when": words.date(past.asked_at),
        "channel": words.CHANNEL_WORDS.get(past.channel, past.channel),
        "about": " · ".join(part for part in (past.product_name, past.article_title) if part) or "no product",
        "ending": ending,
        "comment": past.comment or "",
    }
