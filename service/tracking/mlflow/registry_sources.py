"""Where the files of a model version are, and which run and logged model they come from.

`source` may name a logged model (`models:/m-…`), a version (`models:/name/3`, `models:/name@alias`), a file of a run
(`runs:/run/path`, `mlflow-artifacts:/…`) or an address elsewhere. The service never opens it, but whoever loads the
version will: it must belong to the run or model that the request names, and be no path of some machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NoReturn
from urllib.parse import SplitResult, unquote_plus, urlsplit

from sqlmodel import Session

from service.store import mlflow_runs
from service.store import registry as store
from service.store.tables import ModelVersion
from service.tracking import logged, models
from service.tracking.mlflow import show
from service.tracking.mlflow.errors import InvalidParameterValue

# What clients send as the source of a prompt, which has no files.
PROMPT_SOURCES = ("dummy-source", "prompt-template")
_MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<suffix>[^/]+)|@(?P<alias>[^/]+))?")


@dataclass(frozen=True)
class Origin:
    """A checked source: as it is kept, where the files are, and what they come from."""

    source: str
    location: str
    run_id: str | None
    logged_model_id: str | None


def of_prompt(source: str) -> Origin:
    if source not in PROMPT_SOURCES:
        raise InvalidParameterValue(
            f"Invalid prompt source: '{source}'. Prompt sources must use an MLflow placeholder."
        )
    return Origin(source, source, None, None)


def of_model(session: Session, source: str, run_id: str | None, model_id: str | None) -> Origin:
    """The origin of a version registered from `source` with these ids.

    Raises:
        InvalidParameterValue: the source does not belong to the run or logged model that is named.
        NotFound: a model, version or logged model that is named is not there.
    """
    address = urlsplit(source)
    if address.scheme == "models":
        return _of_model_uri(session, source, run_id, model_id)
    named = "model_id" if model_id else "run_id"
    _check_address(source, address, named)
    if address.scheme == "runs" and (model_id or not run_id or address.path.split("/")[1:2] != [run_id]):
        _refuse(source, named)
    model = logged.get(session, model_id) if model_id else None
    if address.scheme == "mlflow-artifacts":
        root = logged.location(session, model) if model else _run_root(session, run_id)
        if root is None or not PurePosixPath(source).is_relative_to(root):
            _refuse(source, named)
    return Origin(source, source, run_id or (model.run_id if model else None), model_id)


def _of_model_uri(session: Session, source: str, run_id: str | None, model_id: str | None) -> Origin:
    uri = _MODEL_URI.fullmatch(source)
    if uri is None:
        _refuse(source, "model_id")
    if uri["suffix"] is None and uri["alias"] is None:
        if uri["name"] != model_id:
            _refuse(source, "model_id")
        model = logged.get(session, uri["name"])
        return Origin(source, logged.location(session, model), run_id or model.run_id, model.id)
    version = _named_version(session, source, uri["name"], uri["suffix"], uri["alias"])
    if (run_id is not None and run_id != (version.run_id or "")) or (
        model_id is not None and model_id != (version.logged_model_id or "")
    ):
        raise InvalidParameterValue(
            f"Invalid model version source: '{source}'. The run_id and model_id request parameters must match the "
            "referenced model version."
        )
    source = f"models:/{version.name}/{version.version}"
    return Origin(source, version.location or version.source or source, version.run_id, version.logged_model_id)


def _named_version(session: Session, source: str, name: str, suffix: str | None, alias: str | None) -> ModelVersion:
    """The version that `models:/name/number`, `/stage`, `/latest` or `@alias` means."""
    models.get_model(session, name)
    if store.model_tags(session, [name])[name].get(store.PROMPT_TAG, "").lower() == "true":
        raise InvalidParameterValue(
            f"Invalid model version source: '{source}'. Prompt versions cannot be used as model version sources."
        )
    if alias is not None:
        return models.by_alias(session, name, alias)
    assert suffix is not None
    if suffix.isdigit():
        return models.find(session, name, int(suffix))
    newest = [v for v in store.newest(session, [name]) if suffix.lower() in {"latest", v.stage.lower()}]
    if not newest:
        raise models.ModelNotFound(f"Model Version (name={name}, version={suffix}) not found")
    return newest[-1]


def _check_address(source: str, address: SplitResult, named: str) -> None:
    """Refuse a path on some machine, and an address that steps out of where it says it is."""
    if address.scheme in {"", "file"} or (not address.hostname and address.scheme not in {"runs", "mlflow-artifacts"}):
        raise InvalidParameterValue(
            f"Invalid model version source: '{source}'. To use a local path as a model version source, the {named} "
            "request parameter has to be specified and the local path has to be contained within the artifact "
            f"directory of the run specified by the {named}."
        )
    plain = source
    while (decoded := unquote_plus(plain)) != plain:
        plain = decoded
    if "\0" in plain or ".." in re.split(r"[/\\]", plain) or "." in urlsplit(plain).path.split("/"):
        raise InvalidParameterValue(
            f"Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, ftp, "
            "objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path references "
            "present. Please provide an absolute path."
        )


def _run_root(session: Session, run_id: str | None) -> str | None:
    run = mlflow_runs.info(session, run_id) if run_id else None
    return None if run is None else str(show.run_info(run)["artifact_uri"])


def _refuse(source: str, named: str) -> NoReturn:
    raise InvalidParameterValue(
        f"Invalid model version source: '{source}'. The {named} request parameter must identify the resource that "
        "contains the source."
    )
