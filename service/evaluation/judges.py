"""The evaluations of a suite, as what they say judges the labels of its items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sqlmodel import Session

from service.measure.label_noise import CELLS
from service.measure.metric import FloatArray, divide
from service.store import evaluations
from service.store.tables import Evaluation, Suite

if TYPE_CHECKING:
    import pyarrow as pa

CANDIDATES = 200  # shown, the most certain first
MODELS = 20  # evaluations asked: the newest of each model


def asked(session: Session, suite: Suite) -> list[Evaluation]:
    """The newest evaluation of each model: several of one would count its opinion several times."""
    found, _ = evaluations.page(
        session, run_ids=None, suite_id=suite.id, suite=None, model_version_id=None, limit=200, cursor=None
    )
    newest: dict[tuple[str | None, ...], Evaluation] = {}
    for one in found:
        model = (one.run_id, None, None) if one.run_id else (None, one.model_version_id, one.name)
        newest.setdefault(model if any(model) else (one.id,), one)
    return list(newest.values())[:MODELS]


def scores_of(scores: pa.Array, labels: Sequence[str]) -> FloatArray | None:
    """(n, L) of a column of maps, NaN where there is none; None where there are none at all, or of other labels too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = scores.offsets.to_numpy()
    counts, inside = np.diff(ends), slice(ends[0], ends[-1])
    if not counts.any() or len(scores) * len(labels) > CELLS:
        return None
    code = pc.index_in(scores.keys, pa.array(labels)).fill_null(-1).to_numpy()[inside]
    if (code < 0).any():
        return None
    found = np.full((len(scores), len(labels)), np.nan)
    found[np.repeat(np.arange(len(scores)), counts), code] = scores.items.to_numpy()[inside]
    return found


def mean_of(judged: Sequence[FloatArray]) -> FloatArray | None:
    """Of several models' probabilities, over those that judged the item; None where nobody judged any."""
    if not judged:
        return None
    given = np.sum([~np.isnan(one) for one in judged], axis=0)
    return divide(np.nansum(judged, axis=0), given.astype(np.float64), undefined=np.nan)
