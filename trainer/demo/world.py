"""What the demo's models learn: general facts, and support tickets to be labelled. Written for this project.

A pure function of a seed. The facts are true and short, so that a model of half a million parameters
can really know them; the tickets put a topic (by which a team is found) into a frame (which says nothing).
Training tickets, test tickets and the tickets of simulated users never share a text; the latter two are
harder: their frames and some of their topics are nowhere in training, and they have typing errors.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

QUESTION = "Which team takes this ticket? "
TRAIN_PER_LABEL, TEST_PER_LABEL, TRAFFIC_PER_LABEL, ARCHIVED_PER_LABEL = 24, 20, 30, 40
LARGEST_SUMMAND = 9
SMALL_TALK_SHARE, TYPO_SHARE, UNSEEN_TOPIC_EVERY = 0.35, 0.2, 10

REPLAYED, HELD_OUT = "replayed", "held-out"


@dataclass(frozen=True)
class Item:
    """One question with its only right answer. `group` is the category of a fact, the topic of a ticket."""

    id: str
    input: str
    answer: str
    group: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """All the demo's data. `general` holds every fact; those tagged `replayed` may be mixed into training.

    `texts` is writing of the domain without any label.
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
        texts=tuple(text for label in labels for text in writer.unlabelled(label, ARCHIVED_PER_LABEL)),
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
    """Writes tickets from the topics and frames of tickets.json; never the same text twice, whatever it is for."""

    def __init__(self, tickets: dict[str, Any], chance: random.Random):
        self._tickets = tickets
        self._chance = chance
        self._written: set[str] = set()

    def plain(self, split: str, label: str, count: int) -> Iterator[Item]:
        """Tickets to train on."""
        topics = self._tickets["labels"][label]["topics"]
        for number in range(count):
            place = number % len(topics)
            text, tags = self._new("train", topics[place])
            yield Item(f"{split}-{label}-{number:03d}", QUESTION + text, label, f"{label}: {place}", tags)

    def hard(self, split: str, label: str, count: int) -> Iterator[Item]:
        """Tickets to be tested by: other frames, typing errors and, now and then, a topic that training never names."""
        known, unseen = self._tickets["labels"][label]["topics"], self._tickets["labels"][label]["unseen_topics"]
        for number in range(count):
            turn, place = divmod(number, UNSEEN_TOPIC_EVERY)
            is_unseen = place == UNSEEN_TOPIC_EVERY - 1
            place = len(known) + turn % len(unseen) if is_unseen else number % len(known)
            text, tags = self._new("test", [*known, *unseen][place], typos=True)
            tags = (*tags, "unseen topic") if is_unseen else tags
            yield Item(f"{split}-{label}-{number:03d}", QUESTION + text, label, f"{label}: {place}", tags or ("plain",))

    def unlabelled(self, label: str, count: int) -> Iterator[str]:
        """What the company has in writing anyway: its handbook, and old tickets with the subjects people gave them."""
        for sentence in self._tickets["labels"][label]["handbook"]:
            yield self._fill(sentence)
        topics = self._tickets["labels"][label]["topics"]
        for number in range(count):
            subject = self._fill(topics[number % len(topics)])
            text, _ = self._new("archive", subject, typos=True)
            yield f"{text}\nSubject: {subject}"

    def _new(self, frames: str, topic: str, typos: bool = False) -> tuple[str, tuple[str, ...]]:
        text, tags = self._write(frames, topic, typos)
        while text in self._written:
            text, tags = self._write(frames, topic, typos)
        self._written.add(text)
        return text, tags

    def _write(self, frames: str, topic: str, typos: bool) -> tuple[str, tuple[str, ...]]:
        tags = []
        text = self._fill(self._chance.choice(self._tickets["frames"][frames]).replace("{topic}", topic))
        if typos and self._chance.random() < TYPO_SHARE:
            text = with_typo(text, self._chance)
            tags.append("typo")
        opener, closer = (
            self._fill(self._chance.choice(self._tickets[part])) if self._chance.random() < SMALL_TALK_SHARE else ""
            for part in ("openers", "closers")
        )
        if opener or closer:
            tags.append("small talk")
        return join_sentences(opener, text, closer), tuple(tags)

    def _fill(self, phrasing: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda slot: self._chance.choice(self._tickets["slots"][slot[1]]), phrasing)


def join_sentences(opener: str, text: str, closer: str) -> str:
    """The parts as one text that begins with a capital; after an opener with a comma the sentence goes on."""
    goes_on = opener.endswith(",") and not text.startswith("I ")
    text = (text[0].lower() if goes_on else text[0].upper()) + text[1:]
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
