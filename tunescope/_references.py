"""What a person calls a model on the command line, and the evaluations that are meant by it.

RUN            a run's last evaluation of each suite
RUN:STEP       its evaluations at that step; 0 is the model before training
EVALUATION     that one
MODEL@ALIAS    those of the registered version that the alias points at, or of MODEL@3
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tunescope._client import Client, Json
from tunescope._exceptions import ApiError, TunescopeError

__all__ = ["Model", "pick", "resolve"]

MOST = 1000


class Model(NamedTuple):
    """Evaluations that references stand for, and the run or model version they all name, where there is one."""

    evaluations: list[Json]
    run_id: str | None = None
    version_id: str | None = None


def resolve(client: Client, references: Sequence[str]) -> Model:
    """Raises `TunescopeError` for a reference to nothing, or to something that was never evaluated."""
    found = [_one(client, reference) for reference in references]
    evaluations = {one["id"]: one for model in found for one in model.evaluations}
    if len(found) > 1:
        return Model(list(evaluations.values()))
    return found[0]


def _one(client: Client, reference: str) -> Model:
    name, at, which = reference.rpartition("@")
    if at:
        version = _version(client, name, which)
        return Model(_evaluated(client, reference, model_version_id=version["id"]), version_id=version["id"])
    run, colon, step = reference.rpartition(":")
    if colon and step.isascii() and step.isdigit():
        client.get_run(run)
        listed = [one for one in _evaluated(client, reference, run_id=run) if one["step"] == int(step)]
        if not listed:
            raise TunescopeError(f"The run '{run}' has no evaluation at step {step}.")
        return Model(listed, run_id=run)
    try:
        return Model([client.get_evaluation(reference)])
    except ApiError as error:
        if error.status != 404:
            raise
    try:
        client.get_run(reference)
    except ApiError as error:
        if error.status != 404:
            raise
        raise TunescopeError(
            f"'{reference}' is no run and no evaluation. Write RUN, RUN:STEP, EVALUATION or MODEL@ALIAS."
        ) from None
    return Model(_evaluated(client, reference, run_id=reference), run_id=reference)


def _version(client: Client, name: str, which: str) -> Json:
    if which.isascii() and which.isdigit():
        for version in client.model_versions(name)["items"]:
            if version["version"] == int(which):
                return dict(version)
    return client.get_alias(name, which)


def _evaluated(client: Client, reference: str, **of: str) -> list[Json]:
    """Newest first, the last step before earlier ones; without a step an evaluation is of the finished model."""
    found: list[Json] = client.list_evaluations(**of, limit=MOST)["items"]
    if not found:
        raise TunescopeError(f"'{reference}' was never evaluated: an audit compares evaluations.")
    return sorted(found, key=lambda one: float("inf") if one["step"] is None else one["step"], reverse=True)


def pick(suites: Iterable[str], *models: Model) -> list[list[str]]:
    """For each model the evaluation that counts of each suite: of the newest version that all of them answered.

    A suite that no version of is common gets each model's newest, so that the audit can say how they differ; one that
    a model was never asked is left out.
    """
    chosen: list[list[str]] = [[] for _ in models]
    for suite in suites:
        asked = [[one for one in model.evaluations if one["suite"]["name"] == suite] for model in models]
        versions = [{one["suite"]["version"] for one in each} for each in asked]
        common = max(set.intersection(*versions), default=None)
        for ids, each in zip(chosen, asked, strict=True):
            fitting = [one for one in each if common is None or one["suite"]["version"] == common]
            ids += [one["id"] for one in fitting[:1]]
    return chosen
