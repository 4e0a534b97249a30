"""What a run records about where it runs, and what it must not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import tunescope
from tunescope import Client
from tunescope._environment import LARGEST_DIFF, capture, git_diff, mask
from tunescope._system import SystemMonitor


@pytest.mark.parametrize(
    ("arguments", "masked"),
    [
        (["train.py", "--lr", "1e-4"], ["train.py", "--lr", "1e-4"]),
        (["--api-key", "abc", "--lr", "1"], ["--api-key", "***", "--lr", "1"]),
        (["--api_key=abc"], ["--api_key=***"]),
        (["HF_TOKEN=abc", "MODE=x"], ["HF_TOKEN=***", "MODE=x"]),
        (["--password", "--verbose"], ["--password", "--verbose"]),
        (["--hub-token", "x", "y"], ["--hub-token", "***", "y"]),
        (["--max-new-tokens", "64"], ["--max-new-tokens", "64"]),
        (["--pad_token=<pad>"], ["--pad_token=<pad>"]),
        (["--tokenizer", "gpt2", "--keyboard", "de"], ["--tokenizer", "gpt2", "--keyboard", "de"]),
        (["hf_abcdefghijklmnopqrstuvwxyz"], ["***"]),
        (["postgresql://me:secret@host/db"], ["postgresql://***@host/db"]),
        (["-c", "login(token); password = 'hunter22'"], ["-c", "login(token); password = '***'"]),
        (["-H", "Authorization: Bearer abcdefghijkl.mno="], ["-H", "Authorization: Bearer ***"]),
        (["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP"], ["***"]),
        (["AIzaSyA1234567890abcdefghijklmnopqrstuvw"], ["***"]),
        (["tokenizer.py", "npm_run", "r8_sweep", "eyJ.png"], ["tokenizer.py", "npm_run", "r8_sweep", "eyJ.png"]),
        (["train.py", "0123456789abcdef-from-the-shell"], ["train.py", "***"]),
    ],
)
def test_secrets_are_masked(arguments: list[str], masked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef-from-the-shell")
    assert mask(arguments) == masked


def test_what_is_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-b", "trunk")
    (tmp_path / "a").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    git("remote", "add", "origin", "https://me:token@example.org/x.git")
    monkeypatch.chdir(tmp_path)
    seen = capture()
    assert seen["git"] == {
        "commit": git("rev-parse", "HEAD"),
        "branch": "trunk",
        "dirty": False,
        "remote": "https://***@example.org/x.git",
    }
    assert seen["cpu_count"] >= 1
    assert seen["packages"]["httpx2"]
    (tmp_path / "a").write_text("2")
    assert capture()["git"]["dirty"] is True


def test_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert capture()["git"] is None


def test_system_metrics() -> None:
    monitor = SystemMonitor(created_at=0.0, interval=10.0)
    assert monitor.due()
    sample = monitor.sample()
    assert not monitor.due()
    assert sample["system/process_memory_mib"] > 1
    assert 0 < sample["system/memory_percent"] <= 100
    assert monitor.step() > 1_000_000_000  # seconds since the run was created


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository of one commit, which is where we are."""
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "1"]):
        if command == ["add", "."]:
            (tmp_path / "train.py").write_text("lr = 1\n")
            (tmp_path / "weights.bin").write_bytes(bytes(range(256)))
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    return tmp_path


def test_the_uncommitted_changes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "correct-horse-battery")
    assert git_diff() is None
    (repository / "train.py").write_text('lr = 2\nkey = "correct-horse-battery"\n')
    (repository / "weights.bin").write_bytes(bytes(reversed(range(256))))
    found = (git_diff() or b"").decode()
    assert "-lr = 1\n+lr = 2\n" in found
    assert '+key = "***"' in found
    assert "Binary files a/weights.bin and b/weights.bin differ" in found
    (repository / "train.py").write_text("x = 1234567\n" * 200_000)
    cut = git_diff() or b""
    assert len(cut) < LARGEST_DIFF + 100
    assert cut.endswith("… cut here: the diff is larger than 1 MB\n".encode())
    monkeypatch.chdir("/")
    assert git_diff() is None


def test_the_diff_is_an_artifact(repository: Path, live_service: str, api: Client) -> None:
    (repository / "train.py").write_text("lr = 2\n")
    for kept in (True, False):
        run = tunescope.init(url=live_service, system_interval=None, quiet=True, git_diff=kept)
        run.finish()
        stored = {item["path"]: item["kind"] for item in api.list_artifacts(run.id)["items"]}
        assert stored == ({"git.diff": "code"} if kept else {})
        assert not kept or b"+lr = 2" in api.download_artifact(run.id, "git.diff")


def test_variables_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    monkeypatch.setenv("NCCL_DEBUG", "https://me:secret@host")
    monkeypatch.setenv("ACCELERATE_API_KEY", "hidden-all-of-it")
    monkeypatch.setenv("SOMETHING_ELSE", "private")
    found = capture()["variables"]
    assert (found["CUDA_VISIBLE_DEVICES"], found["NCCL_DEBUG"]) == ("1,2", "https://***@host")
    assert not {"ACCELERATE_API_KEY", "SOMETHING_ELSE", "HOME", "PATH"} & set(found)


def test_seeds_are_read_without_drawing() -> None:
    np.random.seed(1234)
    torch.manual_seed(5678)
    expected = np.random.RandomState(1234).random_sample()
    seeds = capture()["seeds"]
    assert (seeds["numpy"], seeds["torch"]) == (1234, 5678)
    assert np.random.random_sample() == expected
    assert "numpy" not in capture()["seeds"]  # a number was drawn: the seed can no longer be told


def test_one_process_of_a_machine_reads_what_all_share() -> None:
    monitor = SystemMonitor(created_at=0.0, interval=10.0, host=False)
    assert set(monitor.sample()) <= {
        "system/process_cpu_percent", "system/process_memory_mib", "system/process_threads",
    }  # fmt: skip
