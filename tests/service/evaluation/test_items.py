"""The items behind a number: filters, confusion matrix, slices."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support
from starlette.testclient import TestClient
from statsmodels.stats.proportion import proportion_confint

from service.measure.score import wilson_interval
from service.store.evaluations import EVIDENCE_COLUMNS

from .wire import Json, all_items, evaluate, get, label_items, make_suite, text_items

TRUE = ["spam", "ham", "ham", "eggs", "ham", "spam"]
PREDICTED = ["spam", "spam", "ham", None, "eggs", "ham"]


@pytest.fixture
def mail(client: TestClient) -> Json:
    """Six items; i3 is missing and i5 has a group of its own."""
    items = label_items(TRUE)
    for place, tags in enumerate((["short"], ["short", "rude"], [], ["rude"], [], ["short"])):
        items[place] |= {"tags": tags, "group": "new" if place == 5 else "old" if place < 4 else None}
    suite = make_suite(client, items, metrics=["accuracy", "f1_macro"], task_type="classification")
    return evaluate(client, suite, PREDICTED)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, "012345"),
        ({"correct": True}, "02"),
        ({"correct": False}, "1345"),
        ({"tag": "short"}, "015"),
        ({"tag": "rude", "correct": False}, "13"),
        ({"group": "old"}, "0123"),
        ({"true": "ham"}, "124"),
        ({"predicted": "spam"}, "01"),
        ({"true": "ham", "predicted": "spam"}, "1"),
        ({"tag": "polite"}, ""),
    ],
)
def test_filters(client: TestClient, mail: Json, filters: Json, found: str) -> None:
    items = all_items(client, f"evaluations/{mail['id']}/items", **filters)
    assert [item["id"] for item in items] == [f"i{place}" for place in found]


def test_an_item_shows_all_there_is(client: TestClient, mail: Json) -> None:
    item = get(client, f"evaluations/{mail['id']}/items", limit=2)["items"][1]
    assert item == {
        "id": "i1",
        "input": "text 1",
        "label": "ham",
        "labels": None,
        "references": [],
        "group": "old",
        "tags": ["rude", "short"],
        "output": "spam",
        "parsed": "spam",
        "probability": None,
        **dict.fromkeys(EVIDENCE_COLUMNS),
        "correct": False,
        "scores": {"accuracy": 0.0},
    }


def test_the_confusion_matrix_is_scikit_learns(client: TestClient) -> None:
    generator = random.Random(2)
    true = generator.choices("abc", k=200)
    predicted = [label if generator.random() < 0.6 else generator.choice("abc") for label in true]
    suite = make_suite(client, label_items(true), metrics=["accuracy"], labels=["c", "a", "b"])
    confusion = get(client, f"evaluations/{evaluate(client, suite, predicted)['id']}/confusion")
    assert confusion["labels"] == ["c", "a", "b"]
    assert confusion["rows"] == "true"
    expected = confusion_matrix(true, predicted, labels=["c", "a", "b"])
    assert confusion["counts"] == expected.tolist()
    assert confusion["unanswered"] == [0, 0, 0]
    scores = precision_recall_fscore_support(true, predicted, labels=["c", "a", "b"])
    for place, found in enumerate(confusion["classes"]):
        ours = [found[name] for name in ("precision", "recall", "f1", "support")]
        assert ours == pytest.approx([column[place] for column in scores], abs=1e-12)
    np.fill_diagonal(expected, 0)
    most = confusion["most_confused"]
    assert most[0]["n"] == expected.max()
    assert [pair["n"] for pair in most] == sorted(expected[expected > 0].tolist(), reverse=True)
    for pair in most:
        row, column = (confusion["labels"].index(pair[side]) for side in ("true", "predicted"))
        assert pair["n"] == confusion["counts"][row][column]


def test_unanswered_items_are_in_no_column(client: TestClient, mail: Json) -> None:
    confusion = get(client, f"evaluations/{mail['id']}/confusion")
    assert confusion["labels"] == ["eggs", "ham", "spam"]
    assert confusion["counts"] == [[0, 0, 0], [1, 1, 1], [0, 1, 1]]
    assert confusion["unanswered"] == [1, 0, 0]
    eggs = confusion["classes"][0]
    assert [eggs[name] for name in ("label", "precision", "recall", "f1", "support", "predicted")] == [
        "eggs", 0.0, 0.0, 0.0, 1, 1
    ]  # fmt: skip
    assert eggs["recall_interval"] == list(wilson_interval(0, 1))
    classes = get(client, f"evaluations/{mail['id']}/classes")["items"]
    assert classes == sorted(confusion["classes"], key=lambda one: (one["f1"], one["label"]))


def test_texts_have_no_confusion_matrix(client: TestClient) -> None:
    evaluation = evaluate(client, make_suite(client, text_items([["a"]])), ["a"])
    answer = client.get(f"/api/v1/evaluations/{evaluation['id']}/confusion")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_labels")


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("group", [("(none)", 1, 0.0), ("new", 1, 0.0), ("old", 4, 0.5)]),
        ("tag", [("rude", 2, 0.0), ("short", 3, 1 / 3), ("(none)", 2, 0.5)]),
        ("label", [("eggs", 1, 0.0), ("ham", 3, 1 / 3), ("spam", 2, 0.5)]),
        ("length", [("6–6 characters", 6, 1 / 3)]),
    ],
)
def test_slices_worst_first(client: TestClient, mail: Json, by: str, expected: list[Any]) -> None:
    found = get(client, f"evaluations/{mail['id']}/slices", by=by)
    assert found["metric"] == "accuracy"
    assert [(one["slice"], one["n"], pytest.approx(one["value"])) for one in found["items"]] == expected
    for one in found["items"]:
        right = round(one["value"] * one["n"])
        assert one["interval"] == pytest.approx(proportion_confint(right, one["n"], method="wilson"), abs=1e-9)


def test_slices_by_another_metric(client: TestClient, mail: Json) -> None:
    found = get(client, f"evaluations/{mail['id']}/slices", by="tag", metric="f1_macro")["items"]
    short = next(one["value"] for one in found if one["slice"] == "short")
    true, predicted = (["spam", "ham", "spam"], ["spam", "spam", "ham"])
    assert short == pytest.approx(f1_score(true, predicted, average="macro"))
    answer = client.get(f"/api/v1/evaluations/{mail['id']}/slices", params={"by": "tag", "metric": "bleu"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_metric")


def test_slices_by_length_are_quarters(client: TestClient) -> None:
    items = [{"id": f"i{n}", "input": "x" * (n + 1), "references": ["yes"]} for n in range(8)]
    evaluation = evaluate(client, make_suite(client, items), ["yes"] * 6 + ["no"] * 2)
    found = get(client, f"evaluations/{evaluation['id']}/slices", by="length")["items"]
    assert sum(one["n"] for one in found) == 8
    assert found[0]["value"] < 1
    assert found[0]["slice"].endswith("8 characters")
    assert len(found) == 4
