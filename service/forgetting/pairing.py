"""Before and after, matched for every protected task; what does not match makes the task INVALID, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.forgetting import conditions
from service.forgetting.policies import better_when, other_direction, whole_set
from service.forgetting.schemas import ProtectedTask
from service.measure.metrics import METRICS
from service.store import suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite


@dataclass(frozen=True)
class Pair:
    """One protected task with its two evaluations, fit to be judged."""

    task: ProtectedTask
    metric: str
    suite: Suite
    before: Evaluation
    after: Evaluation
    aa: Evaluation | None = None
    """The second run of the base, where there is one that fits."""


@dataclass(frozen=True)
class Mismatch:
    """A protected task that cannot be judged, and why. unmatched: items that the other side does not have alike."""

    task: ProtectedTask
    before: Evaluation | None
    after: Evaluation | None
    problems: tuple[str, ...]
    unmatched: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Evidence:
    """What an audit was given. A version id of None was not stated."""

    before: Sequence[Evaluation]
    after: Sequence[Evaluation]
    suites: Mapping[str, Suite]
    before_version_id: str | None
    after_version_id: str | None
    aa: Sequence[Evaluation] = ()


def match(
    tasks: Sequence[ProtectedTask], evidence: Evidence, blobs: BlobStore, *, require_aa: bool = False
) -> tuple[list[Pair | Mismatch], list[str]]:
    """What each task comes to, and notes on what a reader should know.

    A second run of the base that does not fit makes the task a mismatch where the policy requires one; elsewhere it is
    left out, and that is noted.
    """
    matched = []
    unfit: list[str] = []
    for task in tasks:
        one, problems = _match_one(task, evidence, blobs, require_aa)
        matched.append(one)
        unfit += problems
    protected = {task.suite for task in tasks}
    everything = (*evidence.before, *evidence.after, *evidence.aa)
    given = {evidence.suites[one.suite_id].name for one in everything}
    notes = [f"'{name}' was evaluated but is not protected by the policy." for name in sorted(given - protected)]
    for one in matched:
        if one.before is not None and one.after is not None:
            notes.extend(_notes(one.task.suite, one.before, one.after))
        if isinstance(one, Pair) and one.aa is not None:
            notes.extend(_notes(one.task.suite, one.before, one.aa, "in the second run of the base"))
    return matched, [*notes, *unfit]


def _match_one(
    task: ProtectedTask, evidence: Evidence, blobs: BlobStore, require_aa: bool
) -> tuple[Pair | Mismatch, list[str]]:
    """The task's pair or mismatch, and notes on a second run of the base that was left out."""
    before, before_problem = _only(task.suite, "before", evidence.before, evidence.suites)
    after, after_problem = _only(task.suite, "after", evidence.after, evidence.suites)
    if before is None or after is None:
        absent = tuple(problem for problem in (before_problem, after_problem) if problem)
        return Mismatch(task, before, after, absent), []
    suite = evidence.suites[before.suite_id]
    metric = task.metric or str(suite.definition["primary_metric"])
    suite_problem, unmatched = _suite_problem(suite, evidence.suites[after.suite_id], blobs)
    problems = [
        *suite_problem,
        *_metric_problems(suite, metric, task.direction, {"before": before, "after": after}),
        *_setting_problems(task.suite, before, after),
        *_model_problems(task.suite, before, after, evidence),
    ]
    aa, aa_problems = _second_run(task.suite, before, after, evidence, blobs, require_aa)
    if require_aa:
        problems += aa_problems
    if problems:
        return Mismatch(task, before, after, tuple(problems), unmatched), []
    left_out = [f"{problem} It was left out: there is no noise floor." for problem in aa_problems]
    return Pair(task, metric, suite, before, after, aa), left_out


def _second_run(
    suite: str, before: Evaluation, after: Evaluation, evidence: Evidence, blobs: BlobStore, required: bool
) -> tuple[Evaluation | None, list[str]]:
    """The A/A run of a task, None where there is none that fits, and why."""
    found = [one for one in evidence.aa if evidence.suites[one.suite_id].name == suite]
    if not found:
        wanted = (
            f"'{suite}' has no second run of the base among `aa`, which the policy requires: evaluate it once more."
        )
        return None, [wanted] if required else []
    if len(found) > 1:
        return None, [f"'{suite}' has {len(found)} evaluations among `aa`: give the one that counts."]
    again = found[0]
    problems = []
    if again.id == before.id:
        problems.append(f"'{suite}': `aa` is the `before` evaluation itself. Run the base a second time.")
    if again.id == after.id:
        problems.append(f"'{suite}': `aa` is the `after` evaluation. The second run is of the base.")
    problems += _suite_problem(
        evidence.suites[before.suite_id], evidence.suites[again.suite_id], blobs, "in the second run of the base"
    )[0]
    for key, old, new in conditions.contradictions(before.settings, again.settings):
        problems.append(f"'{suite}': the setting '{key}' was {old!r} before and {new!r} in the second run of the base.")
    wanted_version = evidence.before_version_id or before.model_version_id
    if wanted_version and again.model_version_id and again.model_version_id != wanted_version:
        problems.append(
            f"'{suite}': the `aa` evaluation is of model version {again.model_version_id}, the base is "
            f"{wanted_version}."
        )
    return (None if problems else again), problems


