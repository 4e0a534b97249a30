"""Policies and audits over HTTP: suites of right/wrong items, answered before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from starlette.testclient import TestClient

Json = dict[str, Any]


def post(client: TestClient, path: str, body: Json, status: int = 201) -> Json:
    answer = client.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def get(client: TestClient, path: str, **params: Any) -> Json:
    answer = client.get(f"/api/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def make_suite(client: TestClient, name: str, n: int, groups: Sequence[str | None] = (None,), **changes: Any) -> Json:
    """n items whose right answer is 'yes'; groups are dealt out in turn."""
    items = [
        {"id": f"i{place}", "input": f"{name} {place}?", "references": ["yes"], "group": groups[place % len(groups)]}
        for place in range(n)
    ]
    body = {"name": name, "task_type": "generation", "items": items, "metrics": ["exact_match"], **changes}
    answer = client.post("/api/v1/suites", json=body)
    assert answer.status_code in (200, 201), answer.text
    found: Json = answer.json()
    return found


def answers(n: int, right: Iterable[int], wrong: str | None = "no") -> list[Json]:
    chosen = set(right)
    return [{"id": f"i{place}", "output": "yes" if place in chosen else wrong} for place in range(n)]


def evaluate(client: TestClient, suite: Json, right: Iterable[int], **fields: Any) -> Json:
    body = {"suite_id": suite["id"], "predictions": answers(suite["n_items"], right), **fields}
    return post(client, "evaluations", body)


def make_policy(client: TestClient, *protected: Json, **changes: Any) -> Json:
    answer = client.post("/api/v1/policies", json={"name": "ship", "protected": list(protected), **changes})
    assert answer.status_code in (200, 201), answer.text
    found: Json = answer.json()
    return found


def protect(suite: str, margin: float = 0.05, **changes: Any) -> Json:
    return {"suite": suite, "margin": margin, **changes}


def flips(client: TestClient, suite: Json, n11: int, n10: int, n01: int) -> tuple[str, str]:
    """Ids of evaluations before and after with these counts of items right in both, lost and gained."""
    before = evaluate(client, suite, range(n11 + n10))
    after = evaluate(client, suite, [*range(n11), *range(n11 + n10, n11 + n10 + n01)])
    return before["id"], after["id"]


def audit(client: TestClient, policy: Json, *pairs: tuple[str, str], **fields: Any) -> Json:
    before, after = ([pair[side] for pair in pairs] for side in (0, 1))
    return post(client, "audits", {"policy_id": policy["id"], "before": before, "after": after, **fields})
