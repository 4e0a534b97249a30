"""Whether a run is of a project and not in the bin is answered by an index."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_run_live", "run", ["project_id", "id", "deleted_at"])
    op.drop_index("ix_run_project_id_id", "run")


def downgrade() -> None:
    op.create_index("ix_run_project_id_id", "run", ["project_id", "id"])
    op.drop_index("ix_run_live", "run")
