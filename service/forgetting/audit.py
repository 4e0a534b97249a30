"""The audit: every protected task judged on matched items, one verdict, one record that never changes."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from typing import Any

from sqlmodel import Session

from service.forgetting import conditions, pairing
from service.forgetting.advice import advise
from service.forgetting.pairing import Evidence, Mismatch, Pair
from service.forgetting.policies import better_when, canonical_text, wanted_policy
from service.forgetting.schemas import (
    AuditCreate,
    AuditResult,
    Drift,
    FloorResult,
    GroupResult,
    PolicyBody,
    TaskResult,
    Verdict,
)
from service.forgetting.words import drift_warning, floor_note, not_reproducible, sentence
from service.measure.floor import REPRODUCIBLE_ALPHA, Floor, adjust_floors, noise_floor
from service.measure.forgetting import TaskVerdict, flips_by_group, judge, judge_task
from service.measure.metric import MEASURE_VERSION, FloatArray
from service.measure.metrics import METRICS
from service.store import evaluations, records, registry, runs, suites
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
    drift: Drift | None = None


@dataclass(frozen=True)
class _Judged:
    """A task as judged alone, before the policy's other tasks are taken into account."""

    verdict: TaskVerdict
    groups: list[GroupResult]
    floor: Floor | None


def open_case(session: Session, wanted: AuditCreate) -> Case:
    policy = wanted_policy(session, wanted.policy_id, wanted.policy)
    records.check_links(session, wanted.run_id, wanted.before_version_id, wanted.after_version_id)
    before, after, aa = (
        [evaluations.existing(session, one) for one in ids] for ids in (wanted.before, wanted.after, wanted.aa)
    )
    after_version_id = wanted.after_version_id or _agreed([one.model_version_id for one in after])
    version = registry.get_version(session, after_version_id) if after_version_id else None
    run_id = wanted.run_id or _agreed([one.run_id for one in after]) or (version.run_id if version else None)
    return Case(
        policy=policy,
        evidence=Evidence(
            before=before,
            after=after,
            aa=aa,
            suites=evaluations.suites_of(session, [*before, *after, *aa]),
            before_version_id=wanted.before_version_id or _agreed([one.model_version_id for one in before]),
            after_version_id=after_version_id,
        ),
        run_id=run_id,
        params=runs.params(session, run_id) if run_id else None,
        method=version.method if version else None,
        drift=wanted.drift,
    )


def _agreed(ids: Sequence[str | None]) -> str | None:
    """The one id all of them name, if they do."""
    return ids[0] if len(set(ids)) == 1 else None


