"""Where imported models go: logged models under ids that follow from the source's, registered ones under their names.

What is in the registry already stays as it is: an import adds models, versions and aliases, and moves nothing that
somebody has set here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunescope._client import Client, Json
from tunescope._client.sent import sha256_of
from tunescope._exceptions import ApiError
from tunescope._values import to_plain
from tunescope.importers._contents import Tally
from tunescope.importers._record import ImportedFile, ImportedLoggedModel, ImportedModel, ImportedVersion, LeftOut

__all__ = ["Models"]

LONGEST_NAME = 250
NO_RUN = "the run was not brought over"


class Models:
    """Stores models one after the other. Without `again`, which asks the service, it only counts: a dry run."""

    def __init__(
        self,
        again: Callable[[Callable[[Client], Any]], Any] | None,
        tally: Tally,
        left_out: LeftOut,
        runs: dict[str, str],
        id_of: Callable[[str, str], str],
    ) -> None:
        """`runs`: ids of the runs that were written, by identity. `id_of`: a logged model's, of project and
        identity."""
        self._again = again
        self._tally = tally
        self._left_out = left_out
        self._runs = runs
        self._id_of = id_of
        self._logged: dict[str, str] = {}

    def store_logged(self, model: ImportedLoggedModel, project: str) -> None:
        own_id = self._id_of(project, model.identity)
        if self._again is None:
            self._tally.logged_models += 1
            self._tally.artifacts += sum(1 for _ in model.files())
            self._logged[model.identity] = own_id
            return
        name = f"logged model '{model.name}'"
        known = self._ask(lambda client: client.get_logged_model(own_id), missing="logged_model_not_found")
        body = self._logged_body(model, project, name)
        if self._try(name, lambda client: client.put_logged_model(own_id, **body)) is None:
            return
        self._logged[model.identity] = own_id
        self._store_files(model, own_id, known is not None)
        self._tally.logged_models += known is None
        self._tally.known_logged_models += known is not None

    def _logged_body(self, model: ImportedLoggedModel, project: str, name: str) -> Json:
        def own(identity: str, what: str) -> str | None:
            found = self._runs.get(identity)
            if found is None:
                self._left_out.add(f"{what} of the {name}", NO_RUN)
            return found

        made = [(own(run, "link to the run"), step) for run, step in model.made_by]
        used = [own(run, "link to a run that used it") for run in model.used_by]
        metrics = [(own(one["run"], f"metric '{one['key']}'"), one) for one in model.metrics]
        body = {
            "project": project,
            "name": model.name[:LONGEST_NAME],
            "run_id": own(model.run, "run") if model.run else None,
            **{key: getattr(model, key) for key in ("model_type", "status", "status_message", "params", "tags")},
            **{key: getattr(model, key) for key in ("created_at", "updated_at")},
            "made_by": [{"run_id": run, "step": step} for run, step in made if run],
            "used_by": [run for run in used if run],
            "metrics": [{**one, "run_id": run} for run, one in metrics if run],
        }
        for one in body["metrics"]:
            del one["run"]
        plain: Json = to_plain(body)
        return plain

    def _store_files(self, model: ImportedLoggedModel, own_id: str, known: bool) -> None:
        held: dict[str, str] = {}
        if known:
            listed = self._ask(lambda client: client.logged_model_files(own_id))["items"]
            held = {one["path"]: one["sha256"] for one in listed}
        for file in model.files():
            if held.get(file.path) == sha256_of(file.content):
                self._tally.known_artifacts += 1
            elif self._try(f"file '{file.path}' of the logged model '{model.name}'", _upload(own_id, file)):
                self._tally.artifacts += 1

    # --- the registry ---

    def store(self, model: ImportedModel) -> None:
        kind = "prompt" if model.is_prompt else "registered model"
        name = f"{kind} '{model.name}'"
        held: dict[int, Json] = {}
        if self._again is not None:
            there = self._ask(lambda client: client.get_model(model.name), missing="model_not_found")
            if there is None:
                body = to_plain({"description": model.description, "tags": model.tags, "created_at": model.created_at})
                if self._try(name, lambda client: client.put_model(model.name, **body)) is None:
                    return
            elif there["created_at"] != model.created_at:
                self._left_out.add(name, "there is another of this name here: rename that one, and import again")
                return
            else:
                listed = self._ask(lambda client: client.model_versions(model.name))["items"]
                held = {one["version"]: one for one in listed}
        self._tally.models += not model.is_prompt
        self._tally.prompts += model.is_prompt
        for version in model.versions:
            if version.number in held:
                self._tally.known_versions += 1
            elif self._register(model.name, version, name):
                self._tally.versions += 1
        if self._again is not None:
            self._point_aliases(model, name)

    def _register(self, name: str, version: ImportedVersion, of: str) -> bool:
        if self._again is None:
            return True
        run, logged = self._runs.get(version.run or ""), self._logged.get(version.logged_model or "")
        what = f"version {version.number} of the {of}"
        if version.run and run is None:
            self._left_out.add(f"run behind {what}", NO_RUN)
        if version.logged_model and logged is None:
            self._left_out.add(f"logged model behind {what}", "it was not brought over")
        source = version.source
        if logged is not None:
            source = None  # the service's own address of it
        elif run is not None and version.path is not None:
            source = f"runs:/{run}/{version.path}"
        body = to_plain(
            {
                "version": version.number,
                "created_at": version.created_at,
                "run_id": run,
                "logged_model_id": logged,
                "source": source,
                "stage": version.stage,
                "description": version.description,
                "tags": version.tags,
            }
        )
        return self._try(what, lambda client: client.register_model(name, **body)) is not None

    def _point_aliases(self, model: ImportedModel, name: str) -> None:
        """Aliases that are not here yet. Production may follow one that somebody moved."""
        held = self._ask(lambda client: client.get_model(model.name))["aliases"]
        for alias, number in model.aliases.items():
            if alias not in held:
                self._try(f"alias '{alias}' of the {name}", _pointing(model.name, alias, number))
            elif held[alias] != number:
                self._left_out.add(
                    f"alias '{alias}' of the {name}",
                    f"it is at version {held[alias]} here, and at version {number} there",
                )

    def _ask(self, ask: Callable[[Client], Any], *, missing: str | None = None) -> Any:
        """The answer; None where it is an error of the code `missing`."""
        assert self._again is not None
        try:
            return self._again(ask)
        except ApiError as error:
            if error.code != missing:
                raise
            return None

    def _try(self, what: str, ask: Callable[[Client], Any]) -> Json | None:
        """The answer; None, and `what` left out, if the service refuses."""
        assert self._again is not None
        try:
            answer: Json = self._again(ask)
        except ApiError as error:
            if error.status in {401, 403}:
                raise
            self._left_out.add(what, error.message.rstrip("."))
            return None
        return answer


def _upload(own_id: str, file: ImportedFile) -> Callable[[Client], Any]:
    return lambda client: client.upload_logged_model_file(own_id, file.path, file.content)


def _pointing(name: str, alias: str, number: int) -> Callable[[Client], Any]:
    return lambda client: client.set_alias(name, alias, number)
