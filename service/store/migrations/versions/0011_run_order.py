"""Runs of a project are found by their start, and those that are over by their last sign of life."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_run_project_id_created_at", "run", ["project_id", "created_at", "id"])
    over = sa.text("status <> 'running'")
    op.create_index("ix_run_over", "run", ["project_id", "heartbeat_at"], sqlite_where=over, postgresql_where=over)


def downgrade() -> None:
    op.drop_index("ix_run_over", table_name="run")
    op.drop_index("ix_run_project_id_created_at", table_name="run")
