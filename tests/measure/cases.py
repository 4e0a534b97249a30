"""Reading the language-neutral cases in tests/cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Case = dict[str, Any]


def load(name: str) -> list[Case]:
    path = Path(__file__).parent.parent / "cases" / f"{name}.json"
    cases: list[Case] = json.loads(path.read_text())["cases"]
    return cases


def parametrised(name: str, chosen: Callable[[Case], bool]) -> pytest.MarkDecorator:
    """One test for each chosen case, named by its id; none chosen is an error, not a silent pass."""
    cases = [case for case in load(name) if chosen(case)]
    if not cases:
        raise LookupError(f"no case of {name}.json was chosen")
    return pytest.mark.parametrize("case", cases, ids=[case["id"] for case in cases])
