"""The OpenAI-compatible face, spoken to by OpenAI's own client over a real socket, with real models behind it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from sqlmodel import col, select

from service.experiments.assignment import assign
from service.store.tables import Exposure, GatewayContent, GatewayRequest
from tests.conftest import wait_until
from tests.service.experiments.conftest import Gateway
from tests.service.experiments.model_server import ModelServer

POSTGRESQL_IS_SLOW = True

Models = tuple[ModelServer, ModelServer, ModelServer]


def ask(gateway: Gateway, text: str, unit: str = "u1", **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    headers = {"X-Unit-Id": unit} if unit else {}
    return gateway.openai.chat.completions.with_raw_response.create(
        model="exp:chat", messages=messages, extra_headers=headers, **more
    )


def raw(gateway: Gateway, text: str, unit: str = "u1", **more: Any) -> httpx2.Response:
    body = {"model": "exp:chat", "messages": [{"role": "user", "content": text}], **more}
    return gateway.http.post("/v1/chat/completions", json=body, headers={"X-Unit-Id": unit})


def recorded(gateway: Gateway, *answers: Any) -> list[GatewayRequest]:
    """The rows of these answers, in their order. A call is recorded just after its last byte has left."""
    ids = [answer.headers["x-request-id"] for answer in answers]

    def rows() -> dict[str, GatewayRequest]:
        with gateway.database.read() as session:
            found = session.exec(select(GatewayRequest).where(col(GatewayRequest.request_id).in_(ids)))
            return {row.request_id: row for row in found}

    wait_until(lambda: len(rows()) == len(ids))
    return [rows()[request_id] for request_id in ids]


def record_of(gateway: Gateway, answer: Any) -> GatewayRequest:
    return recorded(gateway, answer)[0]


def events(response: httpx2.Response) -> Iterator[dict[str, Any]]:
    for block in response.text.split("\n\n"):
        if block.startswith("data: ") and block != "data: [DONE]":
            yield json.loads(block[6:])


def unit_of(gateway: Gateway, variant: str) -> str:
    experiment = gateway.traffic.snapshots.current.experiments["chat"]
    return next(u for n in range(1000) if assign(experiment, u := f"unit-{n}", {}).variant.key == variant)


def test_a_plain_answer_comes_from_the_assigned_arm_and_is_recorded(chat: Gateway, models: Models) -> None:
    for variant in ("base", "tuned"):
        unit = unit_of(chat, variant)
        response = ask(chat, "hello there", unit)
        completion = response.parse()
        assert completion.choices[0].message.content == f"{variant}: hello there"
        assert response.headers["x-experiment"] == "chat"
        assert response.headers["x-variant"] == variant
        row = record_of(chat, response)
        assert row.request_id == response.headers["x-request-id"]
        assert (row.unit_id, row.variant, row.upstream, row.counted) == (unit, variant, variant, True)
        assert (row.status, row.error, row.streamed, row.fell_back) == (200, None, False, False)
        assert (row.input_tokens, row.output_tokens) == (10, 3)
        assert row.cost == pytest.approx((10 * 1.0 + 3 * 10.0) / 1e6)
        assert row.price_version == "2026-01"
        assert row.latency is not None
        assert 0 < row.latency < 5
    assert models[1].requests[-1]["model"] == "tuned-1b"


def test_a_stream_passes_through_event_by_event_without_the_usage_nobody_asked_for(chat: Gateway) -> None:
    messages: Any = [{"role": "user", "content": "hello there"}]
    stream = chat.openai.chat.completions.create(
        model="exp:chat", messages=messages, stream=True, extra_headers={"X-Unit-Id": unit_of(chat, "tuned")}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "tuned: hello there "
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    row = record_of(chat, stream.response)
    assert (row.streamed, row.input_tokens, row.output_tokens) == (True, 10, 3)
    assert row.first_token is not None
    assert row.latency is not None
    assert 0 < row.first_token <= row.latency


def test_the_stream_is_byte_for_byte_what_the_model_sends_when_it_was_not_asked_for_usage(
    chat: Gateway, models: Models
) -> None:
    body = {"stream": True, "messages": [{"role": "user", "content": "same bytes"}]}
    direct = httpx2.post(f"{models[1].url}/chat/completions", json=body)
    passed = raw(chat, "same bytes", unit_of(chat, "tuned"), stream=True)
    assert passed.headers["content-type"].startswith("text/event-stream")
    assert [*events(passed)] == [*events(direct)]
    assert passed.text.endswith("data: [DONE]\n\n")


def test_usage_that_was_asked_for_is_passed_on(chat: Gateway) -> None:
    passed = raw(chat, "hello there", unit_of(chat, "base"), stream=True, stream_options={"include_usage": True})
    assert [*events(passed)][-1]["usage"] == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


def test_a_short_failure_is_retried_on_the_same_arm(chat: Gateway, models: Models) -> None:
    unit = unit_of(chat, "base")
    before = len(models[0].requests)
    response = ask(chat, f"fail 503 1 {time.time_ns()}", unit)
    assert response.parse().choices[0].message.content.startswith("base:")
    assert len(models[0].requests) == before + 2
    row = record_of(chat, response)
    assert (row.fell_back, row.upstream) == (False, "base")


@pytest.mark.parametrize(
    ("text", "stream"),
    [
        *(
            (text, stream)
            for text in ("fail 500", "fail 401", "fail 404", "garbage", "redirect")
            for stream in (False, True)
        ),
        ("stall", True),  # a whole answer has no first token to wait for
    ],
)
def test_a_model_that_does_not_answer_is_replaced_by_the_safe_one(
    chat: Gateway, models: Models, text: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The safe model is told something else by the test's own echo: it obeys the same orders, so it is renamed."""
    monkeypatch.setattr(models[2], f"_do_{text.split()[0]}", None, raising=False)
    response = raw(chat, text, unit_of(chat, "tuned"), stream=stream)
    assert response.status_code == 200
    assert "safe: " in response.text if not stream else "safe:" in response.text
    assert response.headers["x-variant"] == "tuned"
    row = record_of(chat, response)
    assert (row.variant, row.upstream, row.fell_back, row.status) == ("tuned", "safe", True, 200)


