"""Named ways to look at a project's runs, shared by everyone who reads it.

Each is a tag of its project, `tunescope.filter.NAME`: it moves, and goes, with the project.
"""

from __future__ import annotations

import msgspec
from pydantic import Field
from sqlmodel import Session

from service.errors import Conflict, NotFound
from service.shapes import Reply
from service.store import mlflow_projects as store
from service.store.tables import Project
from service.tracking.schemas import Request
from service.tracking.search import parse

PREFIX = "tunescope.filter."
MAX_FILTERS = 200


class ProjectNotFound(NotFound):
    code = "project_not_found"


class FilterNotFound(NotFound):
    code = "filter_not_found"


class TooManyFilters(Conflict):
    code = "too_many_filters"


class SavedFilter(Request):
    name: str = Field(min_length=1, max_length=100, pattern=r"\S")
    query: str = Field("", max_length=5000, description="In the search language.")
    order_by: str = Field("", max_length=500, description="A field and asc or desc; absent: newest first.")
    columns: list[str] = Field([], max_length=50, description="`metrics.KEY`, `params.KEY`, `tags.KEY`.")
    group_by: str = Field("", max_length=500, description="`params.KEY`, `tags.KEY` or `group`; absent: every run.")


class SavedFilterList(Reply):
    items: list[SavedFilter]
    next_cursor: None = None


def of_project(session: Session, project: str) -> list[SavedFilter]:
    """By name."""
    tags = store.tags(session, [_id(session, project)]).popitem()[1]
    return [SavedFilter.model_validate_json(value) for key, value in tags if key.startswith(PREFIX)]


def save(session: Session, project: str, given: SavedFilter) -> SavedFilter:
    """Keep it, in place of one of the same name.

    Raises:
        BadQuery: what cannot be asked is not kept. ProjectNotFound; TooManyFilters.
    """
    parse(given.query)
    if given.order_by:
        parse(f"order by {given.order_by}")
    held = {one.name for one in of_project(session, project)}
    if given.name not in held and len(held) >= MAX_FILTERS:
        raise TooManyFilters(f"'{project}' has {MAX_FILTERS} saved filters: delete one that nobody uses.")
    value = msgspec.json.encode(given.model_dump()).decode()
    store.set_tags(session, _id(session, project), {PREFIX + given.name: value})
    return given


def delete(session: Session, project: str, name: str) -> None:
    if not store.delete_tag(session, _id(session, project), PREFIX + name):
        raise FilterNotFound(f"'{project}' has no saved filter '{name}'.")


def _id(session: Session, name: str) -> int:
    project: Project | None = store.by_name(session, name)
    if project is None or project.id is None:
        raise ProjectNotFound(f"There is no project '{name}'.")
    return project.id
