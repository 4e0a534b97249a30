"""Audits have waivers: who answers for what was found, why and until when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "waiver",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("audit_id", sa.String(), nullable=False),
        sa.Column("revokes", sa.String(), nullable=True),
        sa.Column("suite", sa.String(), nullable=True),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("written_by", sa.String(), nullable=False),
        sa.Column("until", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["audit_id"], ["audit.id"]),
        sa.ForeignKeyConstraint(["revokes"], ["waiver.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("revokes"),
    )
    op.create_index("ix_waiver_audit_id", "waiver", ["audit_id"])


def downgrade() -> None:
    op.drop_table("waiver")
