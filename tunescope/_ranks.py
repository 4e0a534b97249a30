"""Which process of a run this one is, and which run that is.

The processes that torchrun, accelerate, srun or mpirun start log into one run. Rank 0 makes it; the others learn its
id from `TUNESCOPE_RUN_ID`, or from what rank 0 announces: in the key-value store that torch.distributed keeps among
them, once it is initialised, and in a file of this machine, which does where all ranks are on one. A store and a file,
not a broadcast: nobody waits for a process that never asks.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tunescope._exceptions import TunescopeError

__all__ = ["announce", "joined", "leads_its_host", "rank_here"]

VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
LOCAL_VARIABLES = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")
# How many processes the launcher started, and how many of them here.
SIZES = (
    ("WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("SLURM_NTASKS", "SLURM_TASKS_PER_NODE"),
)
PATIENCE = 60.0
POLL = 0.05
A_DAY = 86_400.0

# The n-th run of a project and name on one rank is the n-th on every other.
_announced: Counter[str] = Counter()
_joined: Counter[str] = Counter()


def rank_here() -> int:
    """The rank of this process: what torch.distributed says once it is initialised, else what the launcher said."""
    distributed = _distributed()
    return distributed.get_rank() if distributed is not None else _first_number(VARIABLES)


def leads_its_host() -> bool:
    """Whether this process is the first of its machine, the one that reads what all of them share."""
    return _first_number(LOCAL_VARIABLES) == 0


def announce(subject: str, run_id: str) -> None:
    """Tell the other ranks, if there are any, which run they are part of."""
    number = _announced[subject]
    _announced[subject] += 1
    if (store := _store()) is not None:
        store.set(_key(subject, number), run_id)
    if (meeting := _meeting()) is not None:
        with suppress(OSError):
            _remove_old(meeting.parent)
            meeting.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = meeting / f".{os.getpid()}"
            fresh.write_text(run_id, "utf-8")
            fresh.replace(meeting / _file(subject, number))


def joined(subject: str, rank: int) -> str:
    """The id of the run that rank 0 has made, or is about to make.

    Raises `TunescopeError` if there is no way to learn it, or rank 0 says nothing for a minute.
    """
    ways = (
        "set TUNESCOPE_RUN_ID to one id for all processes; or call init after torch.distributed.init_process_group(), "
        "on rank 0 too; or, if this process is to have a run of its own, pass rank=0"
    )
    store, meeting, number = _store(), _meeting(), _joined[subject]
    if store is None and meeting is None:
        raise TunescopeError(f"This is rank {rank}, which logs into the run of rank 0, but nothing says which: {ways}.")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        run_id = _from_store(store, _key(subject, number)) or _from_file(meeting, _file(subject, number))
        if run_id is not None:
            _joined[subject] += 1
            return run_id
        time.sleep(POLL)
    raise TunescopeError(f"This is rank {rank}, and rank 0 has not started its run in {PATIENCE:.0f} seconds: {ways}.")


def _key(subject: str, number: int) -> str:
    return f"tunescope/{subject}/{number}"


def _file(subject: str, number: int) -> str:
    return f"{hashlib.sha256(subject.encode()).hexdigest()[:16]}-{number}"


def _from_store(store: Any, key: str) -> str | None:
    return store.get(key).decode() if store is not None and store.check([key]) else None


def _from_file(meeting: Path | None, name: str) -> str | None:
    try:
        return (meeting / name).read_text("utf-8") if meeting is not None else None
    except OSError:
        return None


def _meeting() -> Path | None:
    """Where the ranks of one start on one machine meet: a folder named by the process that started them all.

    None where the launcher started others elsewhere, or none but this.
    """
    if not _all_here():
        return None
    try:
        parent = psutil.Process().parent()
        started = parent.create_time() if parent is not None else None
    except psutil.Error:
        return None
    if parent is None or started is None:
        return None
    mine = Path(tempfile.gettempdir()) / f"tunescope-ranks-{os.getuid()}"
    try:
        mine.mkdir(mode=0o700, exist_ok=True)
        if mine.is_symlink() or mine.stat().st_uid != os.getuid():
            return None  # someone else has put it there
    except OSError:
        return None
    # torchrun starts all anew when one fails: those meet apart.
    return mine / f"{parent.pid}-{started:.2f}-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _all_here() -> bool:
    for all_of_them, of_this_machine in SIZES:
        size, here = (os.environ.get(name, "") for name in (all_of_them, of_this_machine))
        if size.isdecimal():
            return int(size) > 1 and size == here
    return False


def _remove_old(folder: Path) -> None:
    for one in folder.iterdir():
        if time.time() - one.stat().st_mtime > A_DAY:
            shutil.rmtree(one, ignore_errors=True)


def _first_number(variables: tuple[str, ...]) -> int:
    found = (os.environ.get(name, "") for name in variables)
    return next((int(text) for text in found if text.isdecimal()), 0)


def _distributed() -> Any:
    """torch.distributed, if this process uses it."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    return distributed if distributed and distributed.is_available() and distributed.is_initialized() else None


def _store() -> Any:
    distributed = _distributed()
    return distributed and distributed.distributed_c10d._get_default_store()  # it has no public name
