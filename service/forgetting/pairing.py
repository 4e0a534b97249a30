"""Before and after, matched for every protected task; what does not match makes the task INVALID, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.forgetting.policies import whole_set
from service.forgetting.schemas import ProtectedTask
from service.measure.metrics import METRICS
from service.store import suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite

# What changes the question or how the answer is read. The rest (precision, batch size, device) may belong to the
# model that would ship: a difference there is told, and does not invalidate.
MUST_AGREE = frozenset(
    {
        "chat_template", "do_sample", "few_shot", "fewshot", "instruction", "max_length", "max_new_tokens",
        "max_tokens", "min_new_tokens", "num_beams", "num_fewshot", "parser", "prompt", "prompt_hash",
        "prompt_template", "repetition_penalty", "shots", "stop", "system_prompt", "temperature", "template",
        "top_k", "top_p",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One protected task with its two evaluations, fit to be judged."""

    task: ProtectedTask
    metric: str
    suite: Suite
    before: Evaluation
    after: Evaluation


@dataclass(frozen=True)
class Mismatch:
    """A protected task that cannot be judged, and why."""

    task: ProtectedTask
    before: Evaluation | None
    after: Evaluation | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """What an audit was given. A version id of None was not stated."""

    before: Sequence[Evaluation]
    after: Sequence[Evaluation]
    suites: Mapping[str, Suite]
    before_version_id: str | None
    after_version_id: str | None


def match(
    tasks: Sequence[ProtectedTask], evidence: Evidence, blobs: BlobStore
) -> tuple[list[Pair | Mismatch], list[str]]:
    """What each task comes to, and notes on what a reader should know."""
    matched = [_match_one(task, evidence, blobs) for task in tasks]
    protected = {task.suite for task in tasks}
    given = {evidence.suites[one.suite_id].name for one in (*evidence.before, *evidence.after)}
    notes = [f"'{name}' was evaluated but is not protected by the policy." for name in sorted(given - protected)]
    for one in matched:
        if one.before is not None and one.after is not None:
            notes.extend(_notes(one.task.suite, one.before, one.after))
    return matched, notes


def _match_one(task: ProtectedTask, evidence: Evidence, blobs: BlobStore) -> Pair | Mismatch:
    before, before_problem = _only(task.suite, "before", evidence.before, evidence.suites)
    after, after_problem = _only(task.suite, "after", evidence.after, evidence.suites)
    if before is None or after is None:
        absent = tuple(problem for problem in (before_problem, after_problem) if problem)
        return Mismatch(task, before, after, absent)
    suite = evidence.suites[before.suite_id]
    metric = task.metric or str(suite.definition["primary_metric"])
    problems = (
        *_suite_problems(suite, evidence.suites[after.suite_id], blobs),
        *_metric_problems(suite, metric),
        *_setting_problems(task.suite, before, after),
        *_model_problems(task.suite, before, after, evidence),
    )
    return Mismatch(task, before, after, problems) if problems else Pair(task, metric, suite, before, after)


def _only(
    suite: str, side: str, given: Sequence[Evaluation], by_id: Mapping[str, Suite]
) -> tuple[Evaluation | None, str | None]:
    found = [evaluation for evaluation in given if by_id[evaluation.suite_id].name == suite]
    if len(found) == 1:
        return found[0], None
    if not found:
        return None, f"'{suite}' has no evaluation among `{side}`: evaluate the model on it and audit again."
    return None, f"'{suite}' has {len(found)} evaluations among `{side}`: give the one that counts."


def _suite_problems(before: Suite, after: Suite, blobs: BlobStore) -> Iterator[str]:
    if before.hash == after.hash:
        return
    old, new = ({row["id"]: row for row in suites.read_items(blobs, suite).to_pylist()} for suite in (before, after))
    changed = sum(old[item] != new[item] for item in old.keys() & new.keys())
    yield (
        f"'{before.name}' was answered in version {before.version} before and version {after.version} after: "
        f"{len(old.keys() - new.keys())} items only before, {len(new.keys() - old.keys())} only after, {changed} "
        "changed. Evaluate both models on one version."
    )


def _metric_problems(suite: Suite, metric: str) -> Iterator[str]:
    if metric not in suite.definition["metrics"]:
        yield f"'{suite.name}' version {suite.version} is not scored by '{metric}', which the policy asks for."
    elif METRICS[metric].kind == "corpus":
        yield f"'{suite.name}': {whole_set(metric)} in the policy."


def _setting_problems(suite: str, before: Evaluation, after: Evaluation) -> Iterator[str]:
    for key, old, new in _differences(before, after):
        if _must_agree(key) and old is not None and new is not None:
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


def _notes(suite: str, before: Evaluation, after: Evaluation) -> Iterator[str]:
    for side, evaluation in (("before", before), ("after", after)):
        if evaluation.n_missing:
            yield f"'{suite}': {evaluation.n_missing} items have no output {side}; they count as wrong."
    if before.id != after.id and before.prediction_hash == after.prediction_hash:
        yield f"'{suite}': the answers before and after are identical to the byte."
    for key, old, new in _differences(before, after):
        if not _must_agree(key) or old is None or new is None:
            yield f"'{suite}': the setting '{key}' was {_told(old)} before and {_told(new)} after."


def _told(value: Any) -> str:
    return "not recorded" if value is None else repr(value)


def _must_agree(key: str) -> bool:
    return key.rpartition(".")[2].lower() in MUST_AGREE


def _differences(before: Evaluation, after: Evaluation) -> Iterator[tuple[str, Any, Any]]:
    old, new = dict(_flat(before.settings)), dict(_flat(after.settings))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
