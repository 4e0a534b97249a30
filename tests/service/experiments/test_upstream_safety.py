"""Where the gateway connects to, whatever an admin's URL, a name, a model or a caller says; and how much at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import openai
import pytest
from pydantic import ValidationError

from service.addresses import literal
from service.experiments.schemas import UpstreamSpec
from service.settings import Settings
from service.store.database import Database
from tests.conftest import wait_until
from tests.service.experiments.conftest import Gateway, running_gateway
from tests.service.experiments.model_server import ModelServer
from tests.service.experiments.test_gateway import Models, raw, record_of


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@models.example/v1",
        "http://models.example\\@169.254.169.254/v1",
        "http://models.example/v1?to=elsewhere",
        "http://models.example/v1#x",
        "file:///etc/passwd",
        "gopher://models.example/v1",
        "//models.example/v1",
        "http:///v1",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/v1",
        "http://[64:ff9b::a9fe:a9fe]/v1",
        "http://[fd00:ec2::254]/v1",
        "http://2852039166/v1",  # 169.254.169.254 as one number
        "http://0xa9fea9fe/v1",
        "http://0251.0376.0251.0376/v1",
        "http://169.254.43518/v1",
        "http://100.100.100.200/v1",
        "http://0.0.0.0:8000/v1",
        "http://[::]:8000/v1",
        "http://224.0.0.1/v1",
    ],
)
def test_urls_that_are_no_models_are_refused_when_they_are_named(url: str) -> None:
    with pytest.raises(ValidationError, match="base_url"):
        UpstreamSpec(name="m", base_url=url, model="x")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::ffff:7f00:1", "::ffff:7f00:1"),
        ("localhost", None),
        ("models.example", None),
        ("", None),
    ],
)
def test_an_address_is_known_in_every_spelling(host: str, address: str | None) -> None:
    assert literal(host) == address


@pytest.fixture
def sqlite(tmp_path: Any, sqlite_template: Any) -> Iterator[Database]:
    """What is tested here does not depend on the database."""
    database = Database(f"sqlite:///{tmp_path / 'gateway.db'}")
    yield database
    database.close()


@pytest.fixture
def strict(gateway_settings: Settings, sqlite: Database) -> Iterator[Gateway]:
    """Only models of one host may be at private addresses."""
    with running_gateway(
        gateway_settings.model_copy(update={"upstream_hosts": "Models.Internal, localhost"}), sqlite
    ) as g:
        yield g


def asked(gateway: Gateway, host: str, model: ModelServer) -> Any:
    name = f"at-{len(gateway.get('/upstreams')['items'])}"
    gateway.post("/upstreams", name=name, base_url=f"http://{host}:{model.port}/v1", model="x")
    return raw(gateway, "hello", model=name)


def test_off_the_list_only_public_addresses_are_connected_to(strict: Gateway, models: Models) -> None:
    before = len(models[0].requests)
    for host in ("127.0.0.1", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "ip6-localhost", "[::1]"):
        refused = asked(strict, host, models[0])
        assert refused.status_code == 502, host
        assert refused.json()["error"]["code"] in ("upstream_misconfigured", "upstream_unreachable"), host
    assert len(models[0].requests) == before
    assert asked(strict, "localhost", models[0]).status_code == 200
    assert len(models[0].requests) == before + 1


def test_a_name_that_changes_its_mind_is_refused_when_it_is_connected_to(
    strict: Gateway, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that says something else today: the metadata address for a listed name, loopback for another."""
    import aiohttp

    said = {"models.internal": "169.254.169.254", "models.example": "127.0.0.1"}
    monkeypatch.setattr("service.experiments.upstream.NAMES_SECONDS", 0)

    async def resolve(self: Any, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        return [{"hostname": host, "host": said[host], "port": port, "family": 2, "proto": 6, "flags": 4}]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    before = len(models[0].requests)
    for host in said:
        refused = asked(strict, host, models[0])
        assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_misconfigured")
        assert "at an address that is not allowed" in refused.json()["error"]["message"]
        assert "169.254" not in refused.text
    said["models.internal"] = "127.0.0.1"  # which is on the list
    assert asked(strict, "models.internal", models[0]).status_code == 200
    assert len(models[0].requests) == before + 1


def test_a_caller_cannot_name_an_upstream(strict: Gateway, models: Models) -> None:
    before = len(models[1].requests)
    strict.post("/upstreams", name="base", base_url=models[0].url.replace("127.0.0.1", "localhost"), model="x")
    for body in ({"model": models[1].url}, {"model": f"exp:{models[1].url}"}, {"model": f"{models[1].url}#base"}):
        assert raw(strict, "hello", **body).json()["error"]["code"] == "model_not_found"
    named = dict.fromkeys(("base_url", "api_base", "upstream", "fallback"), models[1].url)
    headers = {f"x-{name.replace('_', '-')}": url for name, url in named.items()} | {
        "host": f"127.0.0.1:{models[1].port}"
    }
    messages = [{"role": "user", "content": "hello"}]
    answer = strict.http.post(
        "/v1/chat/completions", json={"model": "base", "messages": messages, **named}, headers=headers
    )
    assert answer.json()["choices"][0]["message"]["content"] == "base: hello"
    assert len(models[1].requests) == before


@pytest.fixture
def narrow(gateway_settings: Settings, sqlite: Database, models: Models) -> Iterator[Gateway]:
    """At most two calls at a time at each upstream."""
    quick = {"upstream_calls": 2, "upstream_token_timeout": 10.0, "upstream_total_timeout": 20.0}
    with running_gateway(gateway_settings.model_copy(update=quick), sqlite) as gateway:
        for server in models:
            gateway.post("/upstreams", name=server.name, base_url=server.url, model="x")
        yield gateway


@contextmanager
def occupied(gateway: Gateway, model: str, calls: int) -> Iterator[None]:
    """So many streams are under way."""
    with ExitStack() as stack:
        heard = []
        for _ in range(calls):
            body = {"model": model, "messages": [{"role": "user", "content": "slow"}], "stream": True}
            answer = stack.enter_context(gateway.http.stream("POST", "/v1/chat/completions", json=body))
            heard.append(answer.iter_bytes())
            next(heard[-1])
        yield


def test_a_full_upstream_refuses_at_once_and_has_room_again_when_a_call_ends(narrow: Gateway) -> None:
    with occupied(narrow, "base", 2):
        for stream in (False, True):
            with pytest.raises(
                openai.InternalServerError, match="2 calls are under way at the upstream 'base'"
            ) as full:
                narrow.openai.chat.completions.create(
                    model="base", messages=[{"role": "user", "content": "hello"}], stream=stream
                )
            assert (full.value.status_code, full.value.code) == (503, "upstream_saturated")
            assert full.value.response.headers["retry-after"] == "1"
            assert record_of(narrow, full.value.response).error == "upstream_saturated"
        assert raw(narrow, "hello", model="tuned").status_code == 200
    wait_until(lambda: raw(narrow, "hello", model="base").status_code == 200)
    for text in ("fail 500", "garbage", "redirect", "fail 400", "hello", "cut 1", "hello", "stall"):
        raw(narrow, text, model="base", stream=text == "cut 1" or text == "stall")
    assert narrow.traffic.upstreams._under_way == {}


def test_the_safe_model_answers_for_a_full_one(narrow: Gateway) -> None:
    variants = [{"key": "a", "weight": 1, "upstream": "base"}, {"key": "b", "weight": 1, "upstream": "base"}]
    narrow.post("/experiments", key="chat", variants=variants, fallback_upstream="safe")
    narrow.post("/experiments/chat/start")
    with occupied(narrow, "base", 2):
        answer = raw(narrow, "hello")
        assert answer.json()["choices"][0]["message"]["content"] == "safe: hello"
        row = record_of(narrow, answer)
        assert (row.fell_back, row.upstream, row.status) == (True, "safe", 200)


def test_of_many_callers_at_once_each_is_answered_or_told(narrow: Gateway) -> None:
    statuses: list[int] = []

    def call() -> None:
        statuses.append(raw(narrow, "hello", model="base").status_code)

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(statuses) == 16
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    assert narrow.traffic.upstreams._under_way == {}
