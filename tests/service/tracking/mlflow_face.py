"""What the tests of MLflow's face share: calls over HTTP, and what they answer."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

API = "/api/2.0/mlflow"


class Face:
    def __init__(self, client: TestClient) -> None:
        self.client = client

    def post(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        answer = self.client.post(f"{API}/{path}", json=body)
        return answer.status_code, answer.json()

    def raw(self, path: str, body: bytes, kind: str = "application/json") -> tuple[int, dict[str, Any]]:
        answer = self.client.post(f"{API}/{path}", content=body, headers={"content-type": kind})
        return answer.status_code, answer.json()

    def ok(self, path: str, **body: Any) -> dict[str, Any]:
        status, answer = self.post(path, **body)
        assert status == 200, answer
        return answer

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = self.client.get(f"{API}/{path}", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get("runs/get", run_id=run_id)["run"]
        return found

    def create(self, **body: Any) -> str:
        return str(self.ok("runs/create", **{"experiment_id": "0", **body})["run"]["info"]["run_id"])

    def params(self, run_id: str) -> dict[str, str]:
        return {param["key"]: param["value"] for param in self.run(run_id)["data"]["params"]}

    def tags(self, run_id: str) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in self.run(run_id)["data"]["tags"]}

    def metrics(self, run_id: str) -> dict[str, Any]:
        return {metric["key"]: metric["value"] for metric in self.run(run_id)["data"]["metrics"]}

    def history(self, run_id: str, key: str) -> list[tuple[Any, int, int]]:
        found = self.get("metrics/get-history", run_id=run_id, metric_key=key).get("metrics", [])
        return [(point["value"], point["timestamp"], point["step"]) for point in found]


def refused(answer: tuple[int, dict[str, Any]], status: int = 400, code: str = "INVALID_PARAMETER_VALUE") -> str:
    """The message of a refusal of this kind."""
    assert answer[0] == status, answer
    assert answer[1]["error_code"] == code
    return str(answer[1]["message"])
