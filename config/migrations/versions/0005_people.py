"""how many chats an agent has at a time, and who has left"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("agent", schema=None) as batch_op:
        batch_op.add_column(sa.Column("chats", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("left_at", sa.Float(), nullable=True))


def downgrade() -> None:
    # An earlier release knows nobody who has left: to it, they would be here.
    op.execute(sa.text("UPDATE agent SET password_hash = '' WHERE left_at IS NOT NULL"))
    with op.batch_alter_table("agent", schema=None) as batch_op:
        batch_op.drop_column("left_at")
        batch_op.drop_column("chats")
