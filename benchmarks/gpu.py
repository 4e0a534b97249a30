"""What fine-tuning costs on a GPU: memory and speed of each method, by the trainer itself, on models of real size.

    python benchmarks/gpu.py            # about 5 minutes on an H200
    python benchmarks/gpu.py --quick    # a tiny model; without a GPU on the CPU, to see that everything runs

Models are built from a configuration, with random weights, where they are trained. Each row is a fit of its own: one
batch of fixed length, seen again at every step, so that a method that learns brings its loss down.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import bitsandbytes
import numpy as np
import torch
import typer
from fits import PLAIN_QLORA, QLORA, SHAPES, Setup, setups
from report import heading, machine_facts
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback

from trainer.config import ModelConfig, TrainingConfig, config_from
from trainer.data import Example
from trainer.estimate import estimate
from trainer.fitting import fit
from trainer.generate import generate
from trainer.loop import train
from trainer.material import Examples
from trainer.memory import MemoryPeak
from trainer.methods import choose
from trainer.models import count_parameters, device_for, load, load_base
from tunescope._journal import Create, JournalReader, Points, journals

DEVICE = device_for("auto")
ON_GPU = DEVICE.type == "cuda"
WARM_UP = 3
GIB = 2**30


@dataclass(frozen=True)
class Outcome:
    """What a fit took and came to. Bytes are PyTorch's, those of `card` the driver's (paged states are seen there
    only); None where there is no GPU."""

    setup: Setup
    parameters: int
    trainable: int
    weights_bytes: int | None
    estimated_bytes: int
    """What `trainer.estimate` says of the peak."""
    peak_bytes: int
    reserved_bytes: int | None
    card_bytes: int | None
    seconds: list[float]
    """Of each step but the first few, waited for."""
    first_loss: float
    last_loss: float

    @property
    def tokens_per_second(self) -> float:
        return self.setup.accumulation * sum(self.setup.lengths) / statistics.median(self.seconds)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds of each step, the GPU waited for, and the losses."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._begun = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wait()
        self.seconds.append(time.perf_counter() - self._begun)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


def wait() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def tidy() -> None:
    gc.collect()
    if ON_GPU:
        torch.cuda.empty_cache()


def build(shape: str, dtype: str, tokenizer: Path) -> PreTrainedModel:
    with DEVICE:
        source = ModelConfig(config=SHAPES[shape], tokenizer=str(tokenizer), dtype=dtype)  # type: ignore[arg-type]
        return load_base(source, "causal_lm", None, seed=0)[0]


def batch_of(setup: Setup) -> list[Example]:
    """Tokens as skewed as a language's: there is something to learn at once, and more to learn by heart."""
    ranks = np.arange(1, SHAPES[setup.shape]["vocab_size"])
    random, share = np.random.default_rng(0), 1 / ranks / (1 / ranks).sum()
    rows = [random.choice(ranks, length, p=share).tolist() for length in setup.lengths * setup.accumulation]
    return [Example(input_ids=row, labels=row) for row in rows]


def measure(setup: Setup, steps: int, tokenizer: Path, folder: Path) -> Outcome:
    tidy()
    before = torch.cuda.memory_allocated() if ON_GPU else 0
    base = build(setup.shape, setup.dtype, tokenizer)
    model = choose(setup.method).prepare(base, task="causal_lm", seed=0, device=DEVICE)
    del base
    tidy()
    weights = torch.cuda.memory_allocated() - before if ON_GPU else None
    settings = TrainingConfig(
        learning_rate=setup.rate,
        max_steps=WARM_UP + steps,
        batch_size=setup.batch,
        accumulation=setup.accumulation,
        schedule="constant",
        optimizer=setup.optimizer,  # type: ignore[arg-type]
        gradient_checkpointing=setup.gradient_checkpointing,
        precision=setup.precision,  # type: ignore[arg-type]
        log_every=1,
    )
    told = estimate(model, settings, setup.lengths)
    assert told is not None
    clock = Clock()
    with MemoryPeak() as peak:
        fit(model, Examples(batch_of(setup)), settings, folder=folder, pad_id=0, callbacks=[clock])
    trainable, total = count_parameters(model)
    free, capacity = torch.cuda.mem_get_info() if ON_GPU else (0, 0)
    return Outcome(
        setup=setup,
        parameters=total,
        trainable=trainable,
        weights_bytes=weights,
        estimated_bytes=told.peak,
        peak_bytes=peak.bytes - before,
        reserved_bytes=torch.cuda.max_memory_reserved() if ON_GPU else None,
        card_bytes=capacity - free if ON_GPU else None,
        seconds=clock.seconds[WARM_UP:],
        first_loss=clock.losses[0],
        last_loss=clock.losses[-1],
    )


