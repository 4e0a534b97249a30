"""A second start does not repeat what is done, and never touches a folder that is not a demo's."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.demo.memory import Memory, NotOurFolder, forget


def test_a_step_is_done_once_and_remembered_across_starts(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    made = []

    def make() -> list[int]:
        made.append(1)
        return [1, 2]

    first = Memory(folder, "v1")
    assert not first.has("step")
    assert first.once("step", make) == [1, 2]
    second = Memory(folder, "v1")
    assert second.has("step")
    assert second.once("step", make) == [1, 2]
    assert len(made) == 1


def test_a_step_that_fails_is_not_remembered(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "demo", "v1")
    with pytest.raises(ZeroDivisionError):
        memory.once("step", lambda: 1 // 0)
    assert not Memory(tmp_path / "demo", "v1").has("step")


def test_a_demo_of_another_version_is_refused(tmp_path: Path) -> None:
    Memory(tmp_path / "demo", "v1")
    with pytest.raises(NotOurFolder, match="--fresh"):
        Memory(tmp_path / "demo", "v2")


def test_a_folder_with_something_else_is_neither_used_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(NotOurFolder, match="--dir"):
        Memory(tmp_path, "v1")
    with pytest.raises(NotOurFolder, match="not removed"):
        forget(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_fresh_removes_a_demo_and_takes_no_demo_for_granted(tmp_path: Path) -> None:
    Memory(tmp_path / "demo", "v1").once("step", lambda: 1)
    forget(tmp_path / "demo")
    forget(tmp_path / "demo")
    assert not Memory(tmp_path / "demo", "v2").has("step")
