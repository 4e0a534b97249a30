"""What callers get wrong, on each face: answered in that face's shape, with what to do; and nothing of it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import func, select
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.store.database import Database
from service.store.tables import Exposure, Outcome

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
FLAG, FLAGS = "/ofrep/v1/evaluate/flags/plain", "/ofrep/v1/evaluate/flags"
EVENTS, EXPERIMENTS = "/api/v1/events", "/api/v1/experiments"
ASKED = {CHAT: {"messages": []}, COMPLETIONS: {"prompt": "x"}, EMBEDDINGS: {"input": "x"}}
BROKEN = [b"", b"{", b"nonsense", b"\xff\xfe", b'{"a": \xff}', b"[" * 100_000, b'{"a": NaN}', b"17", b'"text"', b"null"]


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[TestClient]:
    """An experiment 'plain' of two variants without upstreams, running."""
    folder = tmp_path_factory.mktemp("faces")
    database = Database(f"sqlite:///{folder / 'faces.db'}")
    with TestClient(create_app(Settings(data_dir=folder / "data"), database)) as client:
        variants = [{"key": "a", "weight": 1}, {"key": "b", "weight": 1}]
        metrics = [{"name": "satisfaction", "role": "primary", "kind": "binary"}, {"name": "visits", "kind": "count"}]
        acceptance = {"name": "acceptance", "kind": "ratio", "numerator": "accepted", "denominator": "suggested"}
        plan = {"key": "plain", "variants": variants, "metrics": [*metrics, acceptance]}
        assert client.post(EXPERIMENTS, json=plan).status_code == 201
        assert client.post(f"{EXPERIMENTS}/plain/start").status_code == 200
        yield client
    database.close()


def openai_error(answer: Any, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    return str(error["message"])


def own_error(answer: Any, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert error.keys() == {"code", "message", "details"}
    assert error["code"] == code
    return str(error["message"])


def ofrep_error(answer: Any, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() <= {"key", "errorCode", "errorDetails"}
    assert answer.json()["errorCode"] == code
    return str(answer.json()["errorDetails"])


@pytest.mark.parametrize("body", BROKEN)
def test_a_body_that_is_no_json_or_no_object(face: TestClient, body: bytes) -> None:
    for path in (CHAT, COMPLETIONS, EMBEDDINGS):
        assert "JSON" in openai_error(face.post(path, content=body), 400, "invalid_request")
    for path in (FLAG, FLAGS):
        if body:  # without a body there is no context
            answer = face.post(path, content=body)
            assert ofrep_error(answer, 400, answer.json()["errorCode"])
            assert answer.json()["errorCode"] in ("PARSE_ERROR", "INVALID_CONTEXT")
        else:
            assert "targetingKey" in ofrep_error(face.post(path, content=body), 400, "TARGETING_KEY_MISSING")
    for path in (EVENTS, EXPERIMENTS):
        assert own_error(face.post(path, content=body), 400, "invalid_request")


def test_an_unknown_model_or_experiment(face: TestClient) -> None:
    for path, asked in ASKED.items():
        for model in ("gpt-4", "exp:none", "exp:", ""):
            said = openai_error(face.post(path, json={"model": model, **asked}), 404, "model_not_found")
            assert "GET /v1/models" in said
        assert "'model' must be" in openai_error(face.post(path, json=asked), 400, "invalid_request")
    said = ofrep_error(face.post("/ofrep/v1/evaluate/flags/none", json={}), 404, "FLAG_NOT_FOUND")
    assert "GET /api/v1/experiments" in said
    own_error(face.get(f"{EXPERIMENTS}/none"), 404, "experiment_not_found")
    for event in (
        {"type": "exposure", "experiment": "none", "unit_id": "u", "variant": "a"},
        {"type": "request", "experiment": "none", "unit_id": "u", "variant": "a", "request_id": "r"},
    ):
        said = own_error(face.post(EVENTS, json={"events": [event]}), 400, "event_refused")
        assert "events[0]: there is no started experiment 'none'" in said


def test_a_variant_without_an_upstream(face: TestClient) -> None:
    for path, asked in ASKED.items():
        said = openai_error(face.post(path, json={"model": "exp:plain", **asked}), 400, "invalid_request")
        assert "names no upstream" in said
        assert "tunescope.Assigner" in said
    upstream = {"name": "m", "base_url": "http://127.0.0.1:1/v1", "model": "x"}
    assert face.post("/api/v1/upstreams", json=upstream).status_code == 201
    variants = [{"key": "a", "weight": 1, "upstream": "m"}, {"key": "b", "weight": 1, "upstream": "gone"}]
    said = own_error(face.post(EXPERIMENTS, json={"key": "mixed", "variants": variants}), 400, "experiment_plan")
    assert "No such upstream: gone" in said
    assert "POST /api/v1/upstreams" in said
    own_error(face.get(f"{EXPERIMENTS}/mixed"), 404, "experiment_not_found")


def test_an_experiment_with_an_upstream_for_some_variants_only_does_not_start(face: TestClient) -> None:
    upstream = {"name": "some", "base_url": "http://127.0.0.1:1/v1", "model": "x"}
    assert face.post("/api/v1/upstreams", json=upstream).status_code == 201
    variants = [{"key": "a", "weight": 1, "upstream": "some"}, {"key": "b", "weight": 1}]
    assert face.post(EXPERIMENTS, json={"key": "half", "variants": variants}).status_code == 201
    said = own_error(face.post(f"{EXPERIMENTS}/half/start"), 400, "experiment_plan")
    assert "the variant 'a' names an upstream, the variant 'b' names none" in said
    assert "PATCH /api/v1/experiments/half" in said
    assert face.get(f"{EXPERIMENTS}/half").json()["status"] == "draft"
    assert face.get(f"{EXPERIMENTS}/half").json()["started_at"] is None

    for upstreams, wrong in (({"b": "gone"}, "No such upstream: gone"), ({"c": "some"}, "no variant c")):
        answer = face.patch(f"{EXPERIMENTS}/half", json={"upstreams": upstreams})
        assert wrong in own_error(answer, 400, "experiment_plan")
    assert face.patch(f"{EXPERIMENTS}/half", json={"upstreams": {"b": "some"}}).status_code == 200
    started = face.post(f"{EXPERIMENTS}/half/start").json()
    assert (started["status"], started["phase"]) == ("running", 1)
    assert [variant["upstream"] for variant in started["variants"]] == ["some", "some"]
    said = own_error(face.patch(f"{EXPERIMENTS}/half", json={"upstreams": {"b": "some"}}), 409, "experiment_status")
    assert "keep the models they have" in said


def test_the_gateway_refuses_for_an_experiment_that_has_not_started_in_its_own_shape(face: TestClient) -> None:
    """Before its start everybody gets the control: without an upstream of its own that is an error of OpenAI's shape,
    and OFREP answers."""
    upstream = {"name": "later", "base_url": "http://127.0.0.1:1/v1", "model": "x"}
    assert face.post("/api/v1/upstreams", json=upstream).status_code == 201
    variants = [{"key": "a", "weight": 1}, {"key": "b", "weight": 1, "upstream": "later"}]
    assert face.post(EXPERIMENTS, json={"key": "unready", "variants": variants}).status_code == 201
    for path, asked in ASKED.items():
        said = openai_error(face.post(path, json={"model": "exp:unready", **asked}), 400, "invalid_request")
        assert "names no upstream" in said
    flag = face.post("/ofrep/v1/evaluate/flags/unready", json={"context": {"targetingKey": "u"}})
    assert flag.status_code == 200
    assert flag.json()["variant"] == "a"


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([0, 0], "the weights add up to 0"),
        ([-1, 2], "greater than or equal to 0"),
        (["much", 1], "valid number"),
        ([None, 1], "valid number"),
        ([1e999, 1], "finite number"),
        ([1], "at least 2 items"),
    ],
)
def test_weights_that_cannot_be(face: TestClient, weights: list[Any], said: str) -> None:
    variants = ", ".join(
        f'{{"key": "v{n}", "weight": {one if isinstance(one, float | int) else "null"}}}'.replace("inf", "1e999")
        for n, one in enumerate(weights)
    )
    body = f'{{"key": "weighed", "variants": [{variants}]}}'.encode()
    answer = face.post(EXPERIMENTS, content=body, headers={"content-type": "application/json"})
    message = own_error(answer, 400, "invalid_request")
    assert said in message
    own_error(face.get(f"{EXPERIMENTS}/weighed"), 404, "experiment_not_found")


def test_weights_are_relative(face: TestClient) -> None:
    variants = [{"key": "a", "weight": 3}, {"key": "b", "weight": 9}]
    assert face.post(EXPERIMENTS, json={"key": "relative", "variants": variants}).status_code == 201
    assert face.post(f"{EXPERIMENTS}/relative/start").status_code == 200
    live = face.app.state.traffic.snapshots.refresh().experiments["relative"]  # type: ignore[attr-defined]
    assert [share for _, share in live.shares] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("satisfction", 1, "no experiment has a metric 'satisfction'; there are accepted, satisfaction"),
        ("latency", 1, "is measured by the service"),
        ("satisfaction", 5, "is 1 (yes) or 0 (no), got 5"),
    ],
)
def test_an_outcome_for_an_unknown_metric(face: TestClient, metric: str, value: float, said: str) -> None:
    good = {"type": "outcome", "request_id": "r", "metric": "visits", "value": 2}
    bad = good | {"metric": metric, "value": value}
    message = own_error(face.post(EVENTS, json={"events": [good, bad]}), 400, "event_refused")
    assert message.startswith("events[1]: ")
    assert said in message
    with face.app.state.database.read() as session:  # type: ignore[attr-defined]
        assert session.exec(select(func.count()).select_from(Outcome)).one() == 0


def test_the_parts_of_a_ratio_are_known(face: TestClient) -> None:
    events = [
        {"type": "outcome", "request_id": "parts", "metric": metric, "value": 1} for metric in ("accepted", "suggested")
    ]
    assert face.post(EVENTS, json={"events": events}).json() == {"accepted": 2, "duplicates": 0}
    with face.app.state.database.write() as session:  # type: ignore[attr-defined]
        for row in session.exec(select(Outcome)).all():
            session.delete(row)


def test_what_has_no_unit_or_a_wrong_one(face: TestClient) -> None:
    for path in (FLAG, FLAGS):
        assert "targetingKey" in ofrep_error(face.post(path, json={"context": {}}), 400, "TARGETING_KEY_MISSING")
        for unit in (17, ["u"], "x" * 10_000, "a\x00b"):
            context = {"context": {"targetingKey": unit}}
            assert "targetingKey" in ofrep_error(face.post(path, json=context), 400, "INVALID_CONTEXT")
    for path, asked in ASKED.items():
        body = {"model": "exp:plain", "user": "x" * 10_000, **asked}
        assert "unit id" in openai_error(face.post(path, json=body), 400, "invalid_request")
    event = {"type": "exposure", "experiment": "plain", "unit_id": "", "variant": "a"}
    own_error(face.post(EVENTS, json={"events": [event]}), 400, "invalid_request")
    unknown = event | {"unit_id": "u", "variant": "c"}
    said = own_error(face.post(EVENTS, json={"events": [unknown]}), 400, "event_refused")
    assert "'plain' has no variant 'c' (it has a, b)" in said
    with face.app.state.database.read() as session:  # type: ignore[attr-defined]
        assert session.exec(select(func.count()).select_from(Exposure)).one() == 0
