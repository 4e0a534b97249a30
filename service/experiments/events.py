"""What happens to an experiment, as records that fit a queue and a line of a file."""

from __future__ import annotations

from typing import Any

import msgspec


class Exposed(msgspec.Struct, frozen=True, tag="exposure"):
    """A unit met an arm."""

    experiment_id: str
    phase: int
    unit_id: str
    variant: str
    at: float


class Requested(msgspec.Struct, frozen=True, tag="request", omit_defaults=True):
    """A model was called. `status` 499: the caller hung up. Unknown numbers are None, never 0."""

    request_id: str
    at: float
    status: int
    experiment_id: str | None = None
    phase: int | None = None
    unit_id: str | None = None
    variant: str | None = None
    counted: bool = False
    upstream: str | None = None
    error: str | None = None
    fell_back: bool = False
    streamed: bool = False
    latency: float | None = None
    first_token: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    price_version: str | None = None
    messages: Any = None
    answer: str | None = None

    @property
    def exposure(self) -> Exposed | None:
        if not self.counted or self.experiment_id is None or self.phase is None:
            return None
        if self.unit_id is None or self.variant is None:
            return None
        return Exposed(self.experiment_id, self.phase, self.unit_id, self.variant, self.at)


class OutcomeGiven(msgspec.Struct, frozen=True, tag="outcome"):
    """What became of a request. The newest value of a metric is the one that counts."""

    request_id: str
    metric: str
    value: float
    at: float


Event = Exposed | Requested | OutcomeGiven

HUNG_UP = 499
