"""The tables of agent_presence, and every query it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    Row,
    String,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from agent_presence.agent_state import AgentState, AgentStateRecord
from agent_presence.location import Binding
from agent_presence.roster import Agent, Device
from config.database import Database, metadata
from sip_trunk.sip.digest import Credentials

agent_table = Table(
    "agent",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("login", String(100), nullable=False, unique=True),
    Column("password_hash", String(300), nullable=False),
    Column("languages", JSON, nullable=False),
    Column("provider_ids", JSON, nullable=False),
    Column("standby", Boolean, nullable=False),
    Column("supervisor", Boolean, nullable=False),
    Column("chats", Integer, nullable=True),
    Column("left_at", Float, nullable=True),
)

agent_skill_table = Table(
    "agent_skill",
    metadata,
    Column("agent_id", String(64), ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("skill", String(100), primary_key=True),
    Column("level", Integer, nullable=False),
)

device_table = Table(
    "device",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("agent_id", String(64), ForeignKey("agent.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("username", String(100), nullable=False, unique=True),
    Column("realm", String(200), nullable=False),
    Column("ha1_md5", String(64), nullable=False),
    Column("ha1_sha256", String(128), nullable=False),
    Column("override", JSON, nullable=False),
    Column("learnt", JSON, nullable=False),
)

# `binding_key` is what makes two bindings of one address the same one: RFC 5626's instance and reg-id, or the URI.
binding_table = Table(
    "binding",
    metadata,
    Column("aor", Text, primary_key=True),
    Column("binding_key", Text, primary_key=True),
    Column("contact_uri", Text, nullable=False),
    Column("flow_token", Text, nullable=False),
    Column("transport", String(10), nullable=False),
    Column("source_ip", String(100), nullable=False),
    Column("source_port", Integer, nullable=False),
    Column("path", JSON, nullable=False),
    Column("q", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("registered_at", Float, nullable=False),
    Column("instance", Text, nullable=True),
    Column("reg_id", Integer, nullable=True),
    Column("user_agent", Text, nullable=False),
    Column("features", JSON, nullable=False),
    Column("device_id", String(64), nullable=True),
    Column("call_id", Text, nullable=False),
    Column("cseq", Integer, nullable=False),
)

agent_state_table = Table(
    "agent_state",
    metadata,
    Column("agent_id", String(64), ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("since", Float, nullable=False),
    Column("wants_ready", Boolean, nullable=False),
    Column("absent_since", Float, nullable=True),
    Column("active", JSON, nullable=False),
    Column("reserved_for", String(64), nullable=True),
    Column("offered_at", Float, nullable=False),
    Column("taken", Integer, nullable=False),
    Column("missed", Integer, nullable=False),
    Column("why", Text, nullable=False),
)

_REFRESH = (
    update(binding_table)
    .where(binding_table.c.aor == bindparam("of_aor"), binding_table.c.binding_key == bindparam("of_key"))
    .values(
        expires_at=bindparam("new_expires_at"),
        call_id=bindparam("new_call_id"),
        cseq=bindparam("new_cseq"),
    )
)


_DELETE_BINDING = delete(binding_table).where(
    binding_table.c.aor == bindparam("of_aor"), binding_table.c.binding_key == bindparam("of_key")
)
_ADD_BINDING = insert(binding_table)
_ADD_STATE = insert(agent_state_table)
_KEEP_STATE = (
    update(agent_state_table)
    .where(agent_state_table.c.agent_id == bindparam("of_agent_id"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                *("state", "since", "wants_ready", "absent_since", "active", "reserved_for"),
                *("offered_at", "taken", "missed", "why"),
            )
        }
    )
)


class PresenceStore:
    """What agent_presence asks of the database. Each write is one atomic call, and durable once its future resolves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def agents(self) -> list[Agent]:
        skills: dict[str, dict[str, int]] = {}
        for row in await self._database.read(select(agent_skill_table)):
            skills.setdefault(row.agent_id, {})[row.skill] = row.level
        return [
            Agent(
                id=row.id,
                name=row.name,
                login=row.login,
                password_hash=row.password_hash,
                skills=skills.get(row.id, {}),
                languages=tuple(row.languages),
                provider_ids=tuple(row.provider_ids),
                standby=row.standby,
                supervisor=row.supervisor,
                chats=row.chats,
                left_at=row.left_at,
            )
            for row in await self._database.read(select(agent_table))
        ]

    async def devices(self) -> list[Device]:
        rows = await self._database.read(select(device_table).order_by(device_table.c.id))
        return [
            Device(
                id=row.id,
                agent_id=row.agent_id,
                name=row.name,
                username=row.username,
                credentials=Credentials(
                    username=row.username, realm=row.realm, md5=row.ha1_md5, sha256=row.ha1_sha256
                ),
                override=dict(row.override),
                learnt=dict(row.learnt),
            )
            for row in rows
        ]

    def add_agent(self, agent: Agent) -> asyncio.Future[None]:
        return self._database.write(
            insert(agent_table).values(id=agent.id, **_agent_row(agent)), *_skills_added(agent)
        )

    def change_agent(self, agent: Agent) -> asyncio.Future[None]:
        """All there is of them, at once; the devices of one who has left are deleted with it."""
        statements: list[Any] = [
            update(agent_table).where(agent_table.c.id == agent.id).values(**_agent_row(agent)),
            delete(agent_skill_table).where(agent_skill_table.c.agent_id == agent.id),
            *_skills_added(agent),
        ]
        if agent.left_at is not None:
            statements.append(delete(device_table).where(device_table.c.agent_id == agent.id))
        return self._database.write(*statements)

    def add_device(self, device: Device) -> asyncio.Future[None]:
        return self._database.write(
            insert(device_table).values(id=device.id, agent_id=device.agent_id, **_device_row(device))
        )

    def change_device(self, device: Device) -> asyncio.Future[None]:
        return self._database.write(
            update(device_table).where(device_table.c.id == device.id).values(**_device_row(device))
        )

    def remove_device(self, device: Device) -> asyncio.Future[None]:
        return self._database.write(delete(device_table).where(device_table.c.id == device.id))

    async def bindings(self) -> list[Binding]:
        return [_binding(row) for row in await self._database.read(select(binding_table))]

    def change_bindings(self, added: Iterable[Binding], removed: Iterable[Binding]) -> asyncio.Future[None]:
        """Put new bindings in and take old ones out, at once; one that is in both is replaced."""
        statements: list[Any] = []
        for binding in removed:
            statements.append(_delete_binding(binding))
        for binding in added:
            statements.append(_delete_binding(binding))
            statements.append((_ADD_BINDING, _binding_row(binding)))
        return self._database.write(*statements)

    def replace_bindings(self, aor: str, bindings: Iterable[Binding]) -> asyncio.Future[None]:
        """Make what is stored of an address these, whatever it was."""
        statements: list[Any] = [delete(binding_table).where(binding_table.c.aor == aor)]
        statements += [(_ADD_BINDING, _binding_row(each)) for each in bindings]
        return self._database.write(*statements)

    def refresh_bindings(self, bindings: Sequence[Binding]) -> asyncio.Future[None]:
        """Store the new expiry of bindings that are there already; one that has gone meanwhile is left gone."""
        rows = [
            {
                "of_aor": binding.aor,
                "of_key": binding.key,
                "new_expires_at": binding.expires_at,
                "new_call_id": binding.call_id,
                "new_cseq": binding.cseq,
            }
            for binding in bindings
        ]
        return self._database.write((_REFRESH, rows))

    async def agent_states(self) -> dict[str, AgentStateRecord]:
        return {
            row.agent_id: AgentStateRecord(
                agent_id=row.agent_id,
                state=AgentState(row.state),
                since=row.since,
                wants_ready=row.wants_ready,
                absent_since=row.absent_since,
                active=dict(row.active),
                reserved_for=row.reserved_for,
                offered_at=row.offered_at,
                taken=row.taken,
                missed=row.missed,
                why=row.why,
            )
            for row in await self._database.read(select(agent_state_table))
        }

    def keep_agent_state(
        self, record: AgentStateRecord, *, is_new: bool, patient: bool = False
    ) -> asyncio.Future[None]:
        """`patient`: nobody waits for it to be durable."""
        values = {
            "state": record.state.value,
            "since": record.since,
            "wants_ready": record.wants_ready,
            "absent_since": record.absent_since,
            "active": dict(record.active),
            "reserved_for": record.reserved_for,
            "offered_at": record.offered_at,
            "taken": record.taken,
            "missed": record.missed,
            "why": record.why,
        }
        if is_new:
            return self._database.write(
                (_ADD_STATE, {"agent_id": record.agent_id, **values}), patient=patient
            )
        changed = {f"new_{name}": value for name, value in values.items()}
        return self._database.write(
            (_KEEP_STATE, {"of_agent_id": record.agent_id, **changed}), patient=patient
        )


