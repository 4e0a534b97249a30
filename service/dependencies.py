"""What routes ask for: a session, the blob store, a principal with the right scope."""

from collections.abc import Iterator
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlmodel import Session

from service.settings import Settings
from service.store.blobs import BlobStore
from service.store.database import Database


def get_database(request: Request) -> Database:
    return cast(Database, request.app.state.database)


def get_settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def get_blobs(request: Request) -> BlobStore:
    return cast(BlobStore, request.app.state.blobs)


def _read_session(request: Request) -> Iterator[Session]:
    with get_database(request).read() as session:
        yield session


def _write_session(request: Request) -> Iterator[Session]:
    with get_database(request).write() as session:
        yield session


# async: a plain function would cost a hop to a worker thread.
async def _blobs(request: Request) -> BlobStore:
    return get_blobs(request)


async def _settings(request: Request) -> Settings:
    return get_settings(request)


async def _database(request: Request) -> Database:
    return get_database(request)


# scope="function": the transaction ends before the answer leaves, so that what is acknowledged is stored.
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
Blobs = Annotated[BlobStore, Depends(_blobs)]
ServiceSettings = Annotated[Settings, Depends(_settings)]
ServiceDatabase = Annotated[Database, Depends(_database)]