def test_when_the_safe_model_fails_too_the_caller_gets_openais_error(chat: Gateway) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(chat, "fail 503")
    assert caught.value.code == "upstream_overloaded"
    assert caught.value.type == "upstream_error"
    assert "x-request-id" in caught.value.response.headers
    row = record_of(chat, caught.value.response)
    assert (row.status, row.error, row.input_tokens, row.cost) == (503, "upstream_overloaded", None, None)


def test_a_rate_limit_is_a_rate_limit_error_with_its_pause(chat: Gateway) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        ask(chat, "fail 429")
    assert caught.value.response.headers["retry-after"] == "0"
    assert record_of(chat, caught.value.response).error == "upstream_rate_limited"


def test_a_refused_request_is_passed_on_in_the_models_own_words_and_not_retried(chat: Gateway, models: Models) -> None:
    before = sum(len(model.requests) for model in models)
    with pytest.raises(openai.BadRequestError, match="the model says no") as caught:
        ask(chat, "fail 400")
    assert sum(len(model.requests) for model in models) == before + 1
    assert record_of(chat, caught.value.response).error == "upstream_refused"


def test_the_upstreams_own_words_about_its_key_never_reach_the_caller(chat: Gateway) -> None:
    response = raw(chat, "fail 401")
    assert response.status_code == 502
    assert "sk-secret" not in response.text
    assert response.json()["error"]["code"] == "upstream_misconfigured"


def test_a_redirect_is_never_followed(chat: Gateway) -> None:
    assert raw(chat, "redirect").json()["error"]["code"] == "upstream_misconfigured"


@pytest.mark.parametrize(
    ("text", "code", "status"), [("cut 2", "upstream_unreachable", 502), ("stall 2", "upstream_timeout", 504)]
)
def test_a_stream_that_breaks_off_ends_in_an_error_and_no_second_model(
    chat: Gateway, models: Models, text: str, code: str, status: int
) -> None:
    messages: Any = [{"role": "user", "content": text}]
    heard: list[str] = []
    before = len(models[2].requests)
    stream = chat.openai.chat.completions.create(model="exp:chat", messages=messages, stream=True, user="u")
    with stream, pytest.raises(openai.APIError) as caught:
        heard.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert caught.value.code == code
    assert heard == ["word ", "word "]
    assert len(models[2].requests) == before
    row = record_of(chat, stream.response)
    assert (row.status, row.error, row.fell_back) == (status, code, False)


def test_a_caller_who_hangs_up_ends_the_models_work_and_is_recorded(chat: Gateway, models: Models) -> None:
    unit = unit_of(chat, "tuned")
    before = models[1].cancelled
    body = {"model": "exp:chat", "messages": [{"role": "user", "content": "slow"}], "stream": True}
    with chat.http.stream("POST", "/v1/chat/completions", json=body, headers={"X-Unit-Id": unit}) as response:
        next(response.iter_bytes())
    wait_until(lambda: models[1].cancelled == before + 1)
    row = record_of(chat, response)
    assert (row.status, row.error, row.counted) == (499, "hung_up", True)
    assert (row.input_tokens, row.cost) == (None, None)


