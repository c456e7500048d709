"""levels and languages, queues, refusals told apart, calls back, wrap-up codes, voicemail, versions of rules"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("agent", schema=None) as batch_op:
        batch_op.add_column(sa.Column("supervisor", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("agent_state", schema=None) as batch_op:
        batch_op.add_column(sa.Column("offered_at", sa.Float(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("taken", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("missed", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("why", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("contact", schema=None) as batch_op:
        batch_op.add_column(sa.Column("language", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("queue", sa.String(), nullable=False, server_default="default"))
        batch_op.add_column(sa.Column("place_at", sa.Float(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("preferred_agent_id", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("call_back", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("wrap_up_code", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("wrap_up_note", sa.Text(), nullable=True))
    with op.batch_alter_table("customer", schema=None) as batch_op:
        batch_op.add_column(sa.Column("language", sa.String(length=20), nullable=True))
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index(
            "event_by_agent",
            ["agent_id", "kind", "seq"],
            unique=False,
            sqlite_where=sa.text("kind LIKE 'agent.%'"),
            postgresql_where=sa.text("kind LIKE 'agent.%'"),
        )
    with op.batch_alter_table("contact_skill", schema=None) as batch_op:
        batch_op.add_column(sa.Column("level", sa.Integer(), nullable=False, server_default="1"))
    # The defaults are for what is stored already: whoever writes a new row says what is in it.
    for table, columns in {
        "agent": ("supervisor",),
        "agent_state": ("offered_at", "taken", "missed", "why"),
        "contact": ("queue", "place_at"),
        "contact_skill": ("level",),
    }.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for column in columns:
                batch_op.alter_column(column, server_default=None)

    op.create_table(
        "rule_version",
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("provider_id", "version", name=op.f("pk_rule_version")),
    )
    op.create_table(
        "wrap_up_code",
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("words", sa.String(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("wrong_skill", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("provider_id", "code", name=op.f("pk_wrap_up_code")),
    )
    op.create_table(
        "voicemail",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("contact_id", sa.String(), nullable=False),
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("left_at", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("heard_at", sa.Float(), nullable=True),
        sa.Column("done_at", sa.Float(), nullable=True),
        sa.Column("done_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name=op.f("fk_voicemail_contact_id_contact")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voicemail")),
    )
    with op.batch_alter_table("voicemail", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_voicemail_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index("voicemail_to_do", ["provider_id", "done_at"], unique=False)

    _carry_over()
    op.drop_table("skill_rule")


def _carry_over() -> None:
    """What is stored goes on meaning what it meant."""
    connection = op.get_bind()
    contact = sa.table(
        "contact",
        sa.column("id", sa.String),
        sa.column("asked_at", sa.Float),
        sa.column("place_at", sa.Float),
        sa.column("state", sa.String),
        sa.column("refusals", sa.JSON),
    )
    connection.execute(contact.update().values(place_at=contact.c.asked_at))
    # A refusal was the moment alone; they are asked again after 30 s, as they were.
    for row in connection.execute(contact.select().where(contact.c.refusals.isnot(None))).fetchall():
        if row.refusals:
            told_apart = {agent: [at, "declined", at + 30.0] for agent, at in row.refusals.items()}
            connection.execute(contact.update().where(contact.c.id == row.id).values(refusals=told_apart))

    skill_rule = sa.table(
        "skill_rule",
        *(sa.column(name) for name in ("id", "provider_id", "when", "value", "skill", "weight")),
    )
    rules: dict[str, list[list[object]]] = {}
    for row in connection.execute(skill_rule.select().order_by(skill_rule.c.id)).fetchall():
        rules.setdefault(row.provider_id, []).append([row.when, row.value, row.skill, row.weight, 1])
    version = sa.table(
        "rule_version",
        *(sa.column(name) for name in ("provider_id", "version", "at", "author", "note")),
        sa.column("rules", sa.JSON),
    )
    for provider_id, its_rules in rules.items():
        connection.execute(
            version.insert().values(
                provider_id=provider_id, version=1, at=0.0, author="", note="", rules=its_rules
            )
        )


def downgrade() -> None:
    op.create_table(
        "skill_rule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("when", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("skill", sa.String(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_skill_rule")),
        sa.UniqueConstraint("provider_id", "when", "value", "skill", name="skill_rule_once"),
    )
    _carry_back()
    with op.batch_alter_table("voicemail", schema=None) as batch_op:
        batch_op.drop_index("voicemail_to_do")
        batch_op.drop_index(batch_op.f("ix_voicemail_contact_id"))
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.drop_index("event_by_agent")
    for table in ("voicemail", "wrap_up_code", "rule_version"):
        op.drop_table(table)
    for table, columns in {
        "contact_skill": ("level",),
        "contact": (
            *("wrap_up_note", "wrap_up_code", "call_back", "preferred_agent_id", "place_at", "queue"),
            "language",
        ),
        "agent_state": ("why", "missed", "taken", "offered_at"),
        "agent": ("supervisor",),
        "customer": ("language",),
    }.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for column in columns:
                batch_op.drop_column(column)


def _carry_back() -> None:
    """An older release reads what is stored as it understands it: the latest rules, refusals, how contacts ended."""
    connection = op.get_bind()
    contact = sa.table(
        "contact",
        sa.column("id", sa.String),
        sa.column("disposition", sa.String),
        sa.column("refusals", sa.JSON),
    )
    for row in connection.execute(sa.select(contact.c.id, contact.c.refusals)).fetchall():
        if row.refusals:
            moments = {agent: refusal[0] for agent, refusal in row.refusals.items()}
            connection.execute(contact.update().where(contact.c.id == row.id).values(refusals=moments))
    unknown = ("voicemail", "call_back_failed")
    connection.execute(
        contact.update().where(contact.c.disposition.in_(unknown)).values(disposition="no_agent")
    )
    version = sa.table(
        "rule_version",
        *(sa.column(name) for name in ("provider_id", "version")),
        sa.column("rules", sa.JSON),
    )
    latest = {
        row.provider_id: row for row in connection.execute(version.select().order_by(version.c.version))
    }
    rules = [
        {"provider_id": provider_id, "when": when, "value": value, "skill": skill, "weight": weight}
        for provider_id, row in sorted(latest.items())
        for when, value, skill, weight, _ in row.rules
    ]
    if rules:
        skill_rule = sa.table("skill_rule", *(sa.column(name) for name in rules[0]))
        connection.execute(skill_rule.insert(), rules)
