"""One run from its config to its scores: read, load, prepare, fit, save, register, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from transformers import PreTrainedModel, TrainerCallback

import tunescope
from trainer import ranks
from trainer.config import TrainConfig
from trainer.data import Tokenizer
from trainer.drift import Drift, Reader, measure, without_adapter
from trainer.exam import Origin, Scored, ask, score
from trainer.fitting import fit
from trainer.material import Material, domain_answers, encode, gather
from trainer.memory import MemoryPeak
from trainer.methods import Method, choose
from trainer.models import Card, count_parameters, device_for, load_base, save
from trainer.probe import ForgettingProbe
from tunescope.transformers import TunescopeCallback

Json = dict[str, Any]
Mode = Literal["online", "offline", "disabled"]
RUN_FILE = "run.json"
RESULT_FILE = "result.json"
DRIFT_FILE = "drift.json"


class TrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run; also kept as `result.json` in its output folder."""

    name: str
    run_id: str | None
    model_folder: str
    steps: int
    loss: float
    """The mean over the steps made."""
    seconds: float
    """Of fitting alone."""
    peak_memory_bytes: int
    """Of fitting alone; see `MemoryPeak`."""
    trainable_parameters: int
    total_parameters: int
    scored: list[Scored]
    model_version: Json | None = None
    probe: list[tuple[int, float]] = []
    """(step, share of the general questions still answered)."""
    stopped_at: int | None = None
    """The step at which the probe ended the training, if it did."""
    drift: Drift | None = None
    """On general text, where it was asked for."""


class Trained(NamedTuple):
    result: TrainResult
    model: PreTrainedModel
    tokenizer: Tokenizer


