"""Figures to a table on the screen and to a JSON and a Markdown file, with all that is behind them."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).parent.parent
OURS = "Tunescope"


@dataclass(frozen=True)
class Row:
    """One line of the table. The aim is a multiple of a peer, or a bound in the row's own unit."""

    key: str
    title: str
    unit: str
    times_of: tuple[float, str] | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")

    @property
    def aim(self) -> str:
        if self.times_of is not None:
            return f"≥ {self.times_of[0]:g}× {self.times_of[1]}"
        if self.at_least is not None:
            return f"≥ {self.at_least:,.0f} {self.unit}"
        return f"≤ {self.at_most:g} {self.unit}" if self.at_most is not None else ""


@dataclass
class Figures:
    """The samples of one row by system: one value a block."""

    row: Row
    samples: dict[str, list[float]] = field(default_factory=dict)

    def median(self, system: str) -> float | None:
        values = self.samples.get(system)
        return statistics.median(values) if values else None

    def ratio(self, peer: str) -> float | None:
        """How many times better Tunescope is than `peer`: the median over rounds, so that noise that hits
        both systems of a round cancels. None where either is nothing at all: of that there are no multiples."""
        ours, theirs = self.samples.get(OURS, []), self.samples.get(peer, [])
        if not ours or not theirs or not all([*ours, *theirs]):
            return None
        pairs = [(a / b) if self.row.more_is_better else (b / a) for a, b in zip(ours, theirs, strict=True)]
        return statistics.median(pairs)

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None when there is none, or nothing to hold it against."""
        if self.row.times_of is not None:
            ratio = self.ratio(self.row.times_of[1])
            return None if ratio is None else ratio >= self.row.times_of[0]
        ours = self.median(OURS)
        if ours is None or (self.row.at_most is None and self.row.at_least is None):
            return None
        if self.row.at_least is not None:
            return ours >= self.row.at_least
        return self.row.at_most is not None and ours <= self.row.at_most


def single(
    key: str, title: str, unit: str, value: float, *, at_most: float | None = None, at_least: float | None = None
) -> Figures:
    """A row that was measured once, on Tunescope alone."""
    return Figures(Row(key, title, unit, at_most=at_most, at_least=at_least), {OURS: [value]})


def percentiles(key: str, title: str, milliseconds: Sequence[float]) -> list[Figures]:
    """p50 and p99 of latencies, a row each."""
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return [
        single(f"{key}-p50", f"{title}, p50", "ms", cuts[49]),
        single(f"{key}-p99", f"{title}, p99", "ms", cuts[98]),
    ]


@dataclass(frozen=True)
class Line:
    """A row as it is shown. `met`: whether the aim is met; None when there is none, or nothing to hold it against."""

    cells: list[str]
    aim: str
    met: bool | None


@dataclass(frozen=True)
class Sheet:
    """One table of a report. The first heading is that of the titles."""

    headings: list[str]
    lines: list[Line]


@dataclass(frozen=True)
class Report:
    """Everything one run of a benchmark leaves behind. `facts` are known when it is over."""

    theme: str
    systems: list[str]
    figures: list[Figures]
    sizes: dict[str, Any]
    notes: list[str]
    facts: dict[str, Any] = field(default_factory=dict)

    def sheets(self) -> list[Sheet]:
        headings = ["", *self.systems, *(f"vs {name}" for name in self._peers())]
        return [Sheet(headings, [self._line(figures) for figures in self.figures])]

    def rows(self) -> list[dict[str, Any]]:
        """The figures as the JSON file has them: every sample."""
        return [
            asdict(figures.row)
            | {
                "aim": figures.row.aim,
                "met": figures.met,
                "median": {name: figures.median(name) for name in figures.samples},
                "ratio": {name: figures.ratio(name) for name in figures.samples if name != OURS},
                "samples": figures.samples,
            }
            for figures in self.figures
        ]

    def _peers(self) -> list[str]:
        """Those it is held against; its own other ways are columns, and no peers."""
        return [name for name in self.systems if not name.startswith(OURS)]

    def _line(self, figures: Figures) -> Line:
        cells = [f"{figures.row.title}, {figures.row.unit}"]
        cells += [number(figures.median(name)) for name in self.systems]
        for name in self._peers():
            ratio = figures.ratio(name)
            cells.append("" if ratio is None else f"{number(ratio)}×")
        return Line(cells, figures.row.aim, figures.met)


def machine_facts(*packages: str) -> dict[str, Any]:
    """What a figure is worth nothing without: commit, command, machine, date, versions."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": "python " + " ".join([_from_repository(sys.argv[0]), *sys.argv[1:]]),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return f"none (tunescope {version('tunescope')})"
    changed = git("status", "--porcelain", "--", "service", "tunescope", "benchmarks/*.py")
    return f"{commit} with uncommitted changes" if changed else commit


