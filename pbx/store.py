"""The contact centre's tables, and every query on them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from math import inf, isinf
from typing import Any

import sqlalchemy as sa
from twisted.logger import Logger

from config.database import Database, Statement, metadata
from config.errors import TheirError
from pbx.contact import CallBack, Channel, Contact, Disposition, Facts, Refusal, State
from pbx.skills import Need, Rule

log = Logger()

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
    sa.Column("deleted_at", sa.Float),
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
class WrapUpCode:
    """What an agent may say became of a contact. `wrong_skill`: that it should have gone to somebody else."""

    code: str
    words: str
    wrong_skill: bool = False


@dataclass(frozen=True, slots=True)
class Voicemail:
    """A message that a caller has left. `seconds` None: it is being left. Times: epoch seconds.

    What follows `deleted_at` (its file's) is the contact's, as it was.
    """

    id: str
    contact_id: str
    provider_id: str
    path: str
    left_at: float
    seconds: float | None = None
    heard_at: float | None = None
    done_at: float | None = None
    done_by: str | None = None
    deleted_at: float | None = None
    provider_name: str = ""
    product_name: str = ""
    customer_id: str | None = None
    customer_name: str = ""
    number: str = ""


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


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """A provider's rules as they were from `at` (epoch seconds) on. Version 0 stands for none at all."""

    provider_id: str
    version: int
    at: float = 0.0
    author: str = ""
    note: str = ""
    rules: tuple[Rule, ...] = ()


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
            statements.append((_ADD_SKILL, _rows_of_needs(contact)))
        statements += [(_ADD_MESSAGE, _row_of_message(message)) for message in messages]
        return self._database.write(*statements)

    def moved(self, contact: Contact, *, patient: bool = False) -> asyncio.Future[None]:
        """Store what moves of the contact have changed. `patient`: nobody waits for it to be durable."""
        return self._database.write((_MOVE, {"its_id": contact.id, **_changing_of(contact)}), patient=patient)

    def needs_changed(self, contact: Contact) -> asyncio.Future[None]:
        """Store what the contact needs now, in place of what it needed."""
        statements: list[Statement] = [contact_skill.delete().where(contact_skill.c.contact_id == contact.id)]
        if contact.needs:
            statements.append((_ADD_SKILL, _rows_of_needs(contact)))
        return self._database.write(*statements)

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

    async def asked_between(self, since: float, until: float, *, limit: int) -> list[Contact]:
        """Contacts asked for in that time, oldest first; TheirError 413 where there are more than `limit`."""
        which = contact_table.c.asked_at.between(since, until)
        count = await self._database.read(sa.select(sa.func.count()).select_from(contact_table).where(which))
        if count[0][0] > limit:
            raise TheirError(f"These are {count[0][0]} contacts; at most {limit} are looked at at once.", 413)
        return await self._contacts(which)

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
        found: list[Contact] = []
        for row in rows:
            try:
                found.append(_contact_from(row, needs.get(row.id, ())))
            except (AttributeError, KeyError, TypeError, ValueError):
                # One row that makes no sense must keep neither the server from its start nor others from being seen.
                log.failure("Contact {id} cannot be read", id=row.id)
        return found

    async def last_agent(self, customer_id: str, provider_id: str) -> str | None:
        """Who was joined last with this customer, for this provider."""
        table = contact_table.c
        rows = await self._database.read(
            sa.select(table.agent_id)
            .where(
                table.customer_id == customer_id,
                table.provider_id == provider_id,
                table.connected_at.is_not(None),
                table.agent_id.is_not(None),
            )
            .order_by(table.asked_at.desc())
            .limit(1)
        )
        return rows[0].agent_id if rows else None

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

    # Wrap-up

    async def wrap_up_codes(self) -> dict[str, tuple[WrapUpCode, ...]]:
        """The codes of every provider that has some of its own, in their order."""
        rows = await self._database.read(
            wrap_up_code_table.select().order_by(wrap_up_code_table.c.provider_id, wrap_up_code_table.c.place)
        )
        found: dict[str, tuple[WrapUpCode, ...]] = {}
        for row in rows:
            code = WrapUpCode(row.code, row.words, row.wrong_skill)
            found[row.provider_id] = (*found.get(row.provider_id, ()), code)
        return found

    def add_wrap_up_codes(self, provider_id: str, codes: Sequence[WrapUpCode]) -> asyncio.Future[None]:
        """Give a provider that has none its codes."""
        return self._database.write(
            (
                wrap_up_code_table.insert(),
                [
                    {"provider_id": provider_id, "place": place, **asdict(code)}
                    for place, code in enumerate(codes)
                ],
            )
        )

    def wrapped_up(self, contact_id: str, code: str, note: str | None) -> asyncio.Future[None]:
        """Store what became of a contact, as its agent says; a later word replaces the first."""
        return self._database.write(
            contact_table.update()
            .where(contact_table.c.id == contact_id)
            .values(wrap_up_code=code, wrap_up_note=note)
        )

    # Voicemail

    def add_voicemail(self, voicemail: Voicemail) -> asyncio.Future[None]:
        """Resolves when it is durable that a message is being left."""
        row = {column.name: getattr(voicemail, column.name) for column in voicemail_table.c}
        return self._database.write((voicemail_table.insert(), row))

    def voicemail_left(self, voicemail_id: str, seconds: float) -> asyncio.Future[None]:
        return self._change_voicemail(voicemail_id, seconds=seconds)

    def voicemail_heard(self, voicemail_id: str, at: float) -> asyncio.Future[None]:
        return self._change_voicemail(voicemail_id, heard_at=at)

    def voicemail_done(self, voicemail_id: str, agent_id: str, at: float) -> asyncio.Future[None]:
        return self._change_voicemail(voicemail_id, done_at=at, done_by=agent_id)

    def _change_voicemail(self, voicemail_id: str, **values: Any) -> asyncio.Future[None]:
        return self._database.write(
            voicemail_table.update().where(voicemail_table.c.id == voicemail_id).values(**values)
        )

    def remove_voicemail(self, voicemail_id: str) -> asyncio.Future[None]:
        return self._database.write(voicemail_table.delete().where(voicemail_table.c.id == voicemail_id))

    async def voicemail(self, voicemail_id: str) -> Voicemail | None:
        found = await self._voicemails(voicemail_table.c.id == voicemail_id, limit=1)
        return found[0] if found else None

    async def voicemails_to_do(self, provider_ids: Sequence[str] | None, *, limit: int) -> list[Voicemail]:
        """Messages that nobody has dealt with, the oldest first; of these providers only, None: of all."""
        of_theirs = voicemail_table.c.provider_id.in_(provider_ids) if provider_ids is not None else sa.true()
        left = voicemail_table.c.seconds.isnot(None) & voicemail_table.c.done_at.is_(None)
        return await self._voicemails(left & of_theirs, limit=limit)

    async def voicemails_to_do_by_provider(self) -> dict[str, int]:
        """How many of each provider nobody has dealt with, those that are being left included."""
        provider_id = voicemail_table.c.provider_id
        rows = await self._database.read(
            sa.select(provider_id, sa.func.count().label("how_many"))
            .where(voicemail_table.c.done_at.is_(None))
            .group_by(provider_id)
        )
        return {row.provider_id: row.how_many for row in rows}

    async def voicemails_unfinished(self) -> list[Voicemail]:
        """Messages in the middle of which a process died: nobody wrote how long they are, or ended their contact."""
        unfinished = voicemail_table.c.seconds.is_(None) | (contact_table.c.state != State.ENDED.value)
        return await self._voicemails(unfinished)

    async def _voicemails(self, which: sa.ColumnElement[bool], limit: int | None = None) -> list[Voicemail]:
        shown = ("provider_name", "product_name", "customer_id", "customer_name", "number")
        rows = await self._database.read(
            sa.select(voicemail_table, *(contact_table.c[name] for name in shown))
            .join(contact_table, contact_table.c.id == voicemail_table.c.contact_id)
            .where(which)
            .order_by(voicemail_table.c.left_at, voicemail_table.c.id)
            .limit(limit)
        )
        return [Voicemail(**row._mapping) for row in rows]

    # Rules

    async def rules(self) -> dict[str, RuleVersion]:
        """The rules in force of every provider that has some."""
        latest = await self.rule_versions()
        return {
            provider_id: found
            for provider_id, version in latest.items()
            if (found := await self.rule_version(provider_id, version)) is not None
        }

    async def rule_versions(self) -> dict[str, int]:
        """The number of the version in force of every provider that has rules."""
        rows = await self._database.read(
            sa.select(
                rule_version.c.provider_id, sa.func.max(rule_version.c.version).label("version")
            ).group_by(rule_version.c.provider_id)
        )
        return {row.provider_id: row.version for row in rows}

    async def rule_version(self, provider_id: str, version: int) -> RuleVersion | None:
        rows = await self._database.read(
            rule_version.select().where(
                rule_version.c.provider_id == provider_id, rule_version.c.version == version
            )
        )
        if not rows:
            return None
        row = rows[0]._mapping
        return RuleVersion(**{**row, "rules": tuple(Rule(*rule) for rule in row["rules"])})

    async def rule_history(
        self, provider_id: str, *, author: str | None = None, since: float = 0.0, limit: int = 100
    ) -> list[RuleVersion]:
        """A provider's versions, the latest first, without their rules."""
        columns = (each for each in rule_version.c if each is not rule_version.c.rules)
        which = [rule_version.c.provider_id == provider_id, rule_version.c.at >= since]
        if author is not None:
            which.append(rule_version.c.author == author)
        rows = await self._database.read(
            sa.select(*columns).where(*which).order_by(rule_version.c.version.desc()).limit(limit)
        )
        return [RuleVersion(**row._mapping) for row in rows]

    def add_rules(self, put: RuleVersion) -> asyncio.Future[None]:
        """Put a version of a provider's rules in force; fails where that version is there already."""
        rules = [list(astuple(rule)) for rule in put.rules]
        return self._database.write((rule_version.insert(), {**asdict(put), "rules": rules}))


def _rows_of_needs(contact: Contact) -> list[dict[str, Any]]:
    return [
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
    ]


def _row_of(contact: Contact) -> dict[str, Any]:
    facts = contact.facts
    return {
        **_changing_of(contact),
        "id": facts.id,
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
        "asked_at": facts.asked_at,
    }


def _changing_of(contact: Contact) -> dict[str, Any]:
    """What moves of the contact may change."""
    return {
        "channel": contact.channel.value,
        "state": contact.state.value,
        "queue": contact.queue,
        "place_at": contact.place_at,
        "preferred_agent_id": contact.preferred_agent_id,
        "call_back": asdict(contact.call_back) if contact.call_back is not None else None,
        "wrap_up_code": contact.wrap_up_code,
        "wrap_up_note": contact.wrap_up_note,
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
