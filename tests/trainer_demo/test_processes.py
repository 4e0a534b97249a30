"""The demo's servers: up when `start` returns, gone when the `with` ends, and clear about what went wrong."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from trainer.demo.processes import HOST, ServerFailed, Servers, answers, free_port


def test_a_server_answers_inside_and_is_gone_outside(tmp_path: Path) -> None:
    with Servers(tmp_path / "logs") as servers:
        url = servers.start("service", free_port(0), "/readyz", ["serve", "--data-dir", tmp_path / "data"])
        assert answers(f"{url}/readyz")
        assert servers.stopped() is None
    assert servers.stopped() == "service"
    assert not answers(f"{url}/readyz")


def test_a_server_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    def fail_later() -> None:
        with Servers(tmp_path / "logs") as servers:
            urls.append(servers.start("service", free_port(0), "/readyz", ["serve", "--data-dir", tmp_path / "data"]))
            raise RuntimeError("later")

    urls: list[str] = []
    with pytest.raises(RuntimeError, match="later"):
        fail_later()
    assert not answers(f"{urls[0]}/readyz")


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with Servers(tmp_path / "logs") as servers, pytest.raises(ServerFailed, match="no-such-option"):
        servers.start("service", free_port(0), "/readyz", ["serve", "--no-such-option"])


def test_a_taken_port_is_not_mistaken_for_the_server(tmp_path: Path) -> None:
    with socket.socket() as other, Servers(tmp_path / "logs") as servers:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerFailed, match=f"port {port}"):
            servers.start("service", port, "/readyz", ["serve"])
        assert free_port(port) != port


def test_the_servers_do_not_see_the_users_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESCOPE_DATABASE_URL", "postgresql+psycopg://nowhere/nothing")
    with Servers(tmp_path / "logs") as servers:
        url = servers.start("service", free_port(0), "/readyz", ["serve", "--data-dir", tmp_path / "data"])
        assert answers(f"{url}/readyz")
