"""Requests and outcomes are found by their age, to be deleted when they are old."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_gateway_request_at", "gateway_request", ["at"])
    op.create_index("ix_outcome_at", "outcome", ["at"])


def downgrade() -> None:
    op.drop_index("ix_outcome_at", "outcome")
    op.drop_index("ix_gateway_request_at", "gateway_request")
