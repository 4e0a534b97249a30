"""Runs and their lineage as MLflow's face reads and writes them: the bin included, in flat rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from service.store.cursor import Cursor, Statement, among
from service.store.mlflow_search import Info, infos
from service.store.tables import Dataset, Param, Run, RunDataset, Series, Tag, new_id

_MANY = 500


class Last(NamedTuple):
    """The last value of a metric: `special` names a NaN or an infinity, and `value` is None then."""

    key: str
    value: float | None
    special: str | None
    time: float
    step: int


@dataclass(slots=True)
class Data:
    params: list[tuple[str, str]] = field(default_factory=list)
    tags: list[tuple[str, str]] = field(default_factory=list)
    metrics: list[Last] = field(default_factory=list)
    datasets: list[tuple[Dataset, dict[str, str]]] = field(default_factory=list)


def _of_runs(table: Any, *columns: str) -> Any:
    named = [col(getattr(table, name)) for name in ("run_id", "key", *columns)]
    return sql.select(*named).where(among(named[0], "ids")).order_by(*named[:2])


_PARAMS = Statement(_of_runs(Param, "value"))
_TAGS = Statement(_of_runs(Tag, "value"))
_LASTS = Statement(_of_runs(Series, "last", "last_special", "last_time", "last_step").where(col(Series.rank) == 0))


def info(session: Session, run_id: str) -> Info | None:
    """The run, in the bin or not."""
    row = session.connection().execute(infos().where(col(Run.id) == run_id)).first()
    return None if row is None else Info(*row)


def data(session: Session, run_ids: Sequence[str]) -> dict[str, Data]:
    """Params, tags, last values and data sets of these runs, each by key."""
    found = {run_id: Data() for run_id in run_ids}
    cursor = Cursor.of(session)
    ids = {"ids": cursor.texts(run_ids)}
    for run_id, key, value in cursor.rows(_PARAMS, ids):
        found[run_id].params.append((key, value))
    for run_id, key, value in cursor.rows(_TAGS, ids):
        found[run_id].tags.append((key, value))
    for run_id, *last in cursor.rows(_LASTS, ids):
        found[run_id].metrics.append(Last(*last))
    inputs = select(RunDataset, Dataset).join(Dataset, col(Dataset.id) == col(RunDataset.dataset_id))
    for some in _pieces(run_ids):
        ordered = inputs.where(col(RunDataset.run_id).in_(some)).order_by(col(RunDataset.created_at), col(Dataset.id))
        for link, dataset in session.exec(ordered):
            found[link.run_id].datasets.append((dataset, link.tags))
    return found


def _pieces(run_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Few enough ids at a time for one statement."""
    return (run_ids[start : start + _MANY] for start in range(0, len(run_ids), _MANY))


def lock(session: Session, run_id: str) -> Run | None:
    """The run, in the bin or not, for a change that no other writer may come between."""
    return session.get(Run, run_id, with_for_update=True, populate_existing=True)


def params(session: Session, run_id: str, keys: Iterable[str]) -> dict[str, str]:
    """Those of `keys` that are logged, with their values."""
    query = sql.select(col(Param.key), col(Param.value)).where(col(Param.run_id) == run_id)
    rows = session.connection().execute(query.where(col(Param.key).in_(list(keys))))
    return {row.key: row.value for row in rows}


def tag(session: Session, run_id: str, key: str) -> str | None:
    row = session.get(Tag, (run_id, key))
    return None if row is None else row.value


def known_series(session: Session, run_id: str, key: str) -> Series | None:
    return session.exec(select(Series).where(Series.run_id == run_id, Series.rank == 0, Series.key == key)).first()


def add_datasets(
    session: Session, project_id: int, run_id: str, given: Sequence[tuple[dict[str, Any], dict[str, str]]]
) -> None:
    """Link data sets (columns of `Dataset`, and the link's tags) to the run. Links that exist stay as they are."""
    for columns, tags in given:
        dataset = _dataset(session, project_id, columns)
        if session.get(RunDataset, (run_id, dataset.id)) is None:
            session.add(RunDataset(run_id=run_id, dataset_id=dataset.id, tags=tags, created_at=time.time()))
            session.flush()


def _dataset(session: Session, project_id: int, columns: dict[str, Any]) -> Dataset:
    """The project's data set of this name and digest, made when it is new."""
    named = (Dataset.project_id == project_id, Dataset.name == columns["name"], Dataset.digest == columns["digest"])
    while True:
        held = session.exec(select(Dataset).where(*named)).first()
        if held is not None:
            return held
        fresh = Dataset(id=new_id(), project_id=project_id, created_at=time.time(), **columns)
        try:
            with session.begin_nested():
                session.add(fresh)
        except IntegrityError:
            continue  # another run of the project stored it between the two statements
        return fresh


def datasets_in_use(session: Session, project_ids: Sequence[int], limit: int) -> list[tuple[int, str, str, str | None]]:
    """Project, name, digest and context of data sets that runs of these projects read, each once."""
    context = col(RunDataset.tags)["mlflow.data.context"].as_string()
    query = (
        sql.select(col(Dataset.project_id), col(Dataset.name), col(Dataset.digest), context)
        .join(RunDataset, col(RunDataset.dataset_id) == col(Dataset.id))
        .where(col(Dataset.project_id).in_(project_ids))
        .distinct()
        .limit(limit)
    )
    return [(project, name, digest, said) for project, name, digest, said in session.connection().execute(query)]
