"""The native registry: descriptions, tags, aliases, renaming, and what deleting leaves behind."""

from __future__ import annotations

import threading

import pytest
from starlette.testclient import TestClient

from service.store import lineage, registry
from service.store.database import Database
from service.store.tables import LoggedModelMetric
from service.tracking.models import BadAlias, BadModelName, check_alias, check_name

MODEL = "/api/v1/models/assistant"


def register(client: TestClient, name: str = "assistant", **fields: object) -> dict[str, object]:
    made = client.post(f"/api/v1/models/{name}/versions", json=fields)
    assert made.status_code == 201, made.text
    return dict(made.json())


def test_a_model_has_a_description_and_tags(client: TestClient) -> None:
    register(client, aliases=["champion"])
    first = client.patch(
        MODEL, json={"description": "answers **mail**", "tags": {"team": "nlp", "task": "chat"}}
    ).json()
    assert (first["description"], first["tags"]) == ("answers **mail**", {"task": "chat", "team": "nlp"})
    second = client.patch(MODEL, json={"tags": {"team": None, "task": "mail"}}).json()
    assert (second["description"], second["tags"]) == ("answers **mail**", {"task": "mail"})
    assert client.patch(MODEL, json={"description": None}).json()["description"] is None
    read = client.get(MODEL).json()
    assert (read["n_versions"], read["aliases"], read["latest"]["version"]) == (1, {"champion": 1}, 1)
    assert read["updated_at"] >= read["created_at"]
    assert client.get("/api/v1/models").json()["items"] == [read]


def test_a_version_has_tags_and_a_description(client: TestClient) -> None:
    version = register(client, tags={"quantized": "no"}, description="first")
    assert (version["tags"], version["description"]) == ({"quantized": "no"}, "first")
    url = f"/api/v1/model-versions/{version['id']}"
    changed = client.patch(url, json={"description": "better", "tags": {"quantized": None, "bits": "4"}}).json()
    assert (changed["tags"], changed["description"]) == ({"bits": "4"}, "better")
    assert client.get(url).json() == changed
    assert client.patch("/api/v1/model-versions/none", json={}).status_code == 404


def test_an_alias_can_be_asked_for_and_taken_away(client: TestClient) -> None:
    register(client, aliases=["champion"])
    register(client)
    assert client.get(f"{MODEL}/aliases/champion").json()["version"] == 1
    client.put(f"{MODEL}/aliases/champion", json={"version": 2})
    assert client.get(f"{MODEL}/aliases/champion").json()["version"] == 2
    assert client.delete(f"{MODEL}/aliases/champion").status_code == 204
    gone = client.get(f"{MODEL}/aliases/champion")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "alias_not_found")
    assert client.delete(f"{MODEL}/aliases/champion").status_code == 404
    assert client.delete("/api/v1/models/none/aliases/champion").json()["error"]["code"] == "model_not_found"


def test_a_deleted_version_is_hidden_and_its_number_is_not_given_again(client: TestClient) -> None:
    register(client)
    second = register(client, aliases=["champion"], description="kept")
    url = f"/api/v1/model-versions/{second['id']}"
    assert client.delete(url).status_code == 204
    assert [version["version"] for version in client.get(f"{MODEL}/versions").json()["items"]] == [1]
    assert client.get(MODEL).json()["aliases"] == {}
    assert client.get(MODEL).json()["latest"]["version"] == 1
    # What names it can still show it, but nobody can change it or build on it.
    shown = client.get(url).json()
    assert (shown["version"], shown["description"], shown["aliases"]) == (2, "kept", [])
    assert shown["deleted_at"] is not None
    assert client.get(f"{url}/links").status_code == 200
    assert client.delete(url).status_code == 404
    assert client.patch(url, json={"description": "no"}).status_code == 404
    assert client.put(f"{MODEL}/aliases/x", json={"version": 2}).status_code == 404
    assert client.post(f"{MODEL}/versions", json={"base_version_id": second["id"]}).status_code == 404
    assert register(client)["version"] == 3


def test_a_base_that_was_deleted_is_still_named(client: TestClient) -> None:
    base = register(client)
    tuned = register(client, base_version_id=base["id"])
    client.delete(f"/api/v1/model-versions/{base['id']}")
    links = client.get(f"/api/v1/model-versions/{tuned['id']}/links").json()
    assert (links["base"]["id"], links["base"]["deleted_at"] is not None) == (base["id"], True)


