"""recordings of calls, and until when messages of callers are kept"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "recording",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("contact_id", sa.String(), nullable=False),
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("kinds", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("delete_after", sa.Float(), nullable=True),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name=op.f("fk_recording_contact_id_contact")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recording")),
    )
    with op.batch_alter_table("recording", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_recording_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index("recording_by_provider", ["provider_id", "started_at"], unique=False)
        batch_op.create_index("recording_by_state", ["state", "delete_after"], unique=False)
    op.create_table(
        "contact_quality",
        sa.Column("contact_id", sa.String(), nullable=False),
        sa.Column("branch", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("party", sa.String(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("loss_in", sa.Float(), nullable=True),
        sa.Column("loss_out", sa.Float(), nullable=True),
        sa.Column("jitter_ms", sa.Float(), nullable=True),
        sa.Column("round_trip_ms", sa.Float(), nullable=True),
        sa.Column("mos", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["contact_id"], ["contact.id"], name=op.f("fk_contact_quality_contact_id_contact")
        ),
        sa.PrimaryKeyConstraint(
            "contact_id", "branch", "kind", "started_at", name=op.f("pk_contact_quality")
        ),
    )
    with op.batch_alter_table("voicemail", schema=None) as batch_op:
        batch_op.add_column(sa.Column("deleted_at", sa.Float(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("voicemail", schema=None) as batch_op:
        batch_op.drop_column("deleted_at")
    op.drop_table("contact_quality")
    with op.batch_alter_table("recording", schema=None) as batch_op:
        batch_op.drop_index("recording_by_state")
        batch_op.drop_index("recording_by_provider")
        batch_op.drop_index(batch_op.f("ix_recording_contact_id"))
    op.drop_table("recording")
