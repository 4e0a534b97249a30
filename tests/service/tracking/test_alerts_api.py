"""Alerts and diagnoses over HTTP: from points that arrive to what a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.auth import create_key
from service.measure.diagnosis import RULES
from service.settings import Settings
from service.store.database import Database
from tests.conftest import wait_until

NAN = float("nan")


def make_run(client: TestClient, project: str = "p", **body: Any) -> str:
    return str(client.post("/api/v1/runs", json={"project": project, **body}).json()["id"])


def log(client: TestClient, run_id: str, batch: int = 1, **series: Any) -> None:
    metrics = []
    for key, values in series.items():
        steps = np.arange(1, len(values) + 1)
        columns = {"step": steps.astype("<i8"), "time": steps.astype("<f8"), "value": np.asarray(values, "<f8")}
        metrics.append({"key": key.replace("__", "/")} | {name: column.tobytes() for name, column in columns.items()})
    body = msgspec.msgpack.encode({"writer": "w", "batch": batch, "metrics": metrics})
    headers = {"content-type": "application/msgpack"}
    assert client.post(f"/api/v1/runs/{run_id}/batches", content=body, headers=headers).status_code == 200


def alerts(client: TestClient, **params: Any) -> dict[str, Any]:
    answer = client.get("/api/v1/alerts", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def wait_for_alerts(client: TestClient, n: int, **params: Any) -> list[dict[str, Any]]:
    wait_until(lambda: len(alerts(client, **params)["items"]) >= n)
    return list(alerts(client, **params)["items"])


def test_a_batch_of_nan_becomes_an_alert_a_person_can_act_on(client: TestClient) -> None:
    run_id = make_run(client, name="too hot")
    log(client, run_id, train__loss=[2.0, 1.9, NAN, NAN])
    (alert,) = wait_for_alerts(client, 1, run_id=run_id)
    assert alert["message"] == "train/loss is NaN since step 3 (2 points); before, at step 2, it was 1.9."
    assert (alert["title"], alert["advice"]) == (RULES["loss_not_finite"].title, RULES["loss_not_finite"].advice)
    assert (alert["run_name"], alert["project"], alert["step"]) == ("too hot", "p", 3)
    assert alert["resolved_at"] is None
    assert alert["evidence"]["last_good_step"] == 2


def test_alerts_are_filtered_and_paged(client: TestClient) -> None:
    runs = [make_run(client, project) for project in ("a", "a", "b")]
    for run_id in runs:
        log(client, run_id, train__loss=[1.0, NAN, NAN], system__memory_percent=[99.0] * 10)
    wait_for_alerts(client, 6)
    assert len(alerts(client, project="a")["items"]) == 4
    assert len(alerts(client, run_id=runs[1:])["items"]) == 4
    assert {a["rule"] for a in alerts(client, severity="warning")["items"]} == {"out_of_memory"}
    assert len(alerts(client, rule="loss_not_finite", open=True)["items"]) == 3
    assert alerts(client, open=False)["items"] == []
    everything = [alert["id"] for alert in alerts(client)["items"]]
    assert everything == sorted(everything, reverse=True)
    paged, cursor = [], None
    while True:
        page = alerts(client, limit=4, **({"cursor": cursor} if cursor else {}))
        paged += [alert["id"] for alert in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == everything


def test_diagnoses_say_what_each_rule_says_and_why_it_cannot(client: TestClient) -> None:
    run_id = make_run(client, config={"train": {"max_steps": 1000}})
    falling = (2 * np.exp(-np.arange(200) / 50) + 0.5).tolist()
    log(client, run_id, train__loss=falling, eval__loss=[1.0, 0.9], grad_norm=[NAN, *[1.0] * 20])
    found = client.get(f"/api/v1/runs/{run_id}/diagnoses").json()["items"]
    said = {(one["rule"], one["state"]): one for one in found}
    assert {one["rule"] for one in found} == set(RULES)
    assert [one["key"] for one in found if one["rule"] == "loss_not_finite"] == ["train/loss", "eval/loss"]
    assert said["loss_diverging", "clear"]["evidence"]["best_level"] < 0.6
    assert said["no_progress", "too_little_data"]["message"] == "20 of the 30 % of the planned steps it takes."
    assert said["overfitting", "too_little_data"]["message"] == "2 of the 3 evaluations it takes."
    assert said["gradients_exploding", "too_little_data"]["evidence"] == {"have": 20, "need": 40}
    assert said["gpu_idle", "not_measured"]["message"] == "No GPU utilisation is recorded."
    assert said["silent", "clear"]["advice"] is None
    assert all(one["criterion"] for one in found)
    assert client.get("/api/v1/runs/nothing/diagnoses").status_code == 404


def test_progress_that_is_logged_is_the_plan(client: TestClient) -> None:
    run_id = make_run(client)
    log(client, run_id, train__loss=[2.0] * 60, train__progress=np.linspace(0.01, 0.5, 60).tolist())
    (found,) = [
        one for one in client.get(f"/api/v1/runs/{run_id}/diagnoses").json()["items"] if one["rule"] == "no_progress"
    ]
    assert (found["state"], found["severity"]) == ("found", "warning")


def test_reinforcement_learning_is_not_judged_by_its_loss(client: TestClient) -> None:
    run_id = make_run(client)
    log(client, run_id, train__loss=np.linspace(0.1, 9.0, 400).tolist(), train__reward=[1.0])
    found = client.get(f"/api/v1/runs/{run_id}/diagnoses").json()["items"]
    assert {one["state"] for one in found if one["rule"] in {"loss_diverging", "no_progress"}} == {"not_measured"}


def test_webhooks_need_the_admin_scope(tmp_path: Path, database: Database) -> None:
    with database.write() as session:
        writer, admin = (create_key(session, scope, [scope]) for scope in ("write", "admin"))
    with TestClient(create_app(Settings(data_dir=tmp_path / "data", auth=True), database)) as client:
        for key, status in ((writer, 403), (admin, 201)):
            headers = {"authorization": f"Bearer {key}"}
            answer = client.post("/api/v1/webhooks", json={"url": "https://hooks.example/x"}, headers=headers)
            assert answer.status_code == status
        made = answer.json()["id"]
        for call in (client.get("/api/v1/webhooks"), client.delete(f"/api/v1/webhooks/{made}")):
            assert call.status_code == 401
        headers = {"authorization": f"Bearer {writer}"}
        assert client.get("/api/v1/alerts", headers=headers).status_code == 200
        assert client.post(f"/api/v1/webhooks/{made}/test", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "given",
    [
        {"url": "ftp://hooks.example/x"},
        {"url": "https://"},
        {"url": "https://me:secret@hooks.example/x"},
        {"url": "https://hooks.example/x", "secret_ref": "swordfish"},
        {"url": "http://127.0.0.1:9/x"},
        {"url": "http://[::ffff:10.0.0.1]/x"},
        {"url": "http://169.254.169.254/latest/meta-data"},
    ],
)
def test_a_webhook_that_cannot_be_is_refused(client: TestClient, given: dict[str, str]) -> None:
    answer = client.post("/api/v1/webhooks", json=given)
    assert answer.status_code == 400
    assert "swordfish" not in client.get("/api/v1/webhooks").text


def test_webhooks_are_listed_and_taken_away(client: TestClient) -> None:
    given = {"url": "https://hooks.example/x", "project": "p", "secret_ref": "env:NO_SUCH_SECRET"}
    made = client.post("/api/v1/webhooks", json=given).json()
    (listed,) = client.get("/api/v1/webhooks").json()["items"]
    assert listed == made
    assert (listed["project"], listed["waiting"], listed["last_error"]) == ("p", 0, None)
    assert "NO_SUCH_SECRET is not set" in listed["problem"]
    assert client.delete(f"/api/v1/webhooks/{made['id']}").status_code == 204
    assert client.get("/api/v1/webhooks").json()["items"] == []
    for call in (client.delete, lambda path: client.post(f"{path}/test")):
        answer = call(f"/api/v1/webhooks/{made['id']}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "webhook_not_found")


def test_the_api_documents_what_webhooks_receive(client: TestClient) -> None:
    made = client.get("/openapi.json").json()["paths"]["/api/v1/webhooks"]["post"]
    assert "webhook-signature" in made["description"]
    (received,) = next(iter(made["callbacks"].values())).values()
    body = received["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert body.endswith("/WebhookBody")
