"""Which process of a run this one is, and which run that is.

The processes that torchrun, accelerate, srun or mpirun start log into one run. Rank 0 makes it; the others learn its
id from `TUNESCOPE_RUN_ID`, or from the key-value store that torch.distributed keeps among them. A store, not a
broadcast: nobody waits for a process that never asks.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from datetime import timedelta
from typing import Any

from tunescope._exceptions import TunescopeError

__all__ = ["announce", "joined", "leads_its_host", "rank_here"]

VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
LOCAL_VARIABLES = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")
PATIENCE = timedelta(seconds=60)

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
    if (store := _store()) is not None:
        store.set(f"tunescope/{subject}/{_announced[subject]}", run_id)
    _announced[subject] += 1


def joined(subject: str, rank: int) -> str:
    """The id of the run that rank 0 has made, or is about to make.

    Raises `TunescopeError` if there is no way to learn it, or rank 0 says nothing for a minute.
    """
    store = _store()
    ways = (
        "set TUNESCOPE_RUN_ID to one id for all processes; or call init after torch.distributed.init_process_group(), "
        "on rank 0 too; or, if this process is to have a run of its own, pass rank=0"
    )
    if store is None:
        raise TunescopeError(f"This is rank {rank}, which logs into the run of rank 0, but nothing says which: {ways}.")
    place = f"tunescope/{subject}/{_joined[subject]}"
    try:
        store.wait([place], PATIENCE)
    except RuntimeError as error:
        raise TunescopeError(
            f"This is rank {rank}, and rank 0 has not started its run in {PATIENCE.seconds} seconds ({error}): {ways}."
        ) from error
    _joined[subject] += 1
    run_id: str = store.get(place).decode()
    return run_id


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
