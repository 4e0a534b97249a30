"""Runs of HELM: a folder with `run_spec.json`, `scenario_state.json`, `per_instance_stats.json` and `stats.json`.

A run is a suite, its instances the items. Right or wrong is what HELM's `exact_match` said; of a classification, what
`quasi_exact_match` said, which pays no heed to spelling. Each train trial is an evaluation of its own.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tunescope.importers._record import ImportedResult, ImportProblem, LeftOut, Reported, Source
from tunescope.importers._results import (
    choice_name,
    json_object,
    judged,
    listed_choices,
    score_of,
    verdict,
    without_secrets,
)

__all__ = ["read"]

Json = dict[str, Any]
STATS = "per_instance_stats.json"
FILES = ("run_spec.json", "scenario_state.json", "stats.json")
CORRECT = "correct"
# What HELM keeps about tokens, time and energy: it goes to the settings, and is no score that is missed.
BOOKKEEPING = re.compile(
    r"(num|finish_reason|inference|training|logprob|max)_.*|logprob|batch_size|prompt_truncated|.*@\d+"
)
TEXT_METRICS = {"rouge_1": "rouge1:stemmer=yes", "rouge_2": "rouge2:stemmer=yes", "rouge_l": "rougeL:stemmer=yes"}
RATES = re.compile(r"classification_(macro|micro|weighted)_(f1|precision|recall)")
REASONS = {
    "bleu_1": "it is NLTK's, not sacrebleu's",
    "bleu_4": "it is NLTK's, not sacrebleu's",
    "f1_score": "it is over sets of words, and SQuAD's over words",
    "perplexity": "it is of what the model wrote, not of a given text",
    "bits_per_byte": "it is of what the model wrote, not of a given text",
}
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def read(place: str | None, left_out: LeftOut) -> Source:
    """Every run at `place`, a run's folder or one with runs below it. All is read at once."""
    where = Path(place or "benchmark_output/runs").expanduser()
    if not where.is_dir():
        raise ImportProblem(f"{where}: there is no such folder.")
    folders = sorted(file.parent for file in where.rglob(STATS))
    if not folders:
        raise ImportProblem(f"{where}: there is no {STATS} of HELM in it.")
    found: list[ImportedResult] = []
    for folder in folders:
        absent = [name for name in FILES if not (folder / name).is_file()]
        if absent:
            raise ImportProblem(f"{folder}: there is no {absent[0]} beside {STATS}.")
        try:
            found.extend(_Run(folder).results(left_out))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ImportProblem(f"{folder}: not as HELM writes it ({type(error).__name__}: {error}).") from error
    return Source(results=found)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the model made of one instance: its text, and the place of the reference it chose, where it chose one."""

    text: str | None
    chosen: int | None


class _Run:
    """One run. What was perturbed on purpose is left out: the same items would come twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = json_object(folder / "run_spec.json")
        self.adapter: Json = self.spec["adapter_spec"]
        self.joint = str(self.adapter["method"]).startswith("multiple_choice")
        states = json_object(folder / "scenario_state.json")["request_states"]
        self.perturbed = len({s["instance"]["id"] for s in states if s["instance"].get("perturbation")})
        self.by_trial: dict[int, dict[str, list[Json]]] = {}
        self.instances: dict[str, Json] = {}
        for state in states:
            instance = state["instance"]
            if not instance.get("perturbation") and state.get("request_mode") != "calibration":
                self.instances.setdefault(instance["id"], instance)
                trial = self.by_trial.setdefault(state.get("train_trial_index", 0), {})
                trial.setdefault(instance["id"], []).append(state)
        self.stats = _list(folder / "stats.json")
        self.classes = self._classes()
        self.scores = self._scores(_list(folder / STATS))

    def _classes(self) -> dict[str, str]:
        """Of a classification, its classes by their names as HELM compares them; nothing of any other run."""
        if self.joint or not any(RATES.fullmatch(one["name"]["name"]) for one in self.stats):
            return {}
        texts = (str(one["output"]["text"]) for instance in self.instances.values() for one in instance["references"])
        return {_normalised(text): text for text in texts}

    def _scores(self, rows: list[Json]) -> dict[int, dict[str, dict[str, float]]]:
        """By trial, instance and metric."""
        found: dict[int, dict[str, dict[str, float]]] = {}
        for row in rows:
            if row.get("perturbation"):
                continue
            values = {one["name"]["name"]: score_of(one.get("mean")) for one in row["stats"]}
            own = found.setdefault(row.get("train_trial_index", 0), {}).setdefault(row["instance_id"], {})
            own.update({name: value for name, value in values.items() if value is not None})
        for trial, states in self.by_trial.items():
            lost = [name for name in states if name not in found.get(trial, {})]
            other = [name for name in found.get(trial, {}) if name not in states]
            if lost or other:
                raise ImportProblem(
                    f"{self.folder / STATS}: the instance '{(lost or other)[0]}' is in "
                    f"{'scenario_state.json' if lost else STATS} only: these are not files of one run."
                )
        return found

    def results(self, left_out: LeftOut) -> Iterator[ImportedResult]:
        if not self.instances:
            left_out.add(f"run '{self.spec['name']}'", "it has no instances")
            return
        if self.adapter.get("multi_label"):
            left_out.add(f"run '{self.spec['name']}'", "its instances have several labels")
            return
        if self.perturbed:
            left_out.add(f"perturbed instances of '{self.name}'", "the same items would come twice", self.perturbed)
        right = "quasi_exact_match" if self.classes else "exact_match"
        judgements = {name for name in self._metric_names() if name == right and self._all_verdicts(name)}
        metrics = self._metrics(bool(judgements))
        if not all(self._correct(instance) for instance in self.instances.values()):
            left_out.add(f"run '{self.spec['name']}'", "some instances have no correct reference")
            return
        suite = self._suite(list(metrics.values()))
        labels = {item["id"]: item.get("label", "") for item in suite["items"]}
        for trial, states in sorted(self.by_trial.items()):
            predictions = [
                self._prediction(name, states[name], labels[name], self.scores[trial][name].get(right))
                for name in self.instances
                if name in states
            ]
            reported = self._reported(trial, metrics, right)
            named = f" (trial {trial})" if len(self.by_trial) > 1 else ""
            yield ImportedResult(
                model=str(self.adapter["model"]),
                name=f"{self.adapter['model']}{named}",
                suite=suite,
                predictions=predictions,
                settings={**self._settings(), "train_trial": trial},
                reported=reported,
                group=(str(self.spec["name"]), str(trial)),
            )

    @property
    def name(self) -> str:
        """The run's name without the model, which is not a part of the task."""
        name, _, arguments = str(self.spec["name"]).partition(":")
        kept = [one for one in arguments.split(",") if one and not one.startswith(("model=", "model_deployment="))]
        return f"{name}:{','.join(kept)}"[:250] if kept else name[:250]

    def _metric_names(self) -> set[str]:
        return {name for trial in self.scores.values() for own in trial.values() for name in own}

    def _all_verdicts(self, metric: str) -> bool:
        return all(verdict(own.get(metric)) is not None for trial in self.scores.values() for own in trial.values())

    def _metrics(self, has_verdicts: bool) -> dict[str, str]:
        """HELM's metric and the one here that gives the same, in the suite's order."""
        names = self._metric_names()
        if self.joint:
            return {"exact_match": "accuracy"}
        if self.classes:
            rates = {one["name"]["name"] for one in self.stats if RATES.fullmatch(one["name"]["name"])}
            return {"quasi_exact_match": "accuracy", **{name: _rate(name) for name in sorted(rates)}}
        found = {"exact_match": "accuracy"} if has_verdicts else {}
        found |= {"quasi_exact_match": "exact_match"}
        return found | {name: metric for name, metric in TEXT_METRICS.items() if name in names}

    def _correct(self, instance: Json) -> list[int]:
        return [at for at, one in enumerate(instance["references"]) if CORRECT in (one.get("tags") or [])]

    def _suite(self, metrics: list[str]) -> Json:
        items = []
        for name, instance in self.instances.items():
            texts = [str(one["output"]["text"]) for one in instance["references"]]
            correct = self._correct(instance)
            question = str(instance["input"]["text"])
            item: Json = {"id": name, "input": listed_choices(question, texts) if self.joint else question}
            item["label"] = choice_name(correct[0], len(texts)) if self.joint else texts[correct[0]]
            if not self.joint and not self.classes:
                item["references"] = [texts[at] for at in correct]
            if instance.get("split"):
                item["tags"] = [instance["split"]]
            items.append(item)
        kind = "multiple_choice" if self.joint else "classification" if self.classes else "generation"
        return {"name": self.name, "task_type": kind, "metrics": metrics, "items": items}

    def _prediction(self, name: str, states: list[Json], label: str, score: float | None) -> Json:
        references = [str(one["output"]["text"]) for one in self.instances[name]["references"]]
        given = _answer(states, references)
        made: Json = {"id": name, "output": given.text}
        if given.text is None:
            return made
        if self.joint:
            answer = None if given.chosen is None else choice_name(given.chosen, len(references))
        elif self.classes:
            # An answer that is no class is wrong in each of them, as in HELM.
            answer = self.classes.get(_normalised(given.text))
        else:
            answer = given.text.strip() or None
        if score is not None:
            answer = judged(label, answer, bool(verdict(score)))
        return {**made, "parsed": answer}

    def _reported(self, trial: int, metrics: Mapping[str, str], right: str) -> list[Reported]:
        found = []
        for name, value in self._values(trial).items():
            if BOOKKEEPING.fullmatch(name):
                continue
            metric = metrics.get(name)
            if metric is None and self._same(trial, name, right):
                metric = "accuracy"
            reason = REASONS.get(name, "there is no such metric here")
            if self.classes and name == "exact_match":
                reason = "it is strict about spelling, and labels are read without it"
            found.append(Reported(name, value, metric, "" if metric else reason))
        return found

    def _values(self, trial: int) -> dict[str, float]:
        """What was reported: of several trials by their items, since `stats.json` has the mean over trials."""
        plain = [
            one for one in self.stats if not one["name"].get("perturbation") and one["name"].get("split") != "train"
        ]
        values = {one["name"]["name"]: score_of(one.get("mean")) for one in plain}
        splits = {instance.get("split") for instance in self.instances.values()}
        if len(self.by_trial) > 1 or len(splits) > 1:
            for name in self._metric_names():
                own = [scores[name] for scores in self.scores[trial].values() if name in scores]
                values[name] = sum(own) / len(own) if len(own) == len(self.scores[trial]) else None
        return {name: value for name, value in values.items() if value is not None}

    def _same(self, trial: int, name: str, right: str) -> bool:
        return all(name in own and own[name] == own.get(right) for own in self.scores[trial].values())

    def _settings(self) -> Json:
        adapter = self.adapter
        plain = [one for one in self.stats if not one["name"].get("perturbation")]
        told = {
            "harness": "helm",
            "run": self.spec["name"],
            "scenario": self.spec.get("scenario_spec"),
            "num_fewshot": adapter.get("max_train_instances"),
            "generation": {
                key: adapter.get(key) for key in ("temperature", "max_tokens", "stop_sequences", "num_outputs")
            },
            "adapter": adapter,
            "groups": self.spec.get("groups"),
            "reported": {one["name"]["name"]: one["mean"] for one in plain if score_of(one.get("mean")) is not None},
        }
        settings: Json = without_secrets(told)
        return settings


