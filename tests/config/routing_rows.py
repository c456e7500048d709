"""Brings a database with rows in it up to the release that routes, back again, and up once more; says what is in it.

Run by itself, with the database's URL: migrating is not for a process whose loop is running.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Connection, make_url

from config import migrations

URL = make_url(sys.argv[1])
TABLES = sa.MetaData()


def to(revision: str) -> None:
    """Up or down."""

    def work(connection: Connection) -> None:
        move = (
            command.downgrade
            if revision == "0002" and "rule_version" in names(connection)
            else command.upgrade
        )
        move(migrations._alembic(connection, TABLES, migrations.FOLDER / "versions"), revision)

    migrations._with_connection(URL, work)


def names(connection: Connection) -> list[str]:
    return sa.inspect(connection).get_table_names()


def put(table: str, **row: Any) -> None:
    def work(connection: Connection) -> None:
        found = sa.Table(table, sa.MetaData(), autoload_with=connection)
        connection.execute(found.insert().values(row))

    migrations._with_connection(URL, work)


def rows(table: str, *columns: str) -> list[list[Any]]:
    found: list[list[Any]] = []

    def work(connection: Connection) -> None:
        its = sa.Table(table, sa.MetaData(), autoload_with=connection)
        selected = sa.select(*(its.c[column] for column in columns)).order_by(*its.primary_key)
        found.extend(list(row) for row in connection.execute(selected))

    migrations._with_connection(URL, work)
    return found


def contact(contact_id: str, **more: Any) -> None:
    texts = ("provider_name", "product_name", "article_title", "customer_name", "number")
    put(
        "contact", id=contact_id, provider_id="thermea", attempts=1, asked_at=100.0,
        **dict.fromkeys(texts, ""), **{"channel": "voice", "state": "waiting", "refusals": {}, **more},
    )  # fmt: skip


def what_is_there() -> dict[str, Any]:
    return {
        "refusals": rows("contact", "id", "refusals"),
        "kept": [rows(name, column) for name, column in (
            ("agent", "name"), ("agent_skill", "level"), ("device", "name"), ("agent_state", "state"),
            ("contact_skill", "skill"), ("message", "text"),
        )],
    }  # fmt: skip


def main() -> None:
    told: list[dict[str, Any]] = []
    to("0002")
    put(
        "agent",
        id="a",
        name="Ana",
        login="ana",
        password_hash="",
        languages=[],
        provider_ids=[],
        standby=False,
    )
    put("agent_skill", agent_id="a", skill="heating", level=3)
    put("device", id="d", agent_id="a", name="Desk", username="ana", realm="", ha1_md5="", ha1_sha256="",
        override={}, learnt={})  # fmt: skip
    put("agent_state", agent_id="a", state="Ready", since=1.0, wants_ready=True, active={})
    contact("c1", refusals={"a": 110.0})
    contact("c2")
    put("contact_skill", contact_id="c1", skill="heating", place=0, weight=1.0, required=True, reasons=[])
    put("message", id="m", contact_id="c1", key="k", sender="customer", text="it drips", at=1.0)
    put("skill_rule", id=1, provider_id="thermea", when="tag", value="heat", skill="heating", weight=2.0)
    to("0003")
    told.append({
        **what_is_there(),
        "contacts": rows("contact", "queue", "place_at", "call_back"),
        "levels": rows("contact_skill", "level"),
        "rules": rows("rule_version", "provider_id", "version", "rules"),
    })  # fmt: skip
    put("rule_version", provider_id="thermea", version=2, at=1.0, author="", note="",
        rules=[["error", "E 119", "boiler", 1.0, 3], ["error", "E 119", "wifi", 1.0, 1]])  # fmt: skip
    new = {"queue": "default", "place_at": 100.0}
    contact("c3", state="ended", disposition="voicemail", **new)
    contact("c4", state="ended", disposition="call_back_failed", **new)
    contact("c5", refusals={"a": [120.0, "declined", None]}, **new)
    put("voicemail", id="v", contact_id="c3", provider_id="thermea", path="/x", left_at=1.0)
    to("0002")
    told.append({
        **what_is_there(),
        "rules": rows("skill_rule", "provider_id", "when", "value", "skill", "weight"),
        "dispositions": rows("contact", "disposition"),
    })  # fmt: skip
    to("0003")
    told.append({**what_is_there(), "rules": rows("rule_version", "provider_id", "version", "rules")})
    print(json.dumps(told))


main()