@torch.inference_mode()
def logit_errors(shape: str, tokenizer: Path) -> dict[str, dict[str, float]]:
    """How far logits are from those of the same weights in fp32: max |difference| and ‖difference‖ / ‖logits‖."""
    ids_BT = torch.tensor([batch_of(Setup("", shape, {}, batch=1, length=256))[0]["input_ids"]], device=DEVICE)
    exact_BTV = build(shape, "float32", tokenizer).eval()(ids_BT).logits.float()
    errors = {}
    for name, method in [("bf16", None), ("NF4", PLAIN_QLORA), ("NF4 + double quantisation", QLORA)]:
        tidy()
        # The same numbers rounded: bf16 weights drawn at random would be others.
        model = build(shape, "float32", tokenizer).to(torch.bfloat16)
        if method is not None:
            model = choose(method).prepare(model, task="causal_lm", seed=0, device=DEVICE)
        difference_BTV = model.eval()(ids_BT).logits.float() - exact_BTV
        errors[name] = {
            "max": difference_BTV.abs().max().item(),
            "relative": (difference_BTV.norm() / exact_BTV.norm()).item(),
        }
        if method is QLORA:
            four_bit_BTV = model(ids_BT).logits.float()
            written_BTV = written_out(model)(ids_BT).logits.float()
            errors["NF4 kernels, beside the same weights written out in bf16"] = {
                "max": (four_bit_BTV - written_BTV).abs().max().item(),
                "relative": ((four_bit_BTV - written_BTV).norm() / written_BTV.norm()).item(),
            }
        del model
    errors["logits"] = {"max": exact_BTV.abs().max().item(), "relative": 1.0}
    return errors


