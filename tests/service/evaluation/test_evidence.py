"""Scores of labels, sets of labels, likelihoods, counts of samples: over the wire, against the reference libraries."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from sklearn import metrics as sk
from starlette.testclient import TestClient
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.functional.text import perplexity

from service.evaluation import scoring
from service.evaluation.schemas import Prediction
from service.store import parquet as stored

from .files import ENCODE, JSON_LINES, PARQUET, json_lines, send
from .wire import Json, all_items, evaluate, get, label_items, make_suite, text_items, value

LABELS = ["bird", "cat", "dog", "đ"]
PROBABILITIES = ["roc_auc", "average_precision", "log_loss", "brier_score", "ece", "top_k_accuracy:k=2", "accuracy"]
LIKELIHOODS = ["perplexity", "bits_per_byte"]


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """What is tested here touches no SQL that the rest of evaluation does not."""
    path = tmp_path / "tunescope.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


def drawn(n: int = 60, seed: int = 1, labels: Sequence[str] = LABELS) -> tuple[list[str], Any]:
    """True labels, all of which occur, and probabilities (n, C) that know a little of them."""
    generator = np.random.default_rng(seed)
    true = np.concatenate([np.arange(len(labels)), generator.integers(0, len(labels), n - len(labels))])
    logits = generator.normal(size=(n, len(labels))) + 1.5 * np.eye(len(labels))[true]
    weights = np.exp(logits)
    return [labels[code] for code in true], weights / weights.sum(axis=1, keepdims=True)


def scored(probabilities: Any, labels: Sequence[str] = LABELS, **more: Any) -> list[Json]:
    """The names of the labels are not in order: the service sorts them."""
    return [
        {"id": f"i{place}", "label_scores": dict(list(zip(labels, row.tolist(), strict=True))[::-1]), **more}
        for place, row in enumerate(probabilities)
    ]


def label_suite(client: TestClient, true: Sequence[str], metrics: Sequence[str] = PROBABILITIES, **more: Any) -> Json:
    return make_suite(client, label_items(true), task_type="classification", metrics=list(metrics), **more)


def refused(client: TestClient, suite: Json, given: list[Json], **fields: Any) -> Json:
    answer = client.post("/api/v1/evaluations", json={"suite_id": suite["id"], "predictions": given, **fields})
    assert answer.status_code == 400, answer.text
    assert get(client, "evaluations")["items"] == []
    error: Json = answer.json()["error"]
    return error


# --- scores of labels ---


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_labels_are_judged_as_scikit_learn_and_torchmetrics_do(client: TestClient, seed: int) -> None:
    true, given = drawn(seed=seed)
    made = evaluate(client, label_suite(client, true), scored(given))
    codes = [LABELS.index(label) for label in true]
    expected = {
        "roc_auc": sk.roc_auc_score(true, given, multi_class="ovr", labels=LABELS),
        "average_precision": sk.average_precision_score(np.eye(4)[codes], given, average="macro"),
        "log_loss": sk.log_loss(true, y_proba=given, labels=LABELS),
        "brier_score": sk.brier_score_loss(true, y_proba=given, labels=LABELS),
        "ece": float(multiclass_calibration_error(torch.tensor(given), torch.tensor(codes), num_classes=4, n_bins=15)),
        "top_k_accuracy:k=2": sk.top_k_accuracy_score(true, given, k=2, labels=LABELS),
        "accuracy": sk.accuracy_score(codes, given.argmax(axis=1)),
    }
    for name, wanted in expected.items():
        assert value(made, name) == pytest.approx(wanted, rel=1e-6 if name == "ece" else 1e-13), name
    assert (made["n_missing"], made["n_unparsed"]) == (0, 0)
    for one in made["scores"]:
        low, high = one["interval"]
        assert low < one["value"] < high, one["name"]


def test_two_labels_have_the_second_for_the_positive_one(client: TestClient) -> None:
    true, given = drawn(40, labels=["no", "yes"])
    given[:, 1] = np.round(given[:, 1], 1)  # ties
    names = ["roc_auc", "average_precision"]
    made = evaluate(client, label_suite(client, true, names), scored(given[:, ::-1], ["yes", "no"]))
    positive = [label == "yes" for label in true]
    assert value(made, "roc_auc") == pytest.approx(sk.roc_auc_score(positive, given[:, 1]), rel=1e-13)
    assert value(made, "average_precision") == pytest.approx(
        sk.average_precision_score(positive, given[:, 1]), rel=1e-13
    )


def test_declared_labels_are_classes_also_where_no_item_has_them(client: TestClient) -> None:
    true, given = drawn(20)
    known = ["ant", *LABELS]
    given = np.column_stack([np.full(len(given), 0.2), given * 0.8])
    made = evaluate(
        client, label_suite(client, true, ["log_loss", "roc_auc"], labels=known[::-1]), scored(given, known)
    )
    assert value(made, "log_loss") == pytest.approx(sk.log_loss(true, y_proba=given, labels=known), rel=1e-13)
    roc = made["scores"][1]
    assert (roc["value"], roc["interval"], roc["reason"]) == (None, None, "undefined"), "no item is an ant"


def test_the_label_of_highest_score_is_the_answer_where_there_is_no_output(client: TestClient) -> None:
    suite = label_suite(client, ["cat", "dog", "cat", "dog"], ["accuracy", "log_loss"])
    made = evaluate(
        client,
        suite,
        [
            {"id": "i0", "label_scores": {"dog": 0.3, "cat": 0.7}},
            {"id": "i1", "label_scores": {"dog": 0.5, "cat": 0.5}},
            {"id": "i2", "label_scores": {"dog": 0.9, "cat": 0.1}, "output": "a cat", "parsed": "cat"},
            {"id": "i3", "label_scores": {"dog": 0.9, "cat": 0.1}, "output": "?", "parsed": None},
        ],
    )
    items = get(client, f"evaluations/{made['id']}/items")["items"]
    assert [item["parsed"] for item in items] == ["cat", "cat", "cat", None]
    assert [item["correct"] for item in items] == [True, False, True, False]
    assert (made["n_missing"], made["n_unparsed"]) == (0, 1)
    assert items[0]["label_scores"] == {"cat": 0.7, "dog": 0.3}
    assert items[0]["output"] is None
    assert items[0]["scores"]["log_loss"] == pytest.approx(-math.log(0.7))
    assert [one["n"] for one in get(client, f"evaluations/{made['id']}/confusion")["most_confused"]] == [1]


def test_a_missing_answer_is_certain_of_a_wrong_label(client: TestClient) -> None:
    true, given = drawn(30)
    suite = label_suite(client, true)
    whole = evaluate(client, suite, scored(given))
    lacking = evaluate(client, suite, [*scored(given)[1:], {"id": "i0", "output": None}])
    assert lacking["n_missing"] == 1
    for before, after in zip(whole["scores"], lacking["scores"], strict=True):
        worse = after["value"] < before["value"]
        assert worse == before["higher_is_better"] or before["name"] == "accuracy", before["name"]
    assert lacking["scores"] == evaluate(client, suite, scored(given)[1:])["scores"]


A_CAT = {"id": "i0", "label_scores": {"cat": 0.25, "dog": 0.75}}


@pytest.mark.parametrize(
    ("prediction", "code", "words"),
    [
        ({"output": "cat"}, "prediction_invalid", "Item 'i1' has no `label_scores`, which the metric 'log_loss' reads: "
         "send a number for each label"),
        ({"label_scores": {"cat": 1.0}}, "prediction_invalid", "Item 'i1' has no score for the label 'dog'"),
        ({"label_scores": {}}, "prediction_invalid", "Item 'i1' has no score for the label 'cat'"),
        ({"label_scores": {"cat": 0.1, "dog": 0.2, "cow": 0.7}}, "prediction_invalid", "Item 'i1' has a score for "
         "'cow', which is not among the labels of its items: declare the suite's `labels`"),
        ({"label_scores": {"cat": 0.1, "dog": 0.2}}, "cannot_score", "The metric 'log_loss' cannot score item 'i1': "
         "the scores of item 'i1' do not add up to 1: [0.1, 0.2]"),
        ({"label_scores": {"cat": -1.0, "dog": 2.0}}, "cannot_score", "are not probabilities: 0 to 1 is asked for"),
        ({"label_scores": {"cat": "high", "dog": 2.0}}, "invalid_request", "body.predictions[1].label_scores.cat"),
        ({"label_scores": [["cat", 0.5]]}, "invalid_request", "body.predictions[1].label_scores"),
        ({"probability": 0.5, "output": "cat", "nll": 1.0}, "prediction_invalid", "`label_scores`"),
    ],
)  # fmt: skip
def test_scores_that_cannot_be_used(client: TestClient, prediction: Json, code: str, words: str) -> None:
    suite = label_suite(client, ["cat", "dog"], ["log_loss"])
    error = refused(client, suite, [A_CAT, {"id": "i1", **prediction}])
    assert error["code"] == code
    assert words in error["message"]
    if code != "invalid_request":
        assert error["details"]["item"] == "i1"


def test_scores_may_be_absent_from_all_answers_and_not_from_some(client: TestClient) -> None:
    suite = label_suite(client, ["cat", "dog"] * 3, ["accuracy", "log_loss"])
    said = {f"i{place}": "cat" for place in range(5)}
    told = [{"id": item, "output": output} for item, output in said.items()]
    scored_ones = [{**one, "label_scores": {"cat": 0.75, "dog": 0.25}} for one in told]
    for mixed in ([*told[:2], *scored_ones[2:]], [*scored_ones[2:], *told[:2]]):
        error = refused(client, suite, mixed)
        assert (error["code"], error["details"]["item"]) == ("prediction_invalid", "i0")
        assert "Item 'i0' has no `label_scores`, which the metric 'log_loss' reads" in error["message"]

    made = evaluate(client, suite, told)
    right, loss = made["scores"]
    assert right["value"] == 0.5
    assert (loss["value"], loss["interval"], loss["reason"]) == (None, None, "no_label_scores")
    assert (loss["n"], loss["n_missing"]) == (6, 1)
    [first, *_] = get(client, f"evaluations/{made['id']}/items")["items"]
    assert first["scores"] == {"accuracy": 1.0}

    other = evaluate(client, suite, scored_ones)
    assert value(other, "log_loss") is not None
    both = {"baseline": made["id"], "candidate": other["id"]}
    assert get(client, "comparisons", **both)["metric"] == "accuracy"
    asked: list[tuple[str, Json]] = [("comparisons", both), (f"evaluations/{made['id']}/slices", {"by": "label"})]
    for path, params in asked:
        answer = client.get(f"/api/v1/{path}", params={**params, "metric": "log_loss"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_scored")
        assert "carry no `label_scores`" in answer.json()["error"]["message"]


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_scores_are_finite(client: TestClient, number: str) -> None:
    suite = label_suite(client, ["cat", "dog"], ["roc_auc"])
    row = f'{{"id": "i1", "label_scores": {{"cat": {number}, "dog": 1}}}}'
    answer = client.post(
        "/api/v1/evaluations",
        content=f'{{"suite_id": "{suite["id"]}", "predictions": [{row}]}}',
        headers={"content-type": "application/json"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert "body.predictions[0].label_scores.cat" in answer.json()["error"]["message"]


def test_a_suite_says_at_once_what_its_metrics_could_never_read(client: TestClient) -> None:
    items = label_items(["cat", "dog"])
    for body, words in [
        ({"metrics": ["top_k_accuracy:k=2"], "labels": ["cat", "dog"]}, "every item is right among the top 2"),
        ({"metrics": ["log_loss"], "labels": ["cat"]}, "is not among the suite's labels"),
        (
            {"metrics": ["log_loss"], "items": text_items([["a"]])},
            "Item 'i0' has no label, which the metric 'log_loss'",
        ),
        ({"metrics": ["multilabel_f1_micro"]}, "Item 'i0' has no labels, which the metric 'multilabel_f1_micro' reads"),
        (
            {"metrics": ["perplexity"], "items": text_items([["a", "b"]])},
            "has 2 references, and 'perplexity' is of one",
        ),
        ({"task_type": "multi_label"}, "Item 'i0' has no labels"),
    ]:
        body = {"name": "no", "task_type": "classification", "items": items, **body}
        answer = client.post("/api/v1/suites", json=body)
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["error"]["message"]
    assert get(client, "suites")["items"] == []
    one_label = label_suite(client, ["cat", "cat"], ["roc_auc"])
    assert (
        "the vocabulary has 1: give `labels`" in refused(client, one_label, [{"id": "i0", "output": None}])["message"]
    )


# --- sets of labels ---

SETS = [["sport"], ["politics", "sport"], [], ["tech"], ["sport", "tech"], ["politics"]] * 6
TAGS = ["politics", "sport", "tech"]


def multi_items(sets: Sequence[Sequence[str]] = SETS) -> list[Json]:
    return [{"id": f"i{place}", "input": f"text {place}", "labels": list(one)} for place, one in enumerate(sets)]


def multi_suite(client: TestClient, **more: Any) -> Json:
    body = {"name": "tags", "task_type": "multi_label", "items": multi_items(), **more}
    answer = client.post("/api/v1/suites", json=body)
    assert answer.status_code in (200, 201), answer.text
    found: Json = answer.json()
    return found


def said(sets: Sequence[Sequence[str] | None]) -> list[Json]:
    return [{"id": f"i{place}", "predicted_labels": one} for place, one in enumerate(sets)]


def guesses(seed: int = 0, flip: float = 0.2) -> list[list[str]]:
    generator = np.random.default_rng(seed)
    return [[label for label in TAGS if (label in one) != (generator.random() < flip)] for one in SETS]


def indicators(sets: Sequence[Sequence[str]]) -> Any:
    return np.array([[label in one for label in TAGS] for one in sets], dtype=int)


def test_sets_of_labels_are_judged_as_scikit_learn_does(client: TestClient) -> None:
    suite, given = multi_suite(client), guesses()
    assert suite["definition"]["metrics"] == [
        "multilabel_f1_micro", "multilabel_f1_macro", "subset_accuracy", "hamming_loss"
    ]  # fmt: skip
    assert suite["definition"]["primary_metric"] == "multilabel_f1_micro"
    made = evaluate(client, suite, said(given))
    true, predicted = indicators(SETS), indicators(given)
    expected = {
        "multilabel_f1_micro": sk.f1_score(true, predicted, average="micro"),
        "multilabel_f1_macro": sk.f1_score(true, predicted, average="macro"),
        "subset_accuracy": sk.accuracy_score(true, predicted),
        "hamming_loss": sk.hamming_loss(true, predicted),
    }
    assert {one["name"]: one["value"] for one in made["scores"]} == pytest.approx(expected, rel=1e-14)
    assert all(one["interval"] is not None for one in made["scores"])
    items = all_items(client, f"evaluations/{made['id']}/items", limit=20)
    assert [item["labels"] for item in items] == SETS
    assert [item["predicted_labels"] for item in items] == given
    assert [item["correct"] for item in items] == [one == two for one, two in zip(SETS, given, strict=True)]
    sport = get(client, f"evaluations/{made['id']}/slices", by="label", metric="hamming_loss")["items"]
    rows = {one["slice"]: [place for place, true in enumerate(SETS) if one["slice"] in true] for one in sport}
    rows["(none)"] = [place for place, true in enumerate(SETS) if not true]
    assert {one["slice"]: one["value"] for one in sport} == pytest.approx(
        {label: float((true != predicted)[places].mean()) for label, places in rows.items()}
    )
    assert [one["value"] for one in sport] == sorted((one["value"] for one in sport), reverse=True), "worst first"
    found = all_items(client, f"evaluations/{made['id']}/items", true="tech", predicted="sport")
    assert [item["id"] for item in found] == [
        f"i{place}"
        for place, (one, two) in enumerate(zip(SETS, given, strict=True))
        if "tech" in one and "sport" in two
    ]


def test_each_label_of_a_set_has_its_scores(client: TestClient) -> None:
    suite, given = multi_suite(client), guesses(flip=0.3)
    made = evaluate(client, suite, said([*given[:-1], None]))
    true, predicted = indicators(SETS), indicators([*given[:-1], []])
    expected = sk.precision_recall_fscore_support(true, predicted, average=None)
    found = {one["label"]: one for one in get(client, f"evaluations/{made['id']}/classes")["items"]}
    for place, label in enumerate(TAGS):
        one = found[label]
        assert [one[name] for name in ("precision", "recall", "f1", "support")] == pytest.approx(
            [float(column[place]) for column in expected]
        )
        for name in ("precision", "recall", "f1"):
            low, high = one[f"{name}_interval"]
            assert low < one[name] < high
    assert [one["f1"] for one in found.values()] == sorted(one["f1"] for one in found.values())


def test_lists_of_labels_are_read_out_of_texts(client: TestClient) -> None:
    suite, given = multi_suite(client, parser="label_list"), guesses()
    texts = [{"id": f"i{place}", "output": json.dumps(one)} for place, one in enumerate(given)]
    read, sent = evaluate(client, suite, texts), evaluate(client, multi_suite(client), said(given))
    assert {one["name"]: one["value"] for one in read["scores"]} == {
        one["name"]: one["value"] for one in sent["scores"]
    }
    lacking = [
        {"id": "i0", "output": "I would say sport"},
        {"id": "i1", "output": "sport", "parsed": None},
        *texts[2:-1],
    ]
    made = evaluate(client, suite, lacking)
    assert (made["n_missing"], made["n_unparsed"]) == (1, 2)
    items = all_items(client, f"evaluations/{made['id']}/items", limit=20)
    assert [item["predicted_labels"] for item in items] == [None, None, *given[2:-1], None]
    assert [item["correct"] for item in items[:2]] == [False, False]
    both = [{**texts[0], "predicted_labels": ["tech"]}]
    own = evaluate(client, suite, both)
    assert get(client, f"evaluations/{own['id']}/items")["items"][0]["predicted_labels"] == ["tech"]


def test_order_says_nothing_in_a_set_of_labels(client: TestClient) -> None:
    suite = multi_suite(client)
    assert multi_suite(client, items=multi_items([one[::-1] for one in SETS]))["id"] == suite["id"]
    one, two = (evaluate(client, suite, said(given)) for given in (SETS, [one[::-1] for one in SETS]))
    assert one["prediction_hash"] == two["prediction_hash"]
    assert value(two, "subset_accuracy") == 1.0


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        ({"predicted_labels": ["sport", "music"]}, "Item 'i1' is predicted 'music', which is not among the labels of"),
        ({"predicted_labels": ["sport", "sport"]}, "Item 'i1' is predicted 'sport' twice"),
        ({"output": "sport, tech"}, "Item 'i1' has no `predicted_labels`, which the metric 'multilabel_f1_micro' reads"
         ": send the list of labels that the model gave, [] for none"),
    ],
)  # fmt: skip
def test_sets_that_cannot_be_used(client: TestClient, prediction: Json, words: str) -> None:
    error = refused(client, multi_suite(client), [{"id": "i0", "predicted_labels": []}, {"id": "i1", **prediction}])
    assert error["code"] == "prediction_invalid"
    assert words in error["message"]
    assert error["details"] == {"item": "i1"}


# --- likelihoods ---

TEXTS = ["né", "", "three words here", "đđ"]


def texts(client: TestClient, metrics: Sequence[str] | None = None, inputs: Sequence[str] = TEXTS, **more: Any) -> Json:
    items = [{"id": f"i{place}", "input": text} for place, text in enumerate(inputs)]
    body = {"name": "corpus", "task_type": "language_modelling", "items": items, **more}
    answer = client.post("/api/v1/suites", json=body | ({} if metrics is None else {"metrics": list(metrics)}))
    assert answer.status_code in (200, 201), answer.text
    found: Json = answer.json()
    return found


def test_perplexity_is_torchmetrics_and_bits_are_counted_by_bytes(client: TestClient) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [f"text {'x' * place} é" for place in range(12)]
    logits = torch.randn(12, 9, 50, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 50, (12, 9), generator=generator)
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    suite = texts(client, inputs=inputs)
    assert suite["definition"]["metrics"] == LIKELIHOODS
    given = [{"id": f"i{place}", "nll": float(row.sum()), "n_tokens": 9} for place, row in enumerate(losses)]
    made = evaluate(client, suite, given)
    assert value(made, "perplexity") == pytest.approx(float(perplexity(logits, targets)), rel=1e-12)
    n_bytes = sum(len(text.encode()) for text in inputs)
    assert value(made, "bits_per_byte") == pytest.approx(float(losses.sum()) / math.log(2) / n_bytes, rel=1e-13)
    assert all(one["interval"] is not None and not one["higher_is_better"] for one in made["scores"])
    item = get(client, f"evaluations/{made['id']}/items")["items"][3]
    assert (item["nll"], item["n_tokens"], item["n_bytes"], item["correct"]) == (given[3]["nll"], 9, None, None)
    assert (item["output"], item["parsed"], made["n_missing"]) == (None, None, 0)


def test_a_text_without_an_answer_is_left_out(client: TestClient) -> None:
    made = evaluate(client, texts(client, ["perplexity"]), [{"id": "i0", "nll": 6.0, "n_tokens": 3}])
    assert made["n_missing"] == 3
    assert value(made, "perplexity") == pytest.approx(math.exp(2))
    none = evaluate(client, texts(client, ["perplexity"]), [None])
    assert (none["scores"][0]["value"], none["scores"][0]["reason"]) == (None, "undefined")


def test_bytes_that_were_scored_may_be_others_than_the_texts(client: TestClient) -> None:
    given = [{"id": "i0", "nll": 6.0, "n_bytes": 12}, {"id": "i3", "nll": 2.0}]
    made = evaluate(client, texts(client, ["bits_per_byte"]), given)
    assert value(made, "bits_per_byte") == pytest.approx(8 / math.log(2) / (12 + 4))


def test_the_text_is_the_reference_where_there_is_one(client: TestClient) -> None:
    suite = make_suite(
        client, text_items([["four"], ["fi"]]), task_type="language_modelling", metrics=["bits_per_byte"]
    )
    made = evaluate(client, suite, [{"id": "i0", "nll": 6.0}, {"id": "i1", "nll": 1.0}])
    assert value(made, "bits_per_byte") == pytest.approx(7 / math.log(2) / 6)


@pytest.mark.parametrize(
    ("prediction", "code", "words"),
    [
        ({"nll": -0.5, "n_tokens": 3}, "invalid_request", "body.predictions[1].nll"),
        ({"nll": 1e300, "n_tokens": 3}, "invalid_request", "body.predictions[1].nll"),
        ({"nll": 1.0, "n_tokens": 0}, "invalid_request", "body.predictions[1].n_tokens"),
        ({"nll": 1.0, "n_tokens": 3.5}, "invalid_request", "body.predictions[1].n_tokens"),
        ({"nll": 1.0, "n_tokens": 3, "n_bytes": 0}, "invalid_request", "body.predictions[1].n_bytes"),
        ({"nll": 1.0}, "prediction_invalid", "Item 'i1' has no `n_tokens`, which the metric 'perplexity' reads: send "
         "the number of tokens"),
        ({"n_tokens": 3}, "prediction_invalid", "Item 'i1' has no `nll`, which the metric 'perplexity' reads: send "
         "the negative log-likelihood"),
        ({"output": "né"}, "prediction_invalid", "Item 'i1' has no `nll`"),
        ({"nll": 1.0, "n_tokens": 1}, "cannot_score", "the text of item 'i1' is empty: it has no bytes"),
    ],
)  # fmt: skip
def test_likelihoods_that_cannot_be_used(client: TestClient, prediction: Json, code: str, words: str) -> None:
    error = refused(client, texts(client), [{"id": "i0", "nll": 1.0, "n_tokens": 2}, {"id": "i1", **prediction}])
    assert error["code"] == code
    assert words in error["message"]


# --- samples ---


def test_pass_at_k_is_the_share_of_draws_with_a_right_sample(client: TestClient) -> None:
    items = [{"id": f"i{place}", "input": f"def f{place}():"} for place in range(4)]
    suite = make_suite(client, items, metrics=["pass_at_k", "pass_at_k:k=3"])
    counts = [(5, 2), (7, 0), (4, 4)]
    given = [{"id": f"i{place}", "n_samples": n, "n_correct": right} for place, (n, right) in enumerate(counts)]
    made = evaluate(client, suite, given)

    def by_hand(k: int) -> float:
        chances = [
            np.mean([any(draw) for draw in combinations([True] * right + [False] * (n - right), k)])
            for n, right in counts
        ]
        return float(sum(chances)) / 4

    assert value(made, "pass_at_k") == pytest.approx(by_hand(1), rel=1e-14)
    assert value(made, "pass_at_k:k=3") == pytest.approx(by_hand(3), rel=1e-14)
    assert made["n_missing"] == 1
    assert made["scores"][0]["interval"] is not None


@pytest.mark.parametrize(
    ("prediction", "code", "words"),
    [
        ({"n_samples": 2, "n_correct": 3}, "prediction_invalid", "Item 'i0' has 3 right samples of 2"),
        ({"n_samples": 2}, "prediction_invalid", "Item 'i0' has `n_samples` but no `n_correct`"),
        (
            {"n_correct": 2},
            "prediction_invalid",
            "Item 'i0' has no `n_samples`, which the metric 'pass_at_k:k=3' reads",
        ),
        ({"n_samples": 2, "n_correct": 1}, "cannot_score", "item 'i0' has 2 samples: pass@3 takes 3"),
        ({"n_samples": 2**40, "n_correct": 1}, "invalid_request", "body.predictions[0].n_samples"),
        ({"n_samples": 0, "n_correct": 0}, "invalid_request", "body.predictions[0].n_samples"),
        ({"n_samples": 3, "n_correct": -1}, "invalid_request", "body.predictions[0].n_correct"),
    ],
)
def test_samples_that_cannot_be_used(client: TestClient, prediction: Json, code: str, words: str) -> None:
    suite = make_suite(client, [{"id": "i0", "input": "?"}], metrics=["pass_at_k:k=3"])
    error = refused(client, suite, [{"id": "i0", **prediction}])
    assert error["code"] == code
    assert words in error["message"]


# --- comparisons ---


@pytest.mark.parametrize("metric", PROBABILITIES)
def test_better_is_lower_where_it_is(client: TestClient, metric: str) -> None:
    n = 120
    true, given = drawn(n, seed=5)
    suite = label_suite(client, true)
    plain = evaluate(client, suite, scored(given), name="plain")
    worse = 0.02 + 0.92 * np.eye(4)[np.random.default_rng(0).integers(0, 4, n)]
    poor = evaluate(client, suite, scored(worse), name="poor")
    card = get(client, "comparisons", baseline=poor["id"], candidate=plain["id"], metric=metric)
    assert (card["verdict"], card["test"] is not None) == ("better", True)
    lower = metric in ("log_loss", "brier_score", "ece")
    assert (card["difference"] < 0) == (card["interval"][1] < 0) == lower
    assert card["sentence"].startswith("plain is better than poor on facts by ")
    assert "-" not in card["sentence"]
    back = get(client, "comparisons", baseline=plain["id"], candidate=poor["id"], metric=metric)
    assert (back["verdict"], back["difference"]) == ("worse", pytest.approx(-card["difference"]))
    assert (back["gained"], back["lost"]) == (card["lost"], card["gained"])
    several = get(client, "comparisons/several", baseline=poor["id"], candidate=plain["id"], metric=metric)
    assert several["items"][0]["verdict"] == "better"
    seeds = get(client, "comparisons/configurations", baseline=poor["id"], candidate=plain["id"], metric=metric)
    assert seeds["verdict"] == "better"
    if metric == "log_loss":
        lost = all_items(client, "comparisons/items", limit=100, baseline=plain["id"], candidate=poor["id"],
                         kind="lost", metric=metric)  # fmt: skip
        losses = -np.log(np.stack([given, worse])[:, np.arange(n), [LABELS.index(label) for label in true]])
        order = np.argsort(losses[0] - losses[1], kind="stable")
        assert [item["id"] for item in lost] == [f"i{place}" for place in order if losses[1, place] > losses[0, place]]
        assert lost[0]["candidate_output"] in LABELS, "what was answered, where there is no output"


def test_sets_of_labels_are_compared_item_by_item(client: TestClient) -> None:
    suite = multi_suite(client)
    near, far = (evaluate(client, suite, said(guesses(flip=flip)), name=str(flip)) for flip in (0.05, 0.4))
    for metric in suite["definition"]["metrics"]:
        card = get(client, "comparisons", baseline=far["id"], candidate=near["id"], metric=metric)
        assert card["verdict"] == "better", metric
        assert (card["difference"] < 0) == (metric == "hamming_loss")
    lost = get(
        client, "comparisons/items", baseline=near["id"], candidate=far["id"], kind="lost", metric="hamming_loss"
    )
    given = {f"i{place}": ", ".join(one) for place, one in enumerate(guesses(flip=0.4))}
    assert all(item["candidate_output"] == given[item["id"]] for item in lost["items"])


def likelihoods(n: int, shift: float, tokens: int = 5, seed: int = 0) -> list[Json]:
    nats = 10 + shift + np.random.default_rng(seed).normal(size=n)
    return [{"id": f"i{place}", "nll": float(one), "n_tokens": tokens} for place, one in enumerate(nats)]


def test_perplexities_are_compared_over_the_texts_that_both_models_scored(client: TestClient) -> None:
    suite = texts(client, inputs=["abcdefgh"] * 50)
    base = evaluate(client, suite, likelihoods(50, 0.0), name="base")
    tuned = evaluate(client, suite, likelihoods(50, -1.0, seed=1)[10:], name="tuned")
    for metric in LIKELIHOODS:
        card = get(client, "comparisons", baseline=base["id"], candidate=tuned["id"], metric=metric)
        assert (card["verdict"], card["test"], card["n"]) == ("better", "paired bootstrap", 40)
    nats = [sum(one["nll"] for one in rows[-40:]) for rows in (likelihoods(50, 0.0), likelihoods(50, -1.0, seed=1))]
    card = get(client, "comparisons", baseline=base["id"], candidate=tuned["id"], metric="perplexity")
    assert (card["baseline_value"], card["candidate_value"]) == pytest.approx(
        tuple(math.exp(one / 200) for one in nats)
    )
    assert card["sentence"].startswith("tuned is better than base on corpus by ")
    params = {"baseline": base["id"], "candidate": tuned["id"]}
    answer = client.get("/api/v1/comparisons/configurations", params=params)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_comparable")
    assert "10 texts have no likelihood in some" in answer.json()["error"]["message"]


def test_the_largest_likelihoods_are_numbers_or_null(client: TestClient) -> None:
    """Answers are JSON, which has no infinity."""
    suite = texts(client, inputs=["abcdefgh"] * 12)
    for nats in (199.0, 1e12):
        rows = [{"id": f"i{place}", "nll": nats * (0.5 + place % 2 / 2), "n_tokens": 1} for place in range(12)]
        one, other = (evaluate(client, suite, given) for given in (rows, likelihoods(12, 0.0, tokens=1)))
        assert (value(one, "perplexity") is None) == (nats > 200)
        for metric in LIKELIHOODS:
            card = get(client, "comparisons", baseline=one["id"], candidate=other["id"], metric=metric)
            assert (card["difference"] is None) == (metric == "perplexity" and nats > 200)


def test_models_of_other_tokenisers_have_no_common_perplexity(client: TestClient) -> None:
    suite = texts(client, inputs=["abcdefgh"] * 30)
    one, other = (evaluate(client, suite, likelihoods(30, 0.0, tokens=tokens)) for tokens in (5, 7))
    answer = client.get("/api/v1/comparisons", params={"baseline": one["id"], "candidate": other["id"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_comparable")
    assert "30 of 30 texts in different numbers of tokens" in answer.json()["error"]["message"]
    assert "compare by bits_per_byte" in answer.json()["error"]["message"]
    card = get(client, "comparisons", baseline=one["id"], candidate=other["id"], metric="bits_per_byte")
    assert card["difference"] == 0
    none = evaluate(client, suite, [None])
    answer = client.get("/api/v1/comparisons", params={"baseline": one["id"], "candidate": none["id"]})
    assert (answer.status_code, answer.json()["error"]["message"]) == (409, "There is no text that both models scored.")


# --- files, pieces, old records ---


def by_body(client: TestClient, suite: Json, given: list[Json]) -> Json:
    return evaluate(client, suite, given)


def by_file(kind: str) -> Callable[[TestClient, Json, list[Json]], Json]:
    def make(client: TestClient, suite: Json, given: list[Json]) -> Json:
        answer = send(client, "evaluations", ENCODE[kind](given), kind, suite_id=suite["id"])
        assert answer.status_code == 201, answer.text
        body: Json = answer.json()
        return body

    return make


@pytest.mark.parametrize("make", [by_file(JSON_LINES), by_file(PARQUET)], ids=["lines", "parquet"])
def test_a_file_is_scored_as_a_body_is(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, make: Callable[[TestClient, Json, list[Json]], Json]
) -> None:
    """In pieces of seven rows, of which two at most hold the scores; in another order."""
    true, probabilities = drawn(40)
    labelled, tagged, corpus = label_suite(client, true), multi_suite(client), texts(client, inputs=["abc"] * 20)
    sets: list[Json] = [
        (labelled, scored(probabilities)),
        (tagged, said(guesses())),
        (corpus, [{"id": f"i{place}", "nll": place / 3, "n_tokens": place, "n_bytes": 3} for place in range(1, 20)]),
    ]
    wholes = [by_body(client, suite, given) for suite, given in sets]
    items = [get(client, f"evaluations/{one['id']}/items")["items"] for one in wholes]
    monkeypatch.setattr(stored, "ROWS", 7)
    monkeypatch.setattr(scoring, "SCORES_AT_A_TIME", 8)
    for (suite, given), whole, shown in zip(sets, wholes, items, strict=True):
        made = make(client, suite, given[::-1])
        assert (made["scores"], made["prediction_hash"]) == (whole["scores"], whole["prediction_hash"])
        assert all_items(client, f"evaluations/{made['id']}/items", limit=9) == shown


def test_a_row_of_a_file_is_named(client: TestClient) -> None:
    suite = label_suite(client, ["cat", "dog"], ["log_loss"])
    answer = send(
        client, "evaluations", json_lines([A_CAT, {"id": "i1", "label_scores": {"cat": 1}}]), suite_id=suite["id"]
    )
    assert answer.json()["error"]["details"] == {"item": "i1", "row": 2}
    answer = send(client, "evaluations", json_lines([{"id": "i1", "nll": -1}]), suite_id=suite["id"])
    assert answer.json()["error"]["message"].startswith("Row 1 (item 'i1'): nll: ")


def test_what_no_metric_reads_is_kept_too(client: TestClient) -> None:
    suite = make_suite(client, text_items([["Paris"], ["Rome"]]))
    extra = {"nll": 1.5, "n_tokens": 4, "label_scores": {"Paris": -0.5, "Oslo": -2.25}, "predicted_labels": ["b", "a"]}
    plain = evaluate(client, suite, [{"id": "i0", "output": "Paris"}, {"id": "i1", "output": "Rom"}])
    more = evaluate(client, suite, [{"id": "i0", "output": "Paris", **extra}, {"id": "i1", "output": "Rom"}])
    assert more["scores"] == plain["scores"]
    assert more["prediction_hash"] != plain["prediction_hash"]
    first = get(client, f"evaluations/{more['id']}/items")["items"][0]
    assert {name: first[name] for name in extra} == {**extra, "predicted_labels": ["a", "b"]}


def test_too_many_numbers_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "MAX_CELLS", 100)
    true, given = drawn(30)
    error = refused(client, label_suite(client, true, ["roc_auc"]), scored(given))
    assert error["code"] == "too_many_labels"
    assert "'roc_auc' keeps 5 numbers an item, too many for 30 items" in error["message"]
    assert value(evaluate(client, label_suite(client, true, ["log_loss"]), scored(given)), "log_loss") > 0


def test_the_api_says_what_each_field_is() -> None:
    fields = TypeAdapter(Prediction).json_schema()["properties"]
    for name in ("label_scores", "predicted_labels", "nll", "n_tokens", "n_bytes", "n_samples", "n_correct"):
        assert len(json.dumps(fields[name].get("description", ""))) > 30, name
