"""Logs of Inspect (inspect-ai), `.eval` or `.json`, EvalLog version 2.

A task is a suite, its samples the items. Each scorer that says right or wrong (C, I; P is partly right, N no answer),
and each epoch, is an evaluation of its own; a sample that ended in an error has no output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunescope.importers._inspect_log import NoLog, log_of
from tunescope.importers._record import ImportedResult, ImportProblem, LeftOut, Reported, Source
from tunescope.importers._results import judged, listed_choices, score_of, without_secrets

__all__ = ["read"]

Json = dict[str, Any]
RIGHT = ("C", "yes", "true")
WRONG = ("I", "P", "N", "no", "false")
PARTIAL = "P"
NO_SCORES = ("stderr", "std", "var")
MOST_NAMED = 1000
NO_VERDICT = "there is no metric here for a scorer's own numbers"


def read(place: str | None, left_out: LeftOut) -> Source:
    """The logs at `place`, a file or a folder with what is below it; `logs` if there is none. All is read at once."""
    where = Path(place or "logs").expanduser()
    if where.is_dir():
        files = sorted(file for file in where.rglob("*") if file.suffix in (".eval", ".json"))
        if not files:
            raise ImportProblem(f"{where}: there are no logs of Inspect in it (.eval or .json).")
    else:
        files = [where]
    found: list[ImportedResult] = []
    seen: set[str] = set()
    for file in files:
        try:
            log = log_of(file)
        except NoLog:
            if where == file:
                raise
            left_out.add(file.name, "this is no log of Inspect")
            continue
        if log.get("status") != "success":
            what = f"the evaluation did not finish (status '{log.get('status')}')"
            if where == file:
                raise ImportProblem(f"{file}: {what}.")
            left_out.add(file.name, what)
        elif (own := str(log["eval"].get("eval_id") or file)) not in seen:
            seen.add(own)  # the same log may be there in both formats
            found.extend(_results(file, log, left_out))
    return Source(results=found)


def _results(file: Path, log: Json, left_out: LeftOut) -> Iterator[ImportedResult]:
    try:
        yield from _Log(file, log).results(left_out)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImportProblem(f"{file}: not as Inspect writes it ({type(error).__name__}: {error}).") from error


@dataclass(frozen=True, slots=True)
class _Scorer:
    """A score of the results, and where its values are in a sample."""

    name: str
    scorer: str
    metrics: dict[str, float]
    reducer: str | None

    def of(self, sample: Json) -> Json | None:
        """{value, answer} of a sample; None where it was not scored."""
        scores = sample.get("scores") or {}
        score = scores.get(self.name) or scores.get(self.scorer)
        if score is None:
            return None
        value = score.get("value")
        if isinstance(value, Mapping):
            value = value.get(self.name)
        return None if value is None else {"value": value, "answer": score.get("answer")}

    def right(self, value: Any) -> bool | None:
        """None where the value does not say right or wrong."""
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            # That every one is 0 or 1 does not make numbers verdicts; that their accuracy was taken does.
            return bool(value) if value in (0, 1) and "accuracy" in self.metrics else None
        if isinstance(value, str) and value in (*RIGHT, *WRONG):
            return value in RIGHT
        return None


class _Log:
    """One log: its samples by epoch, in the order of the data set."""

    def __init__(self, file: Path, log: Json) -> None:
        self.log = log
        self.spec: Json = log["eval"]
        self.model = str(self.spec["model"])
        self.summary: Json = log.get("results") or {}
        self.epochs: dict[int, dict[str, Json]] = {}
        for sample in log["samples"]:
            epoch = self.epochs.setdefault(int(sample.get("epoch") or 1), {})
            name = str(sample["id"])
            if name in epoch:
                raise ImportProblem(f"{file}: the sample '{name}' comes twice in one epoch.")
            epoch[name] = sample
        self.ids = list(dict.fromkeys(str(sample["id"]) for sample in self._ordered()))
        expected = self.summary.get("total_samples")
        if expected is not None and expected != len(log["samples"]):
            raise ImportProblem(f"{file}: {len(log['samples']):,} samples, but its results are of {expected:,}.")
        self.first = {name: next(epoch[name] for epoch in self.epochs.values() if name in epoch) for name in self.ids}

    def _ordered(self) -> list[Json]:
        order = {str(name): at for at, name in enumerate(self.spec.get("dataset", {}).get("sample_ids") or [])}
        samples: list[Json] = self.log["samples"]
        return sorted(samples, key=lambda sample: order.get(str(sample["id"]), len(order)))

    def results(self, left_out: LeftOut) -> Iterator[ImportedResult]:
        errors = sum(bool(sample.get("error")) for sample in self.log["samples"])
        if errors:
            left_out.add(f"answers to '{self.spec['task']}'", "these samples ended in an error: no output", errors)
        scorers = list(_scorers(self.summary))
        verdicts = [scorer for scorer in scorers if self._says_right(scorer)]
        numbers = [one for scorer in scorers if scorer not in verdicts for one in _numbers(scorer)]
        if not verdicts:
            if not all(self._references(name) for name in self.ids):
                left_out.add(f"task '{self.spec['task']}'", "no scorer says right or wrong, and there are no targets")
                return
            yield from self._evaluations(None, numbers, several=False)
        # A scorer comes once for each way to reduce its epochs.
        by_name: dict[str, list[_Scorer]] = {}
        for scorer in verdicts:
            by_name.setdefault(scorer.name, []).append(scorer)
        for place, same in enumerate(by_name.values()):
            reported = [self._reported(one, name, value) for one in same for name, value in one.metrics.items()]
            yield from self._evaluations(same[0], reported + (numbers if place == 0 else []), several=len(by_name) > 1)

    def _says_right(self, scorer: _Scorer) -> bool:
        found = [score for sample in self.log["samples"] if (score := scorer.of(sample)) is not None]
        return bool(found) and all(scorer.right(score["value"]) is not None for score in found)

    def _reported(self, scorer: _Scorer, metric: str, value: float) -> Reported:
        name = f"{scorer.name}/{metric}"
        if metric not in ("accuracy", "mean"):
            return Reported(name, value, reason="there is no such metric here")
        if scorer.reducer not in (None, "mean"):
            return Reported(name, value, reason=f"it is the {scorer.reducer} over epochs")
        scores = {key: [scorer.of(epoch[key]) for epoch in self.epochs.values() if key in epoch] for key in self.ids}
        partial = sum(score is not None and score["value"] == PARTIAL for row in scores.values() for score in row)
        if partial:
            return Reported(name, value, reason=f"{partial:,} partly right answers count half there, and nothing here")
        scored = [sum(score is not None for score in row) for row in scores.values()]
        if any(count not in (0, len(self.epochs)) for count in scored):
            return Reported(name, value, reason="some samples were scored in some epochs only")
        return Reported(name, value, "accuracy", over=sum(count > 0 for count in scored))

    def _evaluations(
        self, scorer: _Scorer | None, reported: list[Reported], *, several: bool
    ) -> Iterator[ImportedResult]:
        suite = self._suite(judged_ones=scorer is not None)
        labels = {item["id"]: item.get("label", "") for item in suite["items"]}
        for number, epoch in sorted(self.epochs.items()):
            how = {"scorer": scorer.name} if scorer is not None and several else {}
            named = [*how.values(), *([f"epoch {number}"] if len(self.epochs) > 1 else [])]
            partial = [
                name
                for name, sample in epoch.items()
                if scorer is not None and (score := scorer.of(sample)) is not None and score["value"] == PARTIAL
            ]
            yield ImportedResult(
                model=self.model,
                name=f"{self.model} ({', '.join(named)})" if named else self.model,
                suite=suite,
                predictions=[_prediction(epoch[name], labels[name], scorer) for name in self.ids if name in epoch],
                settings={
                    **self._settings(),
                    **how,
                    "epoch": number,
                    "errors": sum(bool(sample.get("error")) for sample in epoch.values()),
                    "reported": {one.name: one.value for one in reported},
                    **({"partly_right": partial[:MOST_NAMED]} if partial else {}),
                },
                reported=reported,
                group=(str(self.spec.get("eval_id")), *how.values()),
            )

    def _suite(self, *, judged_ones: bool) -> Json:
        items = []
        for name in self.ids:
            sample = self.first[name]
            choices, references = sample.get("choices") or [], self._references(name)
            question = _text(sample["input"])
            item: Json = {"id": name, "input": listed_choices(question, choices) if choices else question}
            if judged_ones:
                item["label"] = ", ".join(references) if choices else next(iter(references), "")
            if references and not choices:
                item["references"] = references
            items.append(item)
        chosen = all(self.first[name].get("choices") for name in self.ids)
        return {
            "name": str(self.spec["task"])[:250],
            "task_type": "multiple_choice" if chosen else "generation",
            "metrics": ["accuracy"] if judged_ones else ["exact_match", "token_f1"],
            "items": items,
        }

    def _references(self, name: str) -> list[str]:
        target = self.first[name].get("target")
        texts = target if isinstance(target, list) else [target]
        return [str(text) for text in texts if text not in (None, "")]

    def _settings(self) -> Json:
        spec = self.spec
        told = {
            "harness": "inspect",
            "harness_version": (spec.get("packages") or {}).get("inspect_ai"),
            "git_hash": (spec.get("revision") or {}).get("commit"),
            "date": spec.get("created"),
            "task": spec["task"],
            **{name: spec.get(name) for name in ("task_version", "task_args", "solver", "solver_args", "model_args")},
            **{name: spec.get(name) for name in ("eval_id", "run_id", "tags", "metadata")},
            "generation": {
                **((self.log.get("plan") or {}).get("config") or {}),
                **(spec.get("model_generate_config") or {}),
            },
            "dataset": {key: value for key, value in (spec.get("dataset") or {}).items() if key != "sample_ids"},
            "solvers": [step.get("solver") for step in (self.log.get("plan") or {}).get("steps") or []],
            "config": spec.get("config"),
        }
        settings: Json = without_secrets(told)
        return settings


def _scorers(results: Json) -> Iterator[_Scorer]:
    for score in results.get("scores") or []:
        metrics = {name: score_of(metric.get("value")) for name, metric in (score.get("metrics") or {}).items()}
        kept = {name: value for name, value in metrics.items() if value is not None and name not in NO_SCORES}
        yield _Scorer(score["name"], score["scorer"], kept, score.get("reducer"))


def _numbers(scorer: _Scorer) -> list[Reported]:
    return [Reported(f"{scorer.name}/{name}", value, reason=NO_VERDICT) for name, value in scorer.metrics.items()]


def _prediction(sample: Json, label: str, scorer: _Scorer | None) -> Json:
    score = None if scorer is None else scorer.of(sample)
    output = _output(sample.get("output") or {})
    if score is None and sample.get("error"):
        output = None
    if score is not None and output is None:
        output = ""  # what was judged need not be a text: an agent's deeds, say
    made: Json = {"id": str(sample["id"]), "output": output}
    if scorer is not None and output is not None:
        answer = None if score is None else score["answer"] or output or None
        made["parsed"] = judged(label, answer, score is not None and bool(scorer.right(score["value"])))
    return made


def _output(output: Json) -> str | None:
    choices = output.get("choices") or []
    if not choices:
        return None
    completion = output.get("completion")
    return completion if isinstance(completion, str) else _text(choices[0]["message"]["content"])


def _text(content: str | Sequence[Json]) -> str:
    """The text of an input: a text, the parts of a message, or a conversation, which says who speaks."""
    if isinstance(content, str):
        return content
    if all("role" in one for one in content):
        turns = [(str(one["role"]), _text(one.get("content") or "")) for one in content]
        return turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role}: {text}" for role, text in turns)
    return "".join(str(part["text"]) if part.get("type") == "text" else f"[{part.get('type')}]" for part in content)
