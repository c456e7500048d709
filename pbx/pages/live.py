"""The stream behind an agent's page: `panel` events replace a part of the page, `message` events add to a chat.

`mark` says what became of a line, `composing` whether the customer is writing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.server import Request

from pbx.api.desk import AgentDesk
from pbx.api.edge import STREAMED, Answer, Streamed, wants_streaming
from pbx.api.event_stream import EventStream, Inbox, Lagging

GATHER_S = 0.05
"""Changes come in bursts (an event, a state, a contact); they are gathered this long and shown once."""
BEATS_PER_LOGIN_CHECK = 4

# What happens in a chat, and the event of the page that tells it.
_EVENTS = {"message": "message", "delivered": "mark", "read": "mark", "composing": "composing"}

Panels = Callable[[], Awaitable[Mapping[str, "Panel"]]]


@dataclass(frozen=True)
class Panel:
    """A part of the page. `same_as` is equal for two panels between which the reader would see no difference."""

    html: str
    same_as: object


@dataclass(frozen=True)
class _Look:
    """It is time to look whether the page has changed."""


@dataclass(frozen=True)
class _Happened:
    """Something in a chat, as FrontDesk.listen tells it."""

    contact_id: str
    kind: str
    data: Mapping[str, Any]


class AgentPageStream:
    """One open page of one agent."""

    def __init__(
        self,
        request: Request,
        *,
        desk: AgentDesk,
        clock: IReactorTime,
        panels: Panels,
        contact_ids: Callable[[], set[str]],
        draw: Callable[[str, str, Mapping[str, Any]], Mapping[str, Any] | None],
        watch: Callable[[Callable[[], None]], Callable[[], None]],
        still_logged_in: Callable[[], Awaitable[bool]],
    ) -> None:
        self._request = request
        self._desk = desk
        self._clock = clock
        self._panels = panels
        self._contact_ids = contact_ids
        self._draw = draw
        self._watch = watch
        self._still_logged_in = still_logged_in
        self._inbox: Inbox[_Look | _Happened] = Inbox()
        self._listening: dict[str, Callable[[], None]] = {}
        self._shown: dict[str, object] = {}
        self._look: IDelayedCall | None = None

    async def run(self) -> Answer | Streamed:
        """Until the reader goes, falls behind, or is no longer logged in."""
        if not wants_streaming(self._request):
            return Answer(content_type="text/event-stream; charset=utf-8")
        stream = EventStream(self._request, self._clock, self._inbox)
        unwatch = self._watch(self._changed)
        try:
            stream.open()
            await self._show(stream)
            beats = 0
            while True:
                news = await self._inbox.take()
                if news is None:
                    stream.beat()
                    beats += 1
                    if beats % BEATS_PER_LOGIN_CHECK == 0 and not await self._still_logged_in():
                        return STREAMED
                    await self._show(stream)
                elif isinstance(news, _Look):
                    await self._show(stream)
                else:
                    drawn = self._draw(news.contact_id, news.kind, news.data)
                    if drawn is not None:
                        stream.send(_EVENTS[news.kind], {"contact": news.contact_id, **drawn})
        except Lagging:
            stream.abort()
            return STREAMED
        finally:
            unwatch()
            for unlisten in self._listening.values():
                unlisten()
            if self._look is not None and self._look.active():
                self._look.cancel()
            stream.close()

    async def _show(self, stream: EventStream) -> None:
        self._listen()
        for name, panel in (await self._panels()).items():
            if self._shown.get(name) != panel.same_as:
                self._shown[name] = panel.same_as
                stream.send("panel", {"name": name, "html": panel.html})

    def _listen(self) -> None:
        wanted = self._contact_ids()
        for contact_id in self._listening.keys() - wanted:
            self._listening.pop(contact_id)()
        for contact_id in wanted - self._listening.keys():
            self._listening[contact_id] = self._desk.listen(contact_id, self._listener(contact_id))
            if "customer" in self._desk.writing(contact_id):
                self._inbox.put(_Happened(contact_id, "composing", {"from": "customer", "active": True}))

    def _listener(self, contact_id: str) -> Callable[[str, Mapping[str, Any]], None]:
        def heard(kind: str, data: Mapping[str, Any]) -> None:
            if kind in _EVENTS:
                self._inbox.put(_Happened(contact_id, kind, data))
            else:
                self._changed()

        return heard

    def _changed(self) -> None:
        if self._look is None or not self._look.active():
            self._look = self._clock.callLater(GATHER_S, self._inbox.put, _Look())
