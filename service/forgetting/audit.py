"""The audit: every protected task judged on matched items, one verdict, one record that never changes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from service.forgetting import pairing
from service.forgetting.advice import advise
from service.forgetting.pairing import Evidence, Pair
from service.forgetting.policies import canonical_hash, existing
from service.forgetting.schemas import (
    AuditCreate,
    AuditOut,
    AuditResult,
    GroupResult,
    PolicyBody,
    PolicyOut,
    TaskResult,
    Verdict,
)
from service.measure.comparison import item_changes
from service.measure.forgetting import TaskVerdict, flips_by_group, judge, judge_task
from service.measure.metric import MEASURE_VERSION
from service.measure.metrics import METRICS
from service.store import evaluations, models, records, runs, suites
from service.store.blobs import BlobStore
from service.store.tables import Audit, Evaluation, Policy

SEED = 0
_RANK: dict[Verdict, int] = {"FAIL": 0, "INVALID": 1, "INCONCLUSIVE": 2, "PASS": 3}


@dataclass(frozen=True)
class Case:
    """Everything an audit reads from the database, so that judging needs no session."""

    policy: Policy
    evidence: Evidence
    run_id: str | None
    params: Mapping[str, str] | None
    method: str | None


def open_case(session: Session, wanted: AuditCreate) -> Case:
    policy = existing(session, wanted.policy_id)
    records.check_links(session, wanted.run_id, wanted.before_version_id, wanted.after_version_id)
    before, after = ([evaluations.existing(session, one) for one in ids] for ids in (wanted.before, wanted.after))
    after_version_id = wanted.after_version_id or _agreed([one.model_version_id for one in after])
    version = models.get_version(session, after_version_id) if after_version_id else None
    run_id = wanted.run_id or _agreed([one.run_id for one in after]) or (version.run_id if version else None)
    return Case(
        policy=policy,
        evidence=Evidence(
            before=before,
            after=after,
            suites=evaluations.suites_of(session, [*before, *after]),
            before_version_id=wanted.before_version_id or _agreed([one.model_version_id for one in before]),
            after_version_id=after_version_id,
        ),
        run_id=run_id,
        params=runs.params(session, run_id) if run_id else None,
        method=version.method if version else None,
    )


def _agreed(ids: Sequence[str | None]) -> str | None:
    """The one id all of them name, if they do."""
    return ids[0] if len(set(ids)) == 1 else None


def conduct(case: Case, blobs: BlobStore) -> Audit:
    """Judge the case. The record's hash covers the verdict and the hashes of everything behind it."""
    body = PolicyBody.model_validate(case.policy.body)
    pairs, notes = pairing.match(body.protected, case.evidence, blobs)
    verdict, tasks = _judge_all(pairs, body.alpha, blobs)
    problems = [problem for pair in pairs for problem in pair.problems]
    result = AuditResult(
        sentence=sentence(verdict, tasks, problems),
        tasks=tasks,
        problems=problems,
        notes=notes,
        advice=advise(case.params, case.method, tasks[0]) if verdict == "FAIL" else [],
        inputs={
            "policy": case.policy.hash,
            "seed": SEED,
            "measure": MEASURE_VERSION,
            "evaluations": {
                side: [_input(one, case.evidence) for one in given]
                for side, given in (("before", case.evidence.before), ("after", case.evidence.after))
            },
        },
    )
    audit = Audit(
        policy_id=case.policy.id,
        policy_hash=case.policy.hash,
        run_id=case.run_id,
        before_version_id=case.evidence.before_version_id,
        after_version_id=case.evidence.after_version_id,
        verdict=verdict,
        result=result.model_dump(mode="json"),
        hash="",
        created_at=time.time(),
    )
    audit.hash = record_hash(audit)
    return audit


def record_hash(audit: Audit) -> str:
    return canonical_hash(audit.model_dump(exclude={"hash"}))


def show(audit: Audit, policy: Policy) -> AuditOut:
    row = audit.model_dump(exclude={"result", "policy_id", "policy_hash"})
    return AuditOut.model_validate(
        {**row, **audit.result, "policy": PolicyOut.of(policy), "intact": record_hash(audit) == audit.hash}
    )


def _input(evaluation: Evaluation, evidence: Evidence) -> dict[str, str]:
    return {
        "id": evaluation.id,
        "suite": evidence.suites[evaluation.suite_id].hash,
        "predictions": evaluation.prediction_hash,
    }


def _judge_all(pairs: Sequence[Pair], alpha: float, blobs: BlobStore) -> tuple[Verdict, list[TaskResult]]:
    """The overall verdict and the tasks, worst first: FAIL before INVALID before INCONCLUSIVE before PASS."""
    sound = [pair for pair in pairs if not pair.problems]
    raw = [_judge_pair(pair, alpha, blobs) for pair in sound]
    judged = judge([verdict for verdict, _ in raw])[1] if raw else []
    results = [
        _result(pair, verdict, groups) for pair, verdict, (_, groups) in zip(sound, judged, raw, strict=True)
    ]
    results += [_invalid(pair) for pair in pairs if pair.problems]
    results.sort(key=lambda task: (_RANK[task.verdict], math.inf if task.difference is None else task.difference))
    return results[0].verdict, results


def _judge_pair(pair: Pair, alpha: float, blobs: BlobStore) -> tuple[TaskVerdict, list[GroupResult]]:
    assert pair.suite is not None and pair.before is not None and pair.after is not None  # noqa: PT018
    metric = METRICS[pair.metric]
    both = evaluations.read_pair(blobs, pair.before, pair.after, ["id"], [pair.metric])
    before, after = (metric.item_scores(evaluations.statistics(answers, pair.metric)) for answers in both)
    assert before is not None and after is not None  # noqa: PT018
    items = suites.read_items(blobs, pair.suite, ["id", "group"])
    verdict = judge_task(
        before,
        after,
        margin=pair.task.margin,
        alpha=alpha,
        options=pair.task.options,
        minimum_n=pair.task.minimum_n,
        groups=suites.clusters(items),
        seed=SEED,
    )
    groups = items.column("group").to_pylist()
    if not any(groups):
        return verdict, []
    flips = flips_by_group(before, after, ["(none)" if group is None else group for group in groups])
    return verdict, [GroupResult.model_validate(one, from_attributes=True) for one in flips]
