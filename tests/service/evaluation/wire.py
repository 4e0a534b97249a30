"""Suites and evaluations over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.testclient import TestClient

Json = dict[str, Any]


def suite_body(items: Sequence[Json], **changes: Any) -> Json:
    return {"name": "facts", "task_type": "generation", "items": list(items), "metrics": ["exact_match"], **changes}


def label_items(labels: Sequence[str]) -> list[Json]:
    return [{"id": f"i{place}", "input": f"text {place}", "label": label} for place, label in enumerate(labels)]


def text_items(references: Sequence[Sequence[str]]) -> list[Json]:
    return [
        {"id": f"i{place}", "input": f"question {place}", "references": list(given)}
        for place, given in enumerate(references)
    ]


def make_suite(client: TestClient, items: Sequence[Json], **changes: Any) -> Json:
    answer = client.post("/api/v1/suites", json=suite_body(items, **changes))
    assert answer.status_code in (200, 201), answer.text
    body: Json = answer.json()
    return body


def predictions(outputs: Sequence[str | None]) -> list[Json]:
    return [{"id": f"i{place}", "output": output} for place, output in enumerate(outputs)]


def evaluate(client: TestClient, suite: Json, outputs: Sequence[str | None] | Sequence[Json], **fields: Any) -> Json:
    """`outputs` in the order of `label_items` / `text_items`, or whole predictions."""
    whole = bool(outputs) and isinstance(outputs[0], Mapping)
    given = list(outputs) if whole else predictions(outputs)  # type: ignore[arg-type]
    answer = client.post("/api/v1/evaluations", json={"suite_id": suite["id"], "predictions": given, **fields})
    assert answer.status_code == 201, answer.text
    body: Json = answer.json()
    return body


def get(client: TestClient, path: str, **params: Any) -> Json:
    answer = client.get(f"/api/v1/{path}", params={key: value for key, value in params.items() if value is not None})
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def all_items(client: TestClient, path: str, limit: int = 2, **params: Any) -> list[Json]:
    """Every item of a list, page by page."""
    found: list[Json] = []
    cursor: str | None = None
    while True:
        page = get(client, path, limit=limit, cursor=cursor, **params)
        assert len(page["items"]) <= limit
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def value(evaluation: Json, metric: str) -> float:
    found: float = next(score["value"] for score in evaluation["scores"] if score["name"] == metric)
    return found