def _from_repository(script: str) -> str:
    path = Path(script).resolve()
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else path.name


def _cpu() -> str:
    described = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", described.read_text()) if described.is_file() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def show(report: Report, console: Console) -> None:
    title: str | None = f"{report.theme}: {report.facts['cpu']}, {report.facts['cores']} cores"
    for sheet in report.sheets():
        table = Table(title=title)
        for place, heading in enumerate(sheet.headings):
            table.add_column(heading, justify="right" if place else "left")
        table.add_column("aim")
        for line in sheet.lines:
            mark = {True: "[green]✓[/] ", False: "[red]✗[/] ", None: ""}[line.met]
            table.add_row(*line.cells, mark + line.aim)
        console.print(table)
        title = None
    for note in report.notes:
        console.print(f"  {note}", style="dim")


def write(report: Report, folder: Path) -> list[Path]:
    """`<theme>-<cpu>-<cores>-core-<date>.json` and `.md` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    cpu = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|cpu|processor|@.*", "", report.facts["cpu"].lower())).strip(
        "-"
    )
    stem = f"{report.theme}-{cpu}-{report.facts['cores']}-core-{report.facts['date'][:10]}"
    as_json, as_markdown = folder / f"{stem}.json", folder / f"{stem}.md"
    as_json.write_text(json.dumps(_record(report), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    as_markdown.write_text(_markdown(report), encoding="utf-8")
    return [as_json, as_markdown]


def heading(title: str, facts: dict[str, Any], sizes: dict[str, Any]) -> list[str]:
    """The lines that a page of results begins with: command, commit, machine, load, versions, sizes."""
    return [
        f"# {title}, {facts['date'][:10]}",
        "",
        f"    {facts['command']}",
        "",
        f"Commit {facts['commit']}; {facts['system']}, {facts['memory_gib']} GiB; load average {facts['load_before']} "
        f"before and {facts['load_after']} after; {facts['seconds']:.0f} s in all.  ",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in facts["versions"].items()) + ".  ",
        "Sizes: " + ", ".join(f"{name} {size}" for name, size in sizes.items()) + ".",
        "",
    ]


def number(value: float | None) -> str:
    """With the digits that a measurement has."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _record(report: Report) -> dict[str, Any]:
    about = {"sizes": report.sizes, "notes": report.notes, "rows": report.rows()}
    return {"theme": report.theme} | report.facts | about


def _markdown(report: Report) -> str:
    facts = report.facts
    lines = heading(f"{report.theme}, {facts['cpu']} ({facts['cores']} cores)", facts, report.sizes)
    for sheet in report.sheets():
        lines += [
            "| " + " | ".join([*sheet.headings, "aim", "met"]) + " |",
            "|---" + "|---:" * (len(sheet.headings) - 1) + "|---|---|",
        ]
        for line in sheet.lines:
            met = {True: "yes", False: "no", None: ""}[line.met]
            lines.append("| " + " | ".join([*line.cells, line.aim, met]) + " |")
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in report.notes), ""])
