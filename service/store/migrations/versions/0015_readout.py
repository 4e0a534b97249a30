"""What a unit did before its exposure, which units stay where they came in, and a random sample of each arm."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_SUMS = ("u", "v", "uu", "vv", "uv", "xu", "xv", "yu", "yv")


def upgrade() -> None:
    op.create_table(
        "unit_before",
        sa.Column("experiment_id", sa.String(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("unit_id", sa.String(), nullable=False),
        sa.Column("count", sa.Float(), nullable=False),
        sa.Column("sum", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "phase", "metric", "unit_id"),
    )
    op.create_table(
        "before_sum",
        sa.Column("experiment_id", sa.String(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        *(sa.Column(f"sum_{name}", sa.Float(), nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint("experiment_id", "phase", "metric", "variant"),
    )
    op.create_table(
        "sticky_unit",
        sa.Column("experiment_id", sa.String(), nullable=False),
        sa.Column("unit_id", sa.String(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "unit_id"),
    )
    op.add_column("exposure", sa.Column("draw", sa.Integer(), nullable=True))
    op.create_index("ix_exposure_draw", "exposure", ["experiment_id", "phase", "variant", "draw"])
    op.create_index("ix_gateway_request_past", "gateway_request", ["unit_id", "at"])


def downgrade() -> None:
    op.drop_index("ix_gateway_request_past", "gateway_request")
    op.drop_index("ix_exposure_draw", "exposure")
    with op.batch_alter_table("exposure") as table:
        table.drop_column("draw")
    for name in ("sticky_unit", "before_sum", "unit_before"):
        op.drop_table(name)
