"""What the benchmark of growth writes into the tables is what the API writes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import running_service


def test_rows_are_those_of_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import filler
    from systems import Wire

    with running_service(tmp_path / "data") as service, closing(Wire(service.port)) as wire:
        filler.written(wire, 0)
    url = f"sqlite:///{tmp_path / 'filled.db'}"
    filler.fill(url, 1)
    filler.check_rows(f"sqlite:///{tmp_path / 'data' / 'tunescope.db'}", url)