def test_a_caller_who_closes_after_the_last_event_has_not_hung_up(chat: Gateway) -> None:
    body = {"model": "exp:chat", "messages": [{"role": "user", "content": "linger"}], "stream": True, "user": "u"}
    with chat.http.stream("POST", "/v1/chat/completions", json=body) as response:
        heard = b""
        for piece in response.iter_bytes():
            heard += piece
            if b"[DONE]" in heard:
                break
    row = record_of(chat, response)
    assert (row.status, row.error) == (200, None)


def test_without_a_unit_the_control_answers_and_nothing_counts(chat: Gateway) -> None:
    response = ask(chat, "hello", unit="")
    assert response.headers["x-variant"] == "base"
    assert record_of(chat, response).counted is False
    with chat.database.read() as session:
        assert session.exec(select(Exposure)).all() == []


def test_the_unit_is_the_header_else_the_user_else_the_session(chat: Gateway) -> None:
    answers = [
        raw(chat, "a", "from-header", user="from-user", metadata={"session_id": "from-session"}),
        raw(chat, "b", "", user="from-user", metadata={"session_id": "from-session"}),
        raw(chat, "c", "", metadata={"session_id": "from-session"}),
    ]
    assert [row.unit_id for row in recorded(chat, *answers)] == ["from-header", "from-user", "from-session"]


def test_a_paused_experiment_serves_the_control_and_a_decided_one_its_winner(chat: Gateway) -> None:
    unit = unit_of(chat, "tuned")
    chat.post("/experiments/chat/pause")
    paused = ask(chat, "x", unit)
    assert paused.headers["x-variant"] == "base"
    chat.post("/experiments/chat/stop")
    chat.post("/experiments/chat/decide", winner="tuned", reason="users like it")
    decided = ask(chat, "x", "anybody")
    assert decided.headers["x-variant"] == "tuned"
    assert [row.counted for row in recorded(chat, paused, decided)] == [False, False]


def test_an_upstream_answers_under_its_own_name(chat: Gateway) -> None:
    response = raw(chat, "hi", model="tuned")
    assert response.json()["choices"][0]["message"]["content"] == "tuned: hi"
    assert not response.headers.keys() & {"x-experiment", "x-variant"}
    row = record_of(chat, response)
    assert (row.experiment_id, row.counted, row.cost is not None) == (None, False, True)


def test_models_are_listed(chat: Gateway) -> None:
    assert {model.id for model in chat.openai.models.list()} == {"exp:chat", "base", "tuned", "safe"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_request"),
        (b"[]", 400, "invalid_request"),
        (b'{"messages": []}', 400, "invalid_request"),
        (b'{"model": "exp:chat"}', 400, "invalid_request"),
        (b'{"model": "exp:none", "messages": []}', 404, "model_not_found"),
        (b'{"model": "gpt-4", "messages": []}', 404, "model_not_found"),
        (b'{"model": "exp:chat", "messages": [], "user": "a\\u0000b"}', 400, "invalid_request"),
    ],
)
def test_what_cannot_be_routed_is_refused_in_openais_shape(chat: Gateway, body: bytes, status: int, code: str) -> None:
    response = chat.http.post("/v1/chat/completions", content=body)
    assert response.status_code == status
    assert response.json()["error"].keys() == {"message", "type", "code", "param"}
    assert response.json()["error"]["code"] == code


