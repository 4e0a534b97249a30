"""Files below an artifact root: of runs (ROOT/RUN/artifacts/…) and of logged models (ROOT/models/MODEL/artifacts/…).

ROOT is the experiment's id unless the experiment was made with an artifact location of its own.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from sqlmodel import Session

from service.store import lineage, mlflow_artifacts, mlflow_projects, mlflow_runs
from service.tracking.mlflow import show
from service.tracking.mlflow.errors import InvalidParameterValue, ResourceDoesNotExist

SCHEME = "mlflow-artifacts:"
_TEXT = (
    "txt log err cfg conf cnf cf ini properties prop hocon toml yaml yml xml json js py py3 csv tsv md rst ipynb "
    "MLmodel MLproject"
).split()


# As `mlflow.log_image(image, key=…, step=…)` names its files. A slash of the key is a tilde in it; earlier versions
# wrote a number sign, and percent signs for the pluses.
_LOGGED_IMAGE = re.compile(
    r"images/(?P<key>[^/]{1,400})(?P<sign>[+%])step(?P=sign)(?P<step>-?\d{1,18})(?P=sign)timestamp(?P=sign)"
    r"(?P<time>\d{1,15})(?P=sign)[0-9a-f-]{36}\.png"
)


@dataclass(frozen=True)
class Place:
    """A file or folder (`path`, "" for the root) of a run or of a logged model."""

    owner: mlflow_artifacts.Owner
    path: str


def medium(path: str) -> dict[str, Any] | None:
    """What the name of a run's file says of an image logged at a step, in the columns of a medium; None for other
    files, also for the small copy that lies beside each image."""
    said = _LOGGED_IMAGE.fullmatch(path)
    if said is None:
        return None
    key, step, at = said["key"].replace("~", "/").replace("#", "/"), int(said["step"]), int(said["time"]) / 1000
    return {"key": key, "step": step, "time": at, "kind": "image", "content_type": "image/png"}


def safe(path: str) -> str:
    """A path below a root, without a way out of it."""
    decoded = path
    while (once := unquote(decoded)) != decoded:
        decoded = once
    parts = decoded.split("/")
    windows = len(decoded) > 1 and decoded[1] == ":"
    if ".." in parts or decoded.startswith("/") or windows or any(sign in decoded for sign in "\\#\0"):
        raise InvalidParameterValue("Invalid path")
    return "/".join(part for part in path.split("/") if part not in {"", "."})


def place(session: Session, path: str) -> Place:
    """Whose file a path below the service's artifact root is.

    Raises:
        ResourceDoesNotExist: there is no such run or logged model.
    """
    parts = safe(path).split("/")
    for cut in (index for index, part in enumerate(parts) if part == "artifacts" and index):
        root, holder, rest = parts[: cut - 1], parts[cut - 1], "/".join(parts[cut + 1 :])
        if _is_run(session, holder, "/".join(root)):
            return Place(mlflow_artifacts.Owner("run", holder), rest)
        if root[-1:] == ["models"] and _is_model(session, holder, "/".join(root[:-1])):
            return Place(mlflow_artifacts.Owner("model", holder), rest)
    raise ResourceDoesNotExist(f"No run and no logged model keeps its artifacts at '{path}'.")


def _is_run(session: Session, run_id: str, root: str) -> bool:
    info = mlflow_runs.info(session, run_id)
    return info is not None and _path(show.artifact_root(info.project_id, info.artifact_location)) == root


def _is_model(session: Session, model_id: str, root: str) -> bool:
    model = lineage.get_model(session, model_id)
    project = None if model is None else mlflow_projects.get(session, model.project_id)
    return (
        project is not None
        and project.id is not None
        and _path(show.artifact_root(project.id, project.artifact_location)) == root
    )


def _path(root: str) -> str | None:
    """A root's path with this service; None when the root is elsewhere."""
    return root.removeprefix(SCHEME).strip("/") if root.startswith(SCHEME) else None


def listed(files: Sequence[tuple[str, int]], folder: str) -> list[dict[str, Any]]:
    """The entries of `folder` ("" is the root), by name, among files given as (path, bytes)."""
    below = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, size in files:
        if path.startswith(below):
            name, deeper, _ = path[len(below) :].partition("/")
            entry = {"path": name, "is_dir": True} if deeper else {"path": name, "is_dir": False, "file_size": size}
            found.setdefault(name, entry)
    return [found[name] for name in sorted(found)]


def media_type(path: str) -> str:
    name = path.rpartition("/")[2]
    if name.rpartition(".")[2] in _TEXT:
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def headers(path: str) -> dict[str, str]:
    """A download is saved under its own name, and never shown as a page of this service."""
    name = path.rpartition("/")[2]
    plain = name.encode("ascii", "ignore").decode().replace('"', "").replace("\\", "") or "download"
    shown = plain if plain.replace("-", "").replace("_", "").replace(".", "").isalnum() else f'"{plain}"'
    more = f"; filename*=UTF-8''{quote(name, safe='')}" if plain != name else ""
    return {"content-disposition": f"attachment; filename={shown}{more}", "x-content-type-options": "nosniff"}
