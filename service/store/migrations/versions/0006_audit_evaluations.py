"""Evaluations that an audit rests on get a row each, also of the audits that are there; series count their joins."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

AUDITS = 200  # whose results are in memory at a time


def upgrade() -> None:
    op.create_table(
        "audit_evaluation",
        sa.Column("audit_id", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("evaluation_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["audit_id"], ["audit.id"]),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"]),
        sa.PrimaryKeyConstraint("audit_id", "side", "evaluation_id"),
    )
    op.create_index("ix_audit_evaluation_evaluation_id", "audit_evaluation", ["evaluation_id"])
    op.add_column("series", sa.Column("joins", sa.BigInteger(), nullable=False, server_default="0"))
    _fill()


def _fill() -> None:
    connection = op.get_bind()
    audit = sa.table("audit", sa.column("id", sa.String()), sa.column("result", sa.JSON()))
    evaluation = sa.table("evaluation", sa.column("id", sa.String()))
    link = sa.table("audit_evaluation", *(sa.column(name) for name in ("audit_id", "side", "evaluation_id")))
    after = ""
    while True:
        some = sa.select(audit.c.id, audit.c.result).where(audit.c.id > after).order_by(audit.c.id).limit(AUDITS)
        found = connection.execute(some).all()
        if not found:
            return
        after = found[-1][0]
        links = {(audit_id, *named) for audit_id, result in found for named in _named(result)}
        ids = {evaluation_id for _, _, evaluation_id in links}
        there = set(connection.execute(sa.select(evaluation.c.id).where(evaluation.c.id.in_(ids))).scalars())
        rows = [dict(zip(link.c.keys(), one, strict=True)) for one in sorted(links) if one[2] in there]
        if rows:
            connection.execute(sa.insert(link), rows)


def _named(result: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Side and evaluation of what an audit was computed from."""
    sides = ((result or {}).get("inputs") or {}).get("evaluations") or {}
    return [(side, one["id"]) for side in ("before", "after") for one in sides.get(side) or ()]


def downgrade() -> None:
    op.drop_column("series", "joins")
    op.drop_table("audit_evaluation")
