"""The contact centre's tables, and every query on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from math import inf, isinf
from typing import Any

import sqlalchemy as sa

from config.database import Database, Statement, metadata
from pbx.contact import CallBack, Channel, Contact, Disposition, Facts, Refusal, State
from pbx.skills import Need, Rule

contact_table = sa.Table(
    "contact",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("channel", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("provider_id", sa.String, nullable=False),
    sa.Column("provider_name", sa.String, nullable=False),
    sa.Column("product_id", sa.String),
    sa.Column("product_name", sa.String, nullable=False),
    sa.Column("article_id", sa.String),
    sa.Column("article_title", sa.String, nullable=False),
    sa.Column("visit_id", sa.String),
    sa.Column("customer_id", sa.String),
    sa.Column("customer_name", sa.String, nullable=False),
    sa.Column("trunk", sa.String),
    sa.Column("number", sa.String, nullable=False),
    sa.Column("language", sa.String),
    sa.Column("queue", sa.String, nullable=False),
    sa.Column("place_at", sa.Float, nullable=False),
    sa.Column("preferred_agent_id", sa.String),
    sa.Column("call_back", sa.JSON),
    sa.Column("asked_at", sa.Float, nullable=False),
    sa.Column("agent_id", sa.String),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("refusals", sa.JSON, nullable=False),
    sa.Column("connected_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("disposition", sa.String),
    sa.Column("helped", sa.Boolean),
    sa.Column("comment", sa.Text),
    sa.Column("wrap_up_code", sa.String),
    sa.Column("wrap_up_note", sa.Text),
)
sa.Index("contact_by_state", contact_table.c.state)
sa.Index("contact_by_customer", contact_table.c.customer_id, contact_table.c.asked_at)
sa.Index("contact_by_agent", contact_table.c.agent_id, contact_table.c.asked_at)

contact_skill = sa.Table(
    "contact_skill",
    metadata,
    sa.Column("contact_id", sa.String, sa.ForeignKey("contact.id"), primary_key=True),
    sa.Column("skill", sa.String, primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("weight", sa.Float, nullable=False),
    sa.Column("required", sa.Boolean, nullable=False),
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("reasons", sa.JSON, nullable=False),
)

message_table = sa.Table(
    "message",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("contact_id", sa.String, sa.ForeignKey("contact.id"), nullable=False),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("sender", sa.String, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("delivered_to", sa.String),
    sa.Column("delivered_at", sa.Float),
    sa.Column("read_at", sa.Float),
    # A page or a phone that says a line again, not having heard that it was taken, says it once.
    sa.UniqueConstraint("contact_id", "sender", "key", name="message_said_once"),
)
sa.Index("message_by_contact", message_table.c.contact_id, message_table.c.id)

# The latest version of a provider's rules is in force; the others say what was, and when.
rule_version = sa.Table(
    "rule_version",
    metadata,
    sa.Column("provider_id", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("author", sa.String, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("rules", sa.JSON, nullable=False),
)

wrap_up_code_table = sa.Table(
    "wrap_up_code",
    metadata,
    sa.Column("provider_id", sa.String, primary_key=True),
    sa.Column("code", sa.String, primary_key=True),
    sa.Column("words", sa.String, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("wrong_skill", sa.Boolean, nullable=False),
)

voicemail_table = sa.Table(
    "voicemail",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("contact_id", sa.String, sa.ForeignKey("contact.id"), nullable=False, index=True),
    sa.Column("provider_id", sa.String, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("left_at", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("heard_at", sa.Float),
    sa.Column("done_at", sa.Float),
    sa.Column("done_by", sa.String),
)
sa.Index("voicemail_to_do", voicemail_table.c.provider_id, voicemail_table.c.done_at)


@dataclass(frozen=True, slots=True)
class Message:
    """One line of a chat. `sender`: customer, agent or system. `key` is the sender's own, and says it is one line."""

    id: str
    contact_id: str
    key: str
    sender: str
    text: str
    at: float
    delivered_to: str | None = None
    delivered_at: float | None = None
    read_at: float | None = None


@dataclass(frozen=True, slots=True)
class PastContact:
    """An earlier contact of a customer, as the agent's context page shows it."""

    id: str
    channel: str
    product_name: str
    article_title: str
    asked_at: float
    connected_at: float | None
    ended_at: float | None
    disposition: str | None
    agent_id: str | None
    helped: bool | None
    comment: str | None


