"""One contact as it happens, told to the customer's page: `state`, `message`, `delivered`, `read`, `composing` events.

Listening starts before the past is read, and what is told twice is dropped by its id, so nothing falls in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from pbx.api.desk import CustomerDesk
from pbx.api.edge import STREAMED, Answer, Streamed, wants_streaming
from pbx.api.event_stream import EventStream, Inbox, Lagging
from pbx.contact import Contact

ENDED = "ended"
"""The id of the last event of all. A browser that comes back with it has heard everything."""
BEATS_PER_LOGIN_CHECK = 4

News = tuple[str, Mapping[str, Any]]


async def follow_contact(
    request: Request,
    desk: CustomerDesk,
    contact: Contact,
    clock: IReactorTime,
    still_theirs: Callable[[], Awaitable[bool]],
) -> Answer | Streamed:
    """Tell `request` about `contact` until it has ended, its reader goes, or is no longer logged in.

    Without a Last-Event-ID all messages so far are told; with one those after it, and which of those before have
    reached the agent's phone and were read there.
    """
    last_id = (request.getHeader(b"last-event-id") or b"").decode("utf-8", "replace")
    if last_id == ENDED and not contact.open:
        # WHATWG HTML 9.2.3: 204 is how a server tells an EventSource to stop coming back.
        return Answer(status=204)
    if not wants_streaming(request):
        return Answer(content_type="text/event-stream; charset=utf-8")
    inbox: Inbox[News] = Inbox()
    stream = EventStream(request, clock, inbox)
    unsubscribe = desk.listen(contact.id, lambda kind, data: inbox.put((kind, data)), by="customer")
    try:
        past = [dict(message) for message in await desk.messages(contact.id)]
        stream.open()
        known = [message["id"] for message in past]
        told = set(known)
        before = known.index(last_id) + 1 if last_id in told else 0
        last_state = _state(desk, contact)
        stream.send("state", last_state, id=None if contact.open else ENDED)
        _send_past(stream, past, before)
        if "agent" in desk.writing(contact.id):
            stream.send("composing", {"from": "agent", "active": True})
        beats = 0
        while contact.open or len(inbox):
            news = await inbox.take()
            if news is None:
                stream.beat()
                beats += 1
                if beats % BEATS_PER_LOGIN_CHECK == 0 and not await still_theirs():
                    return STREAMED
            # How long it may yet take changes while nothing happens: with each beat that is looked at as well.
            kind, data = news or ("", {})
            if kind == "message" and data["id"] not in told:
                told.add(data["id"])
                stream.send("message", dict(data), id=data["id"])
            elif kind in ("delivered", "read") or (kind == "composing" and data["from"] == "agent"):
                stream.send(kind, dict(data))
            # Whatever the news, the state is told as it is now; the end only when nothing is left to tell before it.
            state = _state(desk, contact)
            if state != last_state and (contact.open or not len(inbox)):
                last_state = state
                stream.send("state", state, id=None if contact.open else ENDED)
        return STREAMED
    except Lagging:
        stream.abort()
        return STREAMED
    finally:
        unsubscribe()
        stream.close()


def _send_past(stream: EventStream, past: Sequence[Mapping[str, Any]], before: int) -> None:
    for message in past[:before]:
        if message["from"] == "customer":
            for mark in ("delivered", "read"):
                if message[mark]:
                    stream.send(mark, {"id": message["id"]})
    for message in past[before:]:
        stream.send("message", message, id=message["id"])


def _state(desk: CustomerDesk, contact: Contact) -> dict[str, Any]:
    return {name: value for name, value in desk.view(contact).items() if name != "messages"}
