"""MLflow: a tracking server, a database, or an `mlruns` folder, read through MLflow's own client.

A SQLite database is copied first and the copy is read, because MLflow upgrades a database of an older version in place
when it opens it. Runs of one experiment become runs of one project of the same name.

Of a server's database, artifacts are where the server keeps them, which the database does not say: the folder
`MLFLOW_ARTIFACTS_DESTINATION`, as for `mlflow server`, else `mlartifacts` beside the database.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tunescope._values import INT64, metric_key
from tunescope.importers._mlflow_registry import PAGE, SERVED, Registry, line, pages, served, value
from tunescope.importers._record import Column, ImportedFile, ImportedRun, ImportProblem, LeftOut, Source, Status, need

__all__ = ["read"]

Files = Callable[[Any], Iterator[ImportedFile]]

STATUS: dict[str, Status] = {
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "killed",
    "RUNNING": "running",
    "SCHEDULED": "running",
}
# What these tags say has a place of its own here.
OWN_PLACE = frozenset({"mlflow.runName", "mlflow.note.content", "mlflow.parentRunId"})


def read(place: str | None, left_out: LeftOut) -> Source:
    """All runs of all experiments that are not deleted.

    `place`: an http(s) address, a database URL (`sqlite:///mlflow.db`, `postgresql://…`), a database file, or a
    folder; default `MLFLOW_TRACKING_URI`, else ./mlruns.
    """
    mlflow = need("mlflow")
    need("mlflow.tracking")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    place = place or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns"
    with ExitStack() as stack:
        workspace = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunescope-mlflow-")))
        uri = _uri(place, workspace)
        with _explained(place):
            # Named, or it would be the one that this process or its environment names for its own models.
            client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            experiments = pages(client.search_experiments)
        kept = None if uri.startswith("http") else _server_folder(place)
        files = partial(_files, client, workspace, kept, left_out)
        registry = Registry(client, experiments, uri, workspace, kept, left_out)
        return Source(
            _runs(client, place, experiments, files, registry, left_out),
            logged_models=registry.logged_models,
            models=registry.models,
            close=stack.pop_all().close,
        )


def _uri(place: str, workspace: Path) -> str:
    if place.startswith("sqlite:///"):
        return _copy(Path(place.removeprefix("sqlite:///").partition("?")[0]), workspace)
    if "://" in place and not place.startswith("file:"):
        return place
    path = Path(place.removeprefix("file://").removeprefix("file:")).expanduser()
    if path.is_file():
        return _copy(path, workspace)
    folder = path / "mlruns" if (path / "mlruns").is_dir() else path
    if not any(folder.glob("*/meta.yaml")):
        raise ImportProblem(f"{path} holds no MLflow runs: name an mlruns folder, a database or a tracking server.")
    # MLflow has retired its folders; reading one still has to be asked for.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return folder.absolute().as_uri()


def _server_folder(place: str) -> Path:
    """Where a server on this database has its artifacts."""
    named = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION", "").removeprefix("file://")
    return Path(named or Path(place.removeprefix("sqlite:///").partition("?")[0]).parent / "mlartifacts")


def _copy(database: Path, workspace: Path) -> str:
    """A consistent copy of a SQLite database, brought to the schema of the MLflow that is installed."""
    if not database.is_file():
        raise ImportProblem(f"There is no database {database}.")
    copied = workspace / "mlflow.db"
    try:
        source = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
        target = sqlite3.connect(copied)
        with source, target:
            source.backup(target)
        tables = {name for (name,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        source.close()
        target.close()
    except sqlite3.Error as error:
        raise ImportProblem(f"{database} cannot be read: {error}.") from error
    if not {"experiments", "runs", "alembic_version"} <= tables:
        raise ImportProblem(f"{database} is no database of MLflow.")
    url = f"sqlite:///{copied}"
    engine = need("sqlalchemy").create_engine(url)
    upgrade = need("mlflow.store.db.utils")._upgrade_db
    try:
        upgrade(engine)
        engine.dispose()
    except Exception as error:
        raise ImportProblem(f"{database} cannot be read by this version of MLflow: {line(error)}") from error
    return url


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """MLflow raises its own errors, and those of SQLAlchemy, requests and the stores behind it."""
    try:
        yield
    except Exception as error:
        raise ImportProblem(f"MLflow cannot read {place}: {line(error)}.") from error


def _runs(
    client: Any, place: str, experiments: list[Any], files: Files, registry: Registry, left_out: LeftOut
) -> Iterator[ImportedRun]:
    """Runs page by page."""
    views = need("mlflow.entities").ViewType
    for experiment in experiments:
        search = partial(client.search_runs, [experiment.experiment_id])
        token = None
        while True:
            with _explained(place):
                page = search(
                    run_view_type=views.ACTIVE_ONLY,
                    max_results=PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
            for run in page:
                registry.note(run)
                yield _run(client, experiment, run, files, left_out)
            token = page.token
            if not token:
                break
        with _explained(place):
            deleted = len(pages(partial(search, run_view_type=views.DELETED_ONLY)))
        if deleted:
            left_out.add(f"runs of experiment '{experiment.name}'", "deleted in MLflow", deleted)


def _run(client: Any, experiment: Any, run: Any, files: Files, left_out: LeftOut) -> ImportedRun:
    info, tags = run.info, run.data.tags
    status = STATUS.get(info.status, "finished")
    return ImportedRun(
        identity=info.run_id,
        project=experiment.name,
        name=info.run_name or tags.get("mlflow.runName"),
        created_at=(info.start_time or 0) / 1000,
        parent=tags.get("mlflow.parentRunId"),
        notes=tags.get("mlflow.note.content"),
        status=status,
        finished_at=info.end_time / 1000 if info.end_time and status != "running" else None,
        config=dict(run.data.params),
        tags={key: value for key, value in tags.items() if key not in OWN_PLACE},
        environment=_environment(info, run, tags),
        points=partial(_points, client, info.run_id, sorted(run.data.metrics), left_out),
        files=partial(files, run),
    )


def _environment(info: Any, run: Any, tags: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"imported": {"from": "mlflow", "run_id": info.run_id}}
    if commit := tags.get("mlflow.source.git.commit"):
        found["git"] = {
            "commit": commit,
            "branch": tags.get("mlflow.source.git.branch"),
            "remote": tags.get("mlflow.source.git.repoURL"),
        }
    if user := tags.get("mlflow.user") or info.user_id:
        found["user"] = user
    if script := tags.get("mlflow.source.name"):
        found["command"] = [script]
    datasets = getattr(run.inputs, "dataset_inputs", None) or []
    if datasets:
        found["datasets"] = [
            {
                "name": one.dataset.name,
                "digest": one.dataset.digest,
                "source_type": one.dataset.source_type,
                "source": one.dataset.source,
                "tags": {tag.key: tag.value for tag in one.tags},
            }
            for one in datasets
        ]
    return found


def _points(client: Any, run_id: str, keys: list[str], left_out: LeftOut) -> Iterator[list[Column]]:
    """One metric after the other, in the order MLflow gives: by time."""
    for key in keys:
        try:
            history = client.get_metric_history(run_id, key)
        except Exception as error:  # what a server answers for one metric says nothing of the others
            left_out.add(f"metric '{key}'", line(error))
            continue
        points = [point for point in history if point.step in INT64]
        if len(points) < len(history):
            left_out.add(f"metric '{key}'", "the step is no 64-bit integer", len(history) - len(points))
        if points:
            yield [
                Column(
                    metric_key(key),
                    array("q", (point.step for point in points)),
                    array("d", (point.timestamp / 1000 for point in points)),
                    array("d", (value(point.value) for point in points)),
                )
            ]


def _files(client: Any, workspace: Path, kept: Path | None, left_out: LeftOut, run: Any) -> Iterator[ImportedFile]:
    """Artifacts, one at a time on this disk. `kept`: where a server has them that is not asked."""
    if kept is not None and run.info.artifact_uri.startswith(SERVED):
        yield from served(kept, run.info.artifact_uri, left_out, "artifacts of a run, if it has any")
        return
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            listed = client.list_artifacts(run.info.run_id, folder or None)
        except Exception as error:  # any store behind MLflow, with any error
            left_out.add(f"artifacts of run '{run.info.run_name}'", line(error))
            return
        for one in listed:
            if one.is_dir:
                waiting.append(one.path)
                continue
            try:
                with tempfile.TemporaryDirectory(dir=workspace) as place:
                    yield ImportedFile(one.path, Path(client.download_artifacts(run.info.run_id, one.path, place)))
            except OSError as error:
                left_out.add(f"file '{one.path}'", line(error))
            except Exception as error:
                if type(error).__module__.partition(".")[0] == "tunescope":
                    raise
                left_out.add(f"file '{one.path}'", line(error))