_CHANGING = (
    *("state", "agent_id", "attempts", "refusals", "connected_at", "ended_at", "disposition"),
    *("channel", "queue", "place_at", "preferred_agent_id", "call_back", "wrap_up_code", "wrap_up_note"),
)

# Statements that never change are compiled once, and many calls' share one executemany.
_ADD_CONTACT = contact_table.insert()
_ADD_SKILL = contact_skill.insert()
_ADD_MESSAGE = message_table.insert()
_MOVE = (
    contact_table.update()
    .where(contact_table.c.id == sa.bindparam("its_id"))
    .values({name: sa.bindparam(name) for name in _CHANGING})
)
_DELIVERED = (
    message_table.update()
    .where(message_table.c.id == sa.bindparam("its_id"))
    .values(delivered_to=sa.bindparam("delivered_to"), delivered_at=sa.bindparam("delivered_at"))
)
_READ = (
    message_table.update()
    .where(message_table.c.id == sa.bindparam("its_id"))
    .values(read_at=sa.bindparam("read_at"))
)


class PbxStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    # Contacts

    def add(self, contact: Contact, *messages: Message) -> asyncio.Future[None]:
        """Resolves when the contact, its skills and its first lines are durable."""
        statements: list[Statement] = [(_ADD_CONTACT, _row_of(contact))]
        if contact.needs:
            statements.append(
                (
                    _ADD_SKILL,
                    [
                        {
                            "contact_id": contact.id,
                            "skill": need.skill,
                            "place": place,
                            "weight": need.weight,
                            "required": need.required,
                            "level": need.level,
                            "reasons": list(need.reasons),
                        }
                        for place, need in enumerate(contact.needs)
                    ],
                )
            )
        statements += [(_ADD_MESSAGE, _row_of_message(message)) for message in messages]
        return self._database.write(*statements)

    def moved(self, contact: Contact) -> asyncio.Future[None]:
        """Store what moves of the contact have changed."""
        row = _row_of(contact)
        return self._database.write(
            (_MOVE, {"its_id": contact.id, **{name: row[name] for name in _CHANGING}})
        )

    def feedback(self, contact_id: str, helped: bool, comment: str | None) -> asyncio.Future[None]:
        return self._database.write(
            contact_table.update()
            .where(contact_table.c.id == contact_id)
            .values(helped=helped, comment=comment)
        )

    async def contact(self, contact_id: str) -> Contact | None:
        found = await self._contacts(contact_table.c.id == contact_id)
        return found[0] if found else None

    async def left_open(self) -> list[Contact]:
        """Contacts that have not ended, oldest first: at start, those a dead process left."""
        return await self._contacts(contact_table.c.state != State.ENDED.value)

    async def _contacts(self, which: sa.ColumnElement[bool]) -> list[Contact]:
        rows = await self._database.read(
            contact_table.select().where(which).order_by(contact_table.c.asked_at, contact_table.c.id)
        )
        if not rows:
            return []
        skills = await self._database.read(
            sa.select(contact_skill)
            .join(contact_table, contact_table.c.id == contact_skill.c.contact_id)
            .where(which)
            .order_by(contact_skill.c.contact_id, contact_skill.c.place)
        )
        needs: dict[str, list[Need]] = {}
        for row in skills:
            need = Need(row.skill, row.weight, row.required, tuple(row.reasons), row.level)
            needs.setdefault(row.contact_id, []).append(need)
        return [_contact_from(row, needs.get(row.id, ())) for row in rows]

    async def past_of(
        self, customer_id: str, provider_id: str, before: float, limit: int = 10
    ) -> list[PastContact]:
        """The customer's contacts with this provider from before that moment, the latest first."""
        table = contact_table.c
        names = list(PastContact.__dataclass_fields__)
        rows = await self._database.read(
            sa.select(*(table[name] for name in names))
            .where(
                table.customer_id == customer_id, table.provider_id == provider_id, table.asked_at < before
            )
            .order_by(table.asked_at.desc())
            .limit(limit)
        )
        return [PastContact(**row._mapping) for row in rows]

    # Messages

    def say(self, message: Message) -> asyncio.Future[None]:
        """Resolves when the line is durable."""
        return self._database.write((_ADD_MESSAGE, _row_of_message(message)))

    def delivered(self, message_id: str, agent_id: str, at: float) -> asyncio.Future[None]:
        return self._database.write(
            (_DELIVERED, {"its_id": message_id, "delivered_to": agent_id, "delivered_at": at})
        )

    def read(self, message_id: str, at: float) -> asyncio.Future[None]:
        """Store when the line was shown to whom it was said."""
        return self._database.write((_READ, {"its_id": message_id, "read_at": at}))

    async def messages(self, contact_id: str) -> list[Message]:
        """All lines of a contact in the order they were said."""
        return (await self.messages_of([contact_id])).get(contact_id, [])

    async def messages_of(self, contact_ids: Sequence[str]) -> dict[str, list[Message]]:
        rows = await self._database.read(
            message_table.select()
            .where(message_table.c.contact_id.in_(contact_ids))
            .order_by(message_table.c.contact_id, message_table.c.at, message_table.c.id)
        )
        found: dict[str, list[Message]] = {}
        for row in rows:
            found.setdefault(row.contact_id, []).append(Message(**row._mapping))
        return found

    # Rules

    async def rules(self) -> dict[str, tuple[Rule, ...]]:
        """The rules in force of every provider that has some."""
        latest = (
            sa.select(rule_version.c.provider_id, sa.func.max(rule_version.c.version).label("version"))
            .group_by(rule_version.c.provider_id)
            .subquery()
        )
        rows = await self._database.read(
            sa.select(rule_version.c.provider_id, rule_version.c.rules).join(
                latest,
                (latest.c.provider_id == rule_version.c.provider_id)
                & (latest.c.version == rule_version.c.version),
            )
        )
        return {row.provider_id: tuple(Rule(*rule) for rule in row.rules) for row in rows}

    def add_rules(
        self,
        provider_id: str,
        rules: Iterable[Rule],
        *,
        version: int = 1,
        at: float = 0.0,
        author: str = "",
        note: str = "",
    ) -> asyncio.Future[None]:
        """Put a version of a provider's rules in force; fails where that version is there already."""
        return self._database.write(
            rule_version.insert().values(
                provider_id=provider_id,
                version=version,
                at=at,
                author=author,
                note=note,
                rules=[list(astuple(rule)) for rule in rules],
            )
        )


