"""Evaluations are listed by when they were made: their ids may be their callers' own."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_evaluation_created_at", "evaluation", ["created_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_evaluation_created_at", table_name="evaluation")