def _only(
    suite: str, side: str, given: Sequence[Evaluation], by_id: Mapping[str, Suite]
) -> tuple[Evaluation | None, str | None]:
    found = [evaluation for evaluation in given if by_id[evaluation.suite_id].name == suite]
    if len(found) == 1:
        return found[0], None
    if not found:
        return None, f"'{suite}' has no evaluation among `{side}`: evaluate the model on it and audit again."
    return None, f"'{suite}' has {len(found)} evaluations among `{side}`: give the one that counts."


def _suite_problem(
    before: Suite, after: Suite, blobs: BlobStore, when: str = "after"
) -> tuple[list[str], tuple[int, int]]:
    """How two versions of a suite differ, and how many items of either the other does not have alike."""
    if before.hash == after.hash:
        return [], (0, 0)
    old, new = ({row["id"]: row for row in suites.read_items(blobs, suite).to_pylist()} for suite in (before, after))
    shared = old.keys() & new.keys()
    inputs = sum(old[item]["input"] != new[item]["input"] for item in shared)
    targets = sum(_target(old[item]) != _target(new[item]) for item in shared)
    changed = sum(old[item] != new[item] for item in shared)
    gone, come = len(old.keys() - new.keys()), len(new.keys() - old.keys())
    one, other = ({**suite.definition, "task_type": suite.task_type} for suite in (before, after))
    defined = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    parts = [f"{gone} items only before, {come} only {when}, {changed} changed"]
    if changed:
        parts.append(f"{inputs} in their input, {targets} in their target")
    if defined:
        parts.append(f"the suite's {', '.join(defined)} changed")
    problem = (
        f"'{before.name}' was answered in version {before.version} before and version {after.version} {when}: "
        f"{'; '.join(parts)}. Evaluate both on one version."
    )
    return [problem], (gone + changed, come + changed)


def _target(item: Mapping[str, Any]) -> tuple[Any, ...]:
    return item["label"], item.get("labels"), item["references"]


def _metric_problems(
    suite: Suite, metric: str, direction: str | None, sides: Mapping[str, Evaluation]
) -> Iterator[str]:
    if metric not in suite.definition["metrics"]:
        yield f"'{suite.name}' version {suite.version} is not scored by '{metric}', which the policy asks for."
    elif METRICS[metric].kind == "corpus":
        yield f"'{suite.name}': {whole_set(metric)} in the policy."
    elif direction != better_when(metric):
        yield f"'{suite.name}': {other_direction(metric, direction)} in the policy."
    for side, evaluation in sides.items():
        if any(score["name"] == metric and score["reason"] == "no_label_scores" for score in evaluation.scores):
            yield f"'{suite.name}': the answers {side} carry no `label_scores`, which '{metric}' reads."


def _setting_problems(suite: str, before: Evaluation, after: Evaluation) -> Iterator[str]:
    for key, old, new in conditions.contradictions(before.settings, after.settings):
        yield f"'{suite}': the setting '{key}' was {old!r} before and {new!r} after. Answer with the same settings."


def _model_problems(suite: str, before: Evaluation, after: Evaluation, evidence: Evidence) -> Iterator[str]:
    if before.id == after.id:
        yield f"'{suite}': one evaluation was given as both before and after."
    for side, evaluation, wanted in (
        ("before", before, evidence.before_version_id),
        ("after", after, evidence.after_version_id),
    ):
        actual = evaluation.model_version_id
        if wanted is not None and actual is not None and actual != wanted:
            yield f"'{suite}': the `{side}` evaluation is of model version {actual}, the audit of {wanted}."


def _notes(suite: str, before: Evaluation, after: Evaluation, when: str = "after") -> Iterator[str]:
    first = [("before", before)] if when == "after" else []
    for side, evaluation in (*first, (when, after)):
        if evaluation.n_missing:
            yield f"'{suite}': {evaluation.n_missing} items have no output {side}; they count as wrong."
    if before.id != after.id and before.prediction_hash == after.prediction_hash:
        yield f"'{suite}': the answers before and {when} are identical to the byte."
    for key, old, new in conditions.remarks(before.settings, after.settings):
        yield f"'{suite}': the setting '{key}' was {_told(old)} before and {_told(new)} {when}."


def _told(value: Any) -> str:
    return "not recorded" if value is None else repr(value)
