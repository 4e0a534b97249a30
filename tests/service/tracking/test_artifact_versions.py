"""Artifacts with versions over HTTP: numbers, aliases, equal content, lineage, and what is purged with a run."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.store import bin as bin_store
from service.store import purge
from service.store.database import Database

API = "/api/v1"


def make_run(client: TestClient, run_id: str, project: str = "p") -> str:
    assert client.post(f"{API}/runs", json={"project": project, "id": run_id}).status_code == 201
    return run_id


def log(client: TestClient, run_id: str, files: dict[str, bytes], name: str = "model", **about: Any) -> Any:
    for path, content in files.items():
        assert client.put(f"{API}/runs/{run_id}/artifacts/{name}/{path}", content=content).status_code == 201
    named = [{"path": path, "artifact": f"{name}/{path}"} for path in files]
    return client.post(f"{API}/runs/{run_id}/artifact-versions", json={"name": name, "files": named, **about})


def find(client: TestClient, reference: str = "latest", name: str = "model", project: str = "p") -> Any:
    return client.get(
        f"{API}/artifact-versions/find", params={"project": project, "name": name, "reference": reference}
    )


def listed(client: TestClient, **params: Any) -> Any:
    return client.get(f"{API}/artifact-versions", params={"project": "p", "name": "model", **params}).json()


@pytest.fixture(autouse=True)
def _runs(client: TestClient) -> None:
    make_run(client, "one")
    make_run(client, "two")


def test_versions_count_up_and_hold_what_was_logged(client: TestClient) -> None:
    first = log(client, "one", {"config.json": b"{}", "deep/weights": b"12"}, kind="model", about={"f1": 0.5})
    assert first.status_code == 201, first.text
    second = log(client, "two", {"config.json": b"{}", "deep/weights": b"345"}).json()
    assert (first.json()["version"], second["version"]) == (1, 2)
    assert [(one["version"], one["aliases"]) for one in listed(client)["items"]] == [(2, ["latest"]), (1, [])]
    whole = find(client, "v1").json()
    assert {name: whole[name] for name in ("project", "name", "kind", "run_id", "about", "size", "n_files")} == {
        "project": "p",
        "name": "model",
        "kind": "model",
        "run_id": "one",
        "about": {"f1": 0.5},
        "size": 4,
        "n_files": 2,
    }
    assert whole["files"] == [
        {"path": "config.json", "sha256": hashlib.sha256(b"{}").hexdigest(), "size": 2},
        {"path": "deep/weights", "sha256": hashlib.sha256(b"12").hexdigest(), "size": 2},
    ]
    # The run's own file may be replaced: the version stays what it was.
    client.put(f"{API}/runs/one/artifacts/model/deep/weights", content=b"other")
    content = client.get(f"{API}/artifact-versions/{whole['id']}/files/deep/weights")
    assert (content.status_code, content.content) == (200, b"12")
    assert client.get(f"{API}/artifact-versions/{whole['id']}/files/none").status_code == 404


def test_equal_content_is_the_same_version(client: TestClient) -> None:
    first = log(client, "one", {"a": b"1"}).json()
    again = log(client, "two", {"a": b"1"}, aliases=["best"]).json()
    assert (again["id"], again["aliases"], again["run_id"]) == (first["id"], ["latest", "best"], "one")
    assert [run["id"] for run in find(client).json()["made_by"]] == ["one", "two"]
    other = log(client, "one", {"b": b"1"}).json()  # the same bytes under another name are something else
    assert other["version"] == 2


def test_aliases_move_and_go(client: TestClient) -> None:
    log(client, "one", {"a": b"1"}, aliases=["best", "candidate"])
    log(client, "one", {"a": b"2"}, aliases=["best"])
    assert (find(client, "best").json()["version"], find(client, "candidate").json()["version"]) == (2, 1)
    where = {"project": "p", "name": "model"}
    moved = client.put(f"{API}/artifact-aliases/best", params=where, json={"version": 1})
    assert moved.json()["aliases"] == ["best", "candidate"]
    assert client.delete(f"{API}/artifact-aliases/best", params=where).status_code == 204
    assert client.delete(f"{API}/artifact-aliases/best", params=where).status_code == 404
    assert find(client, "best").json()["error"]["code"] == "artifact_version_not_found"
    assert client.put(f"{API}/artifact-aliases/best", params=where, json={"version": 9}).status_code == 404


@pytest.mark.parametrize("alias", ["latest", "v3", "a b", "a:b", "é!"])
def test_aliases_that_cannot_be_given(client: TestClient, alias: str) -> None:
    answer = log(client, "one", {"a": b"1"}, aliases=[alias])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_alias")
    assert find(client).status_code == 404


def test_what_is_refused_leaves_nothing(client: TestClient) -> None:
    missing = client.post(
        f"{API}/runs/one/artifact-versions", json={"name": "model", "files": [{"path": "a", "artifact": "none"}]}
    )
    assert (missing.status_code, missing.json()["error"]["code"]) == (400, "version_file_missing")
    assert client.get(f"{API}/artifacts", params={"project": "p"}).json()["items"] == []
    assert log(client, "one", {"a": b"1"}, name="a:b").status_code == 400
    assert client.put(f"{API}/runs/one/artifact-uses/none").json()["error"]["code"] == "artifact_version_not_found"
    body = {"name": "m", "files": [{"path": "a", "artifact": "a"}]}
    assert client.post(f"{API}/runs/none/artifact-versions", json=body).json()["error"]["code"] == "run_not_found"


def test_pages_and_projects(client: TestClient) -> None:
    for number in range(5):
        log(client, "one", {"a": str(number).encode()})
    log(client, "one", {"x": b"1"}, name="data/set", kind="dataset")
    make_run(client, "elsewhere", "q")
    log(client, "elsewhere", {"a": b"1"})
    page = listed(client, limit=2)
    rest = listed(client, limit=10, cursor=page["next_cursor"])
    assert [one["version"] for one in page["items"] + rest["items"]] == [5, 4, 3, 2, 1]
    assert listed(client, cursor="x")["error"]["code"] == "bad_cursor"
    of_project = client.get(f"{API}/artifacts", params={"project": "p"}).json()["items"]
    assert [(one["name"], one["kind"], one["version"]) for one in of_project] == [
        ("data/set", "dataset", 1),
        ("model", "file", 5),
    ]
    assert find(client, project="q").json()["version"] == 1
    assert find(client, project="none").status_code == 404


def test_lineage_is_on_the_runs(client: TestClient) -> None:
    version = log(client, "one", {"a": b"1"}).json()
    for _ in range(2):
        assert client.put(f"{API}/runs/two/artifact-uses/{version['id']}").status_code == 204
    whole = find(client).json()
    assert ([run["id"] for run in whole["made_by"]], [run["id"] for run in whole["used_by"]]) == (["one"], ["two"])
    links = {run: client.get(f"{API}/runs/{run}/links").json() for run in ("one", "two")}
    assert links["one"]["artifacts_made"] == links["two"]["artifacts_used"] == [version]
    assert links["one"]["artifacts_used"] == links["two"]["artifacts_made"] == []


def purged(database: Database, run_id: str) -> dict[str, str]:
    """Bin and purge a run; why it is kept, if it is."""
    with database.write() as session:
        bin_store.put_runs(session, [run_id], 1.0)
        _, reasons = bin_store.condemn(session, [run_id])
    while True:
        with database.write() as session:
            part = purge.find(session, rows=16)
            if part is None:
                return reasons
            purge.delete(session, part)


def test_a_run_is_kept_while_others_rest_on_its_versions(client: TestClient, database: Database) -> None:
    version = log(client, "one", {"a": b"1"}, aliases=["best"]).json()
    client.put(f"{API}/runs/two/artifact-uses/{version['id']}")
    assert purged(database, "one") == {
        "one": "version 1 of the artifact 'model' is its 'best'; the run two has version 1 of the artifact 'model'"
    }
    client.delete(f"{API}/artifact-aliases/best", params={"project": "p", "name": "model"})
    assert purged(database, "two") == {}
    assert purged(database, "one") == {}
    assert find(client).status_code == 404
    with database.read() as session:
        assert purge.named(session, [hashlib.sha256(b"1").hexdigest()]) == set()


def test_a_version_goes_with_its_run_and_its_number_is_not_lost(client: TestClient, database: Database) -> None:
    log(client, "one", {"a": b"1"})
    log(client, "two", {"a": b"2"})
    assert purged(database, "one") == {}
    assert [one["version"] for one in listed(client)["items"]] == [2]
    make_run(client, "three")
    assert log(client, "three", {"a": b"3"}).json()["version"] == 3
