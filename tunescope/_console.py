"""What a process prints, as lines, without standing in its way.

`write` of sys.stdout and sys.stderr notes each text it has written, with no lock: printing waits for nobody, and a
fork finds nothing held. The recorder's thread makes lines of the notes. As on a terminal, what follows a carriage
return replaces the line: of a progress bar its last state is kept, and one every few seconds while it moves.

What C libraries and child processes print goes past sys.stdout, and is not kept. To catch it, the file descriptors
would have to lead into a pipe: then a progress bar finds no terminal, the last words of a crash may be lost in it, and
a library that prints much while it holds the interpreter's lock waits for ever.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tunescope._environment import text_masker

__all__ = ["Console", "Line", "Stream", "last_lines"]

Line = tuple[float, str, str]
"""Unix seconds, stdout or stderr, text."""

MOST_WAITING = 4 << 20
LONGEST_LINE = 4000
LAST_LINES = 50
PROGRESS_SECONDS = 10.0
# Characters a process may print in the long run, at once, and in all.
A_SECOND = 64 << 10
AT_ONCE = 2 << 20
IN_ALL = 64 << 20
CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")

_sinks: list[Console] = []
os.register_at_fork(after_in_child=_sinks.clear)


class Console:
    """The output of this process from `open` to `close`."""

    def __init__(self) -> None:
        self._notes: deque[Line] = deque()
        self._waiting = 0
        self._lost = 0
        self._streams = {"stdout": Stream(), "stderr": Stream()}
        self._mask = text_masker()
        self._allowed, self._allowed_at = float(AT_ONCE), time.monotonic()
        self._taken = 0
        self._dropped = 0
        self.last: deque[str] = deque(maxlen=LAST_LINES)

    def open(self) -> None:
        _sinks.append(self)
        if len(_sinks) == 1:
            _tap_all()
            _follow_cells(True)

    def close(self) -> None:
        if self in _sinks:
            _sinks.remove(self)
        if not _sinks:
            _follow_cells(False)
            _untap()

    def note(self, stream: str, text: str) -> None:
        """Called by whoever prints."""
        if self._waiting > MOST_WAITING:
            self._lost += 1
            return
        self._waiting += len(text)
        self._notes.append((time.time(), stream, text))

    # --- the recorder's thread ---

    def lines(self, *, final: bool = False) -> list[Line]:
        """What has been printed since the last call; `final`: also a line that has not ended."""
        found: list[Line] = []
        self._waiting = 0
        while self._notes:
            at, name, text = self._notes.popleft()
            found += [(at, name, line) for line in self._streams[name].feed(text)]
        now = time.time()
        for name, stream in self._streams.items():
            found += [(now, name, line) for line in stream.unfinished(now, final)]
        kept = self._within_limits([(at, name, self._mask(line)) for at, name, line in found])
        self._dropped, self._lost = self._dropped + self._lost, 0
        if final:
            self._say_what_was_dropped(kept, now)
        return kept

    def _within_limits(self, lines: list[Line]) -> list[Line]:
        since, self._allowed_at = self._allowed_at, time.monotonic()
        self._allowed = min(AT_ONCE, self._allowed + A_SECOND * (self._allowed_at - since))
        kept: list[Line] = []
        for line in lines:
            self.last.append(line[2])
            size = len(line[2]) + 20
            if self._allowed < size or self._taken + size > IN_ALL:
                self._dropped += 1
                continue
            self._say_what_was_dropped(kept, line[0])
            self._allowed -= size
            self._taken += size
            kept.append(line)
        return kept

    def _say_what_was_dropped(self, kept: list[Line], at: float) -> None:
        if self._dropped:
            limit = f"{A_SECOND >> 10} KiB a second" if self._taken + LONGEST_LINE < IN_ALL else f"{IN_ALL >> 20} MiB"
            kept.append((at, "stderr", f"[tunescope left out {self._dropped:,} lines: more than {limit}]"))
            self._dropped = 0


class Stream:
    """Texts of one stream, as they come, to lines as a terminal would show them."""

    def __init__(self) -> None:
        self._rest = ""
        self._cut = 0
        self._shown = ("", time.time())

    def feed(self, text: str) -> list[str]:
        """The lines that `text` completes."""
        *ended, rest = text.replace("\r\n", "\n").split("\n")
        found = []
        for part in ended:
            self._add(part)
            found.append(self._line())
            self._rest, self._cut = "", 0
        self._add(rest)
        return found

    def _add(self, text: str) -> None:
        kept = self._rest + text
        if "\r" in kept[:-1]:
            # A carriage return at the very end has not replaced anything yet.
            kept = kept[kept.rindex("\r", 0, -1) + 1 :]
            self._cut = 0
        self._rest = kept[:LONGEST_LINE]
        self._cut += len(kept) - len(self._rest)

    def unfinished(self, now: float, final: bool) -> list[str]:
        """The line in progress, if it is to be shown: at the end, or every few seconds (a progress bar)."""
        line, (before, at) = self._line(), self._shown
        if not line.strip() or line == before or not (final or now - at >= PROGRESS_SECONDS):
            return []
        self._shown = (line, now)
        return [line]

    def _line(self) -> str:
        more = f" … {self._cut:,} more characters" if self._cut else ""
        text = CONTROL.sub("", self._rest.rstrip("\r")).rstrip() + more
        return text.encode("utf-8", "replace").decode()


def last_lines(lines: list[str], error: str) -> str:
    """`error` with the last lines printed before it, without those that say the same."""
    text = "\n".join(lines).rstrip()
    text = text.replace(error.strip(), "").rstrip() if error.strip() else text
    return f"Last lines printed:\n{text}\n\n{error}" if text.strip() else error


# --- the streams of this process ---

_taps: list[tuple[Any, Callable[..., Any], Callable[..., Any] | None]] = []
_printing = threading.local()


def _tap_all(*_: object) -> None:
    for name in ("stdout", "stderr"):
        _tap(name, getattr(sys, name))


def _tap(name: str, stream: Any) -> None:
    """Note what is written to `stream`. One that cannot be changed is left alone."""
    # What someone has put away since is forgotten: it notes nothing once it is not called.
    _taps[:] = [one for one in _taps if one[0] is not stream or _current(stream) is one[1]]
    if stream is None or any(stream is tapped for tapped, _, _ in _taps):
        return
    write = stream.write

    def noted(text: str, /) -> Any:
        if getattr(_printing, "now", False):  # below another of these
            return write(text)
        _printing.now = True
        try:
            done = write(text)
        finally:
            _printing.now = False
        for sink in _sinks:
            sink.note(name, text)
        return done

    own = _current(stream)
    try:
        stream.write = noted
    except (AttributeError, TypeError):
        return
    _taps.append((stream, noted, own))


def _current(stream: Any) -> Any:
    return getattr(stream, "__dict__", {}).get("write")


def _untap() -> None:
    for stream, noted, own in _taps:
        # Someone may have put something of his on top: then ours stays, and notes nothing.
        if stream.__dict__.get("write") is noted:
            if own is None:
                del stream.write
            else:
                stream.write = own
    _taps.clear()


def _follow_cells(on: bool) -> None:
    """In a notebook, tap anew with each cell: IPython puts `write` back to what it was before the cell."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        return
    # IPython says ValueError when a function is not registered.
    with suppress(ValueError):
        (shell.events.register if on else shell.events.unregister)("pre_run_cell", _tap_all)
