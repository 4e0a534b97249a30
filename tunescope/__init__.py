"""Tunescope: log a training run, ask what the service knows, assign a user to an arm of an experiment.

import tunescope

run = tunescope.init(project="intents", config={"lr": 2e-4})
run.log({"train/loss": 0.31}, step=10)
run.finish()
"""

from importlib.metadata import version as _version

from tunescope._assign import Assigner, Assignment, assign
from tunescope._client import Client
from tunescope._exceptions import ApiError, ConnectionFailed, JournalError, TunescopeError
from tunescope._run import Run, init
from tunescope._writer import FinishReport
from tunescope.media import Audio, ConfusionMatrix, Histogram, Image, Plot, PRCurve, Table, Text

__version__ = _version("tunescope")

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
