"""What the gateway adds to a call of a model, beside LiteLLM's proxy and the barest proxy of the same parts.

    python benchmarks/gateway.py           # about 6 minutes; the first run also installs LiteLLM
    python benchmarks/gateway.py --quick

A model that answers at once stands behind all of them, so that nearly all of a call is the proxy. They take turns in
short blocks, in another order each round; a call of the model itself is one of them, and is subtracted.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import httpx2
import typer
from gateway_servers import PATH
from report import OURS, REPOSITORY, Figures, Report, Row
from rich.console import Console
from script import PACKAGES, THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from servers import LITELLM, Server, proxies_environment, running

DIRECT, BARE, LITE = "the model itself", "bare pass-through", "LiteLLM"
AT_ONCE = (1, 16, 64)
QUESTION = [{"role": "user", "content": "Why does my order not arrive? " * 30}]
UNITS = 1000


class WrongAnswer(RuntimeError):
    """A proxy did not pass on what the model said: no figure may come of it."""


@dataclass(frozen=True)
class System:
    """Who is asked, and by which model name."""

    name: str
    server: Server
    model: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def body(self, number: int, stream: bool) -> bytes:
        asked = {"model": self.model, "messages": QUESTION, "user": f"user-{number % UNITS}"}
        return json.dumps(asked | ({"stream": True} if stream else {})).encode()


@dataclass(frozen=True)
class Block:
    """Seconds of each call of a block, calls a second over all of it, and the server's seconds of CPU a call."""

    seconds: list[float]
    rate: float
    cpu_seconds: float


async def load(system: System, at_once: int, stream: bool, seconds: float, session: aiohttp.ClientSession) -> Block:
    """So many callers, each with one call after the other, for some time."""
    taken: list[float] = []
    begun, cpu = time.perf_counter(), system.server.cpu_seconds()

    async def call(caller: int) -> None:
        number = caller
        while time.perf_counter() - begun < seconds:
            number += at_once
            body, start = system.body(number, stream), time.perf_counter()
            async with session.post(f"{system.url}{PATH}", data=body, headers=HEADERS) as answer:
                said = await answer.read()
            taken.append(time.perf_counter() - start)
            if answer.status != 200 or said.count(b"word word word word") < 32 or stream != (b"[DONE]" in said):
                raise WrongAnswer(f"{system.name} answered {answer.status}: {said[:500]!r}")

    await asyncio.gather(*(call(caller) for caller in range(at_once)))
    rate = len(taken) / (time.perf_counter() - begun)
    return Block(taken, rate, (system.server.cpu_seconds() - cpu) / len(taken))


async def decisions(url: str, calls: int, session: aiohttp.ClientSession) -> list[float]:
    """Milliseconds of OFREP's answers, one after the other, for units that come back."""
    taken = []
    for number in range(calls):
        body = json.dumps({"context": {"targetingKey": f"user-{number % UNITS}", "plan": "pro"}}).encode()
        start = time.perf_counter()
        async with session.post(f"{url}/ofrep/v1/evaluate/flags/bench", data=body, headers=HEADERS) as answer:
            said = await answer.json()
        taken.append(1000 * (time.perf_counter() - start))
        if said.get("reason") != "SPLIT":
            raise WrongAnswer(f"OFREP answered {said}")
    return taken


HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-bench"}


def rows() -> dict[str, Row]:
    found = []
    for stream in (False, True):
        kind, key = ("stream", "stream") if stream else ("call", "call")
        for at_once in AT_ONCE:
            where = f"{kind}, {at_once} at once"
            found += [
                Row(f"{key}-{at_once}", f"{where}: p50", "ms"),
                Row(f"{key}-{at_once}-p99", f"{where}: p99", "ms"),
                Row(f"{key}-{at_once}-rate", f"{where}", "calls/s"),
                Row(f"{key}-{at_once}-cpu", f"{where}: CPU a call", "ms", times_of=(0.5, BARE)),
                Row(f"{key}-{at_once}-adds", f"{where}: added to p50", "ms", times_of=(10, LITE)),
                Row(f"{key}-{at_once}-bare", f"{where}: added, beside bare", "ms", times_of=(0.5, BARE)),
            ]
    return {row.key: row for row in found}


async def measure(systems: list[System], rounds: int, seconds: float, calls: int, say: Say) -> list[Figures]:
    figures = {key: Figures(row) for key, row in rows().items()}
    order = random.Random(1)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False) as session:
        for stream in (False, True):
            for system in systems:  # connections, caches, and what is imported at the first call
                await load(system, 4, stream, min(1.0, seconds), session)
            for at_once in AT_ONCE:
                key = f"{'stream' if stream else 'call'}-{at_once}"
                for number in range(rounds):
                    say(f"{key}, round {number + 1} of {rounds}")
                    blocks = {
                        system.name: await load(system, at_once, stream, seconds, session)
                        for system in order.sample(systems, len(systems))
                    }
                    keep(figures, key, blocks)
        say("OFREP")
        ours = next(system for system in systems if system.name == OURS)
        await decisions(ours.url, UNITS, session)
        cuts = statistics.quantiles(await decisions(ours.url, calls, session), n=100, method="inclusive")
    ofrep = [Figures(Row(f"ofrep-p{n}", f"OFREP, p{n}", "ms"), {OURS: [cuts[n - 1]]}) for n in (50, 99)]
    return [*figures.values(), *ofrep]