def written_out(model: PreTrainedModel) -> PreTrainedModel:
    """`model`, its 4-bit layers made plain ones of the same weights."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            plain = torch.nn.Linear(1, 1, bias=False)
            plain.weight = torch.nn.Parameter(weight.to(torch.bfloat16))
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, plain)
    return model


def whole_run(shape: str, tokenizer: Path, folder: Path, steps: int) -> dict[str, Any]:
    """`tunescope train` from a saved base to a saved adapter, which is loaded again and asked the same."""
    tidy()
    base = folder / "base"
    build(shape, "bfloat16", tokenizer).save_pretrained(base)
    PreTrainedTokenizerFast.from_pretrained(tokenizer).save_pretrained(base)
    rows = [{"prompt": f"{a} + {b} =", "answer": str(a + b)} for a in range(12) for b in range(12)]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    config = config_from(
        {
            "project": "gpu",
            "task": "causal_lm",
            "model": {"path": str(base), "dtype": "bfloat16"},
            "data": {"train": str(folder / "sums.jsonl"), "max_length": 64},
            "method": QLORA,
            "train": {
                "learning_rate": 1e-3,
                "max_steps": steps,
                "batch_size": 16,
                "precision": "auto",
                "save_every": 50,
            },
            "evaluate": [{"suite": "sums", "path": str(folder / "sums.jsonl"), "max_new_tokens": 4, "before": True}],
            "output": str(folder / "out"),
        }
    )
    os.environ["TUNESCOPE_DIR"] = str(folder / "journal")
    tidy()
    begun = time.perf_counter()
    trained = train(config, mode="offline")
    seconds = time.perf_counter() - begun
    prompts = [f"{a} + 3 =\n" for a in range(8)]
    said = generate(trained.model, trained.tokenizer, prompts, max_new_tokens=4)
    begun = time.perf_counter()
    loaded = load(Path(trained.result.model_folder), DEVICE)
    reload_seconds = time.perf_counter() - begun
    ids_BT = torch.tensor([list(range(2, 66))], device=DEVICE)
    with torch.inference_mode():
        difference = (loaded.model(ids_BT).logits - trained.model(ids_BT).logits).abs().max().item()
    [scored] = trained.result.scored
    return {
        "seconds": seconds,
        "fit_seconds": trained.result.seconds,
        "reload_seconds": reload_seconds,
        "adapter_bytes": (folder / "out/model/adapter_model.safetensors").stat().st_size,
        "right_before": scored.share_right_before,
        "right_after": scored.share_right,
        "reloaded_max_logit_difference": difference,
        "reloaded_says_the_same": said == generate(loaded.model, loaded.tokenizer, prompts, max_new_tokens=4),
        **recorded(folder / "journal"),
    }


def recorded(folder: Path) -> dict[str, Any]:
    """What the run's journal holds of the GPU: how many points and the last value of each metric, and its name."""
    [journal] = journals(folder)
    reader = JournalReader(journal)
    records = [record for record, _ in reader.read(JournalReader.start)]
    reader.close()
    metrics: dict[str, list[float]] = {}
    for record in records:
        for column in record.columns if isinstance(record, Points) else ():
            if column.key.startswith("system/gpu") or "per_second" in column.key or "gpu" in column.key:
                metrics.setdefault(column.key, []).extend(np.frombuffer(column.value, "<f8").tolist())
    created = records[0]
    environment = created.body["environment"] if isinstance(created, Create) else {}
    return {"gpus": environment["gpus"], "gpu_driver": environment["gpu_driver"]["version"], "metrics": metrics}


