"""Predictions meet their suite: joined by id, counted honestly, refused by name, stored whole or not at all."""

from __future__ import annotations

import random

import pytest
from starlette.testclient import TestClient

from .wire import Json, all_items, evaluate, get, label_items, make_suite, predictions, text_items, value

ANIMALS = ["cat", "dog", "cow", "hen"]


@pytest.fixture
def suite(client: TestClient) -> Json:
    return make_suite(client, text_items([[animal] for animal in ANIMALS]))


def test_predictions_are_joined_by_id(client: TestClient, suite: Json) -> None:
    given = predictions(["cat", "dog", "pig", "hen"])
    in_order = evaluate(client, suite, given)
    random.Random(3).shuffle(given)
    assert [one["id"] for one in given] != ["i0", "i1", "i2", "i3"]
    shuffled = evaluate(client, suite, given)
    assert shuffled["prediction_hash"] == in_order["prediction_hash"]
    assert shuffled["scores"] == in_order["scores"]
    assert value(shuffled, "exact_match") == 0.75
    items = all_items(client, f"evaluations/{shuffled['id']}/items")
    assert [(item["id"], item["output"], item["correct"]) for item in items] == [
        ("i0", "cat", True),
        ("i1", "dog", True),
        ("i2", "pig", False),
        ("i3", "hen", True),
    ]


def test_missing_and_unparsed_count_as_wrong_and_apart(client: TestClient, suite: Json) -> None:
    given: list[Json] = [
        {"id": "i0", "output": "cat"},
        {"id": "i1", "output": None},
        {"id": "i2", "output": "I will not say", "parsed": None},
    ]
    evaluation = evaluate(client, suite, given)
    assert (evaluation["n"], evaluation["n_missing"], evaluation["n_unparsed"]) == (4, 2, 1)
    assert value(evaluation, "exact_match") == 0.25
    assert evaluation["scores"][0]["n_missing"] == 2
    items = get(client, f"evaluations/{evaluation['id']}/items")["items"]
    assert [(item["output"], item["parsed"]) for item in items] == [
        ("cat", "cat"),
        (None, None),
        ("I will not say", None),
        (None, None),
    ]
    assert [item["correct"] for item in items] == [True, False, False, False]


def test_nothing_sent_is_refused_and_no_answers_are_all_missing(client: TestClient, suite: Json) -> None:
    answer = client.post("/api/v1/evaluations", json={"suite_id": suite["id"], "predictions": []})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "prediction_invalid")
    assert "There is no prediction: send those for the 4 items" in answer.json()["error"]["message"]
    evaluation = evaluate(client, suite, [None])
    assert (evaluation["n"], evaluation["n_missing"]) == (4, 4)
    assert value(evaluation, "exact_match") == 0.0


def test_a_missing_answer_is_wrong_even_where_nothing_is_expected(client: TestClient) -> None:
    suite = make_suite(client, text_items([[""], [""]]), name="empty")
    assert value(evaluate(client, suite, ["", None]), "exact_match") == 0.5


def test_the_suites_parser_reads_outputs(client: TestClient) -> None:
    suite = make_suite(client, text_items([["18"], ["3"], ["5"]]), name="sums", parser="after_hashes")
    outputs = [
        {"id": "i0", "output": "9 * 2\n#### 18"},
        {"id": "i1", "output": "I think 3"},
        {"id": "i2", "output": "long story", "parsed": "5"},
    ]
    evaluation = evaluate(client, suite, outputs)
    assert evaluation["n_unparsed"] == 1
    assert [item["correct"] for item in get(client, f"evaluations/{evaluation['id']}/items")["items"]] == [
        True,
        False,
        True,
    ]


def test_a_parser_of_the_client_is_kept_and_not_applied(client: TestClient) -> None:
    suite = make_suite(client, text_items([["18"]]), name="sums", parser={"regex": r"(\d+)$"})
    assert suite["definition"]["parser"] == {"regex": r"(\d+)$"}
    assert value(evaluate(client, suite, ["so 18"]), "exact_match") == 0.0


def test_declared_labels_are_the_only_answers(client: TestClient) -> None:
    suite = make_suite(
        client, label_items(["spam", "ham", "ham"]), metrics=["accuracy"], labels=["spam", "ham"], name="mail"
    )
    evaluation = evaluate(client, suite, ["spam", "ham\n", "it is ham"])
    assert (evaluation["n_unparsed"], evaluation["n_missing"]) == (1, 0)
    assert value(evaluation, "accuracy") == pytest.approx(2 / 3)