def _list(file: Path) -> list[Json]:
    try:
        whole = msgspec.json.decode(file.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImportProblem(f"{file}: not JSON ({error}). Was it cut off?") from None
    if not isinstance(whole, list) or not all(isinstance(one, dict) for one in whole):
        raise ImportProblem(f"{file}: a list of objects is expected.")
    return whole


def _rate(name: str) -> str:
    average, rate = RATES.fullmatch(name).groups()  # type: ignore[union-attr]
    return f"{rate}_{average}"


def _normalised(text: str) -> str:
    """As HELM compares the names of classes."""
    return " ".join(text.lower().translate(_PUNCTUATION).split())


def _answer(states: list[Json], references: list[str]) -> _Answer:
    """Of several requests, one for each reference, the most likely; else what was written, and what it stands for."""
    if states[0].get("reference_index") is not None:
        likely = {int(one["reference_index"]): _first(one).get("logprob", 0.0) for one in states}
        chosen = max(likely, key=lambda index: likely[index])
        return _Answer(references[chosen], chosen)
    text = _first(states[0]).get("text")
    if text is None:
        return _Answer(None, None)
    mapped = (states[0].get("output_mapping") or {}).get(text.strip())
    return _Answer(text, references.index(mapped) if mapped in references else None)


def _first(state: Json) -> Json:
    completions = ((state.get("result") or {}).get("completions")) or [{}]
    first: Json = completions[0]
    return first
