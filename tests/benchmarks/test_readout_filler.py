"""What the benchmark of readouts writes into the tables is what storing events writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.experiments import lifecycle
from service.experiments.schemas import NewExperiment
from service.store.database import Database

NOW = 1_790_000_000.0


def test_rows_are_those_of_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import readout
    import readout_filler

    monkeypatch.setattr(readout_filler, "CHUNK", 64)  # several moments in a turn, and units of several ages
    urls = [f"sqlite:///{tmp_path / name}.db" for name in ("ledger", "fill")]
    for url in urls:
        database = Database(url)
        with database.write() as session:
            lifecycle.create(session, NewExperiment.model_validate(readout.PLAN), "test")
            lifecycle.move(session, readout.KEY, "start", "test")
        database.close()
    readout.stored_both_ways(*urls, NOW)
    readout_filler.check_rows(*urls)

    database = Database(urls[1])
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE unit_rollup SET sum = sum + 1 WHERE unit_id = 'user-0000007'")
    database.close()
    with pytest.raises(readout_filler.RowsDiffer, match="unit_rollup"):
        readout_filler.check_rows(*urls)
