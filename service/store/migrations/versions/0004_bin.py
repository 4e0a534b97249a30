"""Runs and projects are purged from the bin, and the space is given back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "purge",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id"),
    )
    op.create_table(
        "orphan_blob",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_index("ix_orphan_blob_since", "orphan_blob", ["since"])
    binned = sa.text("deleted_at IS NOT NULL")
    op.create_index("ix_run_bin", "run", ["deleted_at", "id"], sqlite_where=binned, postgresql_where=binned)
    # What names a row is looked up when that row goes.
    op.create_index("ix_delivery_alert_id", "delivery", ["alert_id"])
    op.create_index("ix_logged_model_metric_run_id", "logged_model_metric", ["run_id"])


def downgrade() -> None:
    op.drop_index("ix_logged_model_metric_run_id", "logged_model_metric")
    op.drop_index("ix_delivery_alert_id", "delivery")
    op.drop_index("ix_run_bin", "run")
    op.drop_table("orphan_blob")
    op.drop_table("purge")
