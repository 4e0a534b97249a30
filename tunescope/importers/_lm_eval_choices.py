"""Tasks in which a model chooses the most likely of given texts (`multiple_choice`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunescope.importers._lm_eval_tasks import Filtered, Task, each, literal, question, requests
from tunescope.importers._record import ImportedResult
from tunescope.importers._results import choice_name, judged, listed_choices

__all__ = ["chosen"]

Json = dict[str, Any]
# What chooses, of a text's log-likelihood and the text: by this alone these metrics differ.
RULES: dict[str, Callable[[float, str], float]] = {
    "acc": lambda likelihood, text: likelihood,
    "acc_norm": lambda likelihood, text: likelihood / max(1, len(text)),
    "acc_bytes": lambda likelihood, text: likelihood / max(1, len(text.encode())),
}
REASONS = {"f1": "which choice is the positive one cannot be told here"}


def chosen(filtered: Filtered) -> Iterator[ImportedResult]:
    """An evaluation for each rule that the harness judged by. Items whose choices differ name them by letters."""
    verdicts = filtered.verdicts()
    rules = [rule for rule in RULES if rule in verdicts]
    if not rules:
        what = "none of acc, acc_norm, acc_bytes says right or wrong of each document"
        filtered.left_out.add(f"task '{filtered.task.name}'", what)
        return
    documents = each(filtered.samples, lambda row: _document(filtered.task, row))
    golds = _golds(documents, rules[0], verdicts[rules[0]])
    if golds is None:
        what = "the right choice of some documents is none of their choices"
        filtered.left_out.add(f"task '{filtered.task.name}'", what)
        return
    texts = documents[0].texts
    fixed = len(set(texts)) == len(texts) and all(document.texts == texts for document in documents)
    most = max(len(document.texts) for document in documents)
    names = texts if fixed else [choice_name(index, most) for index in range(most)]
    here = {"mcc": "mcc"} if "mcc" in filtered.reported else {}
    if "f1" in filtered.reported and fixed and len(texts) == 2 and texts == sorted(texts):
        here["f1"] = "f1_binary"  # the second of two labels, sorted, is the positive one there and here
    # Scores are of every label: where some documents have fewer choices, there are none.
    scored = all(len(document.texts) == most for document in documents)
    factor = {}
    if "brier_score" in filtered.reported and scored and most > 1:
        here["brier_score"] = "brier_score"
        factor["brier_score"] = 0.5 if most == 2 else 1.0  # halved for two labels here
    suite = {
        "task_type": "multiple_choice",
        "metrics": ["accuracy", *here.values()],
        "labels": names,
        "items": [
            {
                "id": name,
                "input": document.question if fixed else listed_choices(document.question, document.texts),
                "label": names[gold],
            }
            for name, document, gold in zip(filtered.ids, documents, golds, strict=True)
        ],
    }
    for rule in rules:
        right = zip(filtered.ids, documents, golds, verdicts[rule], strict=True)
        predictions = []
        for name, document, gold, said in right:
            best = document.best(rule)
            made: Json = {"id": name, "output": document.texts[best], "parsed": judged(names[gold], names[best], said)}
            if rule == "acc":
                made["probability"] = document.probabilities()[best]
            if scored:
                made["label_scores"] = dict(zip(names, document.probabilities(), strict=True))
            predictions.append(made)
        first = rule == rules[0]
        own = [name for name in filtered.reported if name == rule or (first and name not in rules)]
        same = {name: "accuracy" for name in own if verdicts.get(name) == verdicts[rule]}
        told = filtered.told(own, {**here, **same}, REASONS, factor)
        how = filtered.how if first else {**filtered.how, "metric": rule}
        yield filtered.task.result(suite, predictions, told, **how)


@dataclass(frozen=True, slots=True)
class _Document:
    """One document with the texts to choose from, the log-likelihood of each, and what the harness calls its target."""

    question: str
    texts: list[str]
    likelihoods: list[float]
    target: str

    def best(self, rule: str) -> int:
        scores = [RULES[rule](one, text) for one, text in zip(self.likelihoods, self.texts, strict=True)]
        return scores.index(max(scores))

    def probabilities(self) -> list[float]:
        """Softmax of the log-likelihoods."""
        top = max(self.likelihoods)
        weights = [math.exp(one - top) for one in self.likelihoods]
        return [weight / math.fsum(weights) for weight in weights]


def _document(task: Task, row: Json) -> _Document:
    asked = requests(row)
    likelihoods = [float(one[0]) for one in row["filtered_resps"]]
    # acc_mutual_info asks for each choice a second time, without the context.
    half = len(asked) // 2
    if half and not any(one[0] for one in asked[half:]) and any(one[0] for one in asked[:half]):
        asked, likelihoods = asked[:half], likelihoods[:half]
    if not asked or len(asked) != len(likelihoods):
        raise ValueError(f"{len(asked)} choices, but {len(likelihoods)} log-likelihoods")
    contexts = [str(one[0]) for one in asked]
    if len(set(contexts)) == 1:
        delimiter = task.config.get("target_delimiter")
        texts = [str(one[1]).removeprefix(" " if delimiter is None else delimiter) for one in asked]
        return _Document(question(task, contexts[0], row.get("doc")), texts, likelihoods, str(row["target"]))
    # The choices come before what is asked for (Winogrande): each is a text of its own.
    texts = [f"{context}{one[1]}" for context, one in zip(contexts, asked, strict=True)]
    return _Document("", texts, likelihoods, str(row["target"]))


def _golds(documents: Sequence[_Document], rule: str, verdicts: Sequence[bool]) -> list[int] | None:
    """The place of each document's right choice. A target is a place, or several, or the text of a choice: whatever
    fits the harness's verdicts."""
    fits: list[list[int]] = []
    for read in (_by_place, _by_text):
        golds = [read(document) for document in documents]
        if all(golds):
            first = [places[0] for places in golds]
            if [document.best(rule) in places for document, places in zip(documents, golds, strict=True)] == verdicts:
                return first
            fits.append(first)
    return fits[0] if fits else None


def _by_place(document: _Document) -> list[int]:
    found = literal(document.target)
    places = found if isinstance(found, list) else [found]
    known = [place for place in places if isinstance(place, int) and 0 <= place < len(document.texts)]
    return known if len(known) == len(places) else []


def _by_text(document: _Document) -> list[int]:
    wanted = document.target.strip()
    return [index for index, text in enumerate(document.texts) if text.strip() == wanted][:1]