def _row_of(contact: Contact) -> dict[str, Any]:
    facts = contact.facts
    return {
        "id": facts.id,
        "channel": facts.channel.value,
        "state": contact.state.value,
        "provider_id": facts.provider_id,
        "provider_name": facts.provider_name,
        "product_id": facts.product_id,
        "product_name": facts.product_name,
        "article_id": facts.article_id,
        "article_title": facts.article_title,
        "visit_id": facts.visit_id,
        "customer_id": facts.customer_id,
        "customer_name": facts.customer_name,
        "trunk": facts.trunk,
        "number": facts.number,
        "language": facts.language,
        "queue": contact.queue,
        "place_at": contact.place_at,
        "preferred_agent_id": contact.preferred_agent_id,
        "call_back": asdict(contact.call_back) if contact.call_back is not None else None,
        "wrap_up_code": contact.wrap_up_code,
        "wrap_up_note": contact.wrap_up_note,
        "asked_at": facts.asked_at,
        "agent_id": contact.agent_id,
        "attempts": contact.attempts,
        # JSON knows no infinity.
        "refusals": {
            agent_id: [refusal.at, refusal.outcome, None if isinf(refusal.until) else refusal.until]
            for agent_id, refusal in contact.refusals.items()
        },
        "connected_at": contact.connected_at,
        "ended_at": contact.ended_at,
        "disposition": contact.disposition.value if contact.disposition is not None else None,
    }


def _contact_from(row: Any, needs: Sequence[Need]) -> Contact:
    facts: Mapping[str, Any] = {name: getattr(row, name) for name in Facts.__dataclass_fields__}
    return Contact(
        facts=Facts(**{**facts, "channel": Channel(row.channel)}),
        needs=tuple(needs),
        state=State(row.state),
        agent_id=row.agent_id,
        connected_at=row.connected_at,
        ended_at=row.ended_at,
        disposition=Disposition(row.disposition) if row.disposition else None,
        attempts=row.attempts,
        refusals={
            agent_id: Refusal(at, outcome, inf if until is None else until)
            for agent_id, (at, outcome, until) in row.refusals.items()
        },
        queue=row.queue,
        place_at=row.place_at,
        preferred_agent_id=row.preferred_agent_id,
        call_back=CallBack(**row.call_back) if row.call_back is not None else None,
        wrap_up_code=row.wrap_up_code,
        wrap_up_note=row.wrap_up_note,
    )


def _row_of_message(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in Message.__dataclass_fields__}
