"""Many processes log into one run, and their console output is kept.

What older series do not tell: when they began (no earlier than the run), and how many of their points are NaN or
infinite (taken as none).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The constraints of 0001 were named by the database; SQLite gives no names.
NAMING = {"uq": "series_%(column_0_N_name)s_key"}
FILL = """
UPDATE series SET rank = 0, finite_count = CASE WHEN min IS NULL THEN 0 ELSE count END,
    first_time = (SELECT CASE WHEN run.created_at < series.last_time THEN run.created_at ELSE series.last_time END
                  FROM run WHERE run.id = series.run_id)
"""


def upgrade() -> None:
    op.add_column("series", sa.Column("rank", sa.Integer(), nullable=True))
    op.add_column("series", sa.Column("finite_count", sa.BigInteger(), nullable=True))
    op.add_column("series", sa.Column("first_time", sa.Float(), nullable=True))
    op.execute(FILL)
    with op.batch_alter_table("series", schema=None, naming_convention=NAMING) as batch_op:
        for name in ("rank", "finite_count", "first_time"):
            batch_op.alter_column(name, nullable=False)
        batch_op.drop_index("ix_series_key_last")
        batch_op.drop_constraint("series_run_id_key_key", type_="unique")
        batch_op.create_unique_constraint("series_run_id_rank_key_key", ["run_id", "rank", "key"])
        batch_op.create_index("ix_series_key_last", ["key", "rank", "last", "run_id"], unique=False)
    op.create_table(
        "console_chunk",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("console_chunk", schema=None) as batch_op:
        batch_op.create_index("ix_console_chunk_run_id", ["run_id", "id"], unique=False)


def downgrade() -> None:
    """What other ranks than 0 logged is lost, and so is the console."""
    op.drop_table("console_chunk")
    op.execute("DELETE FROM chunk WHERE series_id IN (SELECT id FROM series WHERE rank <> 0)")
    op.execute("DELETE FROM series WHERE rank <> 0")
    with op.batch_alter_table("series", schema=None, naming_convention=NAMING) as batch_op:
        batch_op.drop_index("ix_series_key_last")
        batch_op.drop_constraint("series_run_id_rank_key_key", type_="unique")
        for name in ("rank", "finite_count", "first_time"):
            batch_op.drop_column(name)
        batch_op.create_unique_constraint("series_run_id_key_key", ["run_id", "key"])
        batch_op.create_index("ix_series_key_last", ["key", "last", "run_id"], unique=False)