def byte_tokenizer(folder: Path) -> Path:
    """A token for each byte: nothing to download."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(["<pad>", "<eos>", *alphabet])}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    return folder


HEADINGS = (
    "",
    "batch",
    "trained",
    "weights",
    "estimate",
    "peak",
    "reserved",
    "on the card",
    "s a step",
    "tokens/s",
    "loss",
)


def cells(outcome: Outcome) -> list[str]:
    def gib(size: int | None) -> str:
        return "–" if size is None else f"{size / GIB:.2f}"

    setup = outcome.setup
    return [
        f"{setup.shape}: {setup.title}",
        f"{setup.batch} × {setup.length}",
        f"{outcome.trainable / 1e6:,.1f}M",
        gib(outcome.weights_bytes),
        gib(outcome.estimated_bytes),
        gib(outcome.peak_bytes),
        gib(outcome.reserved_bytes),
        gib(outcome.card_bytes),
        f"{statistics.median(outcome.seconds):.3f}",
        f"{outcome.tokens_per_second:,.0f}",
        f"{outcome.first_loss:.2f} → {outcome.last_loss:.2f}",
    ]


def show(outcomes: Sequence[Outcome], title: str, console: Console) -> None:
    table = Table(title=title)
    for name in HEADINGS:
        table.add_column(name, justify="left" if not name else "right")
    for outcome in outcomes:
        table.add_row(*cells(outcome))
    console.print(table)


NOTES = (
    "GiB. Weights: held before the first step. Estimate: what trainer/estimate.py says of the peak. Peak and reserved: "
    "PyTorch's allocator, of the fit. On the card: what the driver counts after the fit, with CUDA's own and paged "
    "states.",
    "Seconds: the median of the steps after the warm-up, each waited for. Tokens: batch × length over that.",
    "One batch is seen again at every step: a loss that falls says that the method learns, nothing about quality.",
    "8-bit AdamW keeps the states of embeddings in 32 bits; bf16 weights have bf16 states with plain AdamW.",
)


def markdown(outcomes: Sequence[Outcome], extra: dict[str, Any], facts: dict[str, Any], sizes: dict[str, Any]) -> str:
    lines = [
        *heading(f"gpu, {facts['gpu'] or facts['cpu']}", facts, sizes),
        "| " + " | ".join(HEADINGS) + " |",
        "|---" + "|---:" * (len(HEADINGS) - 1) + "|",
    ]
    lines += ["| " + " | ".join(cells(outcome)) + " |" for outcome in outcomes]
    lines += ["", *(f"- {note}" for note in NOTES), "", "Logits beside fp32, the same weights:", ""]
    lines += ["| | max difference | relative |", "|---|---:|---:|"]
    lines += [f"| {name} | {one['max']:.4f} | {one['relative']:.4f} |" for name, one in extra["logits"].items()]
    run = {name: value for name, value in extra["run"].items() if name != "metrics"}
    lines += ["", "A whole run (`trainer.loop.train`, QLoRA, from a saved base to an adapter loaded again):", ""]
    lines += [
        f"- {name}: {value:.4g}" if isinstance(value, float) else f"- {name}: {value}" for name, value in run.items()
    ]
    lines += [
        f"- {name}: {len(values)} points, last {values[-1]:.4g}" for name, values in extra["run"]["metrics"].items()
    ]
    return "\n".join([*lines, ""])


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A tiny model.")] = False,
    steps: Annotated[int, typer.Option(help="Timed steps of a fit.")] = 12,
    only: Annotated[str, typer.Option(help="Only rows whose name holds this.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder of the JSON and Markdown files.")] = None,
    commit: Annotated[str | None, typer.Option(help="The commit, where the checkout is without its history.")] = None,
) -> None:
    """Measure memory, speed and precision of each method."""
    console = Console(width=170)
    facts = machine_facts("tunescope", "torch", "transformers", "peft", "bitsandbytes", "accelerate")
    facts |= {"commit": commit or facts["commit"], "gpu": torch.cuda.get_device_name() if ON_GPU else None}
    facts["versions"]["cuda"] = torch.version.cuda or "none"
    begun = time.monotonic()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="tunescope-gpu-") as name:
        folder = Path(name)
        tokenizer = byte_tokenizer(folder / "tokenizer")
        shape = "tiny" if quick else "1B"
        extra = {
            "logits": logit_errors(shape, tokenizer),
            "run": whole_run(shape, tokenizer, folder, 20 if quick else 100),
        }
        console.print_json(data=extra)
        for setup in setups(quick):
            if only in f"{setup.shape}: {setup.title}":
                outcomes.append(measure(setup, steps, tokenizer, folder / "fit"))
                console.print(*cells(outcomes[-1]), sep="  ")
    facts |= {"load_after": round(os.getloadavg()[0], 2), "seconds": time.monotonic() - begun}
    sizes = {"timed steps": steps, "warm-up steps": WARM_UP}
    show(outcomes, f"gpu: {facts['gpu'] or facts['cpu']}", console)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        stem = f"gpu-{(facts['gpu'] or 'none').lower().replace(' ', '-')}-{facts['date'][:10]}"
        rows = [asdict(outcome) | {"tokens_per_second": outcome.tokens_per_second} for outcome in outcomes]
        record = {"theme": "gpu", **facts, "sizes": sizes, "shapes": SHAPES, "notes": NOTES, **extra, "rows": rows}
        (out / f"{stem}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (out / f"{stem}.md").write_text(markdown(outcomes, extra, facts, sizes), "utf-8")


if __name__ == "__main__":
    typer.run(main)
