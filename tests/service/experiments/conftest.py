"""Model endpoints, an experiment over two of them, and the whole service behind a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx2
import openai
import pytest
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.experiments.traffic import Traffic
from service.patience import PatientProtocol
from service.settings import Settings
from service.store.database import Database
from tests.conftest import free_port, wait_until
from tests.service.experiments.model_server import ModelServer


@pytest.fixture(scope="session")
def models() -> Iterator[tuple[ModelServer, ModelServer, ModelServer]]:
    """The base, the fine-tune and the safe fallback."""
    servers = ModelServer("base"), ModelServer("tuned"), ModelServer("safe")
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


@dataclass
class Gateway:
    """The service in this process, behind a real socket: callers may hang up on it."""

    app: FastAPI
    url: str
    http: httpx2.Client
    database: Database
    openai: openai.OpenAI

    @property
    def traffic(self) -> Traffic:
        return cast(Traffic, self.app.state.traffic)

    def post(self, path: str, **body: Any) -> Any:
        response = self.http.post(f"/api/v1{path}", json=body)
        assert response.is_success, response.text
        return response.json()

    def get(self, path: str) -> Any:
        response = self.http.get(f"/api/v1{path}")
        assert response.is_success, response.text
        return response.json()


@pytest.fixture
def gateway_settings(settings: Settings) -> Settings:
    quick = {"upstream_first_token_timeout": 0.5, "upstream_token_timeout": 0.5, "upstream_total_timeout": 3.0}
    return settings.model_copy(update=quick)


@pytest.fixture
def gateway(gateway_settings: Settings, database: Database) -> Iterator[Gateway]:
    with running_gateway(gateway_settings, database) as running:
        yield running


@contextmanager
def running_gateway(settings: Settings, database: Database) -> Iterator[Gateway]:
    app = create_app(settings, database)
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="warning", http=PatientProtocol, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    url = f"http://127.0.0.1:{port}"
    official = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=30)
    with httpx2.Client(base_url=url, timeout=30) as http, official:
        yield Gateway(app, url, http, database, official)
    server.should_exit = True
    thread.join(15)


@pytest.fixture
def chat(gateway: Gateway, models: tuple[ModelServer, ModelServer, ModelServer]) -> Gateway:
    """The gateway with a running experiment 'chat': base (control) against tuned, safe as the fallback."""
    begin_chat(gateway, models)
    return gateway


def begin_chat(gateway: Gateway, models: tuple[ModelServer, ModelServer, ModelServer]) -> None:
    for server in models:
        prices = {"input_price": 1.0, "output_price": 10.0, "price_version": "2026-01"}
        gateway.post("/upstreams", name=server.name, base_url=server.url, model=f"{server.name}-1b", **prices)
    variants = [{"key": name, "weight": 0.5, "upstream": name} for name in ("base", "tuned")]
    gateway.post("/experiments", key="chat", variants=variants, fallback_upstream="safe", salt="s")
    gateway.post("/experiments/chat/start")
