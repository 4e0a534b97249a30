"""Everything a service keeps, as a folder, and back: the database at one moment and the files its runs stored.

    backup.json            what is in it; written last, so that a folder with it is whole
    tunescope-<moment>.db  (or .dump: PostgreSQL's)
    artifacts/ab/ab12…     files under their SHA-256

Copied into the same folder again, only new files travel, and the database is replaced when its copy is whole. What the
gateway has put aside while its database was away is not in it: the service stores that when the database is back.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec

from service.settings import Settings
from service.store import dump
from service.store.blobs import BlobNotFound, BlobStore
from service.store.dump import CannotDump

MANIFEST = "backup.json"
FILES = "artifacts"
Say = Callable[[str, int, int], object]
"""Told what is being done, how much of it is done, and of how much."""


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds. `made_at`: Unix seconds, the moment of the database. `file_bytes`: of all `files`."""

    tunescope: str
    schema: str
    made_at: float
    database: str
    database_sha256: str
    files: int
    file_bytes: int


@dataclass(frozen=True)
class Outcome:
    """What was copied. `damaged`: SHA-256 of files whose bytes have another one; they are left out."""

    manifest: Manifest
    damaged: list[str]


@dataclass(frozen=True)
class _Backup:
    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / MANIFEST

    @property
    def files(self) -> BlobStore:
        return BlobStore(str(self.folder.absolute() / FILES))

    def read(self) -> Manifest:
        try:
            return msgspec.json.decode(self.manifest.read_bytes(), type=Manifest)
        except FileNotFoundError:
            raise CannotDump(f"{self.folder} is no backup, or one that was cut short: it has no {MANIFEST}.") from None
        except msgspec.DecodeError as error:
            raise CannotDump(f"{self.manifest} cannot be read ({error}).") from None

    def write(self, manifest: Manifest) -> None:
        arriving = self.manifest.with_suffix(".new")
        arriving.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        arriving.rename(self.manifest)


def back_up(settings: Settings, folder: Path, say: Say) -> Outcome:
    """Copy everything into `folder`, which is made, or holds an earlier backup. The service may run meanwhile.

    Raises:
        CannotDump: the folder holds something else, or the database cannot be copied; an earlier backup stays whole.
    """
    backup = _Backup(folder)
    if folder.exists() and any(folder.iterdir()) and not backup.manifest.exists() and not (folder / FILES).exists():
        raise CannotDump(f"{folder} is not empty and holds no backup. Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    here, there, url = BlobStore(settings.resolved_artifacts_url), backup.files, settings.resolved_database_url
    _copy_files(here, there, say)
    moment = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
    database = folder / f"tunescope-{stamp}-{uuid.uuid4().hex[:6]}.{'db' if url.startswith('sqlite') else 'dump'}"
    try:
        schema = dump.dump(url, database, settings.environment, lambda done, of: say("database", done, of))
        # Once more: what was stored while the database was copied may be named in it.
        files, size, damaged = _copy_files(here, there, say)
    except BaseException:
        database.unlink(missing_ok=True)
        raise
    manifest = Manifest(version("tunescope"), schema, moment, database.name, _sha256(database), files, size)
    backup.write(manifest)
    for older in [*folder.glob("tunescope-*.db"), *folder.glob("tunescope-*.dump")]:
        if older != database:
            older.unlink()
    return Outcome(manifest, damaged)


def restore(folder: Path, settings: Settings, say: Say) -> Outcome:
    """Put a backup where these settings say: files first, so that a database never names what is not there.

    Raises:
        CannotDump: it is no whole backup, its database is damaged or of the other kind, or there is a database
            already, which stays as it is.
        DatabaseTooNew: a newer Tunescope made it.
    """
    backup = _Backup(folder)
    manifest = backup.read()
    database, url = folder / manifest.database, settings.resolved_database_url
    dump.check_revision(manifest.schema)
    if url.startswith("sqlite") != (database.suffix == ".db"):
        kind = "SQLite" if database.suffix == ".db" else "PostgreSQL"
        raise CannotDump(f"The backup is of {kind}: it cannot be put into another kind of database (--database).")
    dump.check_empty(url)
    if not database.is_file() or _sha256(database) != manifest.database_sha256:
        raise CannotDump(f"{database} is missing or damaged: its SHA-256 is not the one in {MANIFEST}.")
    _, _, damaged = _copy_files(backup.files, BlobStore(settings.resolved_artifacts_url), say)
    dump.load(database, url, settings.environment)
    return Outcome(manifest, damaged)


def _copy_files(source: BlobStore, to: BlobStore, say: Say) -> tuple[int, int, list[str]]:
    """Copy the files that are not there yet: how many there are now of the source's, their bytes, and which are not."""
    total = sum(1 for _ in source.stored())
    count = size = 0
    damaged = []
    for place, (sha256, length) in enumerate(source.stored(), 1):
        say("files", place, max(total, place))
        if to.size(sha256) == length or _copy_file(source, to, sha256):
            count, size = count + 1, size + length
        else:
            damaged.append(sha256)
    return count, size, damaged


def _copy_file(source: BlobStore, to: BlobStore, sha256: str) -> bool:
    try:
        with source.open(sha256) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:  # type: ignore[arg-type]
                return False
            to.put_file(file)
    except BlobNotFound:
        pass  # purged a moment ago: no run names it
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
