"""One model answering many requests at once: those that arrive together are decoded together."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch

from trainer.errors import TrainerError
from trainer.generate import Prompt, decode, end_ids
from trainer.models import Checkpoint

log = logging.getLogger("tunescope.serve_model")

Reason = Literal["stop", "length", "error"]
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer shows for a character of which some bytes are still to come."""


class TooBusy(TrainerError):
    """More requests wait than will be kept waiting."""


@dataclass(frozen=True)
class Piece:
    """Text that is new since the last piece; the last one says why it is the last."""

    text: str
    tokens: int
    """How many have been generated so far."""
    reason: Reason | None = None


@dataclass
class Job:
    """A request on its way. `tell` is called from the engine's thread: for every piece, or once at the end."""

    prompt: Prompt
    tell: Callable[[Piece], None]
    stops: Sequence[str] = ()
    stream: bool = False
    arrived: float = field(default_factory=time.monotonic)
    tokens: list[int] = field(default_factory=list)
    sent: int = 0
    """How many characters have been told."""


class Engine:
    """Decodes in a thread of its own. A batch takes what waits, up to `max_batch`; an idle engine gives others
    `wait` seconds to join the first. A row is answered when it ends; the next batch starts when the last row does."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        max_batch: int,
        wait: float,
        max_waiting: int = 1024,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`turn`: what to hold while the model decodes, where others use it too."""
        self._turn = turn
        self.model, self.tokenizer, self.card = checkpoint
        self.max_batch = max_batch
        self.wait = wait
        # Without a chat template an answer is one line, as in scoring.
        self.one_line = self.tokenizer.chat_template is None
        self.ends = end_ids(self.tokenizer, newline=self.one_line)
        self._jobs: queue.Queue[Job | None] = queue.Queue(maxsize=max_waiting)
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def room(self) -> int:
        """The longest context, prompt and answer together."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 1 << 20)

    @property
    def temperature(self) -> float:
        """Where a request sets none: what the model was saved with, else 0, the likeliest answer."""
        defaults = self.model.generation_config
        return float(defaults.temperature or 1.0) if defaults.do_sample else 0.0

    def submit(self, job: Job) -> None:
        """Raises `TooBusy` if too many wait already."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise TooBusy(f"{self._jobs.maxsize} requests are waiting; try again in a moment.") from None

    def close(self) -> None:
        """Ends the thread once what waits is answered."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs, closing = self._gather(first)
            try:
                with self._turn():
                    self._answer(jobs)
            except Exception:
                log.exception("a batch of %d requests failed", len(jobs))
                for job in jobs:
                    if not job.prompt.ended:
                        job.tell(Piece("", len(job.tokens), "error"))
            if closing:
                return

    def _gather(self, first: Job) -> tuple[list[Job], bool]:
        jobs = [first]
        deadline = first.arrived + self.wait
        while len(jobs) < self.max_batch:
            left = deadline - time.monotonic()
            try:
                job = self._jobs.get(timeout=left) if left > 0 else self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _answer(self, jobs: list[Job]) -> None:
        prompts = [job.prompt for job in jobs]
        for step in decode(self.model, prompts, pad_id=self.tokenizer.pad_token_id or 0, stop_ids=self.ends):
            for job, token in zip(jobs, step, strict=True):
                if token is None:
                    continue
                if token != self.tokenizer.eos_token_id:
                    job.tokens.append(token)
                reason: Reason | None = "stop" if token in self.ends else None
                if reason is None and len(job.tokens) >= job.prompt.limit:
                    reason = "length"
                if reason is not None or job.stream or job.stops:
                    self._tell(job, reason)

    def _tell(self, job: Job, reason: Reason | None) -> None:
        """Passes on what is certain: not half a character, nor what may be the beginning of a stop."""
        text = self.tokenizer.decode(job.tokens, skip_special_tokens=True)
        if self.one_line:
            text = text.partition("\n")[0]
        found = [place for place in (text.find(stop) for stop in job.stops) if place >= 0]
        if found:
            text, reason = text[: min(found)], "stop"
        if reason is None:
            text = text.rstrip(UNFINISHED)
            text = text[: len(text) - max((_overlap(text, stop) for stop in job.stops), default=0)]
        if reason is not None:
            job.prompt.ended = True
        elif not job.stream or len(text) <= job.sent:
            return
        job.tell(Piece(text[job.sent :], len(job.tokens), reason))
        job.sent = len(text)


def _overlap(text: str, stop: str) -> int:
    """How long an end of `text` is a beginning of `stop`."""
    return next((size for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size])), 0)


def prompt_generator(seed: int | None, device: torch.device | str) -> torch.Generator:
    """The random numbers of one request: its own, so that a seed gives the same answer in any company."""
    generator = torch.Generator(device=device)
    generator.manual_seed(seed) if seed is not None else generator.seed()
    return generator
