"""The servers of the demo: each a process of its own, started, waited for, and stopped by its id."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from trainer.errors import TrainerError

HOST = "127.0.0.1"
PATIENCE = 120.0
GRACE = 15.0


class ServerFailed(TrainerError):
    pass


class Servers:
    """`tunescope` commands that run beside the demo; all are stopped at the end of the `with`, the newest first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in reversed(self._running):
            stop(process)

    def start(self, name: str, arguments: Sequence[str], health: str, environment: Mapping[str, str]) -> None:
        """Runs `tunescope <arguments>` until `health` answers. Raises `ServerFailed` with the end of its log."""
        path = self._logs / f"{name}.log"
        with path.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which stops its servers in order.
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "tunescope", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
        self._running.append((name, process))
        deadline = time.monotonic() + PATIENCE
        while not answers(health):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(path.read_text("utf-8", "replace").splitlines()[-10:])
                raise ServerFailed(f"the {name} did not start; the end of {path}:\n{tail}")
            time.sleep(0.1)

    def stopped(self) -> str | None:
        """The name of a server that has ended by itself."""
        return next((name for name, process in self._running if process.poll() is not None), None)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return bool(httpx2.get(url, timeout=5.0).status_code == 200)
    except httpx2.HTTPError:
        return False


def free_port(wanted: int) -> int:
    """`wanted` if nothing listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerFailed("no port is free")


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment without `TUNESCOPE_…`: a demo must not write into somebody's real service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TUNESCOPE_")}
    return {**kept, **settings}
