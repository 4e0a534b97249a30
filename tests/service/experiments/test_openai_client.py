"""OpenAI's own client through the gateway: tools, large prompts, time-outs, hang-ups, and models that misbehave."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from service.settings import Settings
from service.store import events as store
from service.store.database import Database
from tests.conftest import wait_until
from tests.service.experiments.conftest import Gateway, begin_chat, running_gateway
from tests.service.experiments.test_gateway import Models, raw, record_of

TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
    for name in ("get_weather", "get_time")
]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Any, models: Models) -> Iterator[Gateway]:
    """What is tested here does not depend on the database."""
    folder = tmp_path_factory.mktemp("gateway")
    quick = {"upstream_first_token_timeout": 0.5, "upstream_token_timeout": 0.5, "upstream_total_timeout": 8.0}
    database = Database(f"sqlite:///{folder / 'gateway.db'}")
    settings = Settings(data_dir=folder / "data", max_prompt_bytes=12 * 2**20, **quick)  # type: ignore[arg-type]
    with running_gateway(settings, database) as gateway:
        begin_chat(gateway, models)
        yield gateway
    database.close()


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_tools_are_called_and_their_results_sent_back(chat: Gateway, models: Models) -> None:
    first = chat.openai.chat.completions.create(
        model="exp:chat", messages=said("weather Brno"), tools=TOOLS, tool_choice="auto", user="u"
    )
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]  # type: ignore[union-attr]
    assert calls == [("get_weather", {"city": "Brno"}), ("get_time", {"city": "Brno"})]
    history = [
        *said("weather Brno"),
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
    ]
    second = chat.openai.chat.completions.create(model="exp:chat", messages=history, tools=TOOLS, user="u")
    assert second.choices[0].message.content is not None
    assert second.choices[0].message.content.endswith(": sunny")
    seen = [request for model in models for request in model.requests if request.get("tools")][-1]
    assert (seen["tools"], seen["messages"]) == (TOOLS, history)


def test_tool_calls_are_streamed_in_pieces(chat: Gateway) -> None:
    stream = chat.openai.chat.completions.create(
        model="exp:chat", messages=said("weather Brno"), tools=TOOLS, stream=True, user="u"
    )
    arguments = {0: "", 1: ""}
    names: dict[int, str] = {}
    reasons = []
    for chunk in stream:
        [choice] = chunk.choices
        reasons.append(choice.finish_reason)
        for call in choice.delta.tool_calls or []:
            assert call.function is not None
            names[call.index] = names.get(call.index) or str(call.function.name)
            arguments[call.index] += call.function.arguments or ""
    assert names == {0: "get_weather", 1: "get_time"}
    assert {index: json.loads(text) for index, text in arguments.items()} == {n: {"city": "Brno"} for n in (0, 1)}
    assert reasons[-1] == "tool_calls"
    row = record_of(chat, stream.response)
    assert (row.status, row.error) == (200, None)
    assert row.first_token is not None


def test_the_streaming_helper_of_the_client_works(chat: Gateway) -> None:
    with chat.openai.chat.completions.stream(
        model="exp:chat", messages=said("weather Brno"), tools=TOOLS, user="u"
    ) as s:
        for _ in s:
            pass
        final = s.get_final_completion()
    assert [call.function.name for call in final.choices[0].message.tool_calls or []] == ["get_weather", "get_time"]


def test_a_prompt_of_ten_megabytes_arrives_whole(chat: Gateway, models: Models) -> None:
    text = "says " + "žluťoučký kůň " * (10 * 2**20 // 20)
    size = len(text.encode())
    assert size > 10_000_000
    answer = chat.openai.chat.completions.create(model="exp:chat", messages=said(text), user="u")
    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.endswith(text)
    asked = [request["messages"] for model in models for request in model.requests if "messages" in request]
    assert max(asked, key=lambda messages: len(str(messages))) == said(text)


@pytest.mark.parametrize("announced", [True, False])
def test_a_prompt_beyond_the_limit_is_refused_with_the_limit(chat: Gateway, models: Models, announced: bool) -> None:
    before = sum(len(model.requests) for model in models)
    body = json.dumps({"model": "exp:chat", "messages": said("x" * (12 * 2**20))}).encode()
    pieces = (body[start : start + 2**16] for start in range(0, len(body), 2**16))
    try:
        refused = chat.http.post("/v1/chat/completions", content=body if announced else pieces)
    except httpx2.WriteError:  # the service need not read on
        return
    assert refused.status_code == 413
    error = refused.json()["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    assert error["code"] == "too_large"
    assert "12,582,912 bytes" in error["message"]
    assert sum(len(model.requests) for model in models) == before


def test_a_model_that_takes_too_long_as_a_whole(chat: Gateway) -> None:
    """Each word comes in time, the answer does not end."""
    began = time.monotonic()
    stream = chat.openai.chat.completions.create(model="base", messages=said("drip"), stream=True)
    with pytest.raises(openai.APIError) as caught:
        for _ in stream:
            pass
    assert caught.value.code == "upstream_timeout"
    assert 7.5 < time.monotonic() - began < 20
    assert record_of(chat, stream.response).error == "upstream_timeout"


def test_a_whole_answer_that_never_comes(chat: Gateway) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        chat.openai.chat.completions.create(model="base", messages=said("stall"))
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")
    assert record_of(chat, caught.value.response).status == 504


def test_comments_are_no_first_token(chat: Gateway) -> None:
    """Keep-alives of a model that says nothing do not keep a caller for longer than the first token may take."""
    with pytest.raises(openai.InternalServerError) as caught:
        chat.openai.chat.completions.create(model="base", messages=said("silence"), stream=True)
    assert caught.value.code == "upstream_timeout"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_an_end_is_cut_off(chat: Gateway, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.experiments.upstream.MOST_ANSWER_BYTES", 2**20)
    monkeypatch.setattr("service.experiments.streaming.MOST_EVENT_BYTES", 2**20)
    with pytest.raises(openai.InternalServerError) as caught:
        chat.openai.chat.completions.create(model="base", messages=said("endless"), stream=stream)
    assert caught.value.code == "upstream_garbled"
    wait_until(lambda: chat.traffic.upstreams._under_way == {})


def test_a_caller_who_hangs_up_on_a_whole_answer_ends_the_models_work(chat: Gateway) -> None:
    impatient = chat.openai.with_options(timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(model="base", messages=said("stall"), user="hasty")
    wait_until(lambda: chat.traffic.upstreams._under_way == {})
    assert chat.traffic.recorder.flush()


def test_the_clients_own_retries_meet_a_model_that_recovers(chat: Gateway, models: Models) -> None:
    """Twice as many failures as the gateway tries to get over: the client asks again, as it is told."""
    patient = chat.openai.with_options(max_retries=2)
    before = len(models[0].requests)
    answer = patient.chat.completions.create(model="base", messages=said(f"fail 503 2 {time.time_ns()}"))
    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.startswith("base: ")
    assert len(models[0].requests) == before + 3


FAILURES: list[tuple[str, type[openai.APIStatusError], str]] = [
    ("fail 400", openai.BadRequestError, "no"),
    ("fail 401", openai.InternalServerError, "upstream_misconfigured"),
    ("fail 403", openai.InternalServerError, "upstream_misconfigured"),
    ("fail 404", openai.InternalServerError, "upstream_misconfigured"),
    ("fail 409", openai.ConflictError, "no"),
    ("fail 413", openai.APIStatusError, "no"),
    ("fail 422", openai.UnprocessableEntityError, "no"),
    ("fail 429", openai.RateLimitError, "upstream_rate_limited"),
    ("fail 500", openai.InternalServerError, "upstream_overloaded"),
    ("fail 503", openai.InternalServerError, "upstream_overloaded"),
    ("garbage", openai.InternalServerError, "upstream_garbled"),
    ("redirect", openai.InternalServerError, "upstream_misconfigured"),
]


def test_each_failure_of_a_model_is_the_clients_own_error(chat: Gateway) -> None:
    for text, error, code in FAILURES:
        for stream in (False, True):
            with pytest.raises(error) as caught:
                chat.openai.chat.completions.create(model="base", messages=said(text), stream=stream)
            assert caught.value.code == code, text
            assert "sk-secret" not in str(caught.value) or code == "no"


def test_an_upstream_that_is_not_there(chat: Gateway) -> None:
    chat.post("/upstreams", name="nobody", base_url="http://127.0.0.1:1/v1", model="x")
    chat.post("/upstreams", name="unknown", base_url="http://no-such-host.invalid/v1", model="x")
    for name in ("nobody", "unknown"):
        with pytest.raises(openai.InternalServerError) as caught:
            chat.openai.chat.completions.create(model=name, messages=said("hello"))
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_changes_no_duration_and_no_count(
    chat: Gateway, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    chat.post(
        "/experiments", key=f"jump{jump:.0f}", variants=[{"key": k, "weight": 1, "upstream": "base"} for k in "ab"]
    )
    chat.post(f"/experiments/jump{jump:.0f}/start")
    model = f"exp:jump{jump:.0f}"
    first = raw(chat, "hello", "before", model=model)
    rate(chat, first, 0)
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + jump)
        second = raw(chat, "hello", "after", model=model)
        rate(chat, first, 1)  # what comes later counts, though the clock says that it is earlier
        rate(chat, second, 1)
        row = record_of(chat, second)
        assert row.latency is not None
        assert 0 < row.latency < 10
    assert chat.traffic.recorder.flush()
    found = chat.traffic.snapshots.refresh().experiments[f"jump{jump:.0f}"]
    with chat.database.read() as session:
        sums = store.arm_sums(session, found.id, 1)
    assert sum(one.n for (metric, _), one in sums.items() if metric == "units") == 2
    assert sum(one.y for (metric, _), one in sums.items() if metric == "satisfaction") == 2


def rate(gateway: Gateway, answer: httpx2.Response, value: int) -> None:
    outcome = {
        "type": "outcome",
        "request_id": answer.headers["x-request-id"],
        "metric": "satisfaction",
        "value": value,
    }
    gateway.post("/events", events=[outcome])
