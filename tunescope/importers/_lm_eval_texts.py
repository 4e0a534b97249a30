"""Tasks in which a model writes a text (`generate_until`), or says how likely a given one is: after a context
(`loglikelihood`), or whole (`loglikelihood_rolling`)."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunescope.importers._lm_eval_tasks import TEXT_METRICS, Filtered, each, literal, question, requests
from tunescope.importers._record import ImportedResult, ImportProblem
from tunescope.importers._results import judged

__all__ = ["generated", "greedy", "likely"]

Json = dict[str, Any]
Change = Callable[[str], str]
INVALID = "[invalid]"
"""What the harness's regex filters make of a text that they find nothing in."""
BESIDE = "exact_match compares other texts (by its options), and a suite has one text an answer"


def generated(filtered: Filtered) -> Iterator[ImportedResult]:
    """An evaluation for each metric that says right or wrong and differs from the others; one for all, if none does."""
    verdicts = filtered.verdicts()
    change = _change(filtered.task.config) if verdicts else None
    texts = [name for name in TEXT_METRICS if name in filtered.reported]
    shown = [] if change is not None else texts
    suite = _suite(filtered, [*(["accuracy"] if verdicts else []), *shown] or ["exact_match", "token_f1"], change)
    further = sum(each(filtered.samples, lambda row: len(row["resps"][0]) - 1))
    if further:
        what = f"further answers to documents of '{filtered.task.name}'"
        filtered.left_out.add(what, "an evaluation has one an item", further)
    answers = each(filtered.samples, _answer)
    reasons = dict.fromkeys(texts, BESIDE)
    distinct = _distinct(verdicts)
    if not distinct:
        named = zip(filtered.ids, answers, strict=True)
        predictions = [_prediction(name, output, answer) for name, (output, answer) in named]
        told = filtered.told(list(filtered.reported), {name: name for name in shown}, reasons)
        yield filtered.task.result(suite, predictions, told, **filtered.how)
    for metric in distinct:
        predictions = []
        for item, (output, answer), right in zip(suite["items"], answers, verdicts[metric], strict=True):
            compared = answer if answer is None or change is None else change(answer)
            predictions.append(_prediction(item["id"], output, judged(item["label"], compared, right)))
        same = [name for name in verdicts if verdicts[name] == verdicts[metric]]
        rest = [name for name in filtered.reported if name not in verdicts] if metric == distinct[0] else []
        here = {**dict.fromkeys(same, "accuracy"), **{name: name for name in shown}}
        how = {**filtered.how, **({"metric": metric} if len(distinct) > 1 else {})}
        yield filtered.task.result(suite, predictions, filtered.told([*same, *rest], here, reasons), **how)


def greedy(filtered: Filtered) -> Iterator[ImportedResult]:
    """A continuation is right if the model would have written it; what it would have written else is not known."""
    verdicts = filtered.verdicts()
    if "acc" not in verdicts:
        filtered.left_out.add(f"task '{filtered.task.name}'", "no acc says right or wrong of each document")
        return
    asked = each(filtered.samples, lambda row: (str(requests(row)[0][0]), str(requests(row)[0][1]).strip()))
    items, predictions = [], []
    documents = zip(filtered.samples, filtered.ids, asked, verdicts["acc"], strict=True)
    for sample, name, (context, label), right in documents:
        items.append({"id": name, "input": question(filtered.task, context, sample.row.get("doc")), "label": label})
        predictions.append({"id": name, "output": label if right else None})
    suite = {"task_type": "generation", "metrics": ["accuracy"], "items": items}
    reasons = {"perplexity": "it is per text there, and per token here"}
    told = filtered.told(list(filtered.reported), {"acc": "accuracy"}, reasons)
    yield filtered.task.result(suite, predictions, told, **filtered.how)


def likely(filtered: Filtered) -> Iterator[ImportedResult]:
    """How likely a model finds whole texts. How many tokens they were to it, the harness does not write down."""
    texts = each(filtered.samples, lambda row: str(row["target"]))
    nats = each(filtered.samples, lambda row: max(0.0, -_number(row["filtered_resps"][0])))
    named = zip(filtered.ids, texts, strict=True)
    suite = {
        "task_type": "language_modelling",
        "metrics": ["bits_per_byte"],
        "items": [{"id": name, "input": text, "references": [text]} for name, text in named],
    }
    predictions = [{"id": name, "nll": nll} for name, nll in zip(filtered.ids, nats, strict=True)]
    reasons = {"word_perplexity": "words are no unit here", "byte_perplexity": "it is 2 to the power of bits_per_byte"}
    told = filtered.told(list(filtered.reported), {"bits_per_byte": "bits_per_byte"}, reasons)
    yield filtered.task.result(suite, predictions, told, **filtered.how)


def _number(value: Any) -> float:
    """A log-likelihood, as text or not, in a list or not."""
    while isinstance(value, list):
        value = value[0]
    return float(value)


def _suite(filtered: Filtered, metrics: list[str], change: Change | None) -> Json:
    def item(row: Json) -> Json:
        references = _references(row["target"])
        made: Json = {"id": str(row["doc_id"]), "references": references}
        made["input"] = question(filtered.task, str(requests(row)[0][0]), row.get("doc"))
        if "accuracy" in metrics:
            made["label"] = references[0] if change is None else change(references[0])
        return made

    return {"task_type": "generation", "metrics": metrics, "items": each(filtered.samples, item)}


def _prediction(name: str, output: str, parsed: str | None) -> Json:
    return {"id": name, "output": output, "parsed": parsed}


def _distinct(verdicts: Mapping[str, list[bool]]) -> list[str]:
    """One metric of those that say the same of every item; exact_match first."""
    found: list[str] = []
    for metric in sorted(verdicts, key=lambda name: name != "exact_match"):
        if all(verdicts[metric] != verdicts[earlier] for earlier in found):
            found.append(metric)
    return found


def _references(target: Any) -> list[str]:
    """A document's right answers: the harness writes several as Python writes a list of texts."""
    several = literal(target) if isinstance(target, str) and target.startswith("[") else target
    if isinstance(several, list) and several and all(isinstance(one, str) for one in several):
        return several
    return [str(target)]


def _answer(row: Json) -> tuple[str, str | None]:
    """(what the model wrote, what the filter made of it)."""
    output, answer = row["resps"][0], row["filtered_resps"][0]
    while isinstance(output, list):
        output = output[0]
    while isinstance(answer, list):
        answer = answer[0] if answer else INVALID
    return str(output), None if answer == INVALID else str(answer)


def _change(config: Json) -> Change | None:
    """What exact_match does to texts before it compares them, by its options in the task's configuration."""
    options: Json = next((one for one in config.get("metric_list") or [] if one.get("metric") == "exact_match"), {})
    try:
        patterns = [re.compile(pattern) for pattern in options.get("regexes_to_ignore") or []]
    except re.error as error:
        raise ImportProblem(f"task '{config.get('task')}': `regexes_to_ignore` of exact_match: {error}.") from error
    dropped = string.punctuation if options.get("ignore_punctuation") else ""
    dropped += string.digits if options.get("ignore_numbers") else ""
    lower = bool(options.get("ignore_case"))
    if not (patterns or dropped or lower):
        return None
    table = str.maketrans("", "", dropped)

    def change(text: str) -> str:
        for pattern in patterns:
            text = pattern.sub("", text)
        return (text.lower() if lower else text).translate(table)

    return change
