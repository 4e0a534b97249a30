"""What may happen to a run, and how it is shown."""

from __future__ import annotations

import base64
import binascii
import time
import zlib
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import orjson
from sqlmodel import Session

from service.errors import Conflict, Invalid, NotFound
from service.store import runs as store
from service.store import search as search_store
from service.store import series as series_store
from service.store.search import Place
from service.store.summaries import Summaries
from service.store.tables import Run, new_id
from service.tracking.flatten import flatten, merge
from service.tracking.names import invent_name
from service.tracking.schemas import RunCreate, RunUpdate, Status
from service.tracking.search import parse


class RunNotFound(NotFound):
    code = "run_not_found"


class RunExists(Conflict):
    code = "run_exists"


class RunInBin(NotFound):
    """The run is deleted, and can be restored."""

    code = "run_in_bin"


class BadCursor(Invalid):
    code = "bad_cursor"


def create(session: Session, given: RunCreate, silent_after: float) -> dict[str, Any]:
    """Make the run, or continue the one of this id when `resume` allows; in the shape of `RunOut`."""
    held = store.get(session, given.id) if given.id else None
    if held is not None:
        return show(session, [_resume(session, held, given)], silent_after)[0]
    if given.id and store.exists(session, given.id):
        raise RunExists(f"The run '{given.id}' is in the bin. Restore it, or choose another id.")
    if given.resume == "must":
        raise RunNotFound(f"There is no run '{given.id}' to resume. Leave `resume` out to start a new one.")
    now = time.time()
    run_id = given.id or new_id()
    run = store.add(
        session,
        id=run_id,
        project_id=store.project_id(session, given.project),
        name=given.name or invent_name(run_id),
        group_name=given.group,
        parent_run_id=given.parent_run_id,
        notes=given.notes,
        config=given.config,
        environment=given.environment,
        data_hash=given.data_hash,
        created_at=given.created_at or now,
        heartbeat_at=now,
        patience=0.0,
    )
    store.set_params(session, run_id, flatten(given.config))
    store.set_tags(session, run_id, dict(given.tags))
    return _shown(run, given.project, given.tags, {}, run.config, run.environment, silent_after)


def _resume(session: Session, run: Run, given: RunCreate) -> Run:
    if given.resume == "never":
        raise RunExists(f"The run '{run.id}' exists. Pass resume='allow' to continue it, or choose another id.")
    run.status, run.finished_at, run.exit_code, run.error = "running", None, None, None
    run.heartbeat_at, run.patience = time.time(), 0.0
    run.data_hash = given.data_hash or run.data_hash
    _merge_config(session, run, given.config)
    store.set_tags(session, run.id, dict(given.tags))
    return run


def change(session: Session, run: Run, given: RunUpdate) -> Run:
    """Apply what was sent; what was not sent stays."""
    sent = given.model_fields_set
    for name in ("name", "notes", "exit_code", "error", "points_sent", "data_hash"):
        if name in sent:
            setattr(run, name, getattr(given, name))
    if "group" in sent:
        run.group_name = given.group
    if given.status is not None:
        run.status = given.status
        over = given.status != "running"
        run.finished_at = (given.finished_at or run.finished_at or time.time()) if over else None
    run.heartbeat_at = max(run.heartbeat_at, time.time())
    _merge_config(session, run, given.config)
    if given.tags:
        store.set_tags(session, run.id, given.tags)
    return run


def _merge_config(session: Session, run: Run, changes: dict[str, Any]) -> None:
    if changes:
        run.config = merge(run.config, changes)
        store.set_params(session, run.id, flatten(changes))


def get(session: Session, run_id: str) -> Run:
    run = store.get(session, run_id)
    if run is None:
        raise missing(session, run_id)
    return run