def _agent_row(agent: Agent) -> dict[str, Any]:
    return {
        "name": agent.name,
        "login": agent.login,
        "password_hash": agent.password_hash,
        "languages": list(agent.languages),
        "provider_ids": list(agent.provider_ids),
        "standby": agent.standby,
        "supervisor": agent.supervisor,
        "chats": agent.chats,
        "left_at": agent.left_at,
    }


def _skills_added(agent: Agent) -> list[Any]:
    rows = [{"agent_id": agent.id, "skill": skill, "level": level} for skill, level in agent.skills.items()]
    return [(insert(agent_skill_table), rows)] if rows else []


def _device_row(device: Device) -> dict[str, Any]:
    return {
        "name": device.name,
        "username": device.username,
        "realm": device.credentials.realm,
        "ha1_md5": device.credentials.md5,
        "ha1_sha256": device.credentials.sha256,
        "override": dict(device.override),
        "learnt": dict(device.learnt),
    }


def _binding_row(binding: Binding) -> dict[str, Any]:
    row = asdict(binding)
    row["binding_key"] = row.pop("key")
    row["path"] = list(binding.path)
    return row


def _delete_binding(binding: Binding) -> tuple[Any, dict[str, str]]:
    return _DELETE_BINDING, {"of_aor": binding.aor, "of_key": binding.key}


def _binding(row: Row[Any]) -> Binding:
    return Binding(
        aor=row.aor,
        key=row.binding_key,
        contact_uri=row.contact_uri,
        flow_token=row.flow_token,
        transport=row.transport,
        source_ip=row.source_ip,
        source_port=row.source_port,
        path=tuple(row.path),
        q=row.q,
        expires_at=row.expires_at,
        registered_at=row.registered_at,
        instance=row.instance,
        reg_id=row.reg_id,
        user_agent=row.user_agent,
        features=dict(row.features),
        device_id=row.device_id,
        call_id=row.call_id,
        cseq=row.cseq,
    )
