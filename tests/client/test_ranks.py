"""Many processes, one run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import tunescope
from tests.client.conftest import Script
from tunescope import Client, TunescopeError, _ranks
from tunescope._run import new_id

TRAINING = """
import os
import tunescope

run = tunescope.init(project="ranks", config={"lr": 1, "of": os.environ["RANK"]}, tags={"rank": os.environ["RANK"]},
                     system_interval=0.2, git_diff=False, quiet=True)
for step in range(20):
    run.log({"loss": 10 * run.rank + step}, step=step)
run.log({"said": tunescope.Text(f"by {run.rank}")}, step=0)
print("hello from", run.rank)
run.config["late"] = run.rank
run.log_artifact(b"shard", f"shard-{run.rank}")
report = run.finish()
assert report.left == 0, report
"""


def values(api: Client, run_id: str, key: str) -> dict[int, list[float]]:
    return {one["rank"]: one["values"] for one in api.history(run_id, key, rank="all")}


def test_two_processes_log_into_one_run(script: Script, live_service: str, api: Client) -> None:
    run_id = new_id()
    shared = {"TUNESCOPE_URL": live_service, "TUNESCOPE_RUN_ID": run_id}
    # Rank 1 comes first: it waits for rank 0 to make the run.
    processes = [script(TRAINING, RANK=rank, LOCAL_RANK=rank, **shared) for rank in "10"]
    for process in processes:
        assert process.wait(60) == 0, process.stderr and process.stderr.read()
    stored = api.get_run(run_id)
    assert (stored["status"], stored["points_stored"]) == ("finished", sum(len(s["steps"]) for s in _all(api, run_id)))
    assert stored["points_sent"] == stored["points_stored"]  # of all ranks
    assert (stored["config"], stored["tags"]) == ({"lr": 1, "of": "0", "late": 0}, {"rank": "0"})
    assert stored["environment"]["variables"]["RANK"] == "0"
    assert values(api, run_id, "loss") == {0: [float(i) for i in range(20)], 1: [float(10 + i) for i in range(20)]}
    assert set(values(api, run_id, "system/process_memory_mib")) == {0, 1}
    assert set(values(api, run_id, "system/memory_percent")) == {0}  # one process of a machine is enough for that
    said = api.list_media(run_id, "said")["items"]
    assert {(one["rank"], api.download_media(one["id"]).decode()) for one in said} == {(0, "by 0"), (1, "by 1")}
    printed = {(line["rank"], line["text"]) for line in api.console(run_id)["items"]}
    assert printed == {(0, "hello from 0"), (1, "hello from 1")}
    assert {item["path"] for item in api.list_artifacts(run_id)["items"]} == {"shard-0", "shard-1"}


def _all(api: Client, run_id: str) -> list[Any]:
    return api.history(run_id, rank="all")


def test_ranks_of_one_machine_find_one_another(script: Script, live_service: str, api: Client) -> None:
    """Before torch.distributed is set up, and the n-th run of one is the n-th run of the other."""
    code = """
        import sys
        import tunescope

        for name in ("first", "second"):
            run = tunescope.init(project="met", name=name, system_interval=None, git_diff=False, quiet=True)
            run.log({"loss": run.rank}, step=1)
            assert run.finish().left == 0
    """
    shared = {"TUNESCOPE_URL": live_service, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    processes = [script(code, RANK=rank, LOCAL_RANK=rank, **shared) for rank in "10"]
    for process in processes:
        assert process.wait(60) == 0, process.stderr and process.stderr.read()
    found = {run["name"]: run["id"] for run in api.list_runs("met")["items"]}
    assert set(found) == {"first", "second"}
    for run_id in found.values():
        assert values(api, run_id, "loss") == {0: [0.0], 1: [1.0]}


@pytest.mark.parametrize(
    ("environment", "here"),
    [
        ({}, False),
        ({"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, False),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, False),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, True),
        ({"SLURM_NTASKS": "6", "SLURM_TASKS_PER_NODE": "2(x3)"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_TASKS_PER_NODE": "2"}, True),
    ],
)
def test_where_a_file_of_this_machine_will_do(
    environment: dict[str, str], here: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for names in _ranks.SIZES:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    _ranks.announce("project/name", "its-id")
    announced = [file.read_text() for file in tmp_path.rglob("*-*") if file.is_file()]
    assert announced == (["its-id"] if here else [])
    if here:
        assert _ranks.joined("project/name", 1) == "its-id"
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        monkeypatch.setattr(_ranks, "PATIENCE", 0.1)
        _ranks._joined.clear()
        with pytest.raises(TunescopeError, match="rank 0 has not started its run"):
            _ranks.joined("project/name", 1)


@pytest.fixture(autouse=True)
def _counted_anew() -> None:
    _ranks._announced.clear()
    _ranks._joined.clear()


def test_a_rank_that_cannot_join_says_how(monkeypatch: pytest.MonkeyPatch, journals: Path) -> None:
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(TunescopeError, match=r"This is rank 3.*set TUNESCOPE_RUN_ID"):
        tunescope.init()
    assert not journals.exists()
    assert tunescope.init(mode="disabled").rank == 0
    monkeypatch.setenv("TUNESCOPE_RUN_ID", "../x")
    with pytest.raises(TunescopeError, match="not the id of a run"):
        tunescope.init()


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"RANK": "2", "SLURM_PROCID": "5"}, 2),
        ({"SLURM_PROCID": "5"}, 5),
        ({"OMPI_COMM_WORLD_RANK": "7"}, 7),
        ({"RANK": "none", "OMPI_COMM_WORLD_RANK": "1"}, 1),
    ],
)
def test_what_the_launcher_says(environment: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _ranks.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _ranks.rank_here() == rank


def test_offline_ranks_are_synced_rank_0_first(script: Script, live_service: str, api: Client, journals: Path) -> None:
    run_id = new_id()
    for rank in "10":
        process = script(
            TRAINING.replace("assert report.left == 0", "assert report.left > 0"),
            RANK=rank, TUNESCOPE_RUN_ID=run_id, TUNESCOPE_MODE="offline",
        )  # fmt: skip
        assert process.wait(60) == 0, process.stderr and process.stderr.read()
    command = [sys.executable, "-m", "tunescope", "sync", str(journals), "--url", live_service]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {rank: len(found) for rank, found in values(api, run_id, "loss").items()} == {0: 20, 1: 20}
    assert api.get_run(run_id)["config"]["of"] == "0"


@pytest.mark.slow
def test_torchrun(live_service: str, api: Client, tmp_path: Path) -> None:
    """Ranks that torchrun starts find one another through torch.distributed."""
    (tmp_path / "train.py").write_text(
        textwrap.dedent(
            """
            import sys
            import torch
            import torch.distributed
            import tunescope

            torch.distributed.init_process_group("gloo")
            rank = torch.distributed.get_rank()
            if rank == 0:  # nobody has to answer a run that only rank 0 starts
                tunescope.init(project="torchrun", name="alone", quiet=True, git_diff=False).finish()
            for name in ("first", "second"):
                run = tunescope.init(project="torchrun", name=name, config={"name": name}, quiet=True, git_diff=False)
                assert run.rank == rank
                loss = torch.tensor(float(rank))
                torch.distributed.all_reduce(loss)
                run.log({"own": rank, "sum": loss}, step=1)
                assert run.finish().left == 0
            torch.distributed.destroy_process_group()
            """
        )
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*torchrun, str(tmp_path / "train.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "TUNESCOPE_URL": live_service},
    )
    assert done.returncode == 0, done.stderr
    found = {run["name"]: run for run in api.list_runs(project="torchrun")["items"]}
    assert set(found) == {"alone", "first", "second"}
    for name in ("first", "second"):
        run = found[name]
        assert (run["status"], run["config"]) == ("finished", {"name": name})
        assert values(api, run["id"], "own") == {0: [0.0], 1: [1.0]}
        assert values(api, run["id"], "sum") == {0: [1.0], 1: [1.0]}


@pytest.mark.slow
def test_the_trainers_callback_on_every_rank(live_service: str, api: Client, tmp_path: Path) -> None:
    """One run: the training from rank 0, the machine from both."""
    (tmp_path / "train.py").write_text(
        textwrap.dedent(
            """
            import sys
            from pathlib import Path
            from tests.client.test_transformers_callback import trainer
            from tunescope.transformers import TunescopeCallback

            callback = TunescopeCallback(project="callback-ranks", all_ranks=True, git_diff=False, quiet=True)
            training = trainer(Path(sys.argv[1]), callback, ddp_backend="gloo", eval_strategy="epoch")
            training.train()
            training.evaluate()
            """
        )
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*torchrun, str(tmp_path / "train.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "TUNESCOPE_URL": live_service, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    (run,) = api.list_runs(project="callback-ranks")["items"]
    assert run["status"] == "finished"
    ranks: dict[str, set[int]] = {}
    for one in api.run_series(run["id"])["items"]:
        ranks.setdefault(one["key"], set()).add(one["rank"])
    assert (ranks["train/loss"], ranks["eval/loss"]) == ({0}, {0})
    assert ranks["system/process_memory_mib"] == {0, 1}
