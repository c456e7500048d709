"""A session refreshed, or ended when nobody did (RFC 4028 §7.2, §10); what was agreed is in `sip/session_timer.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sip_trunk.reoffer import Wanted
from sip_trunk.sip.message import Response
from sip_trunk.sip.session_timer import Agreement

if TYPE_CHECKING:
    from sip_trunk.call import Call
    from sip_trunk.deadlines import Deadline
    from sip_trunk.exchange import Exchange

SHORTEST_RETRY_S = 1.0


class SessionTimer:
    """One deadline for a whole call: the next refresh of ours, or the session's end."""

    __slots__ = ("_call", "_deadline", "_ends_at", "agreement")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._deadline: Deadline | None = None
        self._ends_at = 0.0
        self.agreement: Agreement | None = None

    def agreed(self, agreement: Agreement | None) -> None:
        """The session starts anew, as a 2xx to an INVITE or UPDATE says."""
        self.stop()
        self.agreement = agreement
        if agreement is None:
            return
        timers = self._call.agent.transactions.timers
        self._ends_at = timers.now() + agreement.ends_after
        if agreement.ours:
            self._deadline = timers.after(agreement.refresh_after, self._refresh)
        else:
            self._deadline = timers.at(self._ends_at, self._end)

    def stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def refused(self) -> None:
        """A refresh of ours was refused, but not the call. An agreed session has until its end to be refreshed."""
        agreement = self.agreement
        if agreement is None or not agreement.binding or not agreement.ours:
            return
        timers = self._call.agent.transactions.timers
        wait = (self._ends_at - timers.now()) / 2
        if wait >= SHORTEST_RETRY_S:
            self.stop()
            self._deadline = timers.after(wait, self._refresh)

    def _refresh(self) -> None:
        call, agreement = self._call, self.agreement
        assert agreement is not None
        timers = call.agent.transactions.timers
        if agreement.binding:
            self._deadline = timers.at(self._ends_at, self._end)
        else:
            # Nobody else keeps a timer: a refusal proves that they are there, and silence ends the call anyway.
            self._deadline = timers.after(agreement.refresh_after, self._refresh)
        if call.allows("UPDATE") or not call.local_body:
            self._update()
        else:
            # §7.4: the same SDP with the same version of its o= line says that nothing has changed.
            call.offers.want(Wanted("INVITE", refresh=True))

    def _update(self) -> None:
        call = self._call
        exchange: Exchange

        def on_response(response: Response) -> None:
            status = response.status
            if status < 200 or call.ended:
                return
            if status < 300:
                if call.dialog is not None:
                    call.dialog.refresh(response)
                call.answered_by_them(exchange.request, response)
            elif status in (408, 481) or response.local:  # §10, RFC 3261 §12.2.1.2
                call.bye()
                call.lost("No answer to a refresh" if status != 481 else "The peer no longer knows the call")
            elif status in (405, 501) and call.local_body:
                call.peer_allows = frozenset(("invite",))
                call.offers.want(Wanted("INVITE", refresh=True))
            else:
                self.refused()

        # §7.4: who does not say that it supports timers is taken for one who does not.
        headers = (*call.agent.capabilities(), *call.session_headers())
        exchange = call.exchange("UPDATE", on_response, headers=headers)

    def _end(self) -> None:
        self._call.bye([("Reason", 'SIP;cause=408;text="Session expired"')])
        self._call.lost("Session expired")