def conduct(case: Case, blobs: BlobStore) -> Audit:
    """Judge the case. The record's hash covers the verdict and the hashes of everything behind it."""
    body = PolicyBody.model_validate(case.policy.body)
    matched, notes = pairing.match(body.protected, case.evidence, blobs, require_aa=body.require_aa)
    verdict, tasks = _judge_all(matched, body.alpha, blobs)
    problems = [problem for one in matched if isinstance(one, Mismatch) for problem in one.problems]
    for task in tasks:
        if task.floor is not None:
            notes.append(floor_note(task, task.floor))
        if task.floor is not None and task.floor.p_base < REPRODUCIBLE_ALPHA:
            (problems if task.verdict == "INVALID" else notes).append(not_reproducible(task.suite, task.floor))
    if case.drift is not None and (warning := drift_warning(case.drift)) is not None:
        notes.append(warning)
    result = AuditResult(
        sentence=sentence(verdict, tasks, problems),
        tasks=tasks,
        problems=problems,
        notes=notes,
        advice=advise(case.params, case.method, tasks[0]) if verdict == "FAIL" else [],
        drift=case.drift,
        inputs={
            "policy": case.policy.hash,
            "seed": SEED,
            "measure": MEASURE_VERSION,
            "tunescope": installed("tunescope"),
            "evaluations": _inputs(case.evidence),
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


def record_text(audit: Audit) -> str:
    """The record as the text its hash is of."""
    return canonical_text(audit.model_dump(exclude={"hash"}))


def record_hash(audit: Audit) -> str:
    return hashlib.sha256(record_text(audit).encode()).hexdigest()


def _inputs(evidence: Evidence) -> dict[str, list[dict[str, str]]]:
    given = {"before": evidence.before, "after": evidence.after} | ({"aa": evidence.aa} if evidence.aa else {})
    return {side: [_input(one, evidence) for one in listed] for side, listed in given.items()}


def _input(evaluation: Evaluation, evidence: Evidence) -> dict[str, str]:
    return {
        "id": evaluation.id,
        "suite": evidence.suites[evaluation.suite_id].hash,
        "predictions": evaluation.prediction_hash,
    }


def _judge_all(matched: Sequence[Pair | Mismatch], alpha: float, blobs: BlobStore) -> tuple[Verdict, list[TaskResult]]:
    """The overall verdict and the tasks, worst first: FAIL before INVALID before INCONCLUSIVE before PASS."""
    pairs = [one for one in matched if isinstance(one, Pair)]
    alone = [_judge_pair(pair, alpha, blobs) for pair in pairs]
    verdicts = judge([one.verdict for one in alone])[1] if alone else []
    floors = iter(adjust_floors([one.floor for one in alone if one.floor is not None]))
    results = [
        _result(pair, verdict, one.groups, None if one.floor is None else next(floors))
        for pair, verdict, one in zip(pairs, verdicts, alone, strict=True)
    ]
    results += [_invalid(one) for one in matched if isinstance(one, Mismatch)]
    results.sort(key=lambda task: (_RANK[task.verdict], math.inf if task.difference is None else task.difference))
    return results[0].verdict, results


def _judge_pair(pair: Pair, alpha: float, blobs: BlobStore) -> _Judged:
    items = suites.read_items(blobs, pair.suite, ["group"])
    clusters = suites.clusters(items)
    before, after = _aligned(pair, pair.after, blobs)
    verdict = judge_task(
        before,
        after,
        margin=pair.task.margin,
        alpha=alpha,
        options=pair.task.options,
        minimum_n=pair.task.minimum_n,
        direction=better_when(pair.metric),
        groups=clusters,
        seed=SEED,
    )
    floor = None
    if pair.aa is not None:
        again = _aligned(pair, pair.aa, blobs)[1]
        # A floor counts what falls: where lower is better, losses turned round do.
        sign = 1.0 if better_when(pair.metric) == "higher" else -1.0
        floor = noise_floor(sign * before, sign * again, sign * after, alpha=alpha, groups=clusters, seed=SEED)
    groups = items.column("group").to_pylist()
    by_group: list[GroupResult] = []
    if any(groups):
        named = [group or "(none)" for group in groups]
        flips = flips_by_group(before, after, named, better_when(pair.metric), 1 - alpha)
        by_group = [GroupResult.model_validate(one, from_attributes=True) for one in flips]
    return _Judged(verdict, by_group, floor)


def _aligned(pair: Pair, other: Evaluation, blobs: BlobStore) -> tuple[FloatArray, FloatArray]:
    """The item scores of `before` and of the other, item by item."""
    with evaluations.Pair(blobs, pair.before, other) as both:
        before, after = (_item_scores(read(pair.metric), pair.metric) for read in (both.first, both.second))
    return before, after


def _item_scores(statistics: FloatArray, metric: str) -> FloatArray:
    scores = METRICS[metric].item_scores(statistics)
    if scores is None:
        raise TypeError(f"{metric} is not of kind 'corpus' but has no item scores")
    return scores


def _result(pair: Pair, verdict: TaskVerdict, groups: list[GroupResult], floor: Floor | None) -> TaskResult:
    fields = {name: getattr(verdict, name) for name in TaskResult.model_fields if hasattr(verdict, name)}
    forgetting = {name: getattr(verdict.items, name, None) for name in ("F", "BT", "F_chance", "F_true")}
    if floor is not None and not floor.reproducible and verdict.verdict != "FAIL":
        # A second run can take a PASS away and never a FAIL: nobody gains by sending a strange one.
        fields |= {"verdict": "INVALID", "reason": "base_not_reproducible", "n_needed": None}
    return TaskResult.model_validate(
        {
            **fields,
            **forgetting,
            **_counted(pair.before, pair.after),
            "suite": pair.suite.name,
            "metric": pair.metric,
            "direction": better_when(pair.metric),
            "floor": _floor(floor, pair.aa),
            "by_group": groups,
        }
    )


def _floor(floor: Floor | None, aa: Evaluation | None) -> FloorResult | None:
    if floor is None or aa is None:
        return None
    fields = {name: getattr(floor, name) for name in FloorResult.model_fields if hasattr(floor, name)}
    return FloorResult.model_validate({**fields, "evaluation_id": aa.id})


def _counted(before: Evaluation | None, after: Evaluation | None) -> dict[str, Any]:
    """What is told of the two evaluations whether or not they can be judged."""
    counts: dict[str, Any] = {}
    for side, evaluation in (("before", before), ("after", after)):
        counts[f"unparsed_{side}"] = evaluation.n_unparsed if evaluation else 0
        counts[f"missing_{side}"] = evaluation.n_missing if evaluation else 0
        counts[f"{side}_evaluation_id"] = evaluation.id if evaluation else None
    if before is not None and after is not None:
        counts["compared"] = conditions.compared(before.settings, after.settings)
    return counts


def _invalid(one: Mismatch) -> TaskResult:
    """Nothing is computed from answers that do not match."""
    return TaskResult(
        suite=one.task.suite,
        metric=one.task.metric,
        margin=one.task.margin,
        verdict="INVALID",
        reason="not_comparable",
        unmatched_before=one.unmatched[0],
        unmatched_after=one.unmatched[1],
        **_counted(one.before, one.after),
    )
