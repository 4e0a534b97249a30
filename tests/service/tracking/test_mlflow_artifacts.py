"""Files through MLflow's artifact proxy, on both databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.store.database import Database
from service.tracking.mlflow import artifacts
from service.tracking.mlflow.errors import InvalidParameterValue

API = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def run_id(client: TestClient) -> str:
    return str(client.post(f"{API}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"])


@pytest.fixture
def root(run_id: str) -> str:
    return f"0/{run_id}/artifacts"


def put(client: TestClient, path: str, content: Any) -> None:
    answer = client.put(f"{PROXY}/{path}", content=content)
    assert (answer.status_code, answer.json()) == (200, {})


def listed(client: TestClient, path: str) -> list[dict[str, Any]]:
    answer = client.get(PROXY, params={"path": path})
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json().get("files", [])
    return found


def test_files_come_back(client: TestClient, root: str) -> None:
    put(client, f"{root}/model/MLmodel", b"flavors: {}")
    put(client, f"{root}/model/weights.bin", iter([b"ab", b"", b"cd"]))
    put(client, f"{root}/empty.txt", b"")
    put(client, f"{root}/model/weights.bin", b"again")
    assert client.get(f"{PROXY}/{root}/model/weights.bin").content == b"again"
    assert client.get(f"{PROXY}/{root}/empty.txt").content == b""
    assert listed(client, root) == [
        {"path": "empty.txt", "is_dir": False, "file_size": 0},
        {"path": "model", "is_dir": True},
    ]
    assert listed(client, f"{root}/model") == [
        {"path": "MLmodel", "is_dir": False, "file_size": 11},
        {"path": "weights.bin", "is_dir": False, "file_size": 5},
    ]
    assert listed(client, f"{root}/empty.txt") == []
    assert listed(client, f"{root}/none") == []


def test_a_folder_is_not_its_neighbour(client: TestClient, root: str) -> None:
    for path in ("a_b/x", "aXb/y", "a_b.txt"):
        put(client, f"{root}/{path}", b"1")
    assert [one["path"] for one in listed(client, f"{root}/a_b")] == ["x"]
    assert client.delete(f"{PROXY}/{root}/a_b").status_code == 200
    assert [one["path"] for one in listed(client, root)] == ["aXb", "a_b.txt"]


def test_a_download_is_a_download(client: TestClient, root: str) -> None:
    kinds = {
        "page.html": "text/html",
        "MLmodel": "text/plain",
        "a.json": "text/plain",
        "a.png": "image/png",
        "weights.safetensors": "application/octet-stream",
    }
    for name, kind in kinds.items():
        put(client, f"{root}/{name}", b"<script>")
        answer = client.get(f"{PROXY}/{root}/{name}")
        assert answer.headers["content-type"].partition(";")[0] == kind
        assert answer.headers["content-disposition"] == f"attachment; filename={name}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-length"] == "8"
    put(client, f"{root}/größe 1.txt", b"x")
    assert client.get(f"{PROXY}/{root}/größe 1.txt").headers["content-disposition"] == (
        "attachment; filename=\"gre 1.txt\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%201.txt"
    )


def test_files_are_deleted(client: TestClient, root: str) -> None:
    put(client, f"{root}/d/a", b"1")
    put(client, f"{root}/d/b", b"1")
    assert client.delete(f"{PROXY}/{root}/d/a").status_code == 200
    gone = client.get(f"{PROXY}/{root}/d/a")
    assert (gone.status_code, gone.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    # The same bytes are still the other file's.
    assert client.get(f"{PROXY}/{root}/d/b").content == b"1"
    assert client.delete(f"{PROXY}/{root}/d").status_code == 200
    assert listed(client, root) == []
    assert client.delete(f"{PROXY}/{root}/d").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "%2e%2e/x",
        "a/%252e%252e/x",
        "a\\b",
        "C:/x",
        "/etc/passwd",
        "%2Fetc/passwd",
        "a#b",
        "a%00b",
    ],
)
def test_no_way_out_of_the_root(path: str) -> None:
    with pytest.raises(InvalidParameterValue, match="Invalid path"):
        artifacts.safe(path)


@pytest.mark.parametrize(
    ("path", "plain"),
    [("a/b", "a/b"), ("a//b/./c/", "a/b/c"), ("", ""), ("a..b/..c", "a..b/..c"), ("50%", "50%")],
)
def test_other_paths_are_paths(path: str, plain: str) -> None:
    assert artifacts.safe(path) == plain


def test_traversal_is_refused_over_http(client: TestClient, root: str) -> None:
    for answer in (
        client.get(f"{PROXY}/%2e%2e/%2e%2e/etc/passwd"),
        client.put(f"{PROXY}/{root}/%2e%2e/%2e%2e/x", content=b"x"),
        client.get(PROXY, params={"path": "../x"}),
        client.get("/get-artifact", params={"run_id": root.split("/")[1], "path": "../x"}),
        client.get(f"{API}/artifacts/list", params={"run_id": root.split("/")[1], "path": "../x"}),
    ):
        assert (answer.status_code, answer.json()) == (
            400,
            {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid path"},
        )


def test_only_what_exists_has_files(client: TestClient, run_id: str) -> None:
    for path in (f"1/{run_id}/artifacts/x", "0/none/artifacts/x", "0/models/none/artifacts/x", "x", f"{run_id}/x"):
        answer = client.put(f"{PROXY}/{path}", content=b"x")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert client.put(f"{PROXY}/0/{run_id}/artifacts", content=b"x").status_code == 400


def test_the_files_of_a_run_are_the_same_on_both_sides(client: TestClient, root: str, run_id: str) -> None:
    put(client, f"{root}/d/a.txt", b"via mlflow")
    assert client.get(f"/api/v1/runs/{run_id}/artifacts/d/a.txt").content == b"via mlflow"
    assert client.put(f"/api/v1/runs/{run_id}/artifacts/d/b.txt", content=b"native").status_code == 201
    assert client.get(f"{PROXY}/{root}/d/b.txt").content == b"native"
    shown = client.get(f"{API}/artifacts/list", params={"run_id": run_id, "path": "d"}).json()
    assert shown["root_uri"] == f"mlflow-artifacts:/{root}"
    assert [one["path"] for one in shown["files"]] == ["d/a.txt", "d/b.txt"]
    assert client.get("/get-artifact", params={"run_id": run_id, "path": "d/b.txt"}).content == b"native"
    assert client.get("/get-artifact", params={"run_uuid": run_id, "path": "d/none"}).status_code == 404


def test_an_experiment_may_have_a_root_of_its_own(client: TestClient) -> None:
    place = "mlflow-artifacts:/team/artifacts/x"
    made = client.post(f"{API}/experiments/create", json={"name": "e", "artifact_location": place}).json()
    run = client.post(f"{API}/runs/create", json=made).json()["run"]["info"]
    path = f"{run['artifact_uri'].removeprefix('mlflow-artifacts:/')}/a.txt"
    assert path == f"team/artifacts/x/{run['run_id']}/artifacts/a.txt"
    put(client, path, b"x")
    assert client.get(f"{PROXY}/{path}").content == b"x"
    assert client.get(f"{PROXY}/{made['experiment_id']}/{run['run_id']}/artifacts/a.txt").status_code == 404


def test_the_files_of_a_logged_model(client: TestClient, run_id: str) -> None:
    given = {"experiment_id": "0", "name": "m", "source_run_id": run_id}
    model_id = client.post(f"{API}/logged-models", json=given).json()["model"]["info"]["model_id"]
    root = f"0/models/{model_id}/artifacts"
    put(client, f"{root}/MLmodel", b"1")
    put(client, f"{root}/data/w", b"2")
    put(client, f"{root}/data/w", b"33")
    assert [one["path"] for one in listed(client, root)] == ["MLmodel", "data"]
    assert listed(client, f"{root}/data") == [{"path": "w", "is_dir": False, "file_size": 2}]
    assert client.get(f"{PROXY}/{root}/data/w").content == b"33"
    assert client.delete(f"{PROXY}/{root}/data").status_code == 200
    assert [one["path"] for one in listed(client, root)] == ["MLmodel"]


def test_a_file_that_is_too_large_leaves_nothing(settings: Settings, database: Database, tmp_path: Path) -> None:
    small = settings.model_copy(update={"max_artifact_bytes": 100, "max_body_bytes": 1000})
    with TestClient(create_app(small, database)) as client:
        run = client.post(f"{API}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
        answer = client.put(f"{PROXY}/0/{run}/artifacts/big", content=b"x" * 101)
        assert answer.status_code == 413
        assert listed(client, f"0/{run}/artifacts") == []
        put(client, f"0/{run}/artifacts/fits", b"x" * 100)
    stored = [path for path in Path(small.resolved_artifacts_url).rglob("*") if path.is_file()]
    assert len(stored) == 1


NAME = "images/{}+step+{}+timestamp+1795679572195+1db38616-cca7-4138-b743-2169c9522410.png"


@pytest.mark.parametrize(
    ("path", "key_and_step"),
    [
        (NAME.format("val~dogs 2", 3), ("val/dogs 2", 3)),
        (NAME.format("a+step+1", -2), ("a+step+1", -2)),
        (NAME.format("a#b", 0).replace("+", "%"), ("a/b", 0)),
        (NAME.format("a", 1).replace(".png", "+compressed.webp"), None),
        (NAME.format("a/b", 1), None),
        (NAME.format("a", 1).replace("images/", "plots/"), None),
        (NAME.format("a", 10**19), None),
        ("images/a.png", None),
    ],
)
def test_an_image_logged_at_a_step_is_told_by_its_name(path: str, key_and_step: tuple[str, int] | None) -> None:
    found = artifacts.medium(path)
    assert (found and (found["key"], found["step"])) == key_and_step


def test_an_image_logged_at_a_step_is_a_medium_too(client: TestClient, run_id: str, root: str) -> None:
    for later, (step, content) in enumerate(((3, b"first"), (3, b"second"), (4, b"third"))):
        put(client, f"{root}/{NAME.format('val~dogs', step).replace('195+', f'{195 + later}+')}", content)
    shown = client.get(f"/api/v1/runs/{run_id}/media").json()["items"]
    assert [(one["key"], one["step"], one["kind"], one["size"]) for one in shown] == [
        ("val/dogs", 4, "image", 5),
        ("val/dogs", 3, "image", 6),
    ]
    content = client.get(f"/api/v1/media/{shown[1]['id']}/content")
    assert (content.content, content.headers["content-type"]) == (b"second", "image/png")
    assert len(listed(client, f"{root}/images")) == 3