def test_keys_are_sent_to_the_model_and_shown_to_nobody(
    gateway: Gateway, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_UPSTREAM_KEY", "sk-very-secret")
    made = gateway.post("/upstreams", name="m", base_url=models[0].url, model="x", api_key_ref="env:TEST_UPSTREAM_KEY")
    assert made["problem"] is None
    gateway.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert models[0].headers[-1]["authorization"] == "Bearer sk-very-secret"
    assert "sk-very-secret" not in json.dumps(gateway.get("/upstreams"))

    made = gateway.post("/upstreams", name="n", base_url=models[0].url, model="x", api_key_ref="env:TEST_NOT_THERE")
    assert "TEST_NOT_THERE" in made["problem"]
    with pytest.raises(openai.InternalServerError, match="TEST_NOT_THERE"):
        gateway.openai.chat.completions.create(model="n", messages=[{"role": "user", "content": "hi"}])


def test_unknown_prices_and_counts_stay_unknown(gateway: Gateway, models: Models) -> None:
    gateway.post("/upstreams", name="m", base_url=models[0].url, model="x", input_price=1.0)
    row = record_of(gateway, raw(gateway, "hi", model="m"))
    assert (row.input_tokens, row.cost, row.price_version) == (10, None, None)


def test_prompts_and_answers_are_kept_only_where_the_experiment_asks_for_it(chat: Gateway) -> None:
    variants = [{"key": name, "weight": 0.5, "upstream": name} for name in ("base", "tuned")]
    chat.post("/experiments", key="kept", variants=variants, store_content=True)
    chat.post("/experiments/kept/start")
    messages: Any = [{"role": "user", "content": "hello"}]
    answers = [
        raw(chat, "hello"),
        raw(chat, "hello", model="exp:kept"),
        raw(chat, "hello", model="exp:kept", stream=True),
    ]
    recorded(chat, *answers)
    with chat.database.read() as session:
        contents = session.exec(select(GatewayContent).order_by(GatewayContent.request_id)).all()
    assert [content.messages for content in contents] == [messages, messages]
    assert all(
        content.answer in ("base: hello", "tuned: hello", "base: hello ", "tuned: hello ") for content in contents
    )


def test_the_gateway_asks_for_a_key_with_the_right_scope(gateway_settings: Any, database: Any, models: Models) -> None:
    from starlette.testclient import TestClient

    from service.app import create_app
    from service.auth import create_key

    with database.write() as session:
        allowed = create_key(session, "caller", ["evaluate"])
        reader = create_key(session, "reader", ["read"])
    with TestClient(create_app(gateway_settings.model_copy(update={"auth": True}), database)) as client:
        url, body = "/v1/chat/completions", {"model": "x", "messages": []}
        assert client.post(url, json=body).json()["error"]["type"] == "authentication_error"
        refused = client.post(url, json=body, headers={"Authorization": f"Bearer {reader}"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")
        passed = client.post(url, json=body, headers={"Authorization": f"Bearer {allowed}"})
        assert (passed.status_code, passed.json()["error"]["code"]) == (404, "model_not_found")


def test_bodies_end_and_every_error_below_v1_has_openais_shape(gateway_settings: Any, tmp_path: Any) -> None:
    from starlette.testclient import TestClient

    from service.app import create_app
    from service.store.database import Database

    database = Database(f"sqlite:///{tmp_path / 'shapes.db'}")
    with TestClient(create_app(gateway_settings.model_copy(update={"max_prompt_bytes": 100}), database)) as client:
        # Sent in chunks: there is no announced length to refuse.
        large = client.post("/v1/chat/completions", content=(b"x" * 60 for _ in range(2)))
        absent, wrong = client.get("/v1/nothing"), client.get("/v1/chat/completions")
        for response, status in ((large, 413), (absent, 404), (wrong, 405)):
            assert response.status_code == status
            said = response.json()["error"]
            assert said.keys() == {"message", "type", "code", "param"}
            assert said["type"] == "invalid_request_error"
    database.close()


def test_completions_and_embeddings_go_to_the_assigned_arm_too(chat: Gateway, models: Models) -> None:
    unit = {"X-Unit-Id": unit_of(chat, "tuned")}
    whole = chat.openai.completions.with_raw_response.create(model="exp:chat", prompt="hello", extra_headers=unit)
    assert whole.parse().choices[0].text == "tuned: hello and"
    stream = chat.openai.completions.create(model="exp:chat", prompt="hello", stream=True, extra_headers=unit)
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "tuned:helloand"
    vectors = chat.openai.embeddings.with_raw_response.create(
        model="exp:chat", input="hello", encoding_format="float", extra_headers=unit
    )
    assert vectors.parse().data[0].embedding == [0.5, 1.0]
    assert models[1].requests[-1]["model"] == "tuned-1b"
    rows = [record_of(chat, response) for response in (whole, stream.response, vectors)]
    assert [(row.variant, row.upstream, row.input_tokens, row.output_tokens) for row in rows] == [
        ("tuned", "tuned", 10, 3), ("tuned", "tuned", 10, 3), ("tuned", "tuned", 4, 0),
    ]  # fmt: skip
    assert rows[1].first_token is not None
    assert rows[2].cost == pytest.approx(4 / 1e6)


def test_vectors_are_never_the_fallbacks(chat: Gateway, models: Models) -> None:
    before = len(models[2].requests)
    with pytest.raises(openai.InternalServerError):
        chat.openai.embeddings.create(model="exp:chat", input="fail", encoding_format="float", user="u")
    assert len(models[2].requests) == before
    with pytest.raises(openai.BadRequestError, match="'input' must be a text or a list"):
        chat.openai.embeddings.create(model="exp:chat", input=17, encoding_format="float")  # type: ignore[arg-type]
