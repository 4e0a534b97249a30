"""The peers' environment, and servers started fresh, timed to their first answer, and stopped."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

# FastTrackML declares the MLflow 2 client; its server is a program of its own and needs none of it,
# so it goes in without dependencies beside the MLflow of today.
MLFLOW = "mlflow==3.17.2"
FASTTRACKML = "fasttrackml==0.6.0"
CLIENTS = ("trackio==0.43.0", "swanlab==0.10.3", "wandb==0.31.0")
GROWTHBOOK = "growthbook==4.0.0"
LITELLM = "litellm[proxy]==1.108.7"
PATIENCE = 120.0  # seconds for a server's first answer: MLflow migrates its database first


class ServerFailed(RuntimeError):
    """A server did not come up; the end of its log is in the message."""


def peers_environment(folder: Path, console: Console) -> Path:
    """The `bin` folder of a virtual environment that holds both peers, made on first use."""
    return _environment(folder, [[MLFLOW], ["--no-deps", FASTTRACKML]], console)


def clients_environment(folder: Path, console: Console) -> Path:
    """The `bin` folder of a virtual environment that holds the trackers without a server, made on first use."""
    return _environment(folder, [list(CLIENTS)], console)


def sdk_environment(folder: Path, console: Console) -> Path:
    """The `bin` folder of a virtual environment that holds GrowthBook's SDK, made on first use."""
    return _environment(folder, [[GROWTHBOOK]], console)


def proxies_environment(folder: Path, console: Console) -> Path:
    """The `bin` folder of a virtual environment that holds LiteLLM's proxy, made on first use."""
    return _environment(folder, [[LITELLM]], console)


def _environment(folder: Path, steps: list[list[str]], console: Console) -> Path:
    """Each step is what one pip call installs."""
    packages = [part for step in steps for part in step if not part.startswith("-")]
    wanted = " ".join([*packages, sys.version.split()[0]])
    marker = folder / "installed"
    if marker.is_file() and marker.read_text() == wanted:
        return folder / "bin"
    console.print(f"Installing {', '.join(packages)} into {folder} (once; up to 1 GB) ...")
    if folder.exists():
        shutil.rmtree(folder)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for step in steps:
        subprocess.run([*install, *step], check=True)
    marker.write_text(wanted)
    return folder / "bin"


@dataclass(frozen=True)
class Server:
    """A running server and how long it took to its first answer."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    folder: Path
    seconds_to_answer: float

    def memory(self) -> int:
        """Bytes of memory of the process and its children; what they share counts once (the proportional set size)."""
        return sum(_share(one) for one in self._family())

    def cpu_seconds(self) -> float:
        """CPU time of the process and its children so far, in steps of 10 ms."""
        return sum(_cpu_seconds(one) for one in self._family())

    def _family(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _share(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:  # a worker that has ended since it was listed
        return 0


class Watch(threading.Thread):
    """Samples the service's memory; `peak` in MiB since it was last reset."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.peak = 0.0
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            self.peak = max(self.peak, self._server.memory() / 2**20)
            time.sleep(0.2)

    def since(self) -> float:
        peak, self.peak = self.peak, 0.0
        return peak


@contextmanager
def running(name: str, command: list[str], folder: Path, ready: str, **environment: str) -> Iterator[Server]:
    """Start `command` ('{port}' filled in) in `folder`, wait for GET `ready`, and stop it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TUNESCOPE_", "MLFLOW_", "FML_"))}
    log = folder / "server.log"
    begun = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command],
            cwd=folder,
            env=kept | {"DO_NOT_TRACK": "true"} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(name, process, port, ready, log)
        yield Server(name, port, process, folder, time.perf_counter() - begun)
    finally:
        _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(name: str, process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"{name} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", ready)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.01)
    raise ServerFailed(f"{name} did not answer GET {ready} within {PATIENCE:g} s:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process group that was started here: MLflow's workers are children of its own."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, ending)
            process.wait(timeout=15)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
