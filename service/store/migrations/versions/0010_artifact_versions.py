"""Artifacts have versions, aliases, and a record of who made and used them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "artifact_collection",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name"),
    )
    op.create_table(
        "artifact_version",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("n_files", sa.Integer(), nullable=False),
        sa.Column("about", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["artifact_collection.id"]),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("collection_id", "version"),
    )
    op.create_index("ix_artifact_version_run_id", "artifact_version", ["run_id"])
    op.create_table(
        "artifact_version_file",
        sa.Column("version_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["artifact_version.id"]),
        sa.PrimaryKeyConstraint("version_id", "path"),
    )
    op.create_index("ix_artifact_version_file_sha256", "artifact_version_file", ["sha256"])
    op.create_table(
        "artifact_alias",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("version_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["artifact_collection.id"]),
        sa.ForeignKeyConstraint(["version_id"], ["artifact_version.id"]),
        sa.PrimaryKeyConstraint("collection_id", "alias"),
    )
    op.create_index("ix_artifact_alias_version_id", "artifact_alias", ["version_id"])
    op.create_table(
        "artifact_use",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("version_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"]),
        sa.ForeignKeyConstraint(["version_id"], ["artifact_version.id"]),
        sa.PrimaryKeyConstraint("run_id", "version_id", "role"),
    )
    op.create_index("ix_artifact_use_version_id", "artifact_use", ["version_id"])


def downgrade() -> None:
    for table in ("artifact_use", "artifact_alias", "artifact_version_file", "artifact_version", "artifact_collection"):
        op.drop_table(table)
