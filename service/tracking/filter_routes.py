"""Saved filters of a project's runs."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from service.auth import require
from service.dependencies import ReadSession, WriteSession
from service.tracking import saved_filters
from service.tracking.saved_filters import SavedFilter, SavedFilterList

router = APIRouter(prefix="/api/v1/filters", tags=["runs"])
WRITE = [Depends(require("write"))]


@router.get("", dependencies=[Depends(require("read"))])
def list_filters(project: str, session: ReadSession) -> SavedFilterList:
    """The saved filters of a project, by name."""
    return SavedFilterList(items=saved_filters.of_project(session, project))


@router.put("", dependencies=WRITE)
def save_filter(project: str, given: SavedFilter, session: WriteSession) -> SavedFilter:
    """Keep a filter, in place of one of the same name. A query that cannot be read is refused."""
    return saved_filters.save(session, project, given)


@router.delete("", dependencies=WRITE, status_code=204)
def delete_filter(project: str, name: str, session: WriteSession) -> None:
    """Forget a filter."""
    saved_filters.delete(session, project, name)
