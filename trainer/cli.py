"""`tunescope train`, `tunescope drift` and `tunescope serve-model`.

PyTorch and Transformers take seconds to import. `tunescope --help` imports this module, so what needs them is loaded
by name when a command runs.
"""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from trainer.config import load_config
from trainer.errors import TrainerError


def train(
    config: Annotated[Path, typer.Argument(help="The YAML file; see examples/.", show_default=False)],
    url: Annotated[str | None, typer.Option(help="The service; default: the file's, else TUNESCOPE_URL.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only read everything, make a few steps, and estimate time and memory.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Train without a service; `tunescope sync` sends the runs later.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint (train.save_every writes them).")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: --set train.epochs=1.")
    ] = None,
) -> None:
    """Train what a YAML file describes: track it, score it on the service, compare its variants.

    Example: tunescope train examples/banking77.yaml

    On several GPUs, as one run: torchrun --nproc-per-node 2 -m tunescope train examples/banking77.yaml
    """
    try:
        configs = load_config(config, set_ or [])
        program = _load("trainer.program")
        if check:
            program.check(configs)
        else:
            program.train_all(configs, url=url, offline=offline, resume=resume)
    except TrainerError as error:
        _fail(error)
    except KeyboardInterrupt:
        again = "; --resume goes on from the last checkpoint" if any(one.train.save_every for one in configs) else ""
        typer.echo(f"stopped{again}", err=True)
        raise typer.Exit(130) from None


def drift(
    base: Annotated[Path, typer.Argument(help="Folder of the base model.", show_default=False)],
    tuned: Annotated[Path, typer.Argument(help="Folder of the fine-tune: a whole model or an adapter.")],
    texts: Annotated[Path, typer.Argument(help="General texts: CSV, JSONL, JSON or Parquet.", show_default=False)],
    output: Annotated[
        Path, typer.Option(help="Where the numbers go, for `tunescope audit --drift`.", dir_okay=False)
    ] = Path("drift.json"),
    column: Annotated[str, typer.Option(help="The column with the text.")] = "text",
    limit: Annotated[int, typer.Option(help="Use this many texts, drawn with the seed.", min=1)] = 200,
    max_length: Annotated[int, typer.Option(help="Tokens read of a text.", min=2)] = 512,
    seed: Annotated[int, typer.Option(help="Of the draw and of the resampling.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto or cpu.")] = "auto",
) -> None:
    """How far a fine-tune moved on general text: likelihood, perplexity and divergence from its base, per token.

    Example: tunescope drift models/base models/tuned wiki.jsonl --output drift.json
    """
    try:
        _load("trainer.program").drift(base, tuned, texts, output, column, limit, max_length, seed, device)
    except TrainerError as error:
        _fail(error)


def serve_model(
    checkpoint: Annotated[list[Path], typer.Argument(help="Folders of causal LMs: whole models or adapters.")],
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="What requests call them, one for each; default: the folders' names."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8100,
    max_batch: Annotated[int, typer.Option(help="The most requests answered together.", min=1)] = 32,
    wait_ms: Annotated[float, typer.Option(help="How long a request waits for others to join it.", min=0)] = 4.0,
) -> None:
    """Serve causal LMs behind an OpenAI-compatible /v1/chat/completions; a request's `model` names one of them.

    A base and its LoRA adapters, or several adapters of one base, share the base in memory: a batch is answered by one
    of them, and they take turns. An adapter without company is merged into its base, which answers faster.

    Example: tunescope serve-model models/base runs/formal/model runs/short/model --name base --name formal --name short
    """
    try:
        _load("trainer.serve_model").serve(checkpoint, name or [], host, port, max_batch, wait_ms / 1000)
    except TrainerError as error:
        _fail(error)


def _load(module: str) -> Any:
    # bitsandbytes remarks, while it is imported, on a kernel that it can do without.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return importlib.import_module(module)


def _fail(error: TrainerError) -> NoReturn:
    typer.echo(f"tunescope: {error}", err=True)
    raise typer.Exit(2) from None
