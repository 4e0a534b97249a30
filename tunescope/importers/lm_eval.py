"""Results of lm-evaluation-harness 0.4 or newer, run with `--log_samples`: `results_*.json` and `samples_*.jsonl`.

A task is a suite; its documents are the items, called by their `doc_id`. Each filter of generated answers, and each way
to choose among given ones (`acc`, `acc_norm`, `acc_bytes`), is an evaluation of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from tunescope.importers._lm_eval_choices import chosen
from tunescope.importers._lm_eval_tasks import Filtered, Sample, Task
from tunescope.importers._lm_eval_texts import generated, greedy, likely
from tunescope.importers._record import ImportedResult, ImportProblem, LeftOut, Source
from tunescope.importers._results import json_lines, json_object, score_of, without_secrets

__all__ = ["read"]

# results_2026-11-26T02-13-05.981478.json belongs to samples_TASK_2026-11-26T02-13-05.981478.jsonl.
DATED = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json$")
KINDS: dict[str, Callable[[Filtered], Iterator[ImportedResult]]] = {
    "multiple_choice": chosen,
    "generate_until": generated,
    "loglikelihood": greedy,
    "loglikelihood_rolling": likely,
}
HASHES = ("doc_hash", "prompt_hash", "target_hash")
ABOUT = ("model_source", "fewshot_as_multiturn", "system_instruction", "system_instruction_sha", "chat_template_sha")
RUN_SETTINGS = (
    "model_args", "model_revision", "model_sha", "model_dtype", "batch_size", "limit", "gen_kwargs",
    "random_seed", "numpy_seed", "torch_seed", "fewshot_seed",
)  # fmt: skip


def read(place: str | None, left_out: LeftOut) -> Source:
    """Every task of every results file at `place`, a file or a folder with what is below it. All is read at once."""
    files = _results_files(Path(place or ".").expanduser())
    read_files = [(file, _checked(file)) for file in files]
    _one_model_a_folder(read_files)
    found: list[ImportedResult] = []
    for file, whole in read_files:
        found.extend(_results(file, whole, left_out))
    return Source(results=found)


def _results_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ImportProblem(f"{place}: there is no such file or folder.")
    found = sorted(file for file in place.rglob("*.json") if DATED.search(file.name))
    if found:
        return sorted(found, key=lambda file: (file.parent, _date(file)))
    lost = next(place.rglob("samples_*.jsonl"), None)
    more = f" There is {lost.name}, but without its results file nothing says what was run." if lost else ""
    raise ImportProblem(f"{place}: there is no results_*.json of lm-evaluation-harness.{more}")


def _date(file: Path) -> str:
    found = DATED.search(file.name)
    if found is None:
        raise ImportProblem(f"{file}: the name does not end in the date that also its samples_TASK_DATE.jsonl have.")
    return found.group(1)


def _checked(file: Path) -> dict[str, Any]:
    whole = json_object(file)
    absent = [name for name in ("results", "configs", "n-shot") if not isinstance(whole.get(name), dict)]
    if absent:
        raise ImportProblem(
            f"{file}: there is no `{absent[0]}`: this is no results file of lm-evaluation-harness 0.4 or newer."
        )
    if not any("," in metric for values in whole["results"].values() for metric in values):
        raise ImportProblem(f"{file}: its metrics have no filter in their names (acc,none), as 0.4 and newer write.")
    return whole


def _model(whole: Mapping[str, Any]) -> str:
    config = whole.get("config") or {}
    return str(whole.get("model_name") or config.get("model_args") or config.get("model") or "model")


def _one_model_a_folder(files: list[tuple[Path, dict[str, Any]]]) -> None:
    """The harness gives each model a folder: two in one were put together by hand, and samples may be mixed up."""
    first: dict[Path, tuple[str, Path]] = {}
    for file, whole in files:
        model, earlier = first.setdefault(file.parent, (_model(whole), file))
        if _model(whole) != model:
            raise ImportProblem(
                f"{file.parent} has results of two models: {earlier.name} is of '{model}', {file.name} of "
                f"'{_model(whole)}'. Give each model's files a folder of their own, or name one file."
            )


def _results(file: Path, whole: dict[str, Any], left_out: LeftOut) -> Iterator[ImportedResult]:
    date = _date(file)
    samples = {
        found.name.removeprefix("samples_").removesuffix(f"_{date}.jsonl"): found
        for found in file.parent.glob(f"samples_*_{date}.jsonl")
    }
    if not samples:
        raise ImportProblem(
            f"{file}: there are no samples_TASK_{date}.jsonl beside it, and so no items and outputs. Run lm_eval again "
            "with --log_samples."
        )
    for task, found in sorted(samples.items()):
        if task not in whole["configs"]:
            raise ImportProblem(
                f"{found}: the task '{task}' is not in {file.name}, which has {', '.join(sorted(whole['configs']))}."
            )
    for name in whole["configs"]:
        if name not in samples:
            raise ImportProblem(f"{file}: there is no samples_{name}_{date}.jsonl for its task '{name}'.")
        lines = _with_filters(list(_samples(samples[name])), whole["configs"][name])
        _check_whole(name, whole, samples[name], lines)
        yield from _evaluations(_task(name, whole), lines, left_out)
    for name, values in _groups(whole).items():
        for metric, value in values.items():
            left_out.add(
                f"{metric} {value:.4f} of the group '{name}'", "suites are not added up; it is kept in the settings"
            )


def _evaluations(task: Task, samples: list[Sample], left_out: LeftOut) -> Iterator[ImportedResult]:
    by_filter: dict[str, list[Sample]] = {}
    for sample in samples:
        by_filter.setdefault(sample.row.get("filter") or "none", []).append(sample)
    kind = KINDS.get(task.config.get("output_type", ""))
    for name, filtered in by_filter.items():
        reported = task.reported.get(name, {})
        how = {"filter": name} if len(by_filter) > 1 else {}
        if kind is not None:
            yield from kind(Filtered(task, filtered, reported, how, left_out))
        else:
            values = ", ".join(f"{metric} {value:.4f}" for metric, value in reported.items())
            what = f"its answers ({task.config.get('output_type')}) are no texts, choices or likelihoods"
            left_out.add(f"task '{task.name}' ({values})", what)


def _samples(file: Path) -> Iterator[Sample]:
    for place, row in json_lines(file):
        for field in ("doc_id", "target", "arguments", "resps", "filtered_resps"):
            if field not in row:
                raise ImportProblem(f"{place}: there is no `{field}`: this is no sample of lm-evaluation-harness 0.4.")
        yield Sample(place, row)


def _with_filters(samples: list[Sample], config: Mapping[str, Any]) -> list[Sample]:
    """Samples of before 0.4.5 do not name their filter: those of the first one come first."""
    if any("filter" in sample.row for sample in samples):
        return samples
    names = [one["name"] for one in config.get("filter_list") or []] or ["none"]
    times: dict[Any, int] = defaultdict(int)
    found = []
    for sample in samples:
        at = times[sample.row["doc_id"]]
        times[sample.row["doc_id"]] += 1
        found.append(Sample(sample.place, {**sample.row, "filter": names[min(at, len(names) - 1)]}))
    return found


def _check_whole(task: str, whole: Mapping[str, Any], file: Path, lines: list[Sample]) -> None:
    """Are these the samples the results were computed from, all of them, and each once?"""
    seen: dict[tuple[Any, Any], str] = {}
    by_filter: dict[Any, int] = defaultdict(int)
    for sample in lines:
        key = sample.row.get("filter", "none"), sample.row["doc_id"]
        if key in seen:
            raise ImportProblem(f"{sample.place}: document {key[1]} comes twice (first in {seen[key]}).")
        seen[key] = sample.place
        by_filter[key[0]] += 1
    expected = (whole.get("n-samples", {}).get(task) or {}).get("effective")
    for name, count in by_filter.items():
        if expected is not None and count != expected:
            raise ImportProblem(f"{file}: {count:,} documents (filter '{name}'), but the results are of {expected:,}.")
    if not lines:
        raise ImportProblem(f"{file}: the file is empty.")
    told = whole.get("task_hashes", {}).get(task)
    if told and all(sample.row.get(name) for sample in lines for name in HASHES):
        joined = "".join(sample.row[name] for sample in lines for name in HASHES)
        if sha256(joined.encode()).hexdigest() != told:
            raise ImportProblem(f"{file}: these are not the samples the results were computed from (`task_hashes`).")


def _groups(whole: Mapping[str, Any], member: str | None = None) -> dict[str, dict[str, float]]:
    """What was reported for groups of tasks; only those that hold the task `member`, where one is named."""
    return {
        group: _numbers(values)
        for group, values in (whole.get("groups") or {}).items()
        if member is None or member in _members(whole, group)
    }


def _members(whole: Mapping[str, Any], group: str) -> set[str]:
    found: set[str] = set()
    waiting = [group]
    while waiting:
        for name in whole.get("group_subtasks", {}).get(waiting.pop(), []):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The metrics among what is told of a task; no standard errors."""
    found = {}
    for name, value in values.items():
        metric, comma, filtered = name.partition(",")
        number = score_of(value)
        if comma and number is not None and not metric.endswith("_stderr"):
            found[metric if filtered == "none" else name] = number
    return found


