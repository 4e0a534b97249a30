"""Runs, artifacts and the registry over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.store.database import Database
from service.tracking.flatten import flatten, merge
from service.tracking.names import invent_name
from service.tracking.schemas import RunOut, RunPage


def test_a_run_keeps_what_it_was_given(client: TestClient) -> None:
    given = {
        "project": "p",
        "name": "first",
        "config": {"optimizer": {"lr": 1e-3, "betas": [0.9, 0.99]}, "ключ": "значение"},
        "tags": {"team": "nlp"},
        "group": "seeds",
        "notes": "a **note**",
        "environment": {"git": {"commit": "abc"}},
        "data_hash": "123",
    }
    made = client.post("/api/v1/runs", json=given)
    assert made.status_code == 201
    read = client.get(f"/api/v1/runs/{made.json()['id']}").json()
    assert {key: read[key] for key in given} == given
    assert read["status"] == "running"


def test_update_merges_and_finishes(client: TestClient) -> None:
    run = client.post(
        "/api/v1/runs", json={"project": "p", "config": {"a": {"b": 1}}, "tags": {"x": "1", "y": "2"}}
    ).json()
    changes = {
        "config": {"a": {"c": 2}},
        "tags": {"x": None, "z": "3"},
        "status": "failed",
        "error": "boom",
        "exit_code": 1,
    }
    updated = client.patch(f"/api/v1/runs/{run['id']}", json=changes).json()
    assert updated["config"] == {"a": {"b": 1, "c": 2}}
    assert updated["tags"] == {"y": "2", "z": "3"}
    assert (updated["status"], updated["error"], updated["exit_code"]) == ("failed", "boom", 1)
    assert updated["finished_at"] is not None
    found = client.get("/api/v1/runs", params={"q": "params.a.c = 2 and status = failed"}).json()["items"]
    assert [run["id"] for run in found] == [updated["id"]]


def test_resume(client: TestClient) -> None:
    run = {"project": "p", "id": "mine"}
    assert client.post("/api/v1/runs", json={**run, "resume": "must"}).status_code == 404
    assert client.post("/api/v1/runs", json={**run, "resume": "allow"}).status_code == 201
    refused = client.post("/api/v1/runs", json=run)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "run_exists")
    client.patch("/api/v1/runs/mine", json={"status": "crashed", "error": "killed"})
    resumed = client.post("/api/v1/runs", json={**run, "resume": "must"}).json()
    assert (resumed["id"], resumed["status"], resumed["error"]) == ("mine", "running", None)


def test_a_quiet_run_is_silent_and_speaks_again(settings: Settings, database: Database) -> None:
    quick = settings.model_copy(update={"silent_after_seconds": 1e-9})
    with TestClient(create_app(quick, database)) as client:
        run = client.post("/api/v1/runs", json={"project": "p"}).json()["id"]
        assert client.get(f"/api/v1/runs/{run}").json()["status"] == "silent"
        assert [r["id"] for r in client.get("/api/v1/runs", params={"q": "status = silent"}).json()["items"]] == [run]
    with TestClient(create_app(settings, database)) as client:
        assert client.get(f"/api/v1/runs/{run}").json()["status"] == "running"


def test_artifacts(client: TestClient, settings: Settings) -> None:
    run = client.post("/api/v1/runs", json={"project": "p"}).json()["id"]
    data = b"weights" * 100_000
    for path in ("checkpoint-1/model.safetensors", "копия.bin"):
        made = client.put(f"/api/v1/runs/{run}/artifacts/{path}", content=data, params={"kind": "checkpoint"})
        assert made.status_code == 201
        assert made.json()["size"] == len(data)
        assert client.get(f"/api/v1/runs/{run}/artifacts/{path}").content == data
    listed = client.get(f"/api/v1/runs/{run}/artifacts").json()["items"]
    assert [(a["path"], a["kind"]) for a in listed] == [
        ("checkpoint-1/model.safetensors", "checkpoint"),
        ("копия.bin", "checkpoint"),
    ]
    stored = [path for path in Path(settings.resolved_artifacts_url).rglob("*") if path.is_file()]
    assert len(stored) == 1, "the same bytes are stored once"


@pytest.mark.parametrize("path", ["a/../../etc/passwd", "../x", "a//b", "a\\b", "."])
def test_artifact_paths_stay_inside(client: TestClient, path: str) -> None:
    run = client.post("/api/v1/runs", json={"project": "p"}).json()["id"]
    url = f"/api/v1/runs/{run}/artifacts/" + path.replace(".", "%2E").replace("/", "%2F").replace("\\", "%5C")
    assert client.put(url, content=b"x").status_code == 400
    assert client.get(f"/api/v1/runs/{run}/artifacts").json()["items"] == []


def test_an_upload_over_the_limit_leaves_nothing(settings: Settings, database: Database) -> None:
    small = settings.model_copy(update={"max_body_bytes": 1000})
    with TestClient(create_app(small, database)) as client:
        run = client.post("/api/v1/runs", json={"project": "p"}).json()["id"]
        answer = client.put(f"/api/v1/runs/{run}/artifacts/big", content=iter([b"x" * 600, b"x" * 600]))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert [path for path in Path(small.resolved_artifacts_url).rglob("*") if path.is_file()] == []


def test_the_registry(client: TestClient) -> None:
    run = client.post("/api/v1/runs", json={"project": "p", "data_hash": "d"}).json()["id"]
    base = client.post("/api/v1/models/assistant/versions", json={"aliases": ["base"]}).json()
    tuned = client.post(
        "/api/v1/models/assistant/versions",
        json={"run_id": run, "base_version_id": base["id"], "method": "lora", "aliases": ["champion"]},
    ).json()
    assert (base["version"], tuned["version"]) == (1, 2)
    moved = client.put("/api/v1/models/assistant/aliases/champion", json={"version": 1}).json()
    assert moved["aliases"] == ["base", "champion"]
    versions = client.get("/api/v1/models/assistant/versions").json()["items"]
    assert [(v["version"], v["aliases"]) for v in versions] == [(2, []), (1, ["base", "champion"])]
    assert client.get("/api/v1/models").json()["items"][0]["n_versions"] == 2
    items = [{"id": str(i), "input": "x", "label": "a"} for i in range(3)]
    suite = {"name": "s", "task_type": "classification", "items": items, "metrics": ["accuracy"]}
    suite_id = client.post("/api/v1/suites", json=suite).json()["id"]
    answers = [{"id": str(i), "output": "a"} for i in range(3)]
    assert client.post("/api/v1/evaluations", json={"suite_id": suite_id, "predictions": answers}).status_code == 201
    links = client.get(f"/api/v1/model-versions/{tuned['id']}/links").json()
    assert links["run"] == {"id": run, "name": invent_name(run), "status": "running", "data_hash": "d"}
    assert links["base"]["id"] == base["id"]
    assert [v["id"] for v in client.get(f"/api/v1/runs/{run}/links").json()["model_versions"]] == [tuned["id"]]
    assert links["evaluations"] == [], "evaluations without a run or version are nobody's"
    assert client.post("/api/v1/models/assistant/versions", json={"run_id": "none"}).status_code == 404
    assert client.put("/api/v1/models/assistant/aliases/x", json={"version": 9}).status_code == 404


@pytest.mark.parametrize(
    ("config", "leaves"),
    [
        ({}, {}),
        ({"lr": "1e-4"}, {"lr": ("1e-4", 1e-4)}),
        ({"a": {"b": {"c": 1}}}, {"a.b.c": ("1", 1.0)}),
        ({"flag": True, "none": None}, {"flag": ("true", None), "none": ("null", None)}),
        ({"betas": [0.9, 0.99]}, {"betas": ("[0.9, 0.99]", None)}),
        ({"empty": {}}, {"empty": ("{}", None)}),
    ],
)
def test_flatten(config: dict[str, object], leaves: dict[str, tuple[str, float | None]]) -> None:
    assert flatten(config) == leaves


def test_merge_goes_key_by_key() -> None:
    old = {"a": {"b": 1, "c": 2}, "d": 1}
    assert merge(old, {"a": {"c": 3}, "d": {"e": 4}}) == {"a": {"b": 1, "c": 3}, "d": {"e": 4}}
    assert old == {"a": {"b": 1, "c": 2}, "d": 1}


def test_runs_have_the_documented_shape(client: TestClient) -> None:
    run = client.post("/api/v1/runs", json={"project": "p", "config": {"a": 1}}).json()
    batch = {"writer": "w", "batch": 1, "metrics": [{"key": "x", "step": [1], "time": [0], "value": ["Infinity"]}]}
    client.post(f"/api/v1/runs/{run['id']}/batches", json=batch)
    page = client.get("/api/v1/runs").json()
    assert RunPage.model_validate(page).model_dump() == page
    read = client.get(f"/api/v1/runs/{run['id']}").json()
    assert RunOut.model_validate(read).model_dump() == read
    assert read["metrics"]["x"]["last"] == "Infinity"
    assert read["metrics"]["x"]["mean"] is None
