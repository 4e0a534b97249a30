"""The SQL views of docs/sql.md: they are there, say what is documented, and follow the tables."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text
from starlette.testclient import TestClient

from service.store import views
from service.store.database import Database
from service.store.migrate import upgrade
from service.store.tables import ArmSum

DOCS = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
TYPES = {
    "text": {"TEXT", "VARCHAR"},
    "float": {"FLOAT", "DOUBLE PRECISION", "DOUBLE_PRECISION", "REAL"},
    "integer": {"INTEGER", "BIGINT"},
    "boolean": {"BOOLEAN"},
    "json": {"JSON"},
}
EXAMPLES = re.findall(r"```sql *(\w*)\n(.*?)```", DOCS, re.DOTALL)


def rows(database: Database, query: str, **values: Any) -> list[dict[str, Any]]:
    with database.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), values).mappings()]


def documented() -> dict[str, dict[str, str]]:
    """View → column → type, as docs/sql.md says."""
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r"^## ", DOCS, flags=re.MULTILINE)[1:]:
        names = re.findall(r"v_\w+", section.splitlines()[0])
        tables = re.findall(r"\| column(?: of (v_\w+))? \|.*?\n\|[-|]+\n((?:\|.*\n)+)", section)
        for name, table in tables:
            columns = dict(re.findall(r"^\| (\w+) \| (\w+) \|", table, re.MULTILINE))
            for view in [name] if name else names:
                found[view] = columns
    found["v_tags"] = {name: kind for name, kind in found["v_tags"].items() if name != "number"}
    return found


@pytest.fixture
def filled(client: TestClient, database: Database) -> dict[str, str]:
    """A bit of everything, through the API."""

    def post(route: str, **body: Any) -> dict[str, Any]:
        answer = client.post(f"/api/v1/{route}", json=body)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    config = {"lr": 0.1, "optimizer": {"name": "adamw"}, "layers": [1, 2]}
    tags = {"team": "nlp"}
    sweep = post("runs", project="intents", name="sweep", created_at=1000.0)["id"]
    fields = {"config": config, "tags": tags, "group": "g", "created_at": 1000.0, "data_hash": "d"}
    run = post("runs", project="intents", name="lora", parent_run_id=sweep, **fields)["id"]
    metrics = [
        {"key": "eval/loss", "step": [1, 2, 3], "time": [1.0, 2.0, 3.0], "value": [0.5, 0.25, 0.75]},
        {"key": "train/loss", "step": [5, 3], "time": [1.0, 2.0], "value": [0.5, "NaN"]},
    ]
    post(f"runs/{run}/batches", writer="w", batch=1, metrics=metrics)
    client.put(f"/api/v1/runs/{run}/artifacts/out/a.txt?kind=checkpoint", content=b"hello")
    picture = {"key": "samples", "step": 3, "kind": "image", "caption": "a cat", "time": 4.0}
    client.put(f"/api/v1/runs/{run}/media", params=picture, content=b"png", headers={"Content-Type": "image/png"})
    client.patch(
        f"/api/v1/runs/{run}", json={"status": "failed", "exit_code": 3, "error": "broke", "finished_at": 1010.5}
    )
    base = post("models/assistant/versions", source="hub")["id"]
    version = post(
        "models/assistant/versions", run_id=run, base_version_id=base, method="lora", aliases=["champion", "candidate"]
    )["id"]
    items = [{"id": str(i), "input": f"q{i}", "label": "ab"[i % 2]} for i in range(40)]
    suite = post("suites", name="intents", task_type="classification", items=items, metrics=["accuracy", "f1_macro"])
    evaluations = [
        post(
            "evaluations",
            suite_id=suite["id"],
            run_id=run,
            model_version_id=model,
            step=step,
            predictions=[{"id": str(i), "output": "ab"[(i + (i % every == 0)) % 2]} for i in range(40)],
        )["id"]
        for model, step, every in ((base, 1, 40), (version, 2, 2), (base, 3, 20))
    ]
    policy = post("policies", name="keep", protected=[{"suite": "intents", "margin": 0.05}])["id"]
    before, after, aa = ([one] for one in evaluations)
    audit = post("audits", policy_id=policy, before=before, after=after, aa=aa)["id"]
    for who, until in (("early", 1e10), ("Ada", 2e10), ("late", 3e10)):
        waiver = post(f"audits/{audit}/waivers", suite="intents", who=who, why="known", until=until)["id"]
    post(f"audits/{audit}/waivers/{waiver}/revoke", who="Bob", why="too long")
    variants = [{"key": "control", "weight": 1}, {"key": "treatment", "weight": 1}]
    experiment = post("experiments", key="new-model", hypothesis="it is better", variants=variants)["id"]
    with database.write() as session:
        for bucket, n in ((1, 2), (2, 3)):
            sums = {"sum_x": 2.0 * n, "sum_y": 1.0 * n, "sum_xx": 0.0, "sum_yy": 0.0, "sum_xy": 0.0}
            place = {"experiment_id": experiment, "phase": 1, "metric": "satisfaction", "variant": "control"}
            session.add(ArmSum(**place, bucket=bucket, n=n, **sums))
    return {"run": run, "sweep": sweep, "version": version, "base": base, "audit": audit, "suite": suite["id"]}


def test_every_view_is_documented_column_by_column(database: Database) -> None:
    found = documented()
    assert set(found) == set(views.DEFINITIONS)
    inspector = inspect(database.engine)
    assert set(inspector.get_view_names()) == set(views.DEFINITIONS)
    for view, columns in found.items():
        actual = {column["name"]: str(column["type"]).split("(")[0] for column in inspector.get_columns(view)}
        assert list(actual) == list(columns), view
        if database.engine.dialect.name == "postgresql":  # SQLite knows no types of computed columns
            wrong = {name: actual[name] for name, kind in columns.items() if actual[name] not in TYPES[kind]}
            assert wrong == {}, view


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_runs(database: Database, number: int) -> None:
    dialect, query = EXAMPLES[number]
    if dialect not in ("", database.engine.dialect.name):
        pytest.skip(f"an example for {dialect}")
    with database.engine.connect() as connection:
        connection.execute(text(query))


def test_three_examples_a_view_and_each_has_an_answer(database: Database, filled: dict[str, str]) -> None:
    empty = []
    for dialect, query in EXAMPLES:
        if dialect in ("", database.engine.dialect.name):
            with database.engine.connect() as connection:
                if not connection.execute(text(query)).all():
                    empty.append(query)
    # Nothing was decided, shared, lost to the parser, priced, replayed or run with several seeds.
    assert len(empty) == 6, "\n".join(empty)
    for section in re.split(r"^## ", DOCS, flags=re.MULTILINE)[1:]:
        assert section.count("```sql") >= 3, section.splitlines()[0]


def test_runs_params_and_tags(database: Database, filled: dict[str, str]) -> None:
    (run,) = rows(database, "SELECT * FROM v_runs WHERE name = 'lora'")
    expected = {
        "id": filled["run"],
        "project": "intents",
        "status": "failed",
        "group_name": "g",
        "parent_run_id": filled["sweep"],
        "data_hash": "d",
        "created_at": 1000.0,
        "finished_at": 1010.5,
        "duration": 10.5,
        "exit_code": 3,
        "error": "broke",
        "points_stored": 5,
    }
    assert {name: run[name] for name in expected} == expected
    params = rows(
        database, "SELECT key, value, number FROM v_params WHERE run_id = :run ORDER BY key", run=filled["run"]
    )
    assert [tuple(row.values()) for row in params] == [
        ("layers", "[1, 2]", None),
        ("lr", "0.1", 0.1),
        ("optimizer.name", "adamw", None),
    ]
    (tag,) = rows(database, "SELECT * FROM v_tags")
    assert (tag["run_name"], tag["key"], tag["value"]) == ("lora", "team", "nlp")


def test_metrics(database: Database, filled: dict[str, str]) -> None:
    good, bad = rows(database, "SELECT * FROM v_metrics ORDER BY key")
    expected = {
        "key": "eval/loss",
        "points": 3,
        "first_step": 1,
        "last_step": 3,
        "last_time": 3.0,
        "last_value": 0.75,
        "last_special": None,
        "min_value": 0.25,
        "min_step": 2,
        "max_value": 0.75,
        "max_step": 3,
        "finite_sum": 1.5,
        "segments": 1,
    }
    assert {name: good[name] for name in expected} == expected
    assert (bad["last_value"], bad["last_special"], bad["segments"], bad["finite_sum"]) == (None, "NaN", 2, 0.5)


def test_models_and_artifacts(database: Database, filled: dict[str, str]) -> None:
    base, version = rows(database, "SELECT * FROM v_models ORDER BY version")
    assert (base["aliases"], base["run_id"]) == (None, None)
    assert (version["aliases"], version["run_name"], version["base_version_id"]) == (
        "candidate,champion",
        "lora",
        filled["base"],
    )
    (picture,) = rows(database, "SELECT * FROM v_media")
    assert (picture["key"], picture["step"], picture["caption"], picture["size"]) == ("samples", 3, "a cat", 3)
    (artifact,) = rows(database, "SELECT * FROM v_artifacts")
    assert (artifact["path"], artifact["kind"], artifact["size"], artifact["run_name"]) == (
        "out/a.txt",
        "checkpoint",
        5,
        "lora",
    )


def test_scores_are_those_of_the_api(client: TestClient, database: Database, filled: dict[str, str]) -> None:
    found = rows(database, "SELECT * FROM v_evaluations")
    evaluations = client.get("/api/v1/evaluations").json()["items"]
    assert len(found) == sum(len(evaluation["scores"]) for evaluation in evaluations) == 6
    for evaluation in evaluations:
        for score in evaluation["scores"]:
            (row,) = (r for r in found if (r["evaluation_id"], r["metric"]) == (evaluation["id"], score["name"]))
            low, high = score["interval"] or (None, None)
            names = ("value", "confidence", "n", "method", "reason", "signature", "higher_is_better")
            assert {name: row[name] for name in names} == {name: score[name] for name in names}
            assert (row["low"], row["high"]) == (low, high)
            assert (row["suite"], row["items"], row["step"]) == ("intents", 40, evaluation["step"])


def test_audits_are_those_of_the_api(client: TestClient, database: Database, filled: dict[str, str]) -> None:
    audit = client.get(f"/api/v1/audits/{filled['audit']}").json()
    found = rows(database, "SELECT * FROM v_audits")
    assert len(found) == len(audit["tasks"]) == 1
    (row,), (task,) = found, audit["tasks"]
    same = (
        "suite",
        "metric",
        "n",
        "before",
        "after",
        "difference",
        "lower_bound",
        "margin",
        "lost",
        "gained",
        "p_value",
    )
    assert {name: row[name] for name in same} == {name: task[name] for name in same}
    assert [row["low"], row["high"]] == task["interval"]
    assert (row["verdict"], row["task_verdict"], row["policy"]) == (audit["verdict"], task["verdict"], "keep")
    assert row["verdict"] == "FAIL"
    floor = task["floor"]
    assert (row["floor"], row["above_floor"], row["called_forgetting"]) == (floor["share"], floor["above"], True)
    assert [row["above_low"], row["above_high"]] == floor["interval"]
    assert row["above_p_adjusted"] == floor["p_adjusted"]
    assert (row["waived_by"], row["waiver_reason"], row["waived_until"]) == ("Ada", "known", 2e10)


def test_experiments(client: TestClient, database: Database, filled: dict[str, str]) -> None:
    (row,) = rows(database, "SELECT * FROM v_experiments")
    assert (row["key"], row["status"], row["hypothesis"], row["alpha"]) == ("new-model", "draft", "it is better", 0.05)
    assert (row["winner"], row["decided_at"]) == (None, None)
    (arm,) = rows(database, "SELECT * FROM v_experiment_arms")
    assert (arm["variant"], arm["units"], arm["denominator"], arm["total"], arm["value"]) == (
        "control",
        5,
        10.0,
        5.0,
        0.5,
    )


def test_what_is_in_the_bin_is_left_out(database: Database, filled: dict[str, str]) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE run SET deleted_at = 1 WHERE id = :run"), {"run": filled["run"]})
    for view in ("v_runs", "v_params", "v_tags", "v_metrics", "v_artifacts", "v_media"):
        assert not [
            row for row in rows(database, f"SELECT * FROM {view}") if row.get("name", row.get("run_name")) == "lora"
        ]
    # Its evaluations and model versions are records of their own.
    assert {row["run_name"] for row in rows(database, "SELECT * FROM v_evaluations")} == {None}


def test_a_changed_definition_is_made_anew(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    wider = {**views.DEFINITIONS, "v_tags": views.DEFINITIONS["v_tags"].replace("v.value", "v.value, 1 AS one")}
    monkeypatch.setattr(views, "DEFINITIONS", wider)
    views.install(database.engine)
    assert [column["name"] for column in inspect(database.engine).get_columns("v_tags")][-1] == "one"
    # A column that goes, which PostgreSQL does not replace in place.
    narrower = {**wider, "v_runs": views.DEFINITIONS["v_runs"].replace("r.notes, ", "")}
    monkeypatch.setattr(views, "DEFINITIONS", narrower)
    views.install(database.engine)
    assert "notes" not in [column["name"] for column in inspect(database.engine).get_columns("v_runs")]
    assert set(inspect(database.engine).get_view_names()) == set(views.DEFINITIONS)


def test_an_unchanged_database_is_left_alone(database: Database) -> None:
    """Also a view that a user built on ours."""
    with database.engine.begin() as connection:
        connection.execute(text("CREATE VIEW mine AS SELECT name FROM v_runs"))
    views.install(database.engine)
    assert rows(database, "SELECT * FROM mine") == []


def test_migrations_do_not_stumble_over_views(database: Database) -> None:
    with database.engine.begin() as connection:
        views.drop(connection)
        connection.execute(text("ALTER TABLE run DROP COLUMN exit_code"))
        connection.execute(text("ALTER TABLE run ADD COLUMN exit_code INTEGER"))
        upgrade(connection)
    views.install(database.engine)
    assert rows(database, "SELECT exit_code FROM v_runs") == []


def test_read_only_while_the_service_writes(tmp_path: Path, sqlite_template: Path) -> None:
    """What the first example of the documentation does."""
    shutil.copy(sqlite_template, tmp_path / "t.db")
    database = Database(f"sqlite:///{tmp_path / 't.db'}")
    reader = sqlite3.connect(f"file:{tmp_path / 't.db'}?mode=ro", uri=True)
    with database.write() as session:
        session.connection().execute(text("INSERT INTO project (name, created_at, updated_at) VALUES ('p', 1, 1)"))
        assert reader.execute("SELECT count(*) FROM v_runs").fetchone() == (0,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM run")
    reader.close()
    database.close()
