"""Data sets, and what the service finds out about them and about suites."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from service.app import create_app
from service.evaluation import quality
from service.settings import Settings
from service.store.database import Database

from .wire import Json, all_items, evaluate, get, label_items, make_suite

POSTGRESQL_IS_SLOW = True

WORDS = ["card", "loan", "pin", "rate", "branch", "limit", "transfer", "cheque", "salary", "refund", "phone", "rent"]


def rows(n: int, *, labels: str = "ab", seed: int = 0) -> list[Json]:
    """Sentences of which no two are alike."""
    chance = random.Random(seed)
    return [
        {
            "id": f"r{place}",
            "input": " ".join(chance.choices(WORDS, k=8)) + f" {place}",
            "label": labels[place % len(labels)],
        }
        for place in range(n)
    ]


def send(client: TestClient, items: Sequence[Json], **about: Any) -> Any:
    body = "\n".join(json.dumps(item) for item in items)
    return client.post("/api/v1/datasets", params={"name": "train", **about}, content=body)


def make(client: TestClient, items: Sequence[Json], **about: Any) -> Json:
    answer = send(client, items, **about)
    assert answer.status_code in (200, 201), answer.text
    body: Json = answer.json()
    return body


def codes(report: Json) -> list[str]:
    return [one["code"] for one in report["warnings"]]


# --- data sets ---


def test_what_goes_in_comes_out(client: TestClient) -> None:
    given = [
        {"id": "1", "input": "what?", "label": "a", "group": "u", "tags": ["y", "x"]},
        {"id": "2", "input": "and then?", "references": ["this", "that"]},
    ]
    stored = make(client, given, source="train.csv", data_hash="abc")
    assert (stored["name"], stored["version"], stored["n_items"], stored["source"]) == ("train", 1, 2, "train.csv")
    assert get(client, f"datasets/{stored['id']}") == {**stored, "runs": []}
    assert all_items(client, f"datasets/{stored['id']}/items", limit=1) == [
        {"labels": None, **given[0], "references": [], "tags": ["x", "y"]},
        {"labels": None, **given[1], "label": None, "group": None, "tags": []},
    ]


def test_the_same_rows_are_the_same_version_and_a_change_the_next(client: TestClient) -> None:
    first = make(client, rows(5))
    again = send(client, rows(5))
    assert (again.status_code, again.json()) == (200, first)
    second = make(client, rows(6))
    assert second["version"] == 2
    assert [one["id"] for one in all_items(client, "datasets", limit=1, name="train")] == [second["id"], first["id"]]


def test_a_run_is_found_by_what_it_was_trained_on(client: TestClient) -> None:
    run = client.post("/api/v1/runs", json={"project": "p", "name": "lora", "data_hash": "abc"}).json()
    client.post("/api/v1/runs", json={"project": "p", "name": "other", "data_hash": "abd"})
    stored = make(client, rows(3), data_hash="abc")
    assert [one["id"] for one in get(client, f"datasets/{stored['id']}")["runs"]] == [run["id"]]
    assert [one["id"] for one in get(client, "datasets", data_hash="abc")["items"]] == [stored["id"]]
    assert get(client, "datasets", data_hash="abd")["items"] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The data set is empty"),
        (b"\n \n", "The data set is empty"),
        (b'{"id": "1", "input": "a"}\n{"id": "1", "input": "b"}', "Line 2: the id '1' comes twice"),
        (b'{"id": "1", "input": "a"}\n\n{"id": "2"', "Line 3: Invalid JSON"),
        (b'{"id": "1"}', "Line 1: input: Field required"),
        (b'{"id": "1", "input": 7}', "Line 1: input: "),
        (b'{"id": "1", "input": "a", "answer": "b"}', "Line 1: answer: "),
        (b'{"id": "1", "input": "\xff"}', "Line 1: "),
        (b'{"id": "1", "input": "\\ud800"}', "Line 1: "),
        (b"[]", "Line 1: "),
    ],
)
def test_refusals_name_the_line(client: TestClient, body: bytes, words: str) -> None:
    answer = client.post("/api/v1/datasets", params={"name": "bad"}, content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "dataset_invalid"
    assert words in answer.json()["error"]["message"]
    assert get(client, "datasets")["items"] == []


def test_what_is_not_there(client: TestClient) -> None:
    for path in ("datasets/x", "datasets/x/items", "datasets/x/quality", "datasets/x/label-noise", "datasets/x/split"):
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "dataset_not_found")
    for path in ("suites/x/quality", "suites/x/label-noise"):
        assert client.get(f"/api/v1/{path}").json()["error"]["code"] == "suite_not_found"
    answer = client.get("/api/v1/leakage", params={"train": "x", "test": "y"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "item_set_not_found")


def test_an_upload_over_the_limit_leaves_nothing(database: Database, settings: Settings) -> None:
    small = settings.model_copy(update={"max_body_bytes": 200})
    with TestClient(create_app(small, database)) as client:
        answer = send(client, rows(20))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert "TUNESCOPE_MAX_BODY_BYTES" in answer.json()["error"]["message"]
        assert get(client, "datasets")["items"] == []


# --- quality ---


def test_the_quality_of_a_suite(client: TestClient) -> None:
    items = [
        *rows(30, labels="aaab"),
        {"id": "copy", "input": "  " + rows(1)[0]["input"].upper(), "label": "b", "tags": ["x"]},
        {"id": "near", "input": rows(2)[1]["input"] + "!", "label": "a", "tags": ["x", "y"]},
    ]
    suite = make_suite(client, items, task_type="classification", metrics=["accuracy"])
    found = get(client, f"suites/{suite['id']}/quality")
    assert codes(found) == ["too_small", "conflicting_answers", "duplicates", "near_duplicates"]
    assert found["balance"]["labels"] == [{"label": "a", "n": 24}, {"label": "b", "n": 8}]
    assert found["balance"]["ratio"] == 3.0
    (group,) = found["duplicates"]["groups"]
    assert (group["n"], group["conflicting"], [one["id"] for one in group["items"]]) == (2, True, ["r0", "copy"])
    (pair,) = found["near_duplicates"]["pairs"]
    assert {pair["first"]["id"], pair["second"]["id"]} == {"r1", "near"}
    assert 0.8 <= pair["similarity"] < 1
    assert found["coverage"]["tags"] == [{"tag": "x", "n": 2}, {"tag": "y", "n": 1}]
    assert found["coverage"]["untagged"] == 30
    assert sum(found["input_lengths"]["counts"]) == 32
    assert found["answer_lengths"] is None
    assert get(client, f"suites/{suite['id']}/quality", threshold=1)["near_duplicates"]["n_pairs"] == 0
    assert client.get(f"/api/v1/suites/{suite['id']}/quality", params={"threshold": 0.1}).status_code == 400


def test_texts_with_several_answers_and_no_labels(client: TestClient) -> None:
    given = [{"id": str(place), "input": f"q {place // 2}", "references": [f"answer {place}"]} for place in range(120)]
    found = get(client, f"datasets/{make(client, given)['id']}/quality")
    assert found["balance"]["reason"] == "no_labels"
    assert (found["duplicates"]["n_groups"], found["duplicates"]["n_conflicting"]) == (60, 60)
    assert sum(found["answer_lengths"]["counts"]) == 120
    assert "one item can have several" in found["warnings"][0]["message"]


def test_labels_out_of_balance_rare_or_missing(client: TestClient) -> None:
    given = rows(130, labels="a" * 40 + "b")
    given[0].pop("label")
    found = get(client, f"datasets/{make(client, given)['id']}/quality")
    assert codes(found) == ["unlabelled", "unbalanced", "rare_labels"]
    assert "'a' has 126 items, 'b' 3" in found["warnings"][1]["message"]


def test_a_report_is_made_once(client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = make(client, rows(20))
    first = get(client, f"datasets/{stored['id']}/quality")
    with database.read() as session:
        (kept,) = session.connection().execute(text("SELECT report_sha256 FROM quality_report")).scalars()
    real, made = quality.report, []
    monkeypatch.setattr(quality, "report", lambda *given: made.append(1) or real(*given))
    assert get(client, f"datasets/{stored['id']}/quality") == first
    assert made == []
    # A report whose file is gone is made again.
    blobs = client.app.state.blobs  # type: ignore[attr-defined]
    blobs.local_path(kept).unlink()
    assert get(client, f"datasets/{stored['id']}/quality") == first
    assert made == [1]


def topics(n: int, seed: int = 0) -> list[Json]:
    """Multi-label items: one in four of no topic, and one in four of two."""
    own = ([], ["card"], ["loan", "card"], ["loan"])
    return [{**row, "label": None, "labels": own[place % 4]} for place, row in enumerate(rows(n, seed=seed))]


def test_the_quality_of_multi_label_items(client: TestClient) -> None:
    given = topics(120)
    given[0]["labels"], given[1]["input"], given[2]["labels"] = None, given[3]["input"], ["loan", "card", "rare"]
    found = get(client, f"datasets/{make(client, given)['id']}/quality")
    balance = found["balance"]
    assert balance["labels"] == [
        {"label": "card", "n": 60}, {"label": "loan", "n": 60}, {"label": "rare", "n": 1}
    ]  # fmt: skip
    assert (balance["unlabelled"], balance["without"], balance["n_labels"]) == (1, 29, 3)
    assert balance["per_item"] == pytest.approx(121 / 119)
    assert {"conflicting_answers", "unlabelled", "unbalanced", "rare_labels"} <= set(codes(found))
    assert found["duplicates"]["groups"][0]["items"][1]["answer"] == "loan"
    assert get(client, f"suites/{make_suite(client, topics(4), metrics=['subset_accuracy'])['id']}/quality")["balance"][
        "per_item"
    ] == pytest.approx(1.0)


def test_multi_label_sets_against_one_another_and_split(client: TestClient) -> None:
    train, held_out = topics(200), [{**row, "id": f"t{row['id']}"} for row in topics(120, seed=9)]
    held_out[5]["labels"] = ["card", "new"]
    found = get(client, "leakage", train=make(client, train)["id"], test=make(client, held_out, name="held-out")["id"])
    assert found["only_in_test"] == ["new"]
    assert found["labels"][0] == {"label": "card", "train": 100, "test": 60}
    assert (found["label_difference"]["p_value"], found["label_difference"]["reason"]) == (None, "several_labels")

    made = get(client, f"datasets/{make(client, held_out, name='split')['id']}/split", stratify=True, seed=1)
    for part in made["parts"]:
        counts = {one["label"]: one["n"] for one in part["labels"]}
        assert abs(counts["card"] - 60 * part["asked"]) <= 1
        assert abs(counts["loan"] - 60 * part["asked"]) <= 1
    [said] = [one["message"] for one in made["warnings"] if one["code"] == "labels_not_in_every_part"]
    assert said == "1 of 3 labels have too few items to be in every part ('new')."


# --- doubtful labels ---


def test_labels_that_the_models_of_a_suite_disagree_with(client: TestClient) -> None:
    suite = make_suite(client, label_items(["a", "b", "a", "b"]), task_type="classification", metrics=["accuracy"])
    assert get(client, f"suites/{suite['id']}/label-noise")["reason"] == "no_evaluations"
    evaluate(client, suite, ["b", "b", "a", "a"], name="one")
    evaluate(client, suite, ["b", "b", "a", "b"], name="two")
    evaluate(client, suite, ["a", "a", "b", "a"], name="two")  # the newest of a model counts
    third = [{"id": f"i{place}", "output": "b", "probability": 0.99 if place else 0.5} for place in range(4)]
    evaluate(client, suite, third, name="three")
    found = get(client, f"suites/{suite['id']}/label-noise")
    assert (found["method"], found["models"], found["judged"]) == ("evaluations", ["three", "two", "one"], 4)
    assert [(one["id"], one["suggested"], one["models"]) for one in found["candidates"]] == [
        ("i2", "b", 2),
        ("i3", "a", 2),
    ]
    assert found["candidates"][0]["probability"] == 0.99
    assert [answer["answer"] for answer in found["candidates"][0]["answers"]] == ["b", "b", "a"]


def test_labels_that_probabilities_of_every_label_doubt(client: TestClient) -> None:
    """Against the definition, written out: thresholds are the mean self-confidence of each label."""
    names = ["a", "b", "c"]
    draw = np.random.default_rng(3)
    given = draw.integers(0, 3, 60)
    logits = draw.normal(size=(2, 60, 3)) + 3 * np.eye(3)[given]
    logits[:, [5, 17], (given[[5, 17]] + 1) % 3] += 9  # two labels that no model believes
    chances = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    labels = [names[code] for code in given]
    suite = make_suite(client, label_items(labels), task_type="classification", metrics=["accuracy"])
    for number, table in enumerate(chances):
        told = [
            {"id": f"i{place}", "label_scores": dict(zip(names, row, strict=True))}
            for place, row in enumerate(table.tolist())
        ]
        evaluate(client, suite, told[: 60 - number], name=f"model {number}")  # the second leaves one item out
    evaluate(client, suite, ["a"] * 60, name="text only")

    mean = chances.mean(axis=0)
    mean[59] = chances[0, 59]
    own = mean[np.arange(60), given]
    sure = np.array([own[given == code].mean() for code in range(3)])
    found = get(client, f"suites/{suite['id']}/label-noise")
    assert (found["method"], found["basis"], found["judged"], len(found["models"])) == (
        "evaluations", "label_scores", 60, 3,
    )  # fmt: skip
    expected = {}
    for place in range(60):
        enough = [code for code in range(3) if mean[place, code] >= sure[code]]
        best = max(enough, key=lambda code: mean[place, code], default=given[place])
        if best != given[place] and mean[place, best] > own[place]:
            expected[f"i{place}"] = (names[best], mean[place, best], own[place])
    assert {"i5", "i17"} <= expected.keys()
    assert {
        one["id"]: (one["suggested"], pytest.approx(one["probability"]), pytest.approx(one["label_probability"]))
        for one in found["candidates"]
    } == expected
    margins = [one["probability"] - one["label_probability"] for one in found["candidates"]]
    assert margins == sorted(margins, reverse=True)
    first = found["candidates"][0]
    assert len(first["answers"]) == 3
    assert first["models"] == sum(one["answer"] == first["suggested"] for one in first["answers"])


@pytest.mark.parametrize("scores", [{"a": 2.0, "b": -1.0}, {"a": 0.9, "b": 0.05, "other": 0.05}])
def test_scores_that_are_no_probabilities_of_the_labels_do_not_judge_them(client: TestClient, scores: Json) -> None:
    suite = make_suite(client, label_items(["a", "b"] * 4), task_type="classification", metrics=["accuracy"])
    evaluate(client, suite, [{"id": f"i{place}", "label_scores": scores, "probability": 0.95} for place in range(8)])
    found = get(client, f"suites/{suite['id']}/label-noise")
    assert (found["basis"], found["n_candidates"]) == ("answers", 4)
    assert found["candidates"][0]["label_probability"] is None


def test_labels_of_multi_label_items_that_models_doubt(client: TestClient) -> None:
    """By answers; by probabilities of each label, that need not add up to one, as soon as a model tells them."""
    suite = make_suite(client, topics(40), metrics=["subset_accuracy"])
    own = [one["labels"] for one in topics(40)]
    said = [["card"], [], ["card", "loan"], ["loan"], *own[4:]]  # too many, too few, as it is, as it is
    for name in ("one", "two"):
        answers = [{"id": f"r{place}", "predicted_labels": one} for place, one in enumerate(said)]
        evaluate(client, suite, answers, name=name)
    found = get(client, f"suites/{suite['id']}/label-noise")
    assert (found["basis"], found["multi_label"], found["judged"], found["n_candidates"]) == ("answers", True, 40, 2)
    first, second = found["candidates"]
    assert (first["id"], first["answer"], first["suggested"], first["models"]) == ("r0", "", "card", 2)
    assert first["doubts"] == [{"label": "card", "given": False, "probability": None, "models": 2}]
    assert (second["suggested"], second["doubts"][0]["given"], second["probability"]) == ("", True, None)
    assert [one["answer"] for one in second["answers"]] == ["", ""]

    scores = [{label: 0.9 if label in one else 0.05 for label in ("card", "loan")} for one in own]
    scores[5]["loan"], scores[6]["card"] = 0.97, 0.02
    answers = [
        {"id": f"r{place}", "predicted_labels": own[place], "label_scores": one} for place, one in enumerate(scores)
    ]
    evaluate(client, suite, answers, name="three")
    found = get(client, f"suites/{suite['id']}/label-noise")
    assert (found["basis"], found["judged"], found["reason"]) == ("label_scores", 40, None)
    assert [(one["id"], one["suggested"], one["doubts"]) for one in found["candidates"]] == [
        ("r6", "loan", [{"label": "card", "given": True, "probability": 0.02, "models": None}]),
        ("r5", "card, loan", [{"label": "loan", "given": False, "probability": 0.97, "models": None}]),
    ]
    assert found["candidates"][0]["label_probability"] == 0.02
    assert found["candidates"][0]["probability"] == pytest.approx(0.98)
    answers[0]["label_scores"] = {"card": 2.5, "loan": 0.1}
    evaluate(client, suite, answers, name="three")  # no probabilities
    assert get(client, f"suites/{suite['id']}/label-noise")["basis"] == "answers"


def test_labels_of_multi_label_items_that_a_model_of_the_data_set_doubts(client: TestClient) -> None:
    given = topics(200)
    for row in given:
        row["input"] = f"{row['id']} {' and '.join(f'a {label}' for label in row['labels'])}"
    given[8]["labels"] = ["loan"]
    for place in (13, 49, 101, 161):
        given[place]["labels"] = []
    found = get(client, f"datasets/{make(client, given)['id']}/label-noise")
    assert (found["method"], found["multi_label"], found["judged"]) == ("cross_validation", True, 200)
    assert found["accuracy"] > 0.9
    doubts = {one["id"]: [(doubt["label"], doubt["given"]) for doubt in one["doubts"]] for one in found["candidates"]}
    assert doubts["r8"] == [("loan", True)]
    absent = [doubts.get(f"r{place}") for place in (13, 49, 101, 161)]
    assert [("card", False)] in absent  # those of more than average probability
    none = get(client, f"datasets/{make(client, [{**row, 'labels': []} for row in given])['id']}/label-noise")
    assert none["reason"] == "cannot_judge_labels"


def test_a_suite_without_labels_cannot_tell(client: TestClient) -> None:
    suite = make_suite(client, [{"id": "1", "input": "q", "references": ["a"]}])
    assert get(client, f"suites/{suite['id']}/label-noise")["reason"] == "no_labels"


def test_labels_that_a_model_of_the_data_set_disagrees_with(client: TestClient) -> None:
    chance = random.Random(1)
    given = [
        {
            "id": str(place),
            "input": f"{chance.choice(['card', 'plastic'] if place % 2 else ['loan', 'credit'])} please {place}",
            "label": "card" if (place % 2) ^ (place in (20, 61)) else "loan",
        }
        for place in range(200)
    ]
    found = get(client, f"datasets/{make(client, given)['id']}/label-noise")
    assert (found["method"], found["judged"]) == ("cross_validation", 200)
    assert {one["id"] for one in found["candidates"][:2]} == {"20", "61"}
    assert found["accuracy"] > 0.97
    without = get(client, f"datasets/{make(client, [{'id': '1', 'input': 'q'}])['id']}/label-noise")
    assert without["reason"] == "no_labels"
    assert get(client, f"datasets/{make(client, rows(3))['id']}/label-noise")["reason"] == "too_few_items"
    assert (
        get(client, f"datasets/{make(client, rows(30, labels='a'))['id']}/label-noise")["reason"]
        == "cannot_judge_labels"
    )


# --- leakage ---


def test_what_leaks_from_a_data_set_into_a_suite(client: TestClient) -> None:
    train = make(client, rows(200))
    held_out = [{**row, "id": f"t{row['id']}"} for row in rows(120, seed=9)]
    held_out[3]["input"] = rows(4)[3]["input"].upper()
    held_out[4]["input"] = rows(5)[4]["input"] + "!"
    held_out[5]["input"] = held_out[4]["input"]
    held_out[6]["label"] = "new"
    suite = make_suite(client, held_out, task_type="classification", metrics=["accuracy"])
    found = get(client, "leakage", train=train["id"], test=suite["id"])
    assert (found["train"]["kind"], found["test"]["kind"]) == ("dataset", "suite")
    assert (found["n_exact"], found["n_near"], found["complete"]) == (1, 2, True)
    assert found["leaked"] == ["tr3", "tr4", "tr5"]
    assert [(pair["first"]["id"], pair["second"]["id"]) for pair in found["pairs"]] == [
        ("r3", "tr3"),
        ("r4", "tr4"),
        ("r4", "tr5"),
    ]
    assert found["pairs"][0]["similarity"] == 1.0 > found["pairs"][1]["similarity"] >= 0.8
    assert found["only_in_test"] == ["new"]
    assert codes(found) == ["leakage", "near_leakage", "labels_only_in_test"]
    assert found["label_difference"]["p_value"] > 0.01
    assert get(client, "leakage", train=train["id"], test=suite["id"]) == found


def test_sets_whose_labels_differ_are_told(client: TestClient) -> None:
    one, other = make(client, rows(300)), make(client, rows(300, labels="aaab", seed=3), name="test")
    found = get(client, "leakage", train=one["id"], test=other["id"])
    assert codes(found) == ["labels_differ"]
    assert found["label_difference"]["p_value"] < 0.001
    assert found["labels"] == [{"label": "a", "train": 150, "test": 225}, {"label": "b", "train": 150, "test": 75}]


# --- splits ---


def test_a_stratified_split_by_user(client: TestClient) -> None:
    given = [{**row, "group": f"user {place // 4}"} for place, row in enumerate(rows(400))]
    stored = make(client, given)
    found = get(client, f"datasets/{stored['id']}/split", stratify="true", seed=3)
    assert [part["name"] for part in found["parts"]] == ["train", "validation", "test"]
    assert [part["n"] for part in found["parts"]] == [280, 60, 60]
    assert codes(found) == ["too_small", "too_small"]
    where = {row["group"]: {part} for row, part in zip(given, found["assignment"], strict=True)}
    for row, part in zip(given, found["assignment"], strict=True):
        assert where[row["group"]] == {part}
    for part in found["parts"]:
        assert {one["label"]: one["n"] for one in part["labels"]} == {"a": part["n"] // 2, "b": part["n"] // 2}
    assert get(client, f"datasets/{stored['id']}/split", stratify="true", seed=3) == found
    assert get(client, f"datasets/{stored['id']}/split", stratify="true")["assignment"] != found["assignment"]


def test_the_same_text_is_never_on_two_sides_nor_a_like_one_if_asked(client: TestClient) -> None:
    given = rows(200)
    for place in range(100):
        given[place + 100]["input"] = given[place]["input"] + ("!" if place % 2 else "")
    stored = make(client, given)
    plain = get(client, f"datasets/{stored['id']}/split")["assignment"]
    together = get(client, f"datasets/{stored['id']}/split", near_duplicates=0.8)
    assert together["units"] == 100
    assert together["assignment"][:100] == together["assignment"][100:]
    assert plain[0:100:2] == plain[100:200:2]
    assert plain[1:100:2] != plain[101:200:2]


def test_folds_and_shares(client: TestClient) -> None:
    stored = make(client, rows(100))
    path = f"datasets/{stored['id']}/split"
    assert sorted(Counter(get(client, path, folds=5)["assignment"]).values()) == [20] * 5
    assert [part["n"] for part in get(client, path, shares="80/20")["parts"]] == [80, 20]
    assert [part["n"] for part in get(client, path, shares="0.6/0.2/0.2")["parts"]] == [60, 20, 20]


@pytest.mark.parametrize(
    ("given", "asked", "words", "item"),
    [
        (rows(20), {"shares": "80"}, "write two or three positive numbers", None),
        (rows(20), {"shares": "80/-20"}, "write two or three positive numbers", None),
        (rows(20), {"shares": "80/20", "folds": 5}, "not both", None),
        (rows(20, labels="a" * 19 + "b"), {"stratify": "true"}, "'b' has 1 item, too few", "r19"),
        ([{"id": "1", "input": "q"}], {"stratify": "true"}, "no labels to stratify by", None),
        ([{**row, "group": "g"} for row in rows(20)], {}, "1 unit cannot be split into 3 parts", None),
        (
            [{**row, "group": "g" if place < 18 else None} for place, row in enumerate(rows(20))],
            {},
            "18 of 20 items belong together",
            "r0",
        ),
    ],
)
def test_splits_that_cannot_be_made(
    client: TestClient, given: list[Json], asked: Json, words: str, item: str | None
) -> None:
    stored = make(client, given)
    answer = client.get(f"/api/v1/datasets/{stored['id']}/split", params=asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "split_impossible")
    assert words in error["message"]
    assert (error["details"] or {}).get("item") == item
