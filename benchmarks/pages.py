"""How long a person waits for a page of the dashboard, with few and with many runs in store.

    python benchmarks/pages.py            # about ten minutes
    python benchmarks/pages.py --quick    # fewer runs, points and rounds

A real browser (Debian's chromium) opens each page by its address, as a person does who has the dashboard open: the
scripts are in its cache, nothing of the page is. A page is there once it is drawn to its end, charts and tables too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import filler
import msgspec
import numpy as np
import typer
from report import OURS, REPOSITORY, Figures, Report, Row
from script import PACKAGES, THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from servers import Server, running

from tunescope import Client

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
COMPARED = 50
CURVED = 500  # the newest runs, which have long curves: 100 million points together
CURVES = ("train/loss", "eval/loss")
BATCH = 20_000  # points of a metric in one call
AIM, AIM_FILTER = 2.0, 0.5
FIRST_CHART, FILTER = "Run, its first chart", "Runs, a filter typed"
# Answers live for up to ten seconds in the dashboard: a round finds the page as one who has not been there for a while.
FORGOTTEN = 11.0
SETTLED = """() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
    && document.querySelector('h1') !== null
    && document.querySelectorAll('[data-testid=stSkeleton]').length === 0
    && [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(one => one.querySelector('.main-svg'))
    && [...document.querySelectorAll('[data-testid=stDataFrame]')].every(one => one.querySelector('canvas'))"""


CHARTED = "() => document.querySelector('[data-testid=stPlotlyChart] .main-svg') !== null"


class PageFailed(RuntimeError):
    """A page showed an error: how fast it did so says nothing."""


class Lost(RuntimeError):
    """The service does not hold what it was sent."""


def newest_runs(n_runs: int, most: int = COMPARED) -> list[str]:
    return [filler.run_id(number) for number in range(n_runs - 1, max(-1, n_runs - 1 - most), -1)]


def pages(n_runs: int) -> dict[str, str]:
    """What is opened, by name."""
    newest = newest_runs(n_runs)
    two, many = ",".join(newest[:2]), ",".join(newest)
    drawn = "&".join(f"metrics={key}" for key in CURVES)
    return {
        "Home": "/",
        "Runs": "/runs",
        "Runs, searched and ordered": "/runs?q=params.method+%3D+lora+order+by+metrics.metric_00",
        "Runs, grouped": f"/runs?project={filler.PROJECT}&group=params.method",
        FIRST_CHART: f"/run?id={newest[0]}",
        "Run": f"/run?id={newest[0]}",
        "Compare, 2 runs": f"/compare?ids={two}",
        f"Compare, {len(newest)} runs": f"/compare?ids={many}",
        f"Compare, curves of {len(newest)} runs": f"/compare?ids={many}&view=Curves&{drawn}",
        "Compare, what matters": f"/compare?ids={two}&view=What+matters",
    }


def log_curves(url: str, run_ids: Sequence[str], points: int) -> None:
    """Curves for these runs: two metrics of `points` each, beside those of one point."""
    draw = np.random.default_rng(0)
    with Client(url, timeout=120) as client:
        for run_id in run_ids:
            for batch, first in enumerate(range(0, points, BATCH), 1):
                steps = np.arange(first, min(first + BATCH, points))
                metrics = [
                    {
                        "key": key,
                        "step": steps.astype("<i8").tobytes(),
                        "time": (filler.BEGAN + steps).astype("<f8").tobytes(),
                        "value": (np.exp(-steps / points) + draw.normal(0, 0.05, len(steps))).astype("<f8").tobytes(),
                    }
                    for key in CURVES
                ]
                body = {"writer": "curves", "batch": batch, "rank": 0, "metrics": metrics, "console": []}
                client.send_batch(run_id, msgspec.msgpack.encode(body))
            stored = sum(client.get_run(run_id)["metrics"][key]["count"] for key in CURVES)
            if stored != points * len(CURVES):
                raise Lost(f"run {run_id} was sent {points * len(CURVES):,} points and holds {stored:,}")


def opened(page: Page, address: str, there: str = SETTLED) -> float:
    """Seconds until what is waited for is `there` on the page at this address: it is drawn to its end."""
    begun = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(there, timeout=120_000)
    took = time.perf_counter() - begun
    if there != SETTLED:
        page.wait_for_function(SETTLED, timeout=120_000)
    check(page, address)
    return took


def filtered(page: Page, address: str, name: str) -> float:
    """Seconds from pressing Enter in the search box of the table of runs to the one run that is asked for."""
    opened(page, address)
    box = page.get_by_role("textbox", name="Search")
    box.fill(f'name = "{name}"')
    begun = time.perf_counter()
    box.press("Enter")
    page.get_by_text("1 run on this page").wait_for(timeout=120_000)
    page.wait_for_function(SETTLED, timeout=120_000)
    took = time.perf_counter() - begun
    check(page, address)
    return took


def check(page: Page, address: str) -> None:
    wrong = page.locator("[data-testid=stException], [data-testid=stAlertContentError]").all_inner_texts()
    if wrong:
        raise PageFailed(f"{address}: {wrong[0]}")


@contextmanager
def dashboard(url: str, folder: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "tunescope", "dashboard", "--port", "{port}", "--url", url]
    with running("the dashboard", command, folder, "/_stcore/health", PYTHONPATH=str(REPOSITORY)) as server:
        yield server


def measure(command: str, folder: Path, n_runs: int, points: int, curved: int, rounds: int, say: Say) -> list[Figures]:
    from playwright.sync_api import sync_playwright

    say(f"{n_runs:,} runs: filling")
    (folder / "data").mkdir(parents=True)
    filler.fill(f"sqlite:///{folder / 'data/tunescope.db'}", n_runs)
    asked = pages(n_runs)
    aims = {**dict.fromkeys(asked, AIM), FILTER: AIM_FILTER}
    waits = {
        name: Figures(Row(f"{name}-{n_runs}", f"{name}; {n_runs:,} runs", "s", at_most=aim))
        for name, aim in aims.items()
    }
    work = {name: Figures(Row(f"{name}-{n_runs}-cpu", f"{name}; {n_runs:,} runs", "CPU s")) for name in asked}
    with (
        service(command, folder, ready="/readyz") as stored,
        dashboard(f"http://127.0.0.1:{stored.port}", folder / "dashboard") as shown,
        sync_playwright() as playwright,
    ):
        url = f"http://127.0.0.1:{stored.port}"
        say(f"{n_runs:,} runs: logging {min(n_runs, curved) * len(CURVES) * points:,} points")
        log_curves(url, newest_runs(n_runs, curved), points)
        with Client(url) as client:
            names = [client.get_run(run_id)["name"] for run_id in newest_runs(n_runs, rounds)]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        address = f"http://127.0.0.1:{shown.port}"
        for path in asked.values():
            opened(page, address + path)
        for number in range(rounds):
            say(f"{n_runs:,} runs: round {number + 1} of {rounds}")
            time.sleep(FORGOTTEN)
            for name, path in asked.items():
                before = shown.cpu_seconds() + stored.cpu_seconds()
                there = CHARTED if name == FIRST_CHART else SETTLED
                waits[name].samples.setdefault(OURS, []).append(opened(page, address + path, there))
                spent = shown.cpu_seconds() + stored.cpu_seconds() - before
                work[name].samples.setdefault(OURS, []).append(spent)
            # Another run each time: an answer that is held already says nothing.
            waits[FILTER].samples.setdefault(OURS, []).append(filtered(page, f"{address}/runs", names[number]))
        browser.close()
    return [figures for name in waits for figures in (waits[name], work.get(name)) if figures is not None]


def main(quick: Quick = False, out: Out = None, command: Command = THIS_CHECKOUT) -> None:
    """Measure how long pages take to open."""
    sizes, points, curved, rounds = ((100, 1_000), 10_000, 50, 2) if quick else ((100, 10_000), 100_000, CURVED, 5)

    def measured(folder: Path, say: Say) -> Report:
        found = [
            figures for n in sizes for figures in measure(command, folder / str(n), n, points, curved, rounds, say)
        ]
        about = {"runs": list(sizes), "rounds": rounds, "compared": COMPARED, "points of a curve": points,
                 "runs with two long curves": curved}  # fmt: skip
        return Report("pages", [OURS], found, about, notes)

    notes = [
        "From asking for the address to the page drawn to its end, charts and tables too; the median of the rounds.",
        "CPU seconds are the dashboard's and the service's, without the browser's.",
        "Browser, dashboard and service share the cores. Each run has 20 metrics, 20 params and 3 tags."
        f" The newest {curved} have two long curves besides: {2 * curved * points:,} points.",
        "A filter is the time from Enter in the search box to the one run that is asked for, drawn.",
    ]
    carry_out("pages", measured, whole=not quick, out=out, packages=(*PACKAGES, "streamlit", "plotly", "playwright"))


if __name__ == "__main__":
    typer.run(main)
