"""What a run prints is kept as lines, and printing goes on as if nobody listened."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import tunescope
from tests.client.conftest import Script
from tunescope import Client, _console
from tunescope._console import Console, last_lines
from tunescope._run import new_id
from tunescope._sync import sync


@pytest.fixture
def console() -> Any:
    """Not open yet: pytest has other streams while it makes a fixture."""
    made = Console()
    yield made
    made.close()


def texts(lines: list[_console.Line]) -> list[tuple[str, str]]:
    return [(stream, text) for _, stream, text in lines]


def test_lines_of_both_streams(capsys: pytest.CaptureFixture[str], console: Console) -> None:
    console.open()
    print("one", 1)
    print("two", file=sys.stderr)
    sys.stdout.writelines(["three\n", "fo"])
    assert texts(console.lines()) == [("stdout", "one 1"), ("stderr", "two"), ("stdout", "three")]
    print("ur\r\nfive", end="")
    assert texts(console.lines()) == [("stdout", "four")]
    assert texts(console.lines(final=True)) == [("stdout", "five")]
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("one 1\nthree\nfour\r\nfive", "two\n")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (["\r10%", "\r50%", "\r100%\n"], ["100%"]),
        (["\r10%\r", "\r", "    ", "\r", "next\n"], ["next"]),
        (["working\r", "done\r", "\n"], ["done"]),
        (["\x1b[31mred\x1b[0m \x1b[Aup\n"], ["red up"]),
        (["\x1b]0;title\x07text\n"], ["text"]),
        (["a\n\nb\n"], ["a", "", "b"]),
        (["lone \ud800 surrogate\n"], ["lone ? surrogate"]),
        (["x" * 5000, "y" * 5000, "\n"], ["x" * 4000 + " … 6,000 more characters"]),
    ],
)
def test_what_a_terminal_would_show(written: list[str], kept: list[str]) -> None:
    console = Console()
    for text in written:
        console.note("stdout", text)
    assert [text for _, _, text in console.lines()] == kept


def test_a_progress_bar_is_seen_moving(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console()
    console.note("stderr", "\r10%")
    assert console.lines() == []
    now = _console.time.time() + 11
    monkeypatch.setattr(_console.time, "time", lambda: now)
    assert texts(console.lines()) == [("stderr", "10%")]
    assert console.lines() == []
    console.note("stderr", "\r20%")
    assert texts(console.lines(final=True)) == [("stderr", "20%")]


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct-horse")
    monkeypatch.setenv("MAX_NEW_TOKENS", "tokens-are-no-secret")
    console = Console()
    for text in (
        "login with correct-horse ok",
        "max_new_tokens=1234567890 of tokens-are-no-secret",
        'api_key="abcdefghijk", lr=1',
        "postgresql://me:secret@host/db",
        "hf_abcdefghijklmnopqrstuvwxyz",
    ):
        console.note("stdout", text + "\n")
    assert [text for _, _, text in console.lines()] == [
        "login with *** ok",
        "max_new_tokens=1234567890 of tokens-are-no-secret",
        'api_key="***", lr=1',
        "postgresql://***@host/db",
        "***",
    ]


def test_a_flood_is_bounded_and_says_what_was_left_out() -> None:
    console = Console()
    for number in range(200_000):
        console.note("stdout", f"{number} {'x' * 90}\n")
    kept = [text for _, _, text in console.lines(final=True)]
    assert sum(map(len, kept)) <= _console.AT_ONCE
    notes = [text for text in kept if text.startswith("[tunescope left out")]
    assert notes == [f"[tunescope left out {200_000 - len(kept) + 1:,} lines: more than 64 KiB a second]"]
    assert list(console.last)  # what was printed last is known all the same


def test_nested_and_foreign_taps(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout.write
    first, second = Console(), Console()
    first.open()
    ours = sys.stdout.write
    second.open()
    print("both")
    first.close()
    sys.stdout.write = lambda text: ours(text.upper())  # type: ignore[method-assign]
    print("second")
    second.close()
    print("nobody")
    assert [text for _, text in texts(first.lines())] == ["both"]
    assert [text for _, text in texts(second.lines())] == ["both", "SECOND"]
    assert capsys.readouterr().out == "both\nSECOND\nNOBODY\n"
    del sys.stdout.write  # type: ignore[misc]
    assert sys.stdout.write == before


def test_streams_that_cannot_be_tapped(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []

    class Fixed:
        __slots__ = ()

        def write(self, text: str) -> int:
            printed.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stdout", Fixed())
    monkeypatch.setattr(sys, "stderr", None)
    console = Console()
    console.open()
    print("still printed", end="")
    console.close()
    assert "".join(printed) == "still printed"
    with contextlib.redirect_stdout(io.StringIO()):  # a program's own reading of its output
        console.open()
        console.close()


def test_a_fork_prints_and_records_nothing(capfd: pytest.CaptureFixture[str], console: Console) -> None:
    console.open()
    print("from the parent")
    child = os.fork()
    if child == 0:
        print("from the child", flush=True)
        os._exit(len(console._notes) - 2)  # a text and its end
    assert os.waitpid(child, 0)[1] == 0
    assert texts(console.lines(final=True)) == [("stdout", "from the parent")]


def test_the_last_lines_of_a_crash() -> None:
    error = "Traceback (most recent call last):\n  …\nValueError: no\n"
    assert last_lines([], error) == error
    assert last_lines(["epoch 1", *error.splitlines()], error) == f"Last lines printed:\nepoch 1\n\n{error}"


def test_a_run_keeps_what_it_prints(live_service: str, api: Client, capsys: pytest.CaptureFixture[str]) -> None:
    run = tunescope.init(url=live_service, system_interval=None, git_diff=False, quiet=True)
    print("hello")
    logging.getLogger("tunescope").warning("from logging")
    silent = tunescope.init(url=live_service, system_interval=None, git_diff=False, quiet=True, console=False)
    assert silent.finish().left == 0
    assert run.finish().left == 0
    print("after")
    lines = api.console(run.id)["items"]
    assert [(line["stream"], line["rank"], line["text"]) for line in lines] == [("stdout", 0, "hello")]
    assert api.console(silent.id)["items"] == []


def test_a_crash_keeps_traceback_and_last_lines(script: Script, live_service: str, api: Client) -> None:
    run_id = new_id()
    process = script(
        f"""
        import tunescope
        tunescope.init(url="{live_service}", system_interval=None, git_diff=False)
        for epoch in range(3):
            print("epoch", epoch)
        raise ValueError("the loss is gone")
        """,
        TUNESCOPE_RUN_ID=run_id,
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "epoch 0\nepoch 1\nepoch 2\n")
    assert "ValueError: the loss is gone" in err
    stored = api.get_run(run_id)
    assert stored["status"] == "crashed"
    assert re.fullmatch(
        r"Last lines printed:\nepoch 0\nepoch 1\nepoch 2\n\nTraceback .*ValueError: the loss is gone\n",
        stored["error"],
        re.DOTALL,
    ), stored["error"]
    printed = api.console(run_id)["items"]
    assert [line["text"] for line in printed if line["stream"] == "stdout"] == ["epoch 0", "epoch 1", "epoch 2"]
    assert printed[-1]["text"] == "ValueError: the loss is gone"


def test_a_killed_run_keeps_its_last_lines(script: Script, live_service: str, api: Client, journals: Path) -> None:
    run_id = new_id()
    process = script(
        """
        import os, time, tunescope
        tunescope.init(mode="offline", system_interval=None, git_diff=False)
        print("the last words", flush=True)
        time.sleep(1.5)
        os.kill(os.getpid(), 9)
        """,
        TUNESCOPE_RUN_ID=run_id,
    )
    assert process.wait(60) == -9
    with tunescope.Client(live_service) as client:
        (synced,) = sync(journals, client)
    assert synced.outcome == "sent"
    assert "the last words\n\nThe process ended" in api.get_run(run_id)["error"]
    assert [line["text"] for line in api.console(run_id)["items"]] == ["the last words"]
