"""Full chunks carry an overview of their points, for charts. Those from before are unpacked for a chart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chunk", sa.Column("overview", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("chunk", "overview")
