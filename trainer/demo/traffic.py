"""Simulated users: they ask the models behind the gateway, and judge what they are really told.

Nobody here is a person. Who asks what, and who is inclined to rate, is drawn from a seed; whether an answer is right
is decided by comparing it with the only right one; latency and cost are what the gateway measured.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from trainer.demo.base import ANSWER_TOKENS
from trainer.demo.world import Item, World

Json = dict[str, Any]

TICKET_SHARE = 0.7
"""Of the questions; the rest are about general facts."""
REQUESTS_PER_USER = 5
CONCURRENT_USERS = 16
RATES_IF_RIGHT, RATES_IF_WRONG = 0.3, 0.5
HONEST = 0.95
"""How often a rating says what the user found: up for a right answer, down for a wrong one."""
EVENTS_AT_ONCE = 500


@dataclass(frozen=True)
class User:
    """A simulated user: what they will ask, in this order, and their chances of rating and of meaning it."""

    id: str
    questions: tuple[Item, ...]
    dice: tuple[tuple[float, float], ...]

    def rates(self, turn: int, right: bool) -> float | None:
        """Thumbs up (1), thumbs down (0), or none."""
        rating, honesty = self.dice[turn]
        if rating >= (RATES_IF_RIGHT if right else RATES_IF_WRONG):
            return None
        return float(right if honesty < HONEST else not right)


@dataclass
class Count:
    """What came of the traffic."""

    requests: int = 0
    failed: int = 0
    right: int = 0
    rated: int = 0


def make_users(world: World, requests: int, seed: int) -> list[User]:
    users = []
    for number in range(-(-requests // REQUESTS_PER_USER)):
        chance = random.Random(f"user {seed} {number}")
        questions = tuple(
            chance.choice(world.traffic if chance.random() < TICKET_SHARE else world.general)
            for _ in range(REQUESTS_PER_USER)
        )
        users.append(
            User(f"simulated-{number:05d}", questions, tuple((chance.random(), chance.random()) for _ in questions))
        )
    return users


async def drive(url: str, experiment: str, users: Sequence[User], tick: Callable[[], None]) -> Count:
    """Every user asks the gateway one question after the other, some users at a time; `tick` is called an answer."""
    count = Count()
    places = asyncio.Semaphore(CONCURRENT_USERS)
    limits = httpx2.Limits(max_connections=CONCURRENT_USERS)
    async with httpx2.AsyncClient(base_url=url, timeout=60.0, limits=limits) as http:
        reporter = Reporter(http)

        async def one(user: User) -> None:
            async with places:
                for turn in range(len(user.questions)):
                    await ask(http, experiment, user, turn, reporter, count)
                    tick()

        await asyncio.gather(*(one(user) for user in users))
        await reporter.flush()
    return count


async def ask(
    http: httpx2.AsyncClient, experiment: str, user: User, turn: int, reporter: Reporter, count: Count
) -> None:
    """One question, its answer judged, and what became of it reported."""
    item = user.questions[turn]
    body = {
        "model": f"exp:{experiment}",
        "messages": [{"role": "user", "content": item.input}],
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
    }
    answer = await http.post("/v1/chat/completions", json=body, headers={"X-Unit-Id": user.id})
    count.requests += 1
    if answer.status_code != 200:
        count.failed += 1
        return
    right = answer.json()["choices"][0]["message"]["content"].strip() == item.answer
    count.right += right
    outcomes = {"task_success": float(right)}
    rating = user.rates(turn, right)
    if rating is not None:
        count.rated += 1
        outcomes["satisfaction"] = rating
    await reporter.report(answer.headers["x-request-id"], outcomes)


class Reporter:
    """Outcomes on their way to the service, some hundreds at once."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._waiting: list[Json] = []

    async def report(self, request_id: str, outcomes: dict[str, float]) -> None:
        self._waiting += [
            {"type": "outcome", "request_id": request_id, "metric": metric, "value": value}
            for metric, value in outcomes.items()
        ]
        if len(self._waiting) >= EVENTS_AT_ONCE:
            await self.flush()

    async def flush(self) -> None:
        events, self._waiting = self._waiting, []
        if events:
            answer = await self._http.post("/api/v1/events", json={"events": events})
            answer.raise_for_status()
