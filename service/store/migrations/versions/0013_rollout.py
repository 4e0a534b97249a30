"""A winner is rolled out by steps; each phase keeps the weights it was run with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("experiment", sa.Column("phases", sa.JSON(), nullable=True))
    op.add_column("experiment", sa.Column("rollout", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("experiment") as table:
        table.drop_column("rollout")
        table.drop_column("phases")