def keep(figures: Mapping[str, Figures], key: str, blocks: Mapping[str, Block]) -> None:
    """A round's figures. What a proxy adds is by its p50 above the model's own in the same round."""
    direct = 1000 * statistics.median(blocks[DIRECT].seconds)
    for name, block in blocks.items():
        cuts = statistics.quantiles(block.seconds, n=100, method="inclusive")
        added = 1000 * cuts[49] - direct
        of = {"": 1000 * cuts[49], "-p99": 1000 * cuts[98], "-rate": block.rate, "-cpu": 1000 * block.cpu_seconds}
        if name != DIRECT:
            of |= {"-adds": added} | ({"-bare": added} if name != LITE else {})
        for suffix, value in of.items():
            figures[key + suffix].samples.setdefault(name, []).append(value)


@contextmanager
def everybody(programs: Path, tunescope: str, folder: Path) -> Iterator[list[System]]:
    """The model and the three proxies before it, all up."""
    script = str(Path(__file__).with_name("gateway_servers.py"))
    with ExitStack() as stack:
        start = stack.enter_context
        model = start(running(DIRECT, [sys.executable, script, "model", "{port}"], folder / "model", "/"))
        url = f"http://127.0.0.1:{model.port}"
        bare = start(
            running(BARE, [sys.executable, script, "pass-through", "{port}", url], folder / "bare", "/healthz")
        )
        lite = start(litellm(programs, folder / "litellm", url))
        ours = start(service(tunescope, folder / "tunescope", ready="/readyz"))
        set_up(ours, url)
        yield [
            System(DIRECT, model, "m"),
            System(LITE, lite, "m"),
            System(BARE, bare, "m"),
            System(OURS, ours, "exp:bench"),
        ]


def litellm(programs: Path, folder: Path, model: str) -> Any:
    """LiteLLM's proxy with one model, as its documentation starts it, without a database; one worker."""
    folder.mkdir(parents=True)
    parameters = {"model": "openai/m", "api_base": f"{model}/v1", "api_key": "unused"}
    settings = {"model_list": [{"model_name": "m", "litellm_params": parameters}]}
    (folder / "config.yaml").write_text(json.dumps(settings))  # JSON is YAML
    command = [str(programs / "litellm"), "--config", "config.yaml", "--host", "127.0.0.1", "--port", "{port}"]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    # Neither it nor Tunescope asks for a key here.
    quiet["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
    return running(LITE, [*command, "--num_workers", "1"], folder, "/health/liveliness", **quiet)


def set_up(server: Server, model: str) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{server.port}/api/v1", timeout=30) as http:
        variants = [{"key": key, "weight": 1, "upstream": key, "value": key} for key in ("base", "tuned")]
        for path, body in (
            *(("/upstreams", {"name": key, "base_url": f"{model}/v1", "model": "m"}) for key in ("base", "tuned")),
            ("/experiments", {"key": "bench", "variants": variants}),
            ("/experiments/bench/start", None),
        ):
            http.post(path, json=body).raise_for_status()


def main(
    quick: Quick = False,
    out: Out = None,
    environment: Annotated[Path, typer.Option(help="Where LiteLLM is installed.")] = REPOSITORY / ".venv-proxies",
    command: Command = THIS_CHECKOUT,
) -> None:
    """Measure what the gateway adds to a call, beside LiteLLM and a bare pass-through."""
    programs = proxies_environment(environment.absolute(), Console())
    rounds, seconds, calls = (2, 1.0, 500) if quick else (5, 2.5, 5000)

    def measured(folder: Path, say: Say) -> Report:
        with everybody(programs, command, folder) as systems:
            figures = asyncio.run(measure(systems, rounds, seconds, calls, say))
            memory = Row("memory", "memory at the end", "MiB")
            figures.append(Figures(memory, {one.name: [one.server.memory() / 2**20] for one in systems}))
        names = [DIRECT, LITE, BARE, OURS]
        return Report("gateway", names, figures, {"rounds": rounds, "seconds a block": seconds}, NOTES)

    name, _, number = LITELLM.partition("==")
    carry_out(
        "gateway",
        measured,
        whole=not quick,
        out=out,
        packages=(*PACKAGES, "aiohttp"),
        versions={name: number},
        width=200,
    )


NOTES = [
    "The model answers at once with 128 words, or streams them in 32 events; it, the proxies and the callers share the "
    "cores. Every answer is looked at.",
    "Added: a proxy's p50 less the model's own in the same round. The aims: a tenth of what LiteLLM adds, twice what "
    "the barest proxy adds. CPU a call is what the server's processes computed, recording included; on a busy machine "
    "it says more than the clock.",
    "The bare pass-through is Starlette, uvicorn and aiohttp, as the gateway is; it routes and records nothing. "
    "Tunescope assigns each of 1,000 users an arm and records every call in SQLite. LiteLLM has no database.",
]


if __name__ == "__main__":
    typer.run(main)
