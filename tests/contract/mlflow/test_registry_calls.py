"""The registry's calls over HTTP, on both databases: what is refused and how, and what a search finds."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.contract.mlflow.registry_cases import (
    CALLS,
    LAST,
    MODEL,
    MODELS,
    REFUSED,
    VERSION,
    VERSIONS,
    Ask,
    answers,
    find,
)


@pytest.fixture
def ask(client: TestClient) -> Ask:
    def call(verb: str, path: str, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        given = {"params": fields} if verb == "GET" else {"json": fields}
        answer = client.request(verb, f"/api/2.0/mlflow/{path}", **given)
        return answer.status_code, answer.json()

    return call


def test_calls_are_answered_as_by_mlflow(ask: Ask) -> None:
    assert answers(ask, CALLS) == [expected for *_, expected in CALLS]
    assert {str(fields): find(ask, MODEL, fields) for fields, _ in MODELS} == {str(f): names for f, names in MODELS}
    assert {str(fields): find(ask, VERSION, fields) for fields, _ in VERSIONS} == {str(f): v for f, v in VERSIONS}
    assert [fields for what, fields in REFUSED if find(ask, what, fields) != "400"] == []
    assert answers(ask, LAST) == [expected for *_, expected in LAST]


def test_the_newest_versions_are_asked_for_in_two_ways(ask: Ask) -> None:
    answers(ask, CALLS)
    asked = {"name": "a", "stages": ["staging", "None"]}
    posted = ask("POST", "registered-models/get-latest-versions", asked)
    assert [(v["version"], v["current_stage"]) for v in posted[1]["model_versions"]] == [
        ("2", "Staging"),
        ("5", "None"),
    ]
    assert ask("GET", "registered-models/get-latest-versions", asked) == posted


def test_what_mlflow_answers_with_500_is_refused_for_good(ask: Ask) -> None:
    """Its clients repeat a call that ends in 500 for four minutes."""
    assert answers(ask, CALLS[:1]) == [""]
    for fields in ({"filter": "name IS NULL"}, {"filter": "tags.z IS NULL"}, {"order_by": ["name", "name desc"]}):
        assert find(ask, MODEL, fields) == "400"
    ask("POST", "model-versions/create", {"name": "a", "source": "s3://bucket/x"})
    stage = {"name": "a", "version": "1", "stage": "None", "archive_existing_versions": True}
    status, refused = ask("POST", "model-versions/transition-stage", stage)
    assert (status, "is not an Active stage" in refused["message"]) == (400, True)
    missing = {"name": "a", "source": "models:/m-1", "model_id": "m-1"}
    assert ask("POST", "model-versions/create", missing)[0] == 404


def test_a_page_names_the_next(ask: Ask) -> None:
    for number in range(5):
        ask("POST", "registered-models/create", {"name": f"m{number}"})
        ask("POST", "model-versions/create", {"name": "m0", "source": "s3://bucket/x"})
    for path, items, page in (
        ("registered-models/search", "registered_models", 2),
        ("model-versions/search", "model_versions", 3),
    ):
        seen: list[tuple[str, str | None]] = []
        token = ""
        for _ in range(3):
            _, body = ask("GET", path, {"max_results": page, "page_token": token})
            seen += [(found["name"], found.get("version")) for found in body[items]]
            token = body.get("next_page_token", "")
            if not token:
                break
        assert len(seen) == len(set(seen)) == 5