def missing(session: Session, run_id: str) -> RunNotFound | RunInBin:
    """Why this run cannot be read or written."""
    if store.exists(session, run_id):
        return RunInBin(f"The run '{run_id}' is in the bin. Restore it (tunescope runs restore {run_id}) to go on.")
    return RunNotFound(f"There is no run '{run_id}'.")


def find(
    session: Session,
    *,
    project: str | None,
    query: str,
    order_by: str,
    limit: int,
    cursor: str | None,
    metrics: Sequence[str] | None,
    silent_after: float,
    summaries: Summaries,
) -> dict[str, Any]:
    """One page of runs, in the shape of `RunPage`.

    `order_by` is the search language's order, for callers that keep it apart.
    """
    condition, orders = parse(query)
    if order_by:
        orders = parse(f"order by {order_by}")[1]
    question = zlib.crc32(repr((project, query, order_by)).encode())
    found = search_store.find(
        session,
        project=project,
        condition=condition,
        orders=orders,
        after=_place(cursor, question, len(orders) or 1) if cursor else None,
        limit=limit + 1,
        silent_after=silent_after,
    )
    page = found[:limit]
    ids = [place.run_id for place in page]
    rows = store.rows(session, ids)
    tags = store.tags(session, ids)
    shown: Mapping[str, Any] = (
        {id: orjson.Fragment(text) for id, text in summaries.of(session, rows.values()).items()}
        if metrics is None
        else series_store.summary_table(session, ids, metrics)
    )
    items = [
        _shown(rows[id], rows[id].project, tags[id], shown[id], orjson.Fragment(rows[id].config), {}, silent_after)
        for id in ids
    ]
    return {"items": items, "next_cursor": _cursor(page[-1], question) if len(found) > limit else None}


def _cursor(place: Place, question: int) -> str:
    """Where a page ended, and of which search it was one: in another order the place means nothing."""
    return base64.urlsafe_b64encode(msgspec.json.encode([place.values, place.run_id, question])).decode()


def _place(cursor: str, question: int, n_values: int) -> Place:
    try:
        kind = tuple[tuple[float | str | None, ...], str, int]
        values, run_id, asked = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=kind)
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise BadCursor("The cursor is not one this service gave. Start again without it.") from None
    if asked != question or len(values) != n_values:
        raise BadCursor("The cursor is of another project, query or order. Start again without it.")
    return Place(values, run_id)


def show(
    session: Session, found: Sequence[Run], silent_after: float, *, metrics: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Runs in the shape of `RunOut`, with their metric summaries (all, or those named)."""
    ids = [run.id for run in found]
    names = store.project_names(session, (run.project_id for run in found))
    tags, summaries = store.tags(session, ids), series_store.summary_table(session, ids, metrics)
    return [
        _shown(run, names[run.project_id], tags[run.id], summaries[run.id], run.config, run.environment, silent_after)
        for run in found
    ]


def _shown(
    run: Run | SimpleNamespace,
    project: str,
    tags: dict[str, str],
    metrics: Any,
    config: Any,
    environment: dict[str, Any],
    silent_after: float,
) -> dict[str, Any]:
    return {
        "id": run.id,
        "project": project,
        "name": run.name,
        "status": status(run, silent_after),
        "group": run.group_name,
        "parent_run_id": run.parent_run_id,
        "notes": run.notes,
        "config": config,
        "tags": tags,
        "environment": environment,
        "data_hash": run.data_hash,
        "created_at": run.created_at,
        "heartbeat_at": run.heartbeat_at,
        "finished_at": run.finished_at,
        "duration": max((run.finished_at or run.heartbeat_at) - run.created_at, 0.0),
        "exit_code": run.exit_code,
        "error": run.error,
        "points_stored": run.points_stored,
        "points_sent": run.points_sent,
        "metrics": metrics,
    }


def status(run: Run | SimpleNamespace, silent_after: float) -> Status:
    if run.status == "running" and run.heartbeat_at + run.patience < time.time() - silent_after:
        return "silent"
    return cast(Status, run.status)
