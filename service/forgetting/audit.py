"""The audit: every protected task judged on matched items, one verdict, one record that never changes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from service.forgetting import pairing
from service.forgetting.advice import advise
from service.forgetting.pairing import Evidence, Mismatch, Pair
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


def open_case(session: Session, wanted: AuditCreate) -> Case:
    policy = existing(session, wanted.policy_id)
    records.check_links(session, wanted.run_id, wanted.before_version_id, wanted.after_version_id)
    before, after = ([evaluations.existing(session, one) for one in ids] for ids in (wanted.before, wanted.after))
    after_version_id = wanted.after_version_id or _agreed([one.model_version_id for one in after])
    version = registry.get_version(session, after_version_id) if after_version_id else None
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
    matched, notes = pairing.match(body.protected, case.evidence, blobs)
    verdict, tasks = _judge_all(matched, body.alpha, blobs)
    problems = [problem for one in matched if isinstance(one, Mismatch) for problem in one.problems]
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


def _judge_all(matched: Sequence[Pair | Mismatch], alpha: float, blobs: BlobStore) -> tuple[Verdict, list[TaskResult]]:
    """The overall verdict and the tasks, worst first: FAIL before INVALID before INCONCLUSIVE before PASS."""
    pairs = [one for one in matched if isinstance(one, Pair)]
    raw = [_judge_pair(pair, alpha, blobs) for pair in pairs]
    judged = judge([verdict for verdict, _ in raw])[1] if raw else []
    results = [_result(pair, verdict, groups) for pair, verdict, (_, groups) in zip(pairs, judged, raw, strict=True)]
    results += [_invalid(one) for one in matched if isinstance(one, Mismatch)]
    results.sort(key=lambda task: (_RANK[task.verdict], math.inf if task.difference is None else task.difference))
    return results[0].verdict, results


def _judge_pair(pair: Pair, alpha: float, blobs: BlobStore) -> tuple[TaskVerdict, list[GroupResult]]:
    with evaluations.Pair(blobs, pair.before, pair.after) as both:
        before, after = (_item_scores(read(pair.metric), pair.metric) for read in (both.first, both.second))
    items = suites.read_items(blobs, pair.suite, ["group"])
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
    flips = flips_by_group(before, after, [group or "(none)" for group in groups])
    return verdict, [GroupResult.model_validate(one, from_attributes=True) for one in flips]


def _item_scores(statistics: FloatArray, metric: str) -> FloatArray:
    scores = METRICS[metric].item_scores(statistics)
    if scores is None:
        raise TypeError(f"{metric} is not of kind 'corpus' but has no item scores")
    return scores


def _result(pair: Pair, verdict: TaskVerdict, groups: list[GroupResult]) -> TaskResult:
    fields = {name: getattr(verdict, name) for name in TaskResult.model_fields if hasattr(verdict, name)}
    forgetting = {name: getattr(verdict.items, name, None) for name in ("F", "BT", "F_chance", "F_true")}
    return TaskResult.model_validate(
        {
            **fields,
            **forgetting,
            "suite": pair.suite.name,
            "metric": pair.metric,
            "unparsed_before": pair.before.n_unparsed,
            "unparsed_after": pair.after.n_unparsed,
            "by_group": groups,
            "before_evaluation_id": pair.before.id,
            "after_evaluation_id": pair.after.id,
        }
    )


def _invalid(one: Mismatch) -> TaskResult:
    """Nothing is computed from answers that do not match."""
    return TaskResult(
        suite=one.task.suite,
        metric=one.task.metric,
        margin=one.task.margin,
        unparsed_before=one.before.n_unparsed if one.before else 0,
        unparsed_after=one.after.n_unparsed if one.after else 0,
        verdict="INVALID",
        reason="not_comparable",
        before_evaluation_id=one.before.id if one.before else None,
        after_evaluation_id=one.after.id if one.after else None,
    )


def sentence(verdict: Verdict, tasks: Sequence[TaskResult], problems: Sequence[str]) -> str:
    """The verdict in plain words, by the worst task."""
    worst = tasks[0]
    if verdict == "INVALID":
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        return f"Before and after cannot be compared: {problems[0]}{more}"
    if worst.difference is None or worst.lower_bound is None:
        return f"It cannot be told what '{worst.suite}' lost: {worst.reason}."
    change = f"'{worst.suite}' went from {worst.before:.3f} to {worst.after:.3f} ({_points(worst.difference)}"
    allowed = f"the policy allows a loss of {_points(worst.margin)}"
    if verdict == "FAIL":
        failed = sum(task.verdict == "FAIL" for task in tasks)
        rest = f" {failed} of {len(tasks)} protected tasks failed." if len(tasks) > 1 else ""
        return f"{change}, adjusted p = {worst.p_adjusted:.2g}); {allowed}.{rest}"
    if verdict == "PASS":
        kept = f"All {len(tasks)} protected tasks are within their margins. Worst: " if len(tasks) > 1 else ""
        return f"{kept}{change}, at worst {_points(worst.lower_bound)}); {allowed}."
    needed = "" if worst.n_needed is None else f" About {worst.n_needed:,} items would settle it."
    bound = f"at worst {_points(worst.lower_bound)}"
    return f"It cannot be told whether too much was lost: {change}, {bound}); {allowed}.{needed}"


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:.1f} points"
