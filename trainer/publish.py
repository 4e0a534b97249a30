"""A trained model and its answers, told to the service, which scores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from trainer.predict import Prediction
from trainer.suite import Suite
from tunescope import Client

Json = dict[str, Any]


def publish(
    client: Client,
    suite: Suite,
    predictions: Sequence[Prediction],
    *,
    run_id: str | None = None,
    model_version_id: str | None = None,
    step: int | None = None,
    name: str | None = None,
    settings: Json | None = None,
) -> Json:
    """Registers the suite (the same items and settings are the same version) and sends the answers; the evaluation."""
    registered = client.create_suite(**suite.body())
    body: Json = {
        "suite_id": registered["id"],
        "run_id": run_id,
        "model_version_id": model_version_id,
        "step": step,
        "name": name,
        "settings": settings or {},
        "predictions": msgspec.to_builtins(list(predictions)),
    }
    return client.create_evaluation(**{key: value for key, value in body.items() if value is not None})


def score_values(evaluation: Json) -> dict[str, float]:
    """An evaluation's scores as metrics of a run, `suite/metric`; what could not be computed is left out."""
    suite = evaluation["suite"]["name"]
    return {f"{suite}/{score['name']}": score["value"] for score in evaluation["scores"] if score["value"] is not None}
