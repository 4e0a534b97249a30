"""Data sets by their rows, and what was found out about items; runs are found by the data they were trained on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "row_set",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("data_hash", sa.String(), nullable=True),
        sa.Column("source", sa.String(), nullable=True),
        sa.Column("n_items", sa.Integer(), nullable=False),
        sa.Column("items_sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "version"),
        sa.UniqueConstraint("name", "hash"),
    )
    op.create_index("ix_row_set_name", "row_set", ["name"])
    op.create_index("ix_row_set_data_hash", "row_set", ["data_hash"])
    op.create_table(
        "quality_report",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("report_sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_run_data_hash", "run", ["data_hash"])


def downgrade() -> None:
    op.drop_index("ix_run_data_hash", "run")
    op.drop_table("quality_report")
    op.drop_table("row_set")