def train(
    config: TrainConfig,
    *,
    client: tunescope.Client | None = None,
    mode: Mode | None = None,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    tags: dict[str, str] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Trained:
    """Trains what `config` describes and, given a `client`, tracks, registers and evaluates it on the service.

    `mode` is the tracking's (`tunescope.init`): online with a client, else disabled. With `resume` an interrupted run
    goes on from its newest checkpoint, under its own id. Same config, data and machine: same losses.
    Of several processes (`ranks`) each logs into the one run, and the first alone saves, registers and evaluates.
    Raises `TrainerError` for what the user can put right, before any step is made.
    """
    method = choose(config.method)
    material = gather(config)
    say("loading the model")
    model, tokenizer = load_base(config.model, config.task, material.labels, config.train.seed)
    examples = encode(material, config, tokenizer)
    output = Path(config.output)
    card = make_card(config, material, method, output, model)
    output.mkdir(parents=True, exist_ok=True)
    run = start_run(config, material, method, client, mode, resume, tags)
    with run:
        device = device_for(config.train.device)
        if any(wanted.before for wanted in config.evaluate):
            model.to(device)
        before = ask(config, material.suites, model, tokenizer, say, base=True)
        model = method.prepare(model, task=config.task, seed=config.train.seed, device=device)
        trainable, total = count_parameters(model)
        probe = make_probe(config, material, tokenizer, run)
        watchers = [TunescopeCallback(run=run), *([probe] if probe else []), *callbacks]
        with MemoryPeak() as peak:
            done = fit(
                model,
                examples,
                config.train,
                folder=output,
                pad_id=tokenizer.pad_token_id or 0,
                callbacks=watchers,
                resume=resume,
            )
        # After the callback, which counts a 4-bit weight as it is stored: two in a byte.
        run.config.update({"parameters": {"trainable": trainable, "total": total}})
        run.log({"train/peak_memory_bytes": peak.bytes, "train/seconds": done.seconds}, step=done.steps)
        version, scored = None, []
        if ranks.first():
            say("saving")
            save(output / "model", model, tokenizer, card)
            version = register(client, config, method, run.id, output / "model") if client is not None else None
            after = ask(config, material.suites, model, tokenizer, say)
            origin = Origin(run.id, done.steps, version["id"] if version else None)
            suites = material.suites
            scored = [score(config, one, before.get(one.name), after[one.name], client, origin) for one in suites]
        for one in scored:
            run.log(one.values(), step=done.steps)
        drift = None
        if config.drift is not None:
            say("measuring drift")
            drift = measure_drift(config, material, model, tokenizer)
            run.log(drift.metrics(), step=done.steps)
            run.log_artifact(msgspec.json.encode(drift), DRIFT_FILE, kind="drift")
            (output / DRIFT_FILE).write_bytes(msgspec.json.encode(drift))
    result = TrainResult(
        name=config.name or config.project,
        run_id=None if run.url is None and mode != "offline" else run.id,
        model_folder=str(output / "model"),
        steps=done.steps,
        loss=done.loss,
        seconds=done.seconds,
        peak_memory_bytes=peak.bytes,
        trainable_parameters=trainable,
        total_parameters=total,
        scored=scored,
        model_version=version,
        probe=probe.history if probe else [],
        stopped_at=probe.stopped_at if probe else None,
        drift=drift,
    )
    if ranks.first():
        (output / RESULT_FILE).write_bytes(msgspec.json.encode(result))
    return Trained(result, model.eval(), tokenizer)


def finished(config: TrainConfig) -> TrainResult | None:
    """What an earlier run of `config` came to, if it came to its end."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((Path(config.output) / RESULT_FILE).read_bytes(), type=TrainResult)
    return None


def start_run(
    config: TrainConfig,
    material: Material,
    method: Method,
    client: tunescope.Client | None,
    mode: Mode | None,
    resume: bool,
    tags: dict[str, str] | None,
) -> tunescope.Run:
    """A new run, or with `resume` the one that `output` remembers."""
    record = Path(config.output) / RUN_FILE
    known = None
    if resume:
        with suppress(OSError, ValueError, KeyError):
            known = str(json.loads(record.read_text("utf-8"))["run_id"])
    ranks.meet()  # all have read it before it is written
    settings = msgspec.to_builtins(config) | {"method": method.settings()}
    del settings["project"], settings["service"], settings["tags"]
    settings["data"] |= {"rows": len(material.train.records), "hash": material.data_hash}
    run = tunescope.init(
        project=config.project,
        name=config.name,
        config=settings,
        tags=config.tags | (tags or {}),
        data_hash=material.data_hash,
        url=client.url if client is not None else None,
        mode=mode or ("online" if client is not None else "disabled"),
        resume=known,
        quiet=True,
    )
    if ranks.first():
        (record.parent / RESULT_FILE).unlink(missing_ok=True)
        record.write_text(json.dumps({"run_id": run.id}), "utf-8")
    return run


def make_card(config: TrainConfig, material: Material, method: Method, output: Path, model: PreTrainedModel) -> Card:
    """What is saved beside the weights. An adapter needs its base: one built in memory is saved beside it."""
    base = config.model
    if base.config is not None and method.name != "full":
        if ranks.first():
            model.save_pretrained(output / "base")
        base = msgspec.structs.replace(base, config=None, path=str((output / "base").absolute()))
    elif base.path is not None and Path(base.path).expanduser().is_dir():
        base = msgspec.structs.replace(base, path=str(Path(base.path).expanduser().absolute()))
    return Card(
        task=config.task,
        method=method.settings(),
        base=base,
        labels=material.labels,
        prompt_template=config.data.template if config.task == "causal_lm" else None,
        max_length=config.data.max_length,
    )


def make_probe(
    config: TrainConfig, material: Material, tokenizer: Tokenizer, run: tunescope.Run
) -> ForgettingProbe | None:
    if config.probe is None:
        return None
    return ForgettingProbe(
        config.probe,
        material.probe,
        config.data.template,
        tokenizer,
        run.log,
        domain_answers(material, config),
    )


def measure_drift(config: TrainConfig, material: Material, model: PreTrainedModel, tokenizer: Tokenizer) -> Drift:
    """Against the model without its adapter, or against the base, loaded once more beside it."""
    assert config.drift is not None
    base = without_adapter(model)
    if base is None:
        loaded, _ = load_base(config.model, config.task, material.labels, config.train.seed)
        base = Reader(loaded.to(model.device))
    return measure(
        base,
        Reader(model),
        tokenizer,
        material.drift,
        max_length=config.drift.max_length,
        seed=config.train.seed,
    )


def register(client: tunescope.Client, config: TrainConfig, method: Method, run_id: str, folder: Path) -> Json:
    name = config.service.model_name or config.project
    return client.register_model(
        name,
        run_id=run_id,
        base_version_id=config.service.base_version_id,
        source=str(folder.absolute()),
        method=method.name,
    )
