"""What MLflow keeps besides runs: logged models with their files, registered models and prompts with their versions."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tunescope.importers._record import (
    ImportedFile,
    ImportedLoggedModel,
    ImportedModel,
    ImportedVersion,
    LeftOut,
    need,
)

__all__ = ["PAGE", "SERVED", "Registry", "line", "pages", "served", "value"]

PAGE = 200
MODELS_A_PAGE = 100  # more is refused
SERVED = "mlflow-artifacts:"
NOT_SERVED = (
    "the server that recorded them keeps them: import from its address (http://…), or name its folder of artifacts in "
    "MLFLOW_ARTIFACTS_DESTINATION"
)
# Databases hold no infinity: MLflow's SQL stores write the largest double instead.
LARGEST = sys.float_info.max
IS_PROMPT = "mlflow.prompt.is_prompt"
# Which versions a logged model became: the service writes it itself.
BECAME = "mlflow.modelVersions"
# Servers from before logged models, and others that speak MLflow's protocol, do not know these questions.
UNKNOWN = frozenset({"ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED"})
Status = Literal["UNSPECIFIED", "PENDING", "READY", "FAILED"]
STATUS: dict[str, Status] = {"PENDING": "PENDING", "READY": "READY", "FAILED": "FAILED"}


class Registry:
    """Reads the models of one MLflow, once its runs are read."""

    def __init__(
        self, client: Any, experiments: list[Any], uri: str, workspace: Path, kept: Path | None, left_out: LeftOut
    ) -> None:
        """`kept`: where a server has its artifacts that is not asked."""
        self._client = client
        self._experiments = experiments
        self._uri = uri
        self._workspace = workspace
        self._kept = kept
        self._left_out = left_out
        self._roots: dict[str, str] = {}
        self._having: dict[str, bool] = {}
        self._made: dict[str, list[tuple[str, int]]] = {}
        self._used: dict[str, list[str]] = {}

    def note(self, run: Any) -> None:
        """Remember where a run has its files, and what it made and used."""
        run_id = run.info.run_id
        self._roots[run_id] = run.info.artifact_uri
        for made in getattr(run.outputs, "model_outputs", None) or []:
            self._made.setdefault(made.model_id, []).append((run_id, made.step))
        if self._has_models(run.info.experiment_id):
            # A search leaves these out.
            (alone,) = self._found(lambda: [self._client.get_run(run_id)], "models that a run used") or [run]
            for used in getattr(alone.inputs, "model_inputs", None) or []:
                self._used.setdefault(used.model_id, []).append(run_id)

    def _has_models(self, experiment: str) -> bool:
        if experiment not in self._having:
            search = getattr(self._client, "search_logged_models", None)
            ask = partial(search, [experiment], max_results=1) if search is not None else list
            self._having[experiment] = bool(self._found(ask, "logged models"))
        return self._having[experiment]

    # --- logged models ---

    def logged_models(self) -> Iterator[ImportedLoggedModel]:
        for experiment in self._experiments:
            if not self._has_models(experiment.experiment_id):
                continue
            ask = partial(self._client.search_logged_models, [experiment.experiment_id])
            for model in self._found(partial(pages, ask, MODELS_A_PAGE), "logged models"):
                yield self._logged(experiment.name, model)

    def _logged(self, project: str, model: Any) -> ImportedLoggedModel:
        return ImportedLoggedModel(
            identity=model.model_id,
            project=project,
            name=model.name,
            created_at=model.creation_timestamp / 1000,
            updated_at=model.last_updated_timestamp / 1000,
            run=model.source_run_id or None,
            model_type=model.model_type or None,
            status=STATUS.get(model.status.value, "UNSPECIFIED"),
            status_message=model.status_message or None,
            params=dict(model.params or {}),
            tags={key: text for key, text in (model.tags or {}).items() if key != BECAME},
            made_by=self._made.get(model.model_id, []),
            used_by=self._used.get(model.model_id, []),
            metrics=[
                {
                    "run": metric.run_id,
                    "key": metric.key,
                    "value": value(metric.value),
                    "step": metric.step,
                    "time": metric.timestamp / 1000,
                    "dataset_name": metric.dataset_name,
                    "dataset_digest": metric.dataset_digest,
                }
                for metric in model.metrics or []
            ],
            files=partial(self._files, model),
        )

    def _files(self, model: Any) -> Iterator[ImportedFile]:
        """One at a time on this disk."""
        what = f"files of the logged model '{model.name}'"
        if self._kept is not None and model.artifact_location.startswith(SERVED):
            yield from served(self._kept, model.artifact_location, self._left_out, what)
            return
        registry = need("mlflow.store.artifact.artifact_repository_registry")
        try:
            repository = registry.get_artifact_repository(model.artifact_location, tracking_uri=self._uri)
            paths = list(_walk(repository))
        except Exception as error:  # any store behind MLflow, with any error
            self._left_out.add(what, line(error))
            return
        for path in paths:
            with tempfile.TemporaryDirectory(dir=self._workspace) as place:
                try:
                    fetched = Path(repository.download_artifacts(path, place))
                except Exception as error:
                    self._left_out.add(f"file '{path}' of the logged model '{model.name}'", line(error))
                    continue
                yield ImportedFile(path, fetched)

    # --- registered models ---

    def models(self) -> Iterator[ImportedModel]:
        """Models, then prompts, which are models of another kind to MLflow's searches."""
        for is_prompt in (False, True):
            kind = f"tag.`{IS_PROMPT}` {'=' if is_prompt else '!='} 'true'"
            ask = partial(self._client.search_registered_models, filter_string=kind)
            what = "prompts" if is_prompt else "registered models"
            for model in self._found(partial(pages, ask, PAGE), what):
                quote = '"' if "'" in model.name else "'"
                ask = partial(
                    self._client.search_model_versions, filter_string=f"name = {quote}{model.name}{quote} AND {kind}"
                )
                versions = self._found(partial(pages, ask, PAGE), f"versions of the model '{model.name}'")
                yield ImportedModel(
                    name=model.name,
                    created_at=model.creation_timestamp / 1000,
                    is_prompt=is_prompt,
                    description=model.description or None,
                    # MLflow does not show the one that makes it a prompt.
                    tags={**model.tags, **({IS_PROMPT: "true"} if is_prompt else {})},
                    aliases={alias: int(number) for alias, number in model.aliases.items()},
                    versions=[self._version(one) for one in sorted(versions, key=lambda one: int(one.version))],
                )

    def _version(self, version: Any) -> ImportedVersion:
        run = version.run_id or None
        source = version.source or None
        logged = getattr(version, "model_id", None)
        if not logged and source and source.startswith("models:/m-"):
            logged = source.removeprefix("models:/").partition("/")[0]
        return ImportedVersion(
            number=int(version.version),
            created_at=version.creation_timestamp / 1000,
            source=source,
            run=run,
            path=_path(source, run, self._roots.get(run or "")),
            logged_model=logged or None,
            stage=version.current_stage or "None",
            description=version.description or None,
            tags=dict(version.tags),
        )

    def _found(self, ask: Callable[[], list[Any]], what: str) -> list[Any]:
        """What there is of a kind; nothing, said by name, where it cannot be read."""
        try:
            return ask()
        except Exception as error:  # MLflow raises its own errors, and those of the stores behind it
            if getattr(error, "error_code", None) not in UNKNOWN:
                self._left_out.add(what, line(error))
            return []


