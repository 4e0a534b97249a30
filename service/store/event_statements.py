"""What every batch of events takes, prepared once: traffic pays for it by the call."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, bindparam
from sqlmodel import SQLModel, col, select

from service.store.cursor import Statement, among
from service.store.tables import ArmSum, Exposure, GatewayRequest, LatencyBin, Outcome, UnitRollup


def _table(model: type[SQLModel]) -> sqlalchemy.Table:
    found: sqlalchemy.Table = model.__table__  # type: ignore[attr-defined]
    return found


def _all_of(model: type[SQLModel]) -> list[str]:
    return [column.name for column in _table(model).columns]


def _within(model: Any) -> list[ColumnElement[bool]]:
    return [col(model.experiment_id) == bindparam("experiment_id"), col(model.phase) == bindparam("phase")]


EXPOSURES = Statement(
    select(Exposure.unit_id, Exposure.variant, Exposure.crossed, Exposure.at).where(
        *_within(Exposure), among(col(Exposure.unit_id), "units")
    )
)
STORED = Statement(select(GatewayRequest.request_id).where(among(col(GatewayRequest.request_id), "ids")))
OUTCOMES = Statement(
    select(Outcome.request_id, Outcome.metric, Outcome.value, Outcome.at).where(among(col(Outcome.request_id), "ids"))
)
ROLLUPS = Statement(
    select(UnitRollup.unit_id, UnitRollup.metric, UnitRollup.count, UnitRollup.sum).where(
        *_within(UnitRollup), among(col(UnitRollup.metric), "metrics"), among(col(UnitRollup.unit_id), "units")
    )
)
ADD_EXPOSURE = Statement.insert(_table(Exposure), _all_of(Exposure))
ADD_REQUEST = Statement.insert(_table(GatewayRequest), _all_of(GatewayRequest))
PUT_OUTCOME = Statement.upsert(_table(Outcome), _all_of(Outcome))
PUT_ROLLUP = Statement.upsert(
    _table(UnitRollup), ["experiment_id", "phase", "metric", "unit_id", "variant", "count", "sum"]
)
_SUMS = ["n", "sum_x", "sum_y", "sum_xx", "sum_yy", "sum_xy"]
ADD_ARM_SUM = Statement.upsert(_table(ArmSum), _all_of(ArmSum), add=_SUMS)
ADD_BIN = Statement.upsert(_table(LatencyBin), _all_of(LatencyBin), add=["count"])
