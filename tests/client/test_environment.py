"""What a run records about where it runs, and what it must not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tunescope._environment import capture, mask
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
    ],
)
def test_secrets_are_masked(arguments: list[str], masked: list[str]) -> None:
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
