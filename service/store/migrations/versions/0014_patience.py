"""Runs of clients that send no heartbeat may be quiet for longer before they are called silent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("patience", sa.Float(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("run", "patience")
