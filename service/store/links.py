"""The stored arrows of the record: data → run → model version → evaluation → audit → experiment arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, or_, select

from service.store.tables import Audit, Evaluation, Experiment, Policy, Suite


def _of(run: Any, run_id: str | None, version: Any, version_ids: Sequence[str]) -> ColumnElement[bool]:
    """Rows of the run (if one is named) or of any of the versions."""
    by_version = col(version).in_(version_ids)
    return by_version if run_id is None else or_(col(run) == run_id, by_version)


def evaluations(session: Session, *, run_id: str | None, version_ids: Sequence[str]) -> list[tuple[Evaluation, Suite]]:
    """Evaluations of the run or of any of these versions, newest first, each with its suite."""
    query = (
        select(Evaluation, Suite)
        .join(Suite, col(Suite.id) == Evaluation.suite_id)
        .where(_of(Evaluation.run_id, run_id, Evaluation.model_version_id, version_ids))
        .order_by(col(Evaluation.created_at).desc(), col(Evaluation.id).desc())
    )
    return [(evaluation, suite) for evaluation, suite in session.exec(query).all()]


def audits(session: Session, *, run_id: str | None, version_ids: Sequence[str]) -> list[tuple[Audit, Policy]]:
    """Audits of the run or of any of these versions as the tuned model, newest first, each with its policy."""
    query = (
        select(Audit, Policy)
        .join(Policy, col(Policy.id) == Audit.policy_id)
        .where(_of(Audit.run_id, run_id, Audit.after_version_id, version_ids))
        .order_by(col(Audit.id).desc())
    )
    return [(audit, policy) for audit, policy in session.exec(query).all()]


def experiments(session: Session) -> list[Experiment]:
    return list(session.exec(select(Experiment).order_by(col(Experiment.id).desc())).all())
