"""The servers of the demo: each a process of its own, started, waited for, and stopped by its id."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
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

    def start(self, name: str, port: int, health: str, arguments: Sequence[str | Path]) -> str:
        """Runs `tunescope <arguments>` on a port until `health` answers: its URL.

        Raises `ServerFailed`, with the end of its log if it has one.
        """
        url = f"http://{HOST}:{port}"
        try:
            bound(port)
        except OSError:
            raise ServerFailed(f"port {port}, which the {name} needs, is taken by another program.") from None
        path = self._logs / f"{name}.log"
        with path.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which stops its servers in order.
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "tunescope", *arguments, "--host", HOST, "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
                start_new_session=True,
            )
        self._running.append((name, process))
        deadline = time.monotonic() + PATIENCE
        while not answers(f"{url}{health}"):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(path.read_text("utf-8", "replace").splitlines()[-10:])
                raise ServerFailed(f"the {name} did not start; the end of {path}:\n{tail}")
            time.sleep(0.1)
        return url

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
    with suppress(OSError):
        return bound(wanted)
    return bound(0)


def bound(port: int) -> int:
    """The port that binding to `port` gives. Raises `OSError` if something listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """This process's environment without `TUNESCOPE_…`: a demo must not write into somebody's real service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TUNESCOPE_")}
