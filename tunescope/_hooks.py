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
import weakref
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

__all__ = ["watch"]

AT_EXIT_TIMEOUT = 30.0


class Watched(Protocol):
    """The side of a run that the end of the process cares about."""

    @property
    def writes_here(self) -> bool: ...

    def fail(self, status: Any, exit_code: int | None, error: str | None) -> None: ...

    def finish(self, *, timeout: float) -> Any: ...

    def after_fork(self) -> None: ...


if TYPE_CHECKING:
    Runs = weakref.WeakSet[Watched]

_open: Runs = weakref.WeakSet()
_installed = False


def watch(run: Watched) -> None:
    """See that `run` learns how the process ends."""
    global _installed
    _open.add(run)
    if not _installed:
        _installed = True
        _install()


def _install() -> None:
    atexit.register(_finish_all)
    os.register_at_fork(after_in_child=_in_child)
    _watch_exceptions()
    _watch_exit()
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _fail_all(status: str, exit_code: int | None, error: str | None) -> None:
    for run in list(_open):
        run.fail(status, exit_code, error)


def _finish_all() -> None:
    for run in list(_open):
        if run.writes_here:
            run.finish(timeout=AT_EXIT_TIMEOUT)


def _watch_exceptions() -> None:
    previous = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        _fail_all("crashed", 130 if issubclass(kind, KeyboardInterrupt) else 1, text)
        previous(kind, error, trace)

    sys.excepthook = excepthook


def _watch_exit() -> None:
    """SystemExit passes by sys.excepthook, and atexit is not told the code: note it where it is given."""
    previous = sys.exit

    def leave(status: Any = None, /) -> NoReturn:
        if status not in (None, 0) and threading.current_thread() is threading.main_thread():
            code = status if isinstance(status, int) else 1
            _fail_all("crashed", code, f"sys.exit({status!r})")
        previous(status)

    sys.exit = leave


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    _fail_all("crashed", 128 + number, f"ended by {signal.Signals(number).name}")
    # An exception, so that `finally` blocks and exit handlers run: the last checkpoint, the last points.
    raise SystemExit(128 + number)


def _in_child() -> None:
    if signal.getsignal(signal.SIGTERM) is _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for run in list(_open):
        run.after_fork()
    if multiprocessing.util is not None:
        # multiprocessing's children leave without exit handlers, but do run these.
        multiprocessing.util.Finalize(None, _finish_all, exitpriority=10)
