"""Logged models and versions that are brought over from elsewhere, with ids, numbers and times of their own."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

MODEL = "/api/v1/logged-models/m-1"
WHOLE: dict[str, Any] = {
    "project": "intents",
    "name": "forest",
    "params": {"depth": "3"},
    "tags": {"team": "nlp"},
    "created_at": 1000.5,
    "updated_at": 1001.25,
}


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def make_run(client: TestClient, run_id: str) -> None:
    assert client.post("/api/v1/runs", json={"project": "intents", "id": run_id}).status_code == 201


def test_a_logged_model_is_stored_once_and_completed(client: TestClient) -> None:
    for run_id in ("maker", "reader"):
        make_run(client, run_id)
    metric = {"run_id": "maker", "key": "f1", "value": 0.5, "step": -1, "time": 5.0}
    links = {"run_id": "maker", "made_by": [{"run_id": "maker", "step": 3}], "metrics": [metric]}
    first = client.put(MODEL, json={**WHOLE, **links, "status": "PENDING"})
    assert (first.status_code, first.json()["status"]) == (200, "PENDING")
    odd = {**metric, "value": "-Infinity", "dataset_name": "tickets"}
    again = {**WHOLE, **links, "params": {"width": "2"}, "used_by": ["reader"], "metrics": [metric, odd]}
    for _ in range(2):
        shown = client.put(MODEL, json=again).json()
        assert (shown["status"], shown["params"], shown["created_at"]) == (
            "READY",
            {"depth": "3", "width": "2"},
            1000.5,
        )
        assert (shown["made_by"], shown["used_by"]) == ([{"run_id": "maker", "step": 3}], ["reader"])
        assert [one["value"] for one in shown["metrics"]] == [0.5, "-Infinity"]
    assert client.get(MODEL).json() == shown
    # MLflow clients see the same one.
    seen = client.get("/api/2.0/mlflow/logged-models/m-1").json()["model"]["info"]
    assert (seen["name"], seen["source_run_id"], seen["creation_timestamp_ms"]) == ("forest", "maker", 1_000_500)


def test_what_a_logged_model_cannot_be(client: TestClient) -> None:
    assert refused(client.put(MODEL, json={**WHOLE, "run_id": "none"})) == (404, "run_not_found")
    assert refused(client.get(MODEL)) == (404, "logged_model_not_found")
    assert client.put("/api/v1/logged-models/x", json=WHOLE).status_code == 400
    client.put(MODEL, json=WHOLE)
    assert refused(client.put(MODEL, json={**WHOLE, "project": "other"})) == (409, "logged_model_exists")
    assert client.delete("/api/2.0/mlflow/logged-models/m-1").status_code == 200
    assert refused(client.put(MODEL, json=WHOLE)) == (409, "logged_model_exists")


def test_files_of_a_logged_model(client: TestClient) -> None:
    assert refused(client.put(f"{MODEL}/files/a.bin", content=b"1")) == (404, "logged_model_not_found")
    client.put(MODEL, json=WHOLE)
    stored = client.put(f"{MODEL}/files/weights/a.bin", content=b"123").json()
    assert (stored["path"], stored["size"]) == ("weights/a.bin", 3)
    assert client.get(f"{MODEL}/files").json()["items"] == [stored]
    assert refused(client.put(f"{MODEL}/files/a//b", content=b"1")) == (400, "bad_artifact_path")


def test_a_version_keeps_its_number_stage_and_time(client: TestClient) -> None:
    made = client.put("/api/v1/models/assistant", json={"tags": {"task": "chat"}, "created_at": 10.5}).json()
    assert (made["n_versions"], made["created_at"], made["tags"]) == (0, 10.5, {"task": "chat"})
    url = "/api/v1/models/assistant/versions"
    third = client.post(url, json={"version": 3, "stage": "Production", "created_at": 20.5}).json()
    assert (third["version"], third["stage"], third["created_at"]) == (3, "Production", 20.5)
    assert refused(client.post(url, json={"version": 3})) == (409, "version_exists")
    assert client.post(url, json={"version": 1}).json()["version"] == 1
    assert client.post(url, json={}).json()["version"] == 4
    client.delete(f"/api/v1/model-versions/{third['id']}")
    assert refused(client.post(url, json={"version": 3})) == (409, "version_exists")
    # What is not sent stays.
    again = client.put("/api/v1/models/assistant", json={"description": "new"}).json()
    assert (again["description"], again["tags"], again["created_at"]) == ("new", {"task": "chat"}, 10.5)
