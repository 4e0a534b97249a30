"""Searching logged models over HTTP, on both databases; and a real MLflow server finds the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.contract.mlflow.conftest import Rest

# POST a path below /api/2.0/mlflow with a JSON body; return status and JSON.
Post = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]

# Name, its f1 on the data set `mail` at step 1 (0.99 at step 0), params and tags. Newest last.
MODELS: list[tuple[str, float | None, dict[str, str], dict[str, str]]] = [
    ("low", 0.1, {"rank": "8", "deep.key": "x"}, {"team": "nlp"}),
    ("high", 0.9, {"rank": "16"}, {"team": "vision"}),
    ("none", None, {}, {"team": "NLP"}),
    ("middle", 0.5, {"rank": "32"}, {"team": "nlp"}),
]
ALL = "middle none high low"
F1 = {"field_name": "metrics.f1"}
# The fields of a search, and the names it finds; RUN stands for the run.
SEARCHES: list[tuple[dict[str, Any], str]] = [
    ({}, ALL),
    ({"filter": "metrics.f1 > 0.4"}, "middle high low"),
    ({"filter": "metrics.f1 < 0.2"}, "low"),
    ({"filter": "metrics.speed >= 3 AND params.rank != '8'"}, "middle"),
    ({"filter": "metrics.f1 = 0.5 and metrics.speed = 3"}, "middle"),
    ({"filter": "params.rank = '16'"}, "high"),
    ({"filter": "params.`deep.key` = 'x'"}, "low"),
    ({"filter": "params.rank LIKE '%2'"}, "middle"),
    ({"filter": "params.rank IN ('8', '32')"}, "middle low"),
    ({"filter": "tags.team ILIKE 'NL%'"}, "middle none low"),
    ({"filter": "tags.team LIKE 'nl%'"}, "middle low"),
    ({"filter": "tags.team != 'nlp'"}, "none high"),
    ({"filter": "name IN ('low', 'high')"}, "high low"),
    ({"filter": "name NOT IN ('low', 'high')"}, "middle none"),
    ({"filter": "attributes.name LIKE '%i%' and source_run_id = 'RUN'"}, "middle high"),
    ({"filter": "creation_timestamp > 0 AND last_updated_timestamp < 1"}, ""),
    ({"filter": "model_type = 'agent'"}, ALL),
    ({"order_by": [F1]}, "low middle high none"),
    ({"order_by": [{**F1, "ascending": False}]}, "high middle low none"),
    ({"order_by": [{**F1, "dataset_name": "mail", "dataset_digest": "d1"}]}, "low middle high none"),
    ({"order_by": [{**F1, "dataset_name": "other"}]}, ALL),
    ({"order_by": [{"field_name": "name"}]}, "high low middle none"),
    ({"order_by": [{"field_name": "creation_timestamp", "ascending": True}]}, "low high none middle"),
    ({"datasets": [{"dataset_name": "mail", "dataset_digest": "d2"}]}, ""),
    ({"datasets": [{"dataset_name": "mail", "dataset_digest": "d1"}], "filter": "metrics.f1 < 0.2"}, "low"),
    ({"datasets": [{"dataset_name": "mail", "dataset_digest": "d1"}], "filter": "metrics.speed > 0"}, ""),
    ({"max_results": 2}, "middle none"),
    ({"experiment_ids": []}, ""),
]
REFUSED: list[dict[str, Any]] = [
    {"filter": "params.rank > '3'"},
    {"filter": "name = 'a' OR name = 'b'"},
    {"filter": "metric.f1 > 1"},
    {"filter": "metrics.f1 LIKE 'x'"},
    {"order_by": [{"field_name": "params.rank"}]},
    {"order_by": [{"field_name": "nothing"}]},
    {"datasets": [{"dataset_digest": "d1"}]},
    {"experiment_ids": None},
]


@pytest.fixture
def post(client: TestClient) -> Post:
    def send(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        answer = client.post(f"/api/2.0/mlflow/{path}", json=body)
        return answer.status_code, answer.json()

    return send


def populate(post: Post) -> tuple[str, str]:
    """The experiment and the run."""
    experiment = post("experiments/create", {"name": "searched"})[1]["experiment_id"]
    run = post("runs/create", {"experiment_id": experiment})[1]["run"]["info"]["run_id"]
    for number, (name, score, params, tags) in enumerate(MODELS):
        given = {
            "experiment_id": experiment,
            "name": name,
            "source_run_id": run,
            "model_type": "agent",
            "params": [{"key": key, "value": value} for key, value in params.items()],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        made = post("logged-models", given)[1]["model"]["info"]["model_id"]
        on_mail = {"model_id": made, "dataset_name": "mail", "dataset_digest": "d1"}
        metrics = [{"key": "speed", "value": number, "timestamp": 1, "model_id": made}]
        if score is not None:
            metrics += [
                {"key": "f1", "value": 0.99, "timestamp": 1000, "step": 0, **on_mail},
                {"key": "f1", "value": score, "timestamp": 1001, "step": 1, **on_mail},
            ]
        assert post("runs/log-batch", {"run_id": run, "metrics": metrics})[0] == 200
    return experiment, run


def search(post: Post, experiment: str, run: str, fields: dict[str, Any]) -> str:
    """The names found, or the status of a refusal."""
    filled = {**fields, "filter": fields["filter"].replace("RUN", run)} if "filter" in fields else fields
    status, body = post("logged-models/search", {"experiment_ids": [experiment], **filled})
    return " ".join(model["info"]["name"] for model in body.get("models", [])) if status == 200 else str(status)


def check(post: Post) -> None:
    stored = populate(post)
    assert {str(fields): search(post, *stored, fields) for fields, _ in SEARCHES} == {str(f): n for f, n in SEARCHES}
    assert [fields for fields in REFUSED if search(post, *stored, fields) != "400"] == []


def test_searches(post: Post) -> None:
    check(post)


def test_a_nan_meets_no_condition_and_comes_last(post: Post, client: TestClient) -> None:
    """MLflow takes it for 0."""
    experiment, run = populate(post)
    made = post("logged-models", {"experiment_id": experiment, "name": "nan"})[1]["model"]["info"]["model_id"]
    post("runs/log-metric", {"run_id": run, "key": "f1", "value": "NaN", "timestamp": 1, "model_id": made})
    assert search(post, experiment, run, {"filter": "metrics.f1 < 0.2"}) == "low"
    assert search(post, experiment, run, {"order_by": [F1]}) == "low middle high nan none"
    assert client.get(f"/api/2.0/mlflow/logged-models/{made}").json()["model"]["data"]["metrics"][0]["value"] == "NaN"


@pytest.mark.slow
def test_mlflow_finds_the_same(real_mlflow: str) -> None:
    check(Rest(real_mlflow).post)
