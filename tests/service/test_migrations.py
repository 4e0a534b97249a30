"""A database of an older version is upgraded with what is in it."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlmodel import SQLModel, select

from service.experiments import ledger
from service.experiments.events import Exposed
from service.experiments.ledger import Applied
from service.experiments.snapshot import compile_experiment, keeps_arms
from service.forgetting import showing
from service.store import aging, audits, console, events, migrate, series, views
from service.store import bin as bin_store
from service.store.database import Database
from service.store.points import Points
from service.store.tables import Experiment, Waiver

# SHA-256 of the audit below as the first version of the service wrote it.
HASH_AT_0001 = hashlib.sha256(
    b'{"after_version_id":null,"before_version_id":null,"created_at":1.5,"id":"a","policy_hash":"h","policy_id":"q",'
    b'"result":{"advice":[],"inputs":{},"notes":[],"problems":[],"sentence":"s","tasks":[]},"run_id":"r",'
    b'"verdict":"FAIL"}'
).hexdigest()
AT_0001 = [
    "INSERT INTO project (id, name, created_at, updated_at) VALUES (7, 'p', 1, 1)",
    "INSERT INTO run (id, project_id, name, status, created_at, heartbeat_at, points_stored)"
    " VALUES ('r', 7, 'r', 'finished', 100, 200, 3)",
    "INSERT INTO series (id, run_id, key, count, first_step, last_step, last_time, last, min, max, sum, segment,"
    " open_chunks) VALUES (5, 'r', 'loss', 2, 1, 2, 150, 0.5, 0.5, 1.5, 2, 0, 1)",
    "INSERT INTO series (id, run_id, key, count, first_step, last_step, last_time, sum, last_special, segment,"
    " open_chunks) VALUES (6, 'r', 'bad', 1, 1, 1, 50, 0, 'NaN', 0, 1)",
]


def at(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    config.attributes["connection"] = connection
    return config


@pytest.fixture
def old(database_url: str, tmp_path: Path) -> str:
    """The URL of a database that was made at 0001, with a run and two metrics."""
    url = database_url if database_url.startswith("postgresql") else f"sqlite:///{tmp_path / 'old.db'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        command.upgrade(at(connection), "0001")
        for statement in AT_0001:
            connection.execute(text(statement))
    engine.dispose()
    return url


def test_ranks_and_console_come_to_an_older_database(old: str) -> None:
    with closing(Database(old)) as database:
        with database.write() as session:
            rows = session.connection().execute(
                text("SELECT key, rank, finite_count, first_time, last FROM series ORDER BY id")
            )
            assert [tuple(row) for row in rows] == [("loss", 0, 2, 100.0, 0.5), ("bad", 0, 0, 50.0, None)]
            assert compare_metadata(MigrationContext.configure(session.connection()), SQLModel.metadata) == []
            more = Points(np.array([3]), np.array([160.0]), np.array([4.0]))
            series.append(session, "r", {"loss": more})
            series.append(session, "r", {"loss": more}, rank=1)
            console.append(session, "r", 0, [console.Line(1.0, "stdout", "hello")])
        with database.read() as session:
            assert series.summary_table(session, ["r"])["r"]["loss"]["mean"] == 2.0
            assert [row["rank"] for row in series.by_rank(session, "r")] == [0, 0, 1]
    engine = create_engine(old)
    with engine.begin() as connection:
        views.drop(connection)
        command.downgrade(at(connection), "0001")
        assert connection.execute(text("SELECT key, count FROM series ORDER BY id")).all() == [("loss", 3), ("bad", 1)]
    engine.dispose()


def test_an_experiment_of_an_older_database_goes_on(old: str) -> None:
    """Exposures that have no draw yet, and a plan without what can be asked for now."""
    plan = {
        "variants": [{"key": "a", "weight": 1, "upstream": None, "model_version_id": None, "value": None}] * 2,
        "metrics": [], "coverage": 1.0, "targeting": {}, "forced": {}, "namespace": None, "fallback_upstream": None,
        "store_content": False,
    }  # fmt: skip
    engine = create_engine(old)
    with engine.begin() as connection:
        command.upgrade(at(connection), "0013")
        row = (
            "INSERT INTO experiment (id, key, name, status, salt, hash_version, phase, plan, created_at)"
            " VALUES ('x', 'chat', 'chat', 'running', 's', 2, 1, :plan, 1)"
        )
        connection.execute(text(row), {"plan": json.dumps(plan)})
        exposure = "INSERT INTO exposure (experiment_id, phase, unit_id, variant, at, crossed) VALUES"
        connection.execute(text(f"{exposure} ('x', 1, 'u', 'a', 1, false)"))
    engine.dispose()
    with closing(Database(old)) as database, database.write() as session:
        assert compare_metadata(MigrationContext.configure(session.connection()), SQLModel.metadata) == []
        (row,) = session.exec(select(Experiment)).all()
        assert (compile_experiment(row, 0.5).holdout, keeps_arms(row)) == (0.0, False)
        assert ledger.apply(session, [Exposed("x", 1, unit, "a", 2.0) for unit in ("u", "v")]) == Applied(1, 1)
        assert events.sampled_durations(session, "x", 1, "a", 10) == []
    with engine.begin() as connection:
        views.drop(connection)
        command.downgrade(at(connection), "0013")
        assert connection.execute(text("SELECT unit_id FROM exposure ORDER BY 1")).all() == [("u",), ("v",)]
    engine.dispose()


def judged(connection: Connection) -> None:
    """Audits as they were before their evaluations had rows: with results of today, of nothing, and of what is gone."""
    policy = "INSERT INTO policy (id, name, version, hash, created_at) VALUES ('p', 'p', 1, 'h', 1)"
    suite = (
        "INSERT INTO suite (id, name, version, hash, task_type, n_items, items_sha256, created_at)"
        " VALUES ('s', 's', 1, 'h', 'generation', 1, 'x', 1)"
    )
    for statement in (policy, suite):
        connection.execute(text(statement))
    evaluation = text(
        "INSERT INTO evaluation (id, suite_id, run_id, n, n_missing, n_unparsed, prediction_hash, items_sha256,"
        " created_at) VALUES (:id, 's', 'r', 1, 0, 0, 'h', 'x', 1)"
    )
    for one in ("e1", "e2", "e3"):
        connection.execute(evaluation, {"id": one})
    audit = text(
        "INSERT INTO audit (id, policy_id, policy_hash, run_id, verdict, result, hash, created_at)"
        " VALUES (:id, 'p', 'h', 'r', 'PASS', :result, 'h', 1)"
    )
    sides = {"before": [{"id": "e1"}, {"id": "e1"}, {"id": "gone"}], "after": [{"id": "e2"}, {"id": "e1"}]}
    for number in range(450):
        connection.execute(audit, {"id": f"a{number:03}", "result": json.dumps({"inputs": {"evaluations": sides}})})
    for odd in (None, "null", "{}", '{"inputs": {}}', '{"inputs": {"evaluations": {"after": null}}}'):
        connection.execute(audit, {"id": f"odd {odd}", "result": odd})


def test_old_audits_name_their_evaluations(old: str) -> None:
    engine = create_engine(old)
    with engine.begin() as connection:
        command.upgrade(at(connection), "0005")
        judged(connection)
    engine.dispose()
    with closing(Database(old)) as database, database.write() as session:
        links = session.connection().execute(
            text("SELECT audit_id, side, evaluation_id FROM audit_evaluation ORDER BY 1, 2, 3")
        )
        wanted = [("after", "e1"), ("after", "e2"), ("before", "e1")]
        assert [tuple(row) for row in links] == [(f"a{n:03}", *one) for n in range(450) for one in wanted]
        assert compare_metadata(MigrationContext.configure(session.connection()), SQLModel.metadata) == []
        # What an old audit rests on is kept as what a new one does, and the run with it.
        bin_store.put_runs(session, ["r"], 1.0)
        assert bin_store.kept(session, ["r"]) == {"r": "455 audits rest on it; 450 audits rest on its evaluations"}
    engine = create_engine(old)
    with engine.begin() as connection:
        views.drop(connection)
        command.downgrade(at(connection), "0005")
    engine.dispose()


def test_an_audit_of_an_older_database_can_be_waived_and_keeps_its_hash(old: str) -> None:
    """The record's hash is of the row as it was written: nothing that came later may enter it."""
    engine = create_engine(old)
    result = {"sentence": "s", "tasks": [], "problems": [], "notes": [], "advice": [], "inputs": {}}
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO policy (id, name, version, hash, body, created_at) VALUES ('q', 'p', 1, 'h', :body, 1)"),
            {"body": json.dumps({"alpha": 0.05, "protected": []})},
        )
        connection.execute(
            text(
                "INSERT INTO audit (id, policy_id, policy_hash, run_id, verdict, result, hash, created_at)"
                " VALUES ('a', 'q', 'h', 'r', 'FAIL', :result, :hash, 1.5)"
            ),
            {"result": json.dumps(result), "hash": HASH_AT_0001},
        )
    engine.dispose()
    with closing(Database(old)) as database:
        with database.write() as session:
            waiver = Waiver(audit_id="a", who="w", why="y", written_by="k", until=1e10, created_at=2)
            assert audits.add_waiver(session, waiver) is waiver
            revoked = {"audit_id": "a", "revokes": waiver.id, "who": "w", "why": "n", "written_by": "k"}
            assert audits.add_waiver(session, Waiver(**revoked, created_at=3)) is not None
            assert audits.add_waiver(session, Waiver(**revoked, created_at=4)) is None
        with database.read() as session:
            (found,) = showing.show_all(session, [showing.existing(session, "a")])
            assert found.intact
            assert [one.state for one in found.waivers] == ["revoked"]
            assert found.policy.body.require_aa is False
            assert found.drift is None


