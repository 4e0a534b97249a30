"""Where training code runs besides a plain script: forked workers, a notebook, a machine whose clock jumps."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import tunescope
from tests.client.conftest import Script, values
from tunescope import Client


def start(url: str, project: str, **options: Any) -> tunescope.Run:
    return tunescope.init(project=project, url=url, system_interval=None, git_diff=False, quiet=True, **options)


def test_workers_of_a_data_loader_log_beside_the_training(script: Script, live_service: str, api: Client) -> None:
    """Forked in each epoch, as PyTorch forks them, while the training logs; each worker ends without a word."""
    process = script(
        """
        import os
        import torch
        import tunescope

        run = tunescope.init(project="loader", system_interval=None, git_diff=False, quiet=True)

        class Rows(torch.utils.data.Dataset):
            def __len__(self):
                return 12

            def __getitem__(self, place):
                run.log({"rows/value": place}, step=place)
                return place

        for epoch in range(2):
            loader = torch.utils.data.DataLoader(Rows(), batch_size=3, num_workers=2, multiprocessing_context="fork")
            for batch in loader:
                run.log({"loss": float(batch.sum())})
        print(run.id)
        assert run.finish().left == 0
        """,
        TUNESCOPE_URL=live_service,
    )
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    run = api.get_run(out.strip())
    assert (run["status"], run["points_stored"], run["points_sent"]) == ("finished", 32, 32)
    assert sorted(_all(api, run["id"], "rows/value")) == sorted([float(place) for place in range(12)] * 2)
    assert len(values(api, run["id"], "loss")) == 8


def _all(api: Client, run_id: str, key: str) -> list[float]:
    """Every stored value: two workers at one step are two segments of one series."""
    import io

    import pyarrow as pa

    table = pa.ipc.open_stream(io.BytesIO(api.history_arrow(run_id, key, whole=True))).read_all()
    return list(table.column("value").to_pylist())


def test_a_fork_that_leaves_at_once_loses_nothing(live_service: str, api: Client) -> None:
    """`os._exit` runs no handlers: what the child logged before its last flush is in its journal."""
    run = start(live_service, "os.fork")
    run.log({"a": 1.0})
    child = os.fork()
    if child == 0:
        try:
            run.log({"b": 2.0})
            run.finish()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    run.log({"a": 3.0})
    assert run.finish().left == 0
    assert (values(api, run.id, "a"), values(api, run.id, "b")) == ([1.0, 3.0], [2.0])
    assert api.get_run(run.id)["status"] == "finished"


def test_a_clock_that_jumps_back(live_service: str, api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour back, in training: every point is kept, at the time the clock said, and steps order them."""
    run = start(live_service, "clock")
    real, jump = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + jump[0])
    for step in range(20):
        jump[0] = -3600.0 if step >= 10 else 0.0
        run.log({"loss": float(step)}, step=step)
    time.sleep(0.6)
    run.log({"loss": 20.0}, step=20)
    assert run.finish().left == 0
    monkeypatch.undo()
    (series,) = api.history(run.id, "loss")
    assert (series["steps"], series["values"]) == (list(range(21)), [float(step) for step in range(21)])
    assert 3500 < series["times"][9] - series["times"][10] < 3700
    stored = api.get_run(run.id)
    assert (stored["status"], stored["points_stored"]) == ("finished", 21)
    assert stored["duration"] >= 0
    x_by_time = api.curves(run.id, "loss", x="time")["curves"]
    assert sum(len(curve["x"]) for curve in x_by_time) > 0


NOTEBOOK = (
    "import tunescope\n"
    "run = tunescope.init(project='notebook', system_interval=None, git_diff=False, quiet=True)\n"
    "print(run.id)",
    "for step in range(5):\n    run.log({'loss': 1 / (step + 1)}, step=step)\nprint('logged', step)",
    "1 / 0",
    "run.log({'loss': 0.0}, step=5)\nreport = run.finish()\nprint(report.left)",
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_notebook(live_service: str, api: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of a real kernel: a cell that fails does not end the run, what is printed is kept and shown."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("TUNESCOPE_URL", live_service)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in NOTEBOOK])
    nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=120).execute()
    shown = ["".join(one.get("text", one.get("ename", "")) for one in cell.outputs) for cell in notebook.cells]
    run_id = shown[0].strip()
    assert shown[1:] == ["logged 4\n", "ZeroDivisionError", "0\n"]
    run = api.get_run(run_id)
    assert (run["status"], run["points_stored"]) == ("finished", 6)
    assert values(api, run_id, "loss") == [*(1 / (step + 1) for step in range(5)), 0.0]
    assert "logged 4" in [line["text"] for line in api.console(run_id)["items"]]