def test_a_renamed_model_keeps_everything(client: TestClient) -> None:
    first = register(client, aliases=["champion"], tags={"a": "b"})
    second = register(client)
    client.delete(f"/api/v1/model-versions/{second['id']}")
    client.patch(MODEL, json={"tags": {"team": "nlp"}})
    renamed = client.patch(MODEL, json={"name": "helper", "description": "d"}).json()
    assert (renamed["name"], renamed["tags"], renamed["description"]) == ("helper", {"team": "nlp"}, "d")
    assert renamed["aliases"] == {"champion": 1}
    assert renamed["latest"]["id"] == first["id"]
    assert client.get(MODEL).status_code == 404
    assert register(client, "helper")["version"] == 3
    register(client, "other")
    refused = client.patch("/api/v1/models/helper", json={"name": "other"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_exists")
    assert client.get("/api/v1/models/helper").json()["n_versions"] == 2


def test_a_deleted_model_gives_its_name_back(client: TestClient) -> None:
    for _ in range(2):
        version = register(client, aliases=["champion"])
        client.patch(MODEL, json={"tags": {"team": "nlp"}})
        assert client.delete(MODEL).status_code == 204
        assert client.get(MODEL).status_code == 404
        assert client.get(f"{MODEL}/versions").status_code == 404
        kept = client.get(f"/api/v1/model-versions/{version['id']}").json()
        assert kept["name"].startswith("assistant (deleted 20")
    new = register(client)
    assert new["version"] == 1
    read = client.get(MODEL).json()
    assert (read["tags"], read["aliases"], read["n_versions"]) == ({}, {}, 1)
    # A model may also be renamed to what a deleted one was called.
    register(client, "other")
    client.delete(MODEL)
    assert client.patch("/api/v1/models/other", json={"name": "assistant"}).status_code == 200


def test_prompts_are_listed_apart(client: TestClient) -> None:
    register(client)
    register(client, "greeting")
    client.patch("/api/v1/models/greeting", json={"tags": {"mlflow.prompt.is_prompt": "true"}})
    assert [model["name"] for model in client.get("/api/v1/models").json()["items"]] == ["assistant"]
    prompts = client.get("/api/v1/models", params={"prompts": True}).json()["items"]
    assert [model["name"] for model in prompts] == ["greeting"]


@pytest.mark.parametrize("name", ["a/b", "a:b", " ", "..", "."])
def test_names_that_no_address_can_hold(name: str) -> None:
    with pytest.raises(BadModelName):
        check_name(name)


@pytest.mark.parametrize("alias", ["", "a b", "latest", "LATEST", "v1", "V22", "a/b", "x" * 256])
def test_aliases_that_are_reserved_or_unreadable(alias: str) -> None:
    with pytest.raises(BadAlias):
        check_alias(alias)


def test_the_api_refuses_them_and_makes_nothing(client: TestClient) -> None:
    assert client.post("/api/v1/models/a:b/versions", json={}).json()["error"]["code"] == "bad_model_name"
    assert client.post(f"{MODEL}/versions", json={"aliases": ["v1"]}).json()["error"]["code"] == "bad_alias"
    assert client.post(f"{MODEL}/versions", json={"tags": {"k" * 251: ""}}).status_code == 400
    assert client.get("/api/v1/models").json()["items"] == []


def test_lineage_goes_from_a_version_to_the_data(client: TestClient, database: Database) -> None:
    run = client.post("/api/v1/runs", json={"project": "p"}).json()["id"]
    project = client.get("/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "p"}).json()
    dataset = {"name": "mail", "digest": "abc", "source_type": "hf", "source": "mail.parquet"}
    tags = [{"key": "mlflow.data.context", "value": "training"}]
    given = {"run_id": run, "datasets": [{"dataset": dataset, "tags": tags}]}
    assert client.post("/api/2.0/mlflow/runs/log-inputs", json=given).status_code == 200
    with database.write() as session:
        model_id = lineage.create_model(
            session, project_id=int(project["experiment"]["experiment_id"]), name="clf", run_id=run
        ).id
        lineage.link_run(session, run, "output", {model_id: 7})
    version = register(client, logged_model_id=model_id)
    assert (version["run_id"], version["source"]) == (run, f"models:/{model_id}")
    links = client.get(f"/api/v1/model-versions/{version['id']}/links").json()
    assert [(found["name"], found["digest"], found["context"]) for found in links["datasets"]] == [
        ("mail", "abc", "training")
    ]
    of_run = client.get(f"/api/v1/runs/{run}/links").json()
    assert of_run["datasets"] == links["datasets"]
    made = {"id": model_id, "name": "clf", "model_type": None, "status": "PENDING", "role": "output", "step": 7}
    assert of_run["logged_models"] == [made]
    assert client.post(f"{MODEL}/versions", json={"logged_model_id": "m-none"}).status_code == 404


def test_a_measurement_that_is_sent_twice_is_stored_once(client: TestClient, database: Database) -> None:
    run = client.post("/api/v1/runs", json={"project": "p"}).json()["id"]
    with database.write() as session:
        project = session.connection().exec_driver_sql("SELECT id FROM project WHERE name = 'p'").scalar()
        model_id = lineage.create_model(session, project_id=project, name="clf").id

    def row(step: int, value: float | None) -> LoggedModelMetric:
        special = "NaN" if value is None else None
        return LoggedModelMetric(
            model_id=model_id, run_id=run, key="f1", value=value, special=special, step=step, time=1.0
        )

    for _ in range(2):
        with database.write() as session:
            lineage.add_metrics(session, [row(1, 0.5), row(2, None), row(1, 0.5)])
    with database.read() as session:
        assert [(found.step, found.value) for found in lineage.metrics(session, [model_id])[model_id]] == [
            (1, 0.5),
            (2, None),
        ]


def test_two_writers_get_two_numbers(database: Database) -> None:
    """On PostgreSQL the second waits for the first; on SQLite writers queue anyway."""
    numbers: list[int] = []

    def write() -> None:
        for _ in range(5):
            with database.write() as session:
                numbers.append(registry.add_version(session, "m").version)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 21))
