"""Records of other tools, brought into Tunescope: `tunescope import mlflow mlflow.db`.

    another tracker's files ──► importer ──► ImportedRun, columns of points ──► Sink ──► the service's ordinary API
    a harness's results     ──► importer ──► ImportedResult ──────────────────► Results ──► likewise

An importer is one file here: a function `read(place, left_out) -> Source`, named by the file. It imports the other
tool's package inside that function and knows nothing of the service; the sinks know nothing of other tools.
"""

from __future__ import annotations

import importlib
import pkgutil

from tunescope.importers._record import Importer, ImportProblem

__all__ = ["find", "kinds"]


def kinds() -> list[str]:
    """What can be imported from."""
    names = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return [name.replace("_", "-") for name in names]


def find(kind: str) -> Importer:
    """The importer of this name. Raises `ImportProblem` for a name that is not one of `kinds()`."""
    if kind not in kinds():
        raise ImportProblem(f"Nothing can be imported from '{kind}', but from: {', '.join(kinds())}.")
    importer: Importer = importlib.import_module(f"{__name__}.{kind.replace('-', '_')}").read
    return importer
