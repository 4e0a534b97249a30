"""Records of other trackers, brought into Tunescope: `tunescope import mlflow mlflow.db`.

    another tracker's files ──► importer ──► ImportedRun, columns of points ──► Sink ──► the service's ordinary API

An importer is one file here: a function `read(place, left_out) -> Source`, named by the file. It imports the other
tracker's package inside that function and knows nothing of the service; the sink knows nothing of other trackers.
"""

from __future__ import annotations

import importlib
import pkgutil

from tunescope.importers._record import Importer, ImportProblem

__all__ = ["find", "kinds"]


def kinds() -> list[str]:
    """What can be imported from."""
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def find(kind: str) -> Importer:
    """The importer of this name. Raises `ImportProblem` for a name that is not one of `kinds()`."""
    if kind not in kinds():
        raise ImportProblem(f"Nothing can be imported from '{kind}', but from: {', '.join(kinds())}.")
    importer: Importer = importlib.import_module(f"{__name__}.{kind}").read
    return importer
