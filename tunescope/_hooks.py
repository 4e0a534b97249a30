"""How a process ends, told to the runs it has open: normally, by an exception, by `sys.exit`, by SIGTERM; and forks.

Hooks are installed with the first run, call what was there before them, and do nothing once all runs are finished.
"""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import signal
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import Any, Literal, NoReturn, Protocol

__all__ = ["Ending", "Status", "unwatch", "watch"]

AT_EXIT_TIMEOUT = 30.0

Status = Literal["finished", "failed", "crashed"]
Ending = tuple[Status, int | None, str | None]
"""Status, exit code, and why."""


class Watched(Protocol):
    """The side of a run that the end of the process cares about."""

    def ends(self, ending: Ending) -> None: ...

    def finish_here(self, timeout: float) -> None: ...

    def after_fork(self) -> None: ...


_open: list[Watched] = []
_installed = False
# An exception or an exit may yet be caught (by a test, by an interactive session): it counts once the process ends.
_ending: Ending | None = None


def watch(run: Watched) -> None:
    """See that `run` learns how the process ends."""
    global _installed
    _open.append(run)
    if not _installed:
        _installed = True
        _install()


def unwatch(run: Watched) -> None:
    if run in _open:
        _open.remove(run)


def _install() -> None:
    atexit.register(_finish_all)
    os.register_at_fork(after_in_child=_in_child)
    # multiprocessing's children leave without exit handlers, but they do run finalizers.
    multiprocessing.util.register_after_fork(_finish_all, _finalize_in_child)
    _watch_exceptions()
    _watch_exit()
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _finish_all() -> None:
    for run in tuple(_open):
        if _ending is not None:
            run.ends(_ending)
        run.finish_here(AT_EXIT_TIMEOUT)


def _watch_exceptions() -> None:
    previous = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        global _ending
        if not hasattr(sys, "ps1"):
            code = 130 if issubclass(kind, KeyboardInterrupt) else 1
            _ending = ("crashed", code, "".join(traceback.format_exception(kind, error, trace)))
        previous(kind, error, trace)

    sys.excepthook = excepthook


def _watch_exit() -> None:
    """SystemExit passes by sys.excepthook, and exit handlers are not told the code: note it where it is given."""
    previous = sys.exit

    def leave(status: Any = None, /) -> NoReturn:
        global _ending
        if threading.current_thread() is threading.main_thread():
            code = status if isinstance(status, int) else 0 if status is None else 1
            _ending = ("crashed", code, f"sys.exit({status!r})") if code else None
        previous(status)

    sys.exit = leave


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    for run in tuple(_open):
        run.ends(("crashed", 128 + number, f"ended by {signal.Signals(number).name}"))
    # An exception, so that `finally` blocks and exit handlers run: the last checkpoint, the last points.
    raise SystemExit(128 + number)


def _in_child() -> None:
    if signal.getsignal(signal.SIGTERM) is _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for run in tuple(_open):
        run.after_fork()


def _finalize_in_child(_: object) -> None:
    multiprocessing.util.Finalize(None, _finish_all, exitpriority=10)
