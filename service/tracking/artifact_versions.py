"""Artifacts with versions: what may be logged as one, how one is named, and how it is shown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from sqlmodel import Session

from service.errors import Invalid, NotFound
from service.store import artifact_versions as store
from service.store import runs as run_store
from service.store.artifact_versions import Found
from service.store.tables import ArtifactCollection
from service.tracking import runs
from service.tracking.artifact_version_schemas import (
    ArtifactFileOut,
    ArtifactRun,
    ArtifactVersionCreate,
    ArtifactVersionList,
    ArtifactVersionOut,
    ArtifactVersionWhole,
)

LATEST = "latest"
_ALIAS = re.compile(r"[\w\-.]+")
_NUMBER = re.compile(r"[vV](\d+)")


class ArtifactVersionNotFound(NotFound):
    code = "artifact_version_not_found"


class VersionFileMissing(Invalid):
    """A file that a version names is not among the run's artifacts."""

    code = "version_file_missing"


class BadArtifactAlias(Invalid):
    code = "bad_alias"


def log(session: Session, run_id: str, given: ArtifactVersionCreate) -> Found:
    """Make what the run holds under these paths a version; the newest one if that holds the same.

    Raises:
        RunNotFound, RunInBin, VersionFileMissing, BadArtifactAlias
    """
    run = runs.get(session, run_id)
    for alias in given.aliases:
        _check_alias(alias)
    held = store.artifacts_at(session, run.id, [file.artifact for file in given.files])
    missing = next((file.artifact for file in given.files if file.artifact not in held), None)
    if missing is not None:
        raise VersionFileMissing(f"The run '{run_id}' has no artifact '{missing}': upload it first.")
    files = {file.path: held[file.artifact] for file in given.files}
    lines = "".join(f"{path}\0{files[path].sha256}\n" for path in sorted(files))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    owner = store.lock_collection(session, run.project_id, given.name, given.kind)
    version = store.newest(session, owner.id)
    if version is None or version.digest != digest:
        version = store.add_version(session, owner, run.id, digest, files, given.about)
    store.note_use(session, run.id, version.id, "output")
    for alias in given.aliases:
        store.set_alias(session, owner.id, alias, version.id)
    return get(session, version.id)


def use(session: Session, run_id: str, version_id: str) -> None:
    """Note that a run uses a version."""
    runs.get(session, run_id)
    get(session, version_id)
    store.note_use(session, run_id, version_id, "input")


def get(session: Session, version_id: str) -> Found:
    found = store.get(session, version_id)
    if found is None:
        raise ArtifactVersionNotFound(f"There is no version '{version_id}' of an artifact.")
    return found


def resolve(session: Session, project: str, name: str, reference: str) -> Found:
    """The version that `latest`, `v3` or an alias names."""
    owner = existing(session, project, name)
    number = _NUMBER.fullmatch(reference)
    if reference == LATEST:
        version = store.newest(session, owner.id)
    elif number is not None:
        version = store.numbered(session, owner.id, int(number[1]))
    else:
        version = store.by_alias(session, owner.id, reference)
    if version is None:
        raise ArtifactVersionNotFound(f"The artifact '{name}' of project '{project}' has no version '{reference}'.")
    return get(session, version.id)


def existing(session: Session, project: str, name: str) -> ArtifactCollection:
    project_id = run_store.find_project_id(session, project)
    owner = store.collection(session, project_id, name) if project_id is not None else None
    if owner is None:
        raise ArtifactVersionNotFound(f"The project '{project}' has no artifact '{name}' with versions.")
    return owner


def set_alias(session: Session, project: str, name: str, alias: str, version: int) -> Found:
    _check_alias(alias)
    found = resolve(session, project, name, f"v{version}")
    store.set_alias(session, found.collection.id, alias, found.version.id)
    return found


def delete_alias(session: Session, project: str, name: str, alias: str) -> None:
    if not store.delete_alias(session, existing(session, project, name).id, alias):
        raise ArtifactVersionNotFound(f"The artifact '{name}' of project '{project}' has no alias '{alias}'.")


def _check_alias(alias: str) -> None:
    if not _ALIAS.fullmatch(alias):
        raise BadArtifactAlias(f"'{alias}' is no alias: use letters, digits, '_', '-' and '.'.")
    if alias == LATEST or _NUMBER.fullmatch(alias):
        raise BadArtifactAlias(f"'{alias}' cannot be given: it names a version by itself.")


# --- shown ---


def page(session: Session, project: str, name: str, cursor: str | None, limit: int) -> ArtifactVersionList:
    if cursor is not None and not (cursor.isascii() and cursor.isdecimal()):
        raise runs.BadCursor("The cursor is not one this service gave. Start again without it.")
    owner = existing(session, project, name)
    found = store.versions(session, owner.id, None if cursor is None else int(cursor), limit + 1)
    next_cursor = str(found[limit - 1].version.version) if len(found) > limit else None
    return ArtifactVersionList(items=show(session, found[:limit]), next_cursor=next_cursor)


def of_project(session: Session, project: str) -> ArtifactVersionList:
    project_id = run_store.find_project_id(session, project)
    found = store.newest_of_project(session, project_id) if project_id is not None else []
    return ArtifactVersionList(items=show(session, found), next_cursor=None)


def show(session: Session, found: Sequence[Found]) -> list[ArtifactVersionOut]:
    aliases = store.aliases(session, [one.version.id for one in found])
    latest = store.newest_ids(session, [one.collection.id for one in found])
    return [
        ArtifactVersionOut(
            **version.model_dump(include=set(ArtifactVersionOut.model_fields)),
            project=project,
            name=owner.name,
            kind=owner.kind,
            aliases=[*([LATEST] if version.id in latest else []), *aliases[version.id]],
        )
        for version, owner, project in found
    ]


def whole(session: Session, version_id: str) -> ArtifactVersionWhole:
    found = get(session, version_id)
    involved = [(role, ArtifactRun.model_validate(run, from_attributes=True)) for role, run in
                store.runs_of(session, version_id)]  # fmt: skip
    return ArtifactVersionWhole(
        **show(session, [found])[0].model_dump(),
        files=[ArtifactFileOut.model_validate(one, from_attributes=True) for one in store.files(session, version_id)],
        made_by=[run for role, run in involved if role == "output"],
        used_by=[run for role, run in involved if role == "input"],
    )
