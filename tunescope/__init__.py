"""Tunescope: log a training run, ask what the service knows, assign a user to an arm of an experiment.

import tunescope

run = tunescope.init(project="intents", config={"lr": 2e-4})
run.log({"train/loss": 0.31}, step=10)
run.finish()
"""

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunescope._assign import Assigner, Assignment, assign
    from tunescope._client import Client
    from tunescope._exceptions import ApiError, ConnectionFailed, JournalError, TunescopeError
    from tunescope._run import Run, init
    from tunescope._writer import FinishReport
    from tunescope.media import Audio, ConfusionMatrix, Histogram, Image, Plot, PRCurve, Table, Text

    __version__: str

# Where each name is: loaded when it is asked for, so that a command, or a program that only assigns, pays for no more.
_HOMES = {
    "ApiError": "_exceptions",
    "Assigner": "_assign",
    "Assignment": "_assign",
    "Audio": "media",
    "Client": "_client",
    "ConfusionMatrix": "media",
    "ConnectionFailed": "_exceptions",
    "FinishReport": "_writer",
    "Histogram": "media",
    "Image": "media",
    "JournalError": "_exceptions",
    "PRCurve": "media",
    "Plot": "media",
    "Run": "_run",
    "Table": "media",
    "Text": "media",
    "TunescopeError": "_exceptions",
    "assign": "_assign",
    "init": "_run",
}
__all__ = [
    "ApiError",
    "Assigner",
    "Assignment",
    "Audio",
    "Client",
    "ConfusionMatrix",
    "ConnectionFailed",
    "FinishReport",
    "Histogram",
    "Image",
    "JournalError",
    "PRCurve",
    "Plot",
    "Run",
    "Table",
    "Text",
    "TunescopeError",
    "__version__",
    "assign",
    "init",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version("tunescope")
    if name not in _HOMES:
        raise AttributeError(f"module 'tunescope' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"tunescope.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