def _task(name: str, whole: Mapping[str, Any]) -> Task:
    config, run = whole["configs"][name], whole.get("config") or {}
    reported: dict[str, dict[str, float]] = {}
    for key, value in _numbers(whole["results"].get(name, {})).items():
        metric, _, filtered = key.partition(",")
        reported.setdefault(filtered or "none", {})[metric] = value
    settings = {
        "harness": "lm-evaluation-harness",
        "harness_version": whole.get("lm_eval_version"),
        "git_hash": whole.get("git_hash"),
        "transformers_version": whole.get("transformers_version"),
        "date": whole.get("date"),
        "task": name,
        "task_version": whole.get("versions", {}).get(name),
        "num_fewshot": whole["n-shot"].get(name),
        "output_type": config.get("output_type"),
        "generation": config.get("generation_kwargs"),
        "repeats": config.get("repeats"),
        "model": run.get("model"),
        **{key: run.get(key) for key in RUN_SETTINGS},
        **{key: whole.get(key) for key in ABOUT},
        "groups": _groups(whole, name),
    }
    return Task(
        name=name,
        model=_model(whole),
        config=config,
        num_fewshot=whole["n-shot"].get(name) or 0,
        has_template=bool(whole.get("chat_template")),
        settings=without_secrets(settings),
        reported=reported,
    )
