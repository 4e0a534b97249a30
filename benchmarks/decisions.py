"""What a decision costs in the caller's process, beside GrowthBook's Python SDK, which decides by the same rule.

    python benchmarks/decisions.py            # about a minute; the first run also installs the peer
    python benchmarks/decisions.py --quick

Each SDK runs in a process of its own, one after the other in turns, and every unit must get the same arm from both. CPU
time of the process, so that another program on the machine does not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from report import OURS, REPOSITORY, Figures, Report, Row
from rich.console import Console
from script import Out, Quick, Say, carry_out
from servers import GROWTHBOOK, sdk_environment

PEER = "GrowthBook"
AIM = 3.0  # microseconds
CASES = {
    "short": ("a decision, ids such as user-17", lambda n: f"user-{n}", 0.0),
    "long": (
        "a decision, ids of 36 characters",
        lambda n: f"{n:08x}-5f1c-7c3a-9a44-{n * 2654435761 % 2**48:012x}",
        0.0,
    ),
    "holdout": ("a decision, ids such as user-17, with a holdout", lambda n: f"user-{n}", 0.1),
}
NOTES = [
    "Three arms at 80 % coverage; the experiment is compiled once, and each unit is decided as if it were met for the "
    "first time. GrowthBook: one instance, set_attributes and run for each unit; it has no holdout in an experiment: "
    "that row has no peer.",
    "The hash reads an id character by character: a longer one costs more in both. A holdout hashes once more.",
    "An Assigner that has met the unit answers from memory, in a fraction of this.",
]


class OtherArms(RuntimeError):
    """The two do not decide alike: no figure may come of it."""


def decide(python: Path, sdk: str, given: dict[str, Any]) -> dict[str, Any]:
    command = [python, Path(__file__).with_name("decisions_loop.py")]
    done = subprocess.run(
        [str(part) for part in command], input=json.dumps(given | {"sdk": sdk}), capture_output=True, text=True,
        check=True, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main(
    quick: Quick = False,
    out: Out = None,
    peer: Annotated[Path, typer.Option(help="Where GrowthBook's SDK is installed.")] = REPOSITORY / ".venv-growthbook",
) -> None:
    """Measure the cost of a decision for both SDKs and print the ratios."""
    rounds, n_units, blocks = (2, 2_000, 3) if quick else (7, 20_000, 5)
    python = sdk_environment(peer.absolute(), Console()) / "python"

    def measured(folder: Path, say: Say) -> Report:
        rows = []
        for key, (title, name, holdout) in CASES.items():
            figures = Figures(Row(key, title, "µs", at_most=AIM if key == "short" else None))
            given = {
                "salt": f"salt-{key}", "weights": [0.5, 0.3, 0.2], "coverage": 0.8, "holdout": holdout,
                "units": [name(n) for n in range(n_units)], "blocks": blocks,
            }  # fmt: skip
            systems = [(OURS, Path(sys.executable), "tunescope")]
            if not holdout:
                systems.append((PEER, python, "growthbook"))
            for turn in range(rounds):
                say(f"{title}, round {turn + 1} of {rounds}")
                arms = {}
                for system, program, sdk in systems if turn % 2 else reversed(systems):
                    answer = decide(program, sdk, given)
                    figures.samples.setdefault(system, []).append(min(answer["nanoseconds"]) / 1e3)
                    arms[system] = answer["arms"]
                if len(systems) > 1 and arms[OURS] != arms[PEER]:
                    unlike = sum(a != b for a, b in zip(arms[OURS], arms[PEER], strict=True))
                    raise OtherArms(f"{unlike:,} of {n_units:,} units get another arm")
            rows.append(figures)
        sizes = {"units": n_units, "rounds": rounds, "blocks": blocks}
        return Report("decisions", [OURS, PEER], rows, sizes, NOTES)

    carry_out(
        "decisions", measured, whole=not quick, out=out, packages=("tunescope",),
        versions=dict([GROWTHBOOK.split("==")]),
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