def test_what_is_said_about_an_evaluation_is_kept(client: TestClient, suite: Json) -> None:
    run = client.post("/api/v1/runs", json={"project": "p", "name": "swift-fox"}).json()
    version = client.post("/api/v1/models/m/versions", json={"run_id": run["id"]}).json()
    evaluation = evaluate(
        client,
        suite,
        ANIMALS,
        run_id=run["id"],
        model_version_id=version["id"],
        step=120,
        name="at 120",
        settings={"generation": {"temperature": 0.0}},
    )
    assert evaluation["suite"] == {key: suite[key] for key in ("name", "version", "hash", "task_type")}
    assert (evaluation["run_id"], evaluation["model_version_id"]) == (run["id"], version["id"])
    assert (evaluation["step"], evaluation["name"]) == (120, "at 120")
    assert evaluation["settings"] == {"generation": {"temperature": 0.0}}
    assert get(client, f"evaluations/{evaluation['id']}") == evaluation
    other = evaluate(client, suite, ANIMALS)
    for filters in ({"run_id": run["id"]}, {"model_version_id": version["id"]}):
        assert [one["id"] for one in all_items(client, "evaluations", **filters)] == [evaluation["id"]]
    for filters in ({"suite_id": suite["id"]}, {"suite": "facts"}, {}):
        found = [one["id"] for one in all_items(client, "evaluations", limit=1, **filters)]
        assert sorted(found) == sorted([evaluation["id"], other["id"]])
    assert get(client, "evaluations", suite="nothing")["items"] == []
    second = client.post("/api/v1/runs", json={"project": "p"}).json()
    own = evaluate(client, suite, ANIMALS, run_id=second["id"])
    of_both = all_items(client, "evaluations", limit=1, run_id=[run["id"], second["id"], "none"])
    assert [one["id"] for one in of_both] == [own["id"], evaluation["id"]]


@pytest.mark.parametrize(
    ("changes", "status", "code", "words"),
    [
        ({"predictions": [{"id": "i9", "output": "?"}]}, 400, "prediction_invalid", "'i9' is not in the suite 'facts'"),
        ({"predictions": [{"id": "i0", "output": "a"}] * 2}, 400, "prediction_invalid", "'i0' is predicted twice"),
        (
            {"predictions": [{"id": "i0", "output": None, "parsed": "cat"}]},
            400,
            "prediction_invalid",
            "'i0' has a parsed answer but no output",
        ),
        ({"predictions": [{"id": "i0"}]}, 400, "prediction_invalid", "has no answer: send the text"),
        ({"predictions": [{"id": "i0", "output": 1}]}, 400, "invalid_request", "body.predictions[0].output"),
        (
            {"predictions": [{"id": "i0", "output": "a", "probability": 1.5}]},
            400,
            "invalid_request",
            "body.predictions[0].probability",
        ),
        ({"suite_id": "none"}, 404, "suite_not_found", "'none'"),
        ({"run_id": "none"}, 404, "run_not_found", "'none'"),
        ({"model_version_id": "none"}, 404, "model_version_not_found", "'none'"),
        ({"step": -1}, 400, "invalid_request", "body.step"),
        ({"steps": 1}, 400, "invalid_request", "body.steps"),
        ({"name": "nul\x00"}, 400, "invalid_request", "body.name"),
    ],
)
def test_refusals_name_the_fault_and_store_nothing(
    client: TestClient, suite: Json, changes: Json, status: int, code: str, words: str
) -> None:
    body = {"suite_id": suite["id"], "predictions": predictions(ANIMALS), **changes}
    answer = client.post("/api/v1/evaluations", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert words in answer.json()["error"]["message"]
    assert get(client, "evaluations")["items"] == []


@pytest.mark.parametrize(
    ("fragment", "words"),
    [
        ('"settings": {"temperature": NaN}', "body.settings"),
        ('"settings": {"top_p": Infinity}', "body.settings"),
        ('"settings": {"prompt": "\\ud800"}', "body.settings"),
        ('"name": "\\ud800"', "body.name"),
        ('"predictions": [{"id": "i0", "output": "\\ud800"}]', "body.predictions[0].output"),
        ('"predictions": [{"id": "i0", "output": "cat", "probability": NaN}]', "body.predictions[0].probability"),
    ],
)
def test_what_cannot_be_stored_is_refused(client: TestClient, suite: Json, fragment: str, words: str) -> None:
    body = f'{{"suite_id": "{suite["id"]}", "predictions": [], {fragment}}}'
    answer = client.post("/api/v1/evaluations", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request"), answer.text
    assert words in answer.json()["error"]["message"]


def test_a_parsed_answer_outside_the_labels_is_refused(client: TestClient) -> None:
    suite = make_suite(client, label_items(["spam", "ham"]), metrics=["accuracy"], labels=["spam", "ham"])
    given = [{"id": "i1", "output": "Ham!", "parsed": "Ham"}]
    answer = client.post("/api/v1/evaluations", json={"suite_id": suite["id"], "predictions": given})
    assert answer.status_code == 400
    assert "'i1' is predicted 'Ham'" in answer.json()["error"]["message"]
    assert answer.json()["error"]["details"] == {"item": "i1"}


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_there_is_no_way_to_change_one(client: TestClient, suite: Json, method: str) -> None:
    evaluation = evaluate(client, suite, ANIMALS)
    for path in (f"evaluations/{evaluation['id']}", f"suites/{suite['id']}"):
        assert client.request(method, f"/api/v1/{path}").status_code == 405


@pytest.mark.parametrize("path", ["", "/items", "/confusion", "/classes", "/slices?by=group"])
def test_an_unknown_evaluation(client: TestClient, path: str) -> None:
    answer = client.get(f"/api/v1/evaluations/none{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "evaluation_not_found")
