"""Where a harness's results go: suites and evaluations, and what the harness reported beside what is computed here.

Everything was read before anything is stored. An evaluation's id follows from its content, so that an import may be cut
off and repeated at any time.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from tunescope._client import Client, Json
from tunescope._exceptions import ApiError
from tunescope.importers._record import ImportedResult, ImportProblem, LeftOut, Reported
from tunescope.importers._sink import NAMESPACE, again

__all__ = ["Results", "Stored", "evaluation_id"]

T = TypeVar("T")
AGREES = 1e-9
MOST_SETTINGS = 20_000


def evaluation_id(result: ImportedResult, links: Json) -> str:
    """The id an imported evaluation has: always the same, and another one for another run or model version."""
    content = [result.name, result.suite, result.predictions, result.settings, links]
    digest = sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
    return uuid.uuid5(NAMESPACE, digest).hex


@dataclass(slots=True)
class Stored:
    """What was brought over."""

    evaluations: int = 0
    known: int = 0
    suites: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    """What was reported, set by set, beside what is computed here."""
    differing: list[str] = field(default_factory=list)
    """Those of `lines` in which something else comes out here."""


class Results:
    """Stores results one after the other. Without a client it only counts: a dry run."""

    def __init__(
        self,
        client: Client | None,
        left_out: LeftOut,
        *,
        run_id: str | None = None,
        model_version_id: str | None = None,
    ) -> None:
        """`run_id`, `model_version_id`: what was evaluated."""
        self.stored = Stored()
        self._client = client
        self._left_out = left_out
        links = {"run_id": run_id, "model_version_id": model_version_id}
        self._links: dict[str, Any] = {name: value for name, value in links.items() if value is not None}

    def write_all(self, results: Sequence[ImportedResult], progress: Callable[[str, int], None]) -> None:
        """Store every result. One that is refused is left out by name; the others go on.

        Raises:
            ImportProblem: results of several models are to belong to one run or model version.
            ApiError: there is no such run or model version.
        """
        self._check_links(results)
        for _, group in groupby(results, key=lambda result: (result.model, result.group)):
            same = list(group)
            scored = [(result, self._write(result)) for result in same]
            for result in same:
                progress(result.name, self.stored.evaluations + self.stored.known)
            self._compare(same, [scores for _, scores in scored if scores is not None])

    def _check_links(self, results: Sequence[ImportedResult]) -> None:
        models = sorted({result.model for result in results})
        if self._links and len(models) > 1:
            raise ImportProblem(
                f"These are results of {len(models)} models, but a run or model version is one: {', '.join(models)}. "
                "Name the file or folder of one of them."
            )
        if self._client is not None and (run := self._links.get("run_id")) is not None:
            self._again(lambda client: client.get_run(run))
        if self._client is not None and (version := self._links.get("model_version_id")) is not None:
            self._again(lambda client: client.get_model_version(version))

    def _write(self, result: ImportedResult) -> Json | None:
        """The stored evaluation; None where it was refused, or in a dry run."""
        self.stored.suites.add(result.suite["name"])
        if self._client is None:
            self.stored.evaluations += 1
            return None
        own_id = evaluation_id(result, self._links)
        try:
            known: Json | None = self._known(own_id)
            if known is not None:
                self.stored.known += 1
                return known
            suite = self._again(lambda client: client.create_suite(**result.suite))
            made: Json = self._again(
                lambda client: client.create_evaluation(
                    id=own_id,
                    suite_id=suite["id"],
                    name=result.name,
                    settings=self._bounded(result),
                    predictions=result.predictions,
                    **self._links,
                )
            )
        except ApiError as error:
            if error.status in {401, 403}:
                raise
            self._left_out.add(f"'{result.name}' on '{result.suite['name']}'", error.message.rstrip("."))
            return None
        self.stored.evaluations += 1
        return made

    def _bounded(self, result: ImportedResult) -> Json:
        """Its settings, without the longest ones where they are more than goes with an evaluation."""
        kept = {name: msgspec.json.encode(value) for name, value in result.settings.items()}
        while sum(map(len, kept.values())) > MOST_SETTINGS:
            longest = max(kept, key=lambda name: len(kept[name]))
            self._left_out.add(
                f"setting '{longest}' of '{result.name}'", f"it is {len(kept.pop(longest)):,} bytes long"
            )
        return {name: result.settings[name] for name in kept}

    def _known(self, own_id: str) -> Json | None:
        try:
            found: Json = self._again(lambda client: client.get_evaluation(own_id))
        except ApiError as error:
            if error.status != 404:
                raise
            return None
        return found

    def _again(self, ask: Callable[[Client], T]) -> T:
        assert self._client is not None
        return again(self._client, ask)

    def _compare(self, same: Sequence[ImportedResult], scored: Sequence[Json]) -> None:
        """Say what was reported, and whether the same comes out here."""
        first = same[0]
        said, agree = [], True
        for one in first.reported:
            if one.metric is None:
                self._left_out.add(f"{one.name} {_shown(one.value)} on '{first.suite['name']}'", one.reason)
            elif len(scored) < len(same):
                said.append(f"{one.name} {_shown(one.value)} reported")
            else:
                values = [_value(evaluation, one.metric) for evaluation in scored]
                text, agrees = _compared(one, values, scored[0]["n"])
                said.append(text)
                agree = agree and agrees
        several = len(same) > 1
        who = f"{first.model} ({len(same)} epochs)" if several else first.name
        what = "; ".join(said) or "nothing reported that can be compared"
        line = f"{who} on {first.suite['name']}, {len(first.suite['items']):,} items: {what}"
        self.stored.lines.append(line)
        if not agree:
            self.stored.differing.append(line)


def _value(evaluation: Json, metric: str) -> float | None:
    value: float | None = next(score["value"] for score in evaluation["scores"] if score["name"] == metric)
    return value


def _compared(one: Reported, values: Iterable[float | None], n: int) -> tuple[str, bool]:
    known = [value for value in values if value is not None]
    if not known:
        return f"{one.name} {_shown(one.value)} reported, undefined here ({one.metric})", False
    here = math.fsum(known) / len(known)
    expected = one.value * one.factor * (1 if one.over is None else one.over / n)
    named = "" if one.metric == one.name else f" ({one.metric} here)"
    if not math.isclose(here, expected, rel_tol=AGREES, abs_tol=AGREES):
        return f"{one.name} {_shown(one.value)} reported, but {one.metric} {_shown(here)} here", False
    if one.over is not None and one.over != n:
        rest = f"{_shown(here)} of all {n:,}, the others being wrong"
        return f"{one.name} {_shown(one.value)} of {one.over:,} items as reported{named}; {rest}", True
    return f"{one.name} {_shown(one.value)} as reported{named}", True


def _shown(value: float) -> str:
    return f"{value:.4f}"
