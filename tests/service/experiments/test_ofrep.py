"""OFREP with the OpenFeature SDK and its own provider, and the protocol to the letter."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from service.app import create_app
from service.auth import create_key
from service.experiments.ofrep import MOST_CONTEXT_BYTES
from service.experiments.traffic import Met
from service.settings import Settings
from service.store.database import Database
from tests.conftest import wait_until

FLAGS = "/ofrep/v1/evaluate/flags"


@pytest.fixture(scope="module")
def http(live_service: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=live_service, timeout=30) as client:
        yield client


@pytest.fixture
def key(http: httpx2.Client) -> str:
    """A running experiment whose arms carry model names."""
    return start(http, "m0", "m1")


@pytest.fixture(scope="module")
def features(live_service: str) -> Iterator[OpenFeatureClient]:
    api.set_provider_and_wait(OFREPProvider(live_service))
    yield api.get_client()
    api.shutdown()


def start(http: httpx2.Client, *values: Any, running: bool = True, **plan: Any) -> str:
    key = f"flag-{uuid.uuid4().hex[:12]}"
    variants = [{"key": f"arm{n}", "weight": 1, "value": value} for n, value in enumerate(values)]
    assert http.post("/api/v1/experiments", json={"key": key, "variants": variants, **plan}).status_code == 201
    if running:
        do(http, key, "start")
    return key


def do(http: httpx2.Client, key: str, action: str, **body: Any) -> None:
    response = http.post(f"/api/v1/experiments/{key}/{action}", json=body or None)
    assert response.status_code == 200, response.text


def ask(http: httpx2.Client, key: str, unit: str = "u1", **attributes: Any) -> Any:
    response = http.post(f"{FLAGS}/{key}", json={"context": {"targetingKey": unit, **attributes}})
    assert response.status_code == 200, response.text
    return response.json()


def observed(http: httpx2.Client, key: str) -> int:
    return sum(http.get(f"/api/v1/experiments/{key}/readout").json()["split"]["observed"].values())


def test_the_sdk_gets_each_type_of_flag(http: httpx2.Client, features: OpenFeatureClient) -> None:
    unit = EvaluationContext("u1")
    text, switch, number = start(http, "m0", "m1"), start(http, False, False), start(http, 3, 3)
    real, table = start(http, 0, 0.5), start(http, {"model": "a"}, {"model": "a"})
    assert features.get_string_value(text, "lost", unit) in ("m0", "m1")
    assert features.get_boolean_value(switch, True, unit) is False
    assert features.get_integer_value(number, 9, unit) == 3
    assert features.get_object_value(table, {}, unit) == {"model": "a"}
    # Some unit gets the 0, which a client would take for an integer.
    arms = {features.get_float_value(real, 9.0, EvaluationContext(f"u{n}")) for n in range(40)}
    assert arms == {0.0, 0.5}


def test_the_sdk_hears_variant_reason_and_metadata(http: httpx2.Client, features: OpenFeatureClient, key: str) -> None:
    found = features.get_string_details(key, "lost", EvaluationContext("u1"))
    assert (found.error_code, found.reason) == (None, Reason.SPLIT)
    assert {"arm0": "m0", "arm1": "m1"}[found.variant or ""] == found.value
    assert found.flag_metadata == {"phase": 1, "counted": True, "assignment": "assigned"}


@pytest.mark.parametrize(
    ("flag", "unit", "code"),
    [(None, None, ErrorCode.TARGETING_KEY_MISSING), ("nowhere", "u1", ErrorCode.FLAG_NOT_FOUND)],
)
def test_the_sdk_hears_what_is_wrong(
    features: OpenFeatureClient, key: str, flag: str | None, unit: str | None, code: ErrorCode
) -> None:
    found = features.get_string_details(flag or key, "default", EvaluationContext(unit))
    assert (found.value, found.error_code) == ("default", code)


def test_an_arm_without_a_value_is_a_flag_with_its_name(http: httpx2.Client) -> None:
    answer = ask(http, start(http, None, None))
    assert answer["value"] == answer["variant"]


def test_why_a_unit_gets_its_arm(http: httpx2.Client) -> None:
    key = start(http, "m0", "m1", running=False, forced={"tester": "arm1"}, targeting={"plan": "pro"})
    said = lambda **given: tuple(ask(http, key, **given)[name] for name in ("reason", "variant"))  # noqa: E731
    assert said() == ("DISABLED", "arm0")
    do(http, key, "start")
    assert said(unit="tester") == ("TARGETING_MATCH", "arm1")
    assert said(plan="free") == ("STATIC", "arm0")
    assert said(plan="pro")[0] == "SPLIT"
    assert http.patch(f"/api/v1/experiments/{key}", json={"coverage": 0}).status_code == 200
    assert said(plan="pro") == ("STATIC", "arm0")
    do(http, key, "stop")
    assert said(plan="pro") == ("DISABLED", "arm0")
    do(http, key, "decide", winner="arm1", reason="users prefer it")
    assert said(plan="pro") == ("STATIC", "arm1")


def test_asking_for_one_flag_is_an_exposure_and_asking_for_all_is_none(http: httpx2.Client, key: str) -> None:
    for _ in range(3):
        ask(http, key, "u1")
    ask(http, key, "u2")
    assert http.post(FLAGS, json={"context": {"targetingKey": "u3"}}).status_code == 200
    # Events leave in order: when the last is in the record, so would be any that bulk had made.
    ask(http, key, "u4")
    wait_until(lambda: observed(http, key) >= 3)
    assert observed(http, key) == 3


def test_all_flags_come_with_an_etag(http: httpx2.Client, key: str) -> None:
    def all_flags(unit: str, etag: str = "") -> Any:
        return http.post(FLAGS, json={"context": {"targetingKey": unit}}, headers={"If-None-Match": etag})

    first = all_flags("u1")
    assert {flag["key"]: flag for flag in first.json()["flags"]}[key] == ask(http, key, "u1")
    again = all_flags("u1", first.headers["etag"])
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert all_flags("u1", f'"other", W/{first.headers["etag"]}').status_code == 304
    do(http, key, "pause")
    changed = all_flags("u1", first.headers["etag"])
    assert (changed.status_code, changed.headers["etag"] != first.headers["etag"]) == (200, True)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "TARGETING_KEY_MISSING"),
        (b"{}", 400, "TARGETING_KEY_MISSING"),
        (b'{"context": {"targetingKey": ""}}', 400, "TARGETING_KEY_MISSING"),
        (b"{", 400, "PARSE_ERROR"),
        (b"\xff", 400, "PARSE_ERROR"),
        (b"[]", 400, "INVALID_CONTEXT"),
        (b'{"context": []}', 400, "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": 17}}', 400, "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": "a\\u0000b"}}', 400, "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": "' + b"x" * 257 + b'"}}', 400, "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": "u", "note": "' + b"x" * MOST_CONTEXT_BYTES + b'"}}', 413, "GENERAL"),
    ],
)
@pytest.mark.parametrize("one", [True, False])
def test_what_cannot_be_evaluated_is_refused_in_ofreps_shape(
    http: httpx2.Client, one: bool, body: bytes, status: int, code: str
) -> None:
    key = "refused"
    http.post("/api/v1/experiments", json={"key": key, "variants": [{"key": k, "weight": 1} for k in "ab"]})
    response = http.post(f"{FLAGS}/{key}" if one else FLAGS, content=body)
    answer = response.json()
    assert (response.status_code, answer["errorCode"]) == (status, code)
    assert answer["errorDetails"]
    assert answer.keys() <= {"key", "errorCode", "errorDetails"}
    if one and status == 400:
        assert answer["key"] == key


def test_paths_and_methods_that_are_not_there_too(http: httpx2.Client) -> None:
    for response in (http.get(f"{FLAGS}/x"), http.post("/ofrep/v1/nothing", json={})):
        assert response.status_code in (404, 405)
        assert response.json()["errorDetails"]
    unknown = http.post(f"{FLAGS}/nowhere", json={"context": {"targetingKey": "u"}})
    assert (unknown.status_code, unknown.json()["errorCode"], unknown.json()["key"]) == (
        404, "FLAG_NOT_FOUND", "nowhere",
    )  # fmt: skip


def test_a_key_with_the_scope_evaluate_is_asked_for(settings: Settings, tmp_path: Any) -> None:
    from starlette.testclient import TestClient

    database = Database(f"sqlite:///{tmp_path / 'keys.db'}")
    with database.write() as session:
        allowed, reader = create_key(session, "app", ["evaluate"]), create_key(session, "reader", ["read"])
    with TestClient(create_app(settings.model_copy(update={"auth": True}), database)) as client:
        body = {"context": {"targetingKey": "u"}}
        for given, status in (("", 401), (reader, 403), (allowed, 200)):
            response = client.post(FLAGS, json=body, headers={"X-API-Key": given} if given else {})
            assert response.status_code == status
            assert ("flags" if status == 200 else "errorDetails") in response.json()
    database.close()


def test_what_was_met_is_forgotten_before_it_fills_the_memory() -> None:
    met = Met(most=2)
    assert [met.first(("e", 1, unit)) for unit in ("a", "a", "b", "c", "a")] == [True, False, True, True, True]
