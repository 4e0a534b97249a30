"""Deleting: the bin, what comes back from it, what a purge removes, and what it must keep."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from sqlmodel import SQLModel, select
from starlette.testclient import TestClient

from service.settings import Settings
from service.store import audits, evaluations, purge, series
from service.store import bin as bin_store
from service.store.blobs import BlobStore
from service.store.database import Database
from service.store.tables import Audit, Evaluation, Purge, Run
from service.tracking.purger import Purger, condemn
from tests.conftest import wait_until
from tests.service.forgetting import wire

from .mlflow_face import Face
from .test_metrics import column as packed
from .test_metrics import send
from .test_series import new_run, points

API = "/api/v1"


def make_run(client: TestClient, **body: Any) -> str:
    answer = client.post(f"{API}/runs", json={"project": "p", **body})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def column(key: str, steps: Iterable[int]) -> dict[str, Any]:
    return packed(key, list(steps), [float(step) for step in steps])


def rows(database: Database) -> dict[str, int]:
    """How many rows each table has, without those that are always there."""
    with database.read() as session:
        count = session.connection().execute
        tables = SQLModel.metadata.sorted_tables
        found = {t.name: count(sql.select(sql.func.count()).select_from(t)).scalar_one() for t in tables}
    return {name: n for name, n in found.items() if n and name != "project"}


def bin_of(client: TestClient, **params: Any) -> dict[str, Any]:
    answer = client.get(f"{API}/bin", params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def purged(client: TestClient, **params: Any) -> dict[str, Any]:
    """Ask for a purge, and wait until it is through."""
    answer = client.request("DELETE", f"{API}/bin", params=params)
    assert answer.status_code == 202, answer.text
    wait_until(lambda: bin_of(client)["n_purging"] == 0)
    body: dict[str, Any] = answer.json()
    return body


def listed(client: TestClient, **params: Any) -> list[str]:
    return [run["id"] for run in client.get(f"{API}/runs", params=params).json()["items"]]


@pytest.fixture
def full_run(client: TestClient, face: Face) -> str:
    """A run with something in every table that runs have."""
    run_id = make_run(client, config={"lr": 0.1, "deep": {"a": 1}}, tags={"team": "nlp"})
    for batch in range(1, 4):
        columns = [column(f"m{n}", range(batch * 100, batch * 100 + 100)) for n in range(3)]
        assert send(client, run_id, batch, *columns).status_code == 200
    client.put(f"{API}/runs/{run_id}/artifacts/a/b.txt", content=b"content")
    return run_id


def test_a_run_goes_into_the_bin_and_comes_back_whole(client: TestClient, full_run: str) -> None:
    before = client.get(f"{API}/runs/{full_run}").json()
    for _ in range(2):
        assert client.delete(f"{API}/runs/{full_run}").status_code == 204
    assert listed(client) == []
    refused = client.get(f"{API}/runs/{full_run}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "run_in_bin")
    (item,) = bin_of(client)["items"]
    assert (item["id"], item["points"], item["kept"]) == (full_run, 900, None)
    assert item["bytes"] == 900 * 8 + len(b"content")
    assert item["purged_after"] == pytest.approx(item["deleted_at"] + 30 * 86400)
    for _ in range(2):
        assert client.post(f"{API}/runs/{full_run}/restore").status_code == 204
    after = client.get(f"{API}/runs/{full_run}").json()
    assert {k: v for k, v in after.items() if k != "heartbeat_at"} == {
        k: v for k, v in before.items() if k != "heartbeat_at"
    }
    assert bin_of(client)["items"] == []


def test_what_is_not_there_is_said(client: TestClient) -> None:
    for answer in (
        client.delete(f"{API}/runs/nowhere"),
        client.post(f"{API}/runs/nowhere/restore"),
        client.delete(f"{API}/projects/nowhere"),
        client.post(f"{API}/projects/no/where/restore"),
        client.request("DELETE", f"{API}/bin", params={"project": "nowhere"}),
    ):
        assert answer.status_code == 404, answer.text
        assert answer.json()["error"]["code"] in {"run_not_found", "project_not_found"}


def test_logging_to_a_run_in_the_bin_is_refused_with_what_to_do(client: TestClient, full_run: str) -> None:
    client.delete(f"{API}/runs/{full_run}")
    body = {"writer": "w", "batch": 4, "metrics": []}
    for answer in (
        client.post(f"{API}/runs/{full_run}/batches", json=body),
        client.patch(f"{API}/runs/{full_run}", json={"notes": "x"}),
        client.put(f"{API}/runs/{full_run}/artifacts/new", content=b"x"),
    ):
        assert answer.status_code == 404, answer.text
        error = answer.json()["error"]
        assert error["code"] == "run_in_bin"
        assert f"tunescope runs restore {full_run}" in error["message"]
    again = client.post(f"{API}/runs", json={"project": "p", "id": full_run, "resume": "allow"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "run_exists")


def test_many_runs_by_query_by_id_and_never_by_accident(client: TestClient) -> None:
    runs = [make_run(client, project="a" if n % 2 else "b", config={"n": n}) for n in range(20)]
    answer = client.post(f"{API}/runs/delete", json={"query": "params.n < 10", "project": "a"})
    assert answer.json() == {"runs": 5, "missing": []}
    assert set(listed(client)) == {run for n, run in enumerate(runs) if not (n < 10 and n % 2)}
    answer = client.post(f"{API}/runs/delete", json={"ids": [runs[1], runs[0], "nowhere"]})
    assert answer.json() == {"runs": 1, "missing": ["nowhere"]}
    answer = client.post(f"{API}/runs/restore", json={"ids": [*runs[:4], "nowhere"]})
    assert answer.json() == {"runs": 3}
    for nothing in ({}, {"query": "  "}, {"ids": runs, "query": "status = running"}):
        refused = client.post(f"{API}/runs/delete", json=nothing)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "nothing_named")
    assert client.post(f"{API}/runs/delete", json={"query": "n <"}).json()["error"]["code"] == "bad_query"
    assert client.post(f"{API}/runs/delete", json={"project": "b"}).json()["runs"] == 10
    assert not listed(client, project="b")


def test_more_runs_than_one_step_moves(client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bin_store, "STEP", 3)
    runs = [make_run(client, project="p") for _ in range(10)]
    assert client.post(f"{API}/runs/delete", json={"query": "status = running"}).json()["runs"] == 10
    assert client.post(f"{API}/runs/restore", json={"ids": runs}).json()["runs"] == 10
    assert client.delete(f"{API}/projects/p").json()["runs"] == 10
    assert client.post(f"{API}/projects/p/restore").json()["runs"] == 10
    client.delete(f"{API}/projects/p")
    seen: list[str] = []
    page = bin_of(client, limit=4)
    while True:
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        page = bin_of(client, limit=4, cursor=page["next_cursor"])
    assert sorted(seen) == sorted(runs)
    assert condemn(database, time.time() + 1) == (10, {})


def test_a_project_comes_back_with_the_runs_that_went_with_it(client: TestClient) -> None:
    earlier, later = make_run(client, project="team/x"), make_run(client, project="team/x")
    client.delete(f"{API}/runs/{earlier}")
    assert client.delete(f"{API}/projects/team/x").json()["runs"] == 1
    held = bin_of(client)
    assert [(p["name"], p["n_runs"]) for p in held["projects"]] == [("team/x", 2)]
    assert client.post(f"{API}/projects/team/x/restore").json() == {"runs": 1}
    assert listed(client, project="team/x") == [later]
    # A run brings its project back, and none of the others.
    client.delete(f"{API}/projects/team/x")
    client.post(f"{API}/runs/{earlier}/restore")
    assert listed(client, project="team/x") == [earlier]
    assert bin_of(client)["projects"] == []


def test_logging_to_a_project_in_the_bin_brings_it_back_without_its_runs(client: TestClient) -> None:
    old = make_run(client, project="p")
    client.delete(f"{API}/projects/p")
    fresh = make_run(client, project="p")
    assert listed(client, project="p") == [fresh]
    assert [p["n_runs"] for p in client.get(f"{API}/projects").json()["items"]] == [1]
    assert [item["id"] for item in bin_of(client)["items"]] == [old]


def test_a_purge_leaves_nothing(client: TestClient, database: Database, face: Face, full_run: str) -> None:
    mlflow_run(face)
    assert {"param", "tag", "series", "chunk", "artifact", "writer", "run_dataset"} <= rows(database).keys()
    other = make_run(client, project="stays", config={"lr": 1})
    send(client, other, 1, column("m0", range(10)))
    stays = len(listed(client, project="stays"))
    client.post(f"{API}/runs/delete", json={"query": f"id != {other}"})
    binned = bin_of(client)
    assert purged(client)["purging"] == binned["n_runs"] >= 2
    assert rows(database).keys() <= {"run", "param", "series", "chunk", "writer", "orphan_blob", "dataset"}
    assert len(listed(client, project="stays")) == stays == 1
    gone = client.post(f"{API}/runs/{full_run}/restore")
    assert gone.json()["error"]["code"] == "run_not_found"


def mlflow_run(face: Face) -> str:
    """A run of an MLflow client, with data sets."""
    run = face.create(start_time=0)
    data = {"name": "d", "digest": "1", "source_type": "local", "source": "here"}
    face.ok("runs/log-inputs", run_id=run, datasets=[{"dataset": data, "tags": []}])
    return run


def test_a_project_is_purged_with_all_it_has(client: TestClient, database: Database) -> None:
    make_run(client, project="p")
    client.put(f"{API}/filters", params={"project": "p"}, json={"name": "f", "query": ""})
    client.post(f"{API}/webhooks", json={"url": "https://example.org/x", "project": "p"})
    client.delete(f"{API}/projects/p")
    assert purged(client, project="p")["purging"] == 1
    wait_until(lambda: not rows(database))
    assert client.post(f"{API}/projects/p/restore").status_code == 404
    assert make_run(client, project="p")


def test_what_something_rests_on_is_kept_with_the_reason(client: TestClient, database: Database) -> None:
    run, free = make_run(client), make_run(client)
    assert client.post(f"{API}/models/intent/versions", json={"run_id": run}).status_code == 201
    client.post(f"{API}/runs/delete", json={"ids": [run, free]})
    items = {item["id"]: item for item in bin_of(client)["items"]}
    assert items[free]["kept"] is None
    assert (items[run]["kept"], items[run]["purged_after"]) == ("version 1 of model 'intent' comes from it", None)
    started = purged(client)
    assert (started["purging"], started["n_kept"]) == (1, 1)
    assert started["kept"] == [{"id": run, "reason": "version 1 of model 'intent' comes from it"}]
    assert [item["id"] for item in bin_of(client)["items"]] == [run]
    client.delete(f"{API}/models/intent")
    assert purged(client, run_id=[run, free])["purging"] == 1
    assert bin_of(client)["items"] == []


def test_only_what_is_in_the_bin_is_purged(client: TestClient) -> None:
    alive, binned = make_run(client), make_run(client)
    client.delete(f"{API}/runs/{binned}")
    assert purged(client, run_id=[alive, binned])["purging"] == 1
    assert listed(client) == [alive]


def test_the_bin_is_emptied_by_itself_after_its_days(database: Database, tmp_path: Path) -> None:
    old, fresh = new_run(database), new_run(database)
    with database.write() as session:
        bin_store.put_runs(session, [old], time.time() - 10 * 86400)
        bin_store.put_runs(session, [fresh], time.time() - 8 * 86400)
    purger = Purger(database, BlobStore(str(tmp_path / "blobs")), keep_days=9)
    purger.start()

    def left() -> set[str]:
        with database.read() as session:
            return set(session.exec(select(Run.id)).all())

    wait_until(lambda: left() == {fresh})
    purger.stop()


def test_a_purge_that_was_cut_off_goes_on(database: Database, tmp_path: Path) -> None:
    run = new_run(database)
    with database.write() as session:
        series.append(session, run, {f"m{n}": points(range(50)) for n in range(300)})
        bin_store.put_runs(session, [run], time.time() - 1)
    condemn(database, time.time())
    with database.read() as session:
        part = purge.find(session, rows=16)
    assert part is not None
    with database.write() as session:  # one step of it, then as after a kill
        purge.delete(session, part)
    assert 0 < rows(database)["chunk"] < 300
    with database.write() as session:
        assert not bin_store.restore_runs(session, [run])
    purger = Purger(database, BlobStore(str(tmp_path / "blobs")), keep_days=30)
    purger.start()
    wait_until(lambda: not rows(database))
    purger.stop()


# --- files ---


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings.resolved_artifacts_url)


def age(blobs: BlobStore, sha256: str, seconds: float) -> Path:
    path = blobs.local_path(sha256)
    assert path is not None
    os.utime(path, (time.time() - seconds,) * 2)
    return path


@pytest.fixture
def impatient(database: Database, blobs: BlobStore) -> Callable[[], None]:
    """Runs a purger that thinks uploads take a minute at most, and whose orphans have waited for long."""

    def once() -> None:
        with database.write() as session:
            session.connection().execute(sql.text("UPDATE orphan_blob SET since = 0"))
        purger = Purger(database, blobs, 30, upload_seconds=60)
        purger._work()

    return once


def test_replicas_that_remove_one_file_at_once_do_not_trip(blobs: BlobStore) -> None:
    for number in range(30):
        sha256 = blobs.put(b"%d" % number)
        file = age(blobs, sha256, 3600)
        with ThreadPoolExecutor(8) as replicas:
            assert all(replicas.map(lambda _, name=sha256: blobs.discard(name, 60), range(8)))
        assert not file.exists()


def test_files_go_when_the_last_run_that_names_them_is_purged(
    client: TestClient, database: Database, blobs: BlobStore, impatient: Callable[[], None]
) -> None:
    first, second = make_run(client), make_run(client)
    for run in (first, second):
        client.put(f"{API}/runs/{run}/artifacts/f", content=b"shared")
    client.put(f"{API}/runs/{first}/artifacts/g", content=b"own")
    shared, own = (age(blobs, hashlib.sha256(data).hexdigest(), 3600) for data in (b"shared", b"own"))
    client.delete(f"{API}/runs/{first}")
    purged(client)
    impatient()
    assert (shared.exists(), own.exists()) == (True, False)
    client.delete(f"{API}/runs/{second}")
    purged(client)
    impatient()
    assert not shared.exists()
    assert not rows(database)


def test_a_file_uploaded_anew_survives_the_purge_of_the_run_that_had_it(
    client: TestClient, database: Database, blobs: BlobStore, impatient: Callable[[], None]
) -> None:
    """The bytes come before the row that names them: between the two, nothing says that they are wanted."""
    run = make_run(client)
    client.put(f"{API}/runs/{run}/artifacts/f", content=b"again")
    sha256 = hashlib.sha256(b"again").hexdigest()
    age(blobs, sha256, 3600)
    client.delete(f"{API}/runs/{run}")
    purged(client)
    assert blobs.put(b"again") == sha256  # an upload that has not stored its row yet
    impatient()
    assert blobs.get(sha256) == b"again"
    age(blobs, sha256, 3600)
    impatient()
    assert not (blobs.local_path(sha256) or Path()).exists()


def test_every_table_of_runs_is_known_to_the_purge() -> None:
    """A table that names runs is purged with them, or keeps them: no third way."""
    naming = {table.name for table in SQLModel.metadata.sorted_tables if "run_id" in table.c}
    run = next(table for table in SQLModel.metadata.sorted_tables if table.name == "run")
    purged_with = {column.table.name for column in purge.owned(run)}
    assert naming - purged_with == {"audit", "model_version"}


def test_no_table_is_scanned_for_what_a_row_owns() -> None:
    """What owns is found by an index, and so is what the database itself looks up when a row goes."""
    run, project = (SQLModel.metadata.tables[name] for name in ("run", "project"))
    reached, ahead = set[str](), [run, project]
    while ahead:
        table = ahead.pop()
        reached.add(table.name)
        naming = [key.parent for other in SQLModel.metadata.sorted_tables for key in other.foreign_keys
                  if key.column.table is table]  # fmt: skip
        for column in {*purge.owned(table), *naming}:
            firsts = [next(iter(index.columns)) for index in column.table.indexes]
            unique = [
                c for c in column.table.constraints if isinstance(c, sql.UniqueConstraint | sql.PrimaryKeyConstraint)
            ]
            firsts += [next(iter(one.columns)) for one in unique if len(one.columns)]
            assert column in firsts or column.table.name in FEW_ROWS, f"{column} has no index"
            if column.table.name not in reached and column in purge.owned(table):
                ahead.append(column.table)
    assert {"chunk", "evaluation", "delivery"} <= reached


# Tables that stay small however much is logged.
FEW_ROWS = {"webhook", "saved_filter"}


# --- runs that were evaluated ---


@pytest.fixture
def audited(client: TestClient) -> dict[str, Any]:
    """Three evaluated runs: two have an audit between their evaluations, the third is free."""
    suite = wire.make_suite(client, "intents", 40)
    runs = [make_run(client) for _ in range(3)]
    evaluations = [wire.evaluate(client, suite, range(30 - n), run_id=run)["id"] for n, run in enumerate(runs)]
    policy = wire.make_policy(client, wire.protect("intents", 0.2))
    audit = wire.audit(client, policy, (evaluations[0], evaluations[1]))
    return {"runs": runs, "evaluations": evaluations, "audit": audit, "policy": policy}


def test_evaluations_go_with_their_run_unless_an_audit_names_them(
    client: TestClient, database: Database, audited: dict[str, Any], blobs: BlobStore, impatient: Callable[[], None]
) -> None:
    before, after, free = audited["runs"]
    client.post(f"{API}/runs/delete", json={"ids": audited["runs"]})
    kept = {item["id"]: item["kept"] for item in bin_of(client)["items"]}
    assert kept == {
        before: "an audit rests on its evaluations",
        after: "an audit rests on it; an audit rests on its evaluations",
        free: None,
    }
    with database.read() as session:
        named = {one.id: one.items_sha256 for one in session.exec(select(Evaluation)).all()}
    file = age(blobs, named[audited["evaluations"][2]], 3600)
    started = purged(client, run_id=audited["runs"])
    assert (started["purging"], started["n_kept"]) == (1, 2)
    statuses = [client.get(f"{API}/evaluations/{one}").status_code for one in audited["evaluations"]]
    assert statuses == [200, 200, 404]
    impatient()
    assert not file.exists()
    # What the audit rests on is all there.
    shown = client.get(f"{API}/audits/{audited['audit']['id']}").json()
    assert shown["intact"]
    assert client.get(f"{API}/audits/{shown['id']}/items", params={"kind": "lost"}).json()["items"]


def test_nothing_is_stored_that_rests_on_a_run_that_is_going(
    client: TestClient, database: Database, audited: dict[str, Any]
) -> None:
    free, last = audited["runs"][2], audited["evaluations"][2]
    with database.read() as session:
        evaluation = session.get(Evaluation, last)
        audit = session.get(Audit, audited["audit"]["id"])
    assert evaluation is not None
    assert audit is not None
    client.delete(f"{API}/runs/{free}")
    with database.write() as session:
        session.add(Purge(kind="run", id=free, asked_at=0.0))
    named = {"inputs": {"evaluations": {"before": [{"id": audited["evaluations"][0]}], "after": [{"id": last}]}}}
    late = {**audit.model_dump(exclude={"id", "run_id"}), "result": named}
    for store in (
        lambda session: audits.add(session, Audit(**late)),
        lambda session: evaluations.add(session, Evaluation(**evaluation.model_dump(exclude={"id"}))),
    ):
        with pytest.raises(bin_store.PurgeUnderWay, match="is being purged"), database.write() as session:
            store(session)
    purged(client)
    with pytest.raises(evaluations.EvaluationNotFound), database.write() as session:
        audits.add(session, Audit(**late))
    assert rows(database)["audit"] == 1


def test_an_audit_that_comes_while_its_run_is_condemned_wins_or_is_refused(
    client: TestClient, database: Database, audited: dict[str, Any]
) -> None:
    """Whichever takes the run's row first: never is an evaluation gone that an audit names."""
    if database.is_sqlite:
        pytest.skip("PostgreSQL's own: on SQLite one transaction writes at a time")
    free, last = audited["runs"][2], audited["evaluations"][2]
    client.delete(f"{API}/runs/{free}")
    with database.read() as session:
        audit = session.get(Audit, audited["audit"]["id"])
    assert audit is not None
    named = {"inputs": {"evaluations": {"before": [], "after": [{"id": last}]}}}
    with ThreadPoolExecutor(1) as other:
        with database.write() as session:
            late = {**audit.model_dump(exclude={"id", "run_id"}), "result": named}
            audits.add(session, Audit(**late))
            condemned = other.submit(condemn, database, time.time() + 1)
            assert not condemned.done()
        going, kept = condemned.result(30)
    assert (going, kept) == (0, {free: "an audit rests on its evaluations"})


def test_purging_and_restoring_are_told_apart(client: TestClient, database: Database) -> None:
    run = make_run(client)
    client.delete(f"{API}/runs/{run}")
    with database.write() as session:
        session.add(Purge(kind="run", id=run, asked_at=0.0))
    refused = client.post(f"{API}/runs/{run}/restore")
    assert refused.json()["error"]["code"] in {"purge_under_way", "run_not_found"}
