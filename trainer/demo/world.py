"""What the demo's models learn: general facts, and support tickets to be labelled. Written for this project.

A pure function of a seed. The facts are true and short, so that a model of half a million parameters
can really know them; the tickets come from hand-written phrasings with slots. The training tickets, the
test tickets and the tickets of simulated users never share a text, and the latter two use phrasings,
small talk and typing errors that training never shows.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

TRAIN_PER_LABEL, TEST_PER_LABEL, TRAFFIC_PER_LABEL = 24, 20, 30
UNLABELLED_PER_LABEL = 40
LARGEST_SUMMAND = 9
TYPO_SHARE, OPENER_SHARE, CLOSER_SHARE = 0.3, 0.35, 0.35

REPLAYED, HELD_OUT = "replayed", "held-out"


@dataclass(frozen=True)
class Item:
    """One question with its only right answer. `group` is the category of a fact, the phrasing of a ticket."""

    id: str
    input: str
    answer: str
    group: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """All the demo's data. `general` holds every fact; those tagged `replayed` may be mixed into training.

    `texts` is writing of the domain without any label: the company's handbook, and old tickets.
    """

    general: tuple[Item, ...]
    train: tuple[Item, ...]
    test: tuple[Item, ...]
    traffic: tuple[Item, ...]
    texts: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def replayed(self) -> tuple[Item, ...]:
        return tuple(item for item in self.general if REPLAYED in item.tags)


def build_world(seed: int = 0) -> World:
    """The demo's data for a seed: the same seed gives the same items, in the same order."""
    tickets = _read("tickets.json")
    writer = TicketWriter(tickets, random.Random(f"tickets {seed}"))
    labels: dict[str, dict[str, list[str]]] = tickets["labels"]
    return World(
        general=tuple(_general(random.Random(f"replay {seed}"))),
        train=tuple(item for label in labels for item in writer.plain("train", label, TRAIN_PER_LABEL)),
        test=tuple(item for label in labels for item in writer.hard("test", label, TEST_PER_LABEL)),
        traffic=tuple(item for label in labels for item in writer.hard("traffic", label, TRAFFIC_PER_LABEL)),
        texts=tuple(text for label in labels for text in writer.unlabelled(label, UNLABELLED_PER_LABEL)),
        labels=tuple(labels),
    )


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files("trainer.demo").joinpath("data", name).read_text(encoding="utf-8"))
    return content


def _general(chance: random.Random) -> Iterator[Item]:
    for category, pairs in _facts():
        replayed = set(chance.sample(range(len(pairs)), len(pairs) // 2))
        for number, (question, answer) in enumerate(pairs):
            tag = REPLAYED if number in replayed else HELD_OUT
            yield Item(f"{category}-{number:03d}", question, answer, group=category, tags=(tag,))


def _facts() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each category with its questions and answers; the sums are computed, all else is in facts.json."""
    for category, fact in _read("facts.json").items():
        yield category, [(fact["question"].format(subject), answer) for subject, answer in fact["pairs"].items()]
    summands = range(1, LARGEST_SUMMAND + 1)
    yield "sums", [(f"{a} + {b} = ?", str(a + b)) for a in summands for b in summands if a <= b]


class TicketWriter:
    """Writes tickets from the phrasings of tickets.json; never the same text twice, whatever they are for."""

    def __init__(self, tickets: dict[str, Any], chance: random.Random):
        self._tickets = tickets
        self._chance = chance
        self._written: set[str] = set()

    def plain(self, split: str, label: str, count: int) -> Iterator[Item]:
        """Tickets to train on: a phrasing, with or without a stock ending."""
        return self._items(split, label, count, phrasings="train", style=self._with_ending)

    def hard(self, split: str, label: str, count: int) -> Iterator[Item]:
        """Tickets to be tested by: other phrasings, small talk about other things, typing errors, each tagged."""
        return self._items(split, label, count, phrasings="test", style=self._with_small_talk)

    def unlabelled(self, label: str, count: int) -> Iterator[str]:
        """What the company has in writing anyway: sentences of its handbook, and old tickets nobody labelled."""
        for sentence in self._tickets["labels"][label]["text"]:
            yield self._fill(sentence)
        for item in self._items("old", label, count, phrasings="train", style=self._with_ending):
            yield item.input

    def _items(
        self, split: str, label: str, count: int, phrasings: str, style: Callable[[str], tuple[str, tuple[str, ...]]]
    ) -> Iterator[Item]:
        choices: list[str] = self._tickets["labels"][label][phrasings]
        for number in range(count):
            phrasing = number % len(choices)
            text, tags = style(choices[phrasing])
            while text in self._written:
                text, tags = style(choices[phrasing])
            self._written.add(text)
            yield Item(f"{split}-{label}-{number:03d}", text, label, group=f"{label}-{phrasing}", tags=tags)

    def _fill(self, phrasing: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda slot: self._chance.choice(self._tickets["slots"][slot[1]]), phrasing)

    def _with_ending(self, phrasing: str) -> tuple[str, tuple[str, ...]]:
        ending = self._chance.choice(self._tickets["endings"])
        return join_sentences("", self._fill(phrasing), self._fill(ending)), ()

    def _with_small_talk(self, phrasing: str) -> tuple[str, tuple[str, ...]]:
        text, tags = self._fill(phrasing), []
        if self._chance.random() < TYPO_SHARE:
            text, tags = with_typo(text, self._chance), ["typo"]
        opener = self._chance.choice(self._tickets["openers"]) if self._chance.random() < OPENER_SHARE else ""
        closer = self._chance.choice(self._tickets["closers"]) if self._chance.random() < CLOSER_SHARE else ""
        if opener or closer:
            tags.append("small talk")
        return join_sentences(self._fill(opener), text, self._fill(closer)), tuple(tags or ["clean"])


def join_sentences(opener: str, text: str, closer: str) -> str:
    if closer and text[-1] not in ".?!":
        text += "."
    return " ".join(part for part in (opener, text, closer) if part)


def with_typo(text: str, chance: random.Random) -> str:
    """The text with two neighbouring letters swapped in one of its longer words."""
    words = text.split(" ")
    number = chance.choice([number for number, word in enumerate(words) if len(word) > 3 and word.isalpha()])
    word = words[number]
    place = chance.choice([place for place in range(1, len(word) - 1) if word[place] != word[place + 1]])
    words[number] = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return " ".join(words)
