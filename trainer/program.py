"""`tunescope train`: every variant of a file, one after the other, then the verdict between them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import msgspec
import torch
from rich.console import Console
from rich.markup import escape

import tunescope
from trainer import ranks, report
from trainer.config import TrainConfig
from trainer.data import draw, read_table
from trainer.drift import Reader, measure
from trainer.errors import TrainerError
from trainer.estimate import estimate
from trainer.fitting import fit
from trainer.loop import TrainResult, finished, train
from trainer.material import Examples, encode, gather
from trainer.memory import MemoryPeak
from trainer.methods import choose
from trainer.models import count_parameters, device_for, load, load_base
from trainer.predict import predict
from trainer.progress import ProgressBar, quiet


class ServiceUnreachable(TrainerError):
    pass


class OutOfMemory(TrainerError):
    pass


class Refused(TrainerError):
    """The service answered, with an error."""


def train_all(configs: Sequence[TrainConfig], *, url: str | None, offline: bool, resume: bool) -> list[TrainResult]:
    """Trains each config in turn, prints what came of it and, for several, how they compare with the first.

    Data and methods of all of them are checked before the first is trained. Several processes (`torchrun`) train each
    together: what came of it is the first's to say.
    """
    quiet()
    ranks.begin(configs[0].train.device)
    console = Console(highlight=False, emoji=False, soft_wrap=True, quiet=not ranks.first())
    for config in configs:
        choose(config.method)
        gather(config)
    results = []
    with nullcontext() if offline else connect(configs[0], url) as client:
        try:
            for config in configs:
                results.append(train_one(config, client, console, resume=resume))
                report.print_result(console, results[-1], client)
            if client is not None and ranks.first():
                report.print_comparisons(console, results, client, configs[0].service.margin)
        except tunescope.ApiError as error:
            raise Refused(f"the service refused: {error}") from error
        except tunescope.ConnectionFailed as error:
            raise ServiceUnreachable(f"the service went away: {error}") from error
    return results


def connect(config: TrainConfig, url: str | None) -> tunescope.Client:
    """Raises `ServiceUnreachable` if no service answers."""
    client = tunescope.Client(url or config.service.url)
    try:
        client.health()
    except tunescope.TunescopeError as error:
        client.close()
        raise ServiceUnreachable(
            f"no service answers at {client.url}: start one with `tunescope serve`, name another with --url, "
            "or train without one with --offline."
        ) from error
    return client


def train_one(config: TrainConfig, client: tunescope.Client | None, console: Console, *, resume: bool) -> TrainResult:
    """One run behind a progress bar; with `resume`, one that came to its end is not made again."""
    known = finished(config) if resume else None
    ranks.meet()  # before the first of several processes changes what the others read
    if known is not None:
        return known
    with ProgressBar(console, config.name or config.project) as bar, memory_advice(config):
        trained = train(
            config,
            client=client,
            mode=None if client is not None else "offline",
            resume=resume,
            callbacks=[bar],
            say=bar.say,
        )
    ranks.meet()
    return trained.result


@contextmanager
def memory_advice(config: TrainConfig) -> Iterator[None]:
    """Turns running out of memory into `OutOfMemory`, which says what to change."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        size = config.train.batch_size
        advice = [] if config.train.gradient_checkpointing else ["set train.gradient_checkpointing"]
        if size > 1:
            advice.append(f"halve train.batch_size ({size}) and double train.accumulation")
        elif config.method["name"] != "qlora":
            advice.append("use method: qlora")
        advice.append(f"lower data.max_length ({config.data.max_length})")
        raise OutOfMemory(f"out of memory: {', or '.join(advice)}; --check shows what a config needs.") from error


def check(configs: Sequence[TrainConfig]) -> None:
    """Reads everything, makes a few steps, asks each suite a batch of items, and prints what a whole run would take.

    The longest rows come first, for the memory; then three batches of usual ones, for the time.
    """
    quiet()
    console = Console(highlight=False, emoji=False, soft_wrap=True)
    for config in configs:
        method = choose(config.method)
        material = gather(config)
        with console.status(f"{escape(config.name or config.project)}: a few steps"), memory_advice(config):
            model, tokenizer = load_base(config.model, config.task, material.labels, config.train.seed)
            examples = encode(material, config, tokenizer)
            device = device_for(config.train.device)
            model = method.prepare(model, task=config.task, seed=config.train.seed, device=device)
            size = config.train.batch_size * config.train.accumulation
            longest = sorted(examples.train, key=lambda example: len(example["input_ids"]))[-size:]
            lengths = [len(example["input_ids"]) for example in longest[-config.train.batch_size :]]
            needed = estimate(model, config.train, lengths)
            with tempfile.TemporaryDirectory() as folder:
                pad = tokenizer.pad_token_id or 0
                one_step = msgspec.structs.replace(config.train, max_steps=1, save_every=None)
                three = msgspec.structs.replace(config.train, max_steps=3, save_every=None)
                with MemoryPeak() as peak:
                    fit(model, Examples(longest), one_step, folder=Path(folder), pad_id=pad)
                done = fit(model, examples, three, folder=Path(folder), pad_id=pad)
            for number, suite in enumerate(material.suites):
                few = msgspec.structs.replace(suite, items=suite.items[:16])
                tokens = config.evaluate[number].max_new_tokens
                predict(few, model, tokenizer, max_length=config.data.max_length, max_new_tokens=tokens)
        steps = config.train.max_steps or math.ceil(len(examples.train) / size * config.train.epochs)
        trainable, total = count_parameters(model)
        report.print_check(console, config, len(examples.train), steps, done.seconds / 3, peak.bytes, trainable, total)
        if needed is not None:
            report.print_needed(console, needed)


def drift(
    base: Path,
    tuned: Path,
    texts: Path,
    output: Path,
    column: str,
    limit: int,
    max_length: int,
    seed: int,
    device: str,
) -> None:
    """`tunescope drift`: two saved models on the texts of a file; the numbers to the screen and to `output`."""
    quiet()
    console = Console(highlight=False, emoji=False, soft_wrap=True)
    chosen = draw(read_table(texts), limit, seed).column(column, "--column")
    place = device_for("cpu" if device == "cpu" else "auto")
    with console.status("loading both models"):
        first, second = load(base, place), load(tuned, place)
    if first.card.task != "causal_lm" or second.card.task != "causal_lm":
        raise Refused("drift is between causal LMs; a classifier predicts no next token.")
    if first.tokenizer.get_vocab() != second.tokenizer.get_vocab():
        raise Refused("the two models have different tokenizers: they do not read the same tokens.")
    with console.status("reading"):
        found = measure(
            Reader(first.model), Reader(second.model), first.tokenizer, chosen, max_length=max_length, seed=seed
        )
    output.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    report.print_drift(console, found)
    console.print(f"  written to {output}", markup=False)
