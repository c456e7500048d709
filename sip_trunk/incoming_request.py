"""A request of theirs, in the hands of whoever answers it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sip_trunk.sip.message import Request

if TYPE_CHECKING:
    from sip_trunk.flow import Flow
    from sip_trunk.transactions import ServerTransaction


class IncomingRequest:
    """`message` came by `flow`; `respond` may be called later, but within 64*T1 (RFC 4320: then nobody listens)."""

    __slots__ = ("_transaction", "flow", "message")

    def __init__(self, transaction: ServerTransaction) -> None:
        self._transaction = transaction
        self.message: Request = transaction.request
        self.flow: Flow = transaction.flow

    @property
    def answered(self) -> bool:
        """A final response was given."""
        return self._transaction.answered

    def respond(
        self, status: int, reason: str | None = None, *, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Answer; a second final answer is ignored. The To tag is added."""
        tag = self._transaction.to_tag if status > 100 else None
        self._transaction.respond(self.message.response(status, reason, to_tag=tag, headers=headers))
