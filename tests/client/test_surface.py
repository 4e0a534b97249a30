"""What users may import, held still."""

from __future__ import annotations

import inspect
import pkgutil

import tunescope
from tunescope import Client, Run


def test_exported_names() -> None:
    assert tunescope.__all__ == [
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
    assert all(hasattr(tunescope, name) for name in tunescope.__all__)


def test_modules_are_private_but_for_the_faces() -> None:
    modules = {found.name for found in pkgutil.iter_modules(tunescope.__path__) if found.name[0] != "_"}
    assert modules == {
        "audit_commands",
        "bin_commands",
        "cli",
        "commands",
        "data_commands",
        "exports",
        "importers",
        "media",
        "suite_commands",
        "suites",
        "transfer",
        "transformers",
    }


def test_methods_of_a_run() -> None:
    public = {name for name in vars(Run) if not name.startswith("_")}
    assert public >= {"log", "log_artifact", "set_tags", "set_notes", "finish", "finished"}


def test_every_client_method_is_typed() -> None:
    methods = [f for name, f in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")]
    assert len(methods) > 50
    assert [f.__name__ for f in methods if inspect.signature(f).return_annotation is inspect.Signature.empty] == []


def test_errors_are_one_tree() -> None:
    for error in (tunescope.ApiError, tunescope.ConnectionFailed, tunescope.JournalError):
        assert issubclass(error, tunescope.TunescopeError)