def _path(source: str | None, run: str | None, root: str | None) -> str | None:
    """Where the source lies among the files of the run; None if it does not."""
    for start in (f"runs:/{run}/", f"{root.rstrip('/')}/" if root else ""):
        if source and run and start and source.startswith(start):
            return source.removeprefix(start)
    return None


def _walk(repository: Any) -> Iterator[str]:
    waiting: list[str | None] = [None]
    while waiting:
        for one in repository.list_artifacts(waiting.pop()):
            if one.is_dir:
                waiting.append(one.path)
            else:
                yield one.path


def pages(search: Callable[..., Any], size: int = PAGE) -> list[Any]:
    """All pages of a search."""
    found: list[Any] = []
    token = None
    while True:
        page = search(max_results=size, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def served(kept: Path, uri: str, left_out: LeftOut, what: str) -> Iterator[ImportedFile]:
    """The files below an address of a server, in the server's folder."""
    if not kept.is_dir():
        left_out.add(what, NOT_SERVED)
        return
    folder = (kept / urlsplit(uri).path.lstrip("/")).resolve()
    if folder.is_relative_to(kept.resolve()):
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                yield ImportedFile(file.relative_to(folder).as_posix(), file)


def value(given: float) -> float:
    return given if abs(given) < LARGEST or given != given else float("inf") if given > 0 else float("-inf")


def line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