def test_requests_of_an_older_database_are_found_by_their_age(old: str) -> None:
    engine = create_engine(old)
    with engine.begin() as connection:
        command.upgrade(at(connection), "0013")
        for number in range(3):
            connection.execute(
                text(
                    "INSERT INTO gateway_request (request_id, counted, at, status, fell_back, streamed)"
                    " VALUES (:id, true, :at, 200, false, false)"
                ),
                {"id": f"r{number}", "at": 1000.0 * number},
            )
            outcome = "INSERT INTO outcome (request_id, metric, value, at) VALUES (:id, 'satisfaction', 1, :at)"
            connection.execute(text(outcome), {"id": f"r{number}", "at": 1000.0 * number + 1})
    engine.dispose()
    with closing(Database(old)) as database:
        with database.write() as session:
            assert compare_metadata(MigrationContext.configure(session.connection()), SQLModel.metadata) == []
            assert aging.old_requests(session, 1500.0, 10) == ["r0", "r1"]
            aging.delete_requests(session, ["r0", "r1"])
        with database.read() as session:
            assert aging.old_requests(session, 5000.0, 10) == ["r2"]
            assert aging.old_orphans(session, 5000.0, 10) == []
    engine = create_engine(old)
    with engine.begin() as connection:
        views.drop(connection)
        command.downgrade(at(connection), "0013")
    engine.dispose()
