"""Transformers' Trainer, with the order of the rows, the head's learning rate and the checkpoints made ours."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from trainer import ranks
from trainer.batches import BatchOrder, Collator
from trainer.config import TrainingConfig
from trainer.heads import in_head
from trainer.material import Examples
from trainer.models import device_for

SCHEDULES = {"constant": "constant_with_warmup"}
OPTIMIZERS = {"adamw": "adamw_torch_fused", "paged_adamw": "paged_adamw_32bit"}
STAGING = ".partial"


@dataclass(frozen=True)
class Fit:
    """How a fit went: its last step, and the mean loss of the steps it made."""

    steps: int
    loss: float
    seconds: float


class Fitter(Trainer):  # type: ignore[misc]
    """`Trainer`, with three changes: rows in `BatchOrder`, a learning rate for the head, atomic checkpoints."""

    def __init__(self, *, settings: TrainingConfig, examples: Examples, **options: Any) -> None:
        self.settings = settings
        self.examples = examples
        self.optimizer: Any
        self.staging = False
        super().__init__(train_dataset=[*examples.train, *examples.replay], **options)

    def _get_train_sampler(self, train_dataset: Any = None) -> BatchOrder:
        return BatchOrder(
            [len(example["input_ids"]) for example in self.examples.train],
            self.args.train_batch_size,
            group_by_length=self.settings.group_by_length,
            seed=self.settings.seed,
            replay=len(self.examples.replay),
            share=self.examples.share,
        )

    def create_optimizer(self, model: PreTrainedModel | None = None) -> Any:
        if self.optimizer is None:
            chosen = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(chosen))
            groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
            for name, parameter in chosen.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault((in_head(name), name in decayed), []).append(parameter)
            body = self.settings.learning_rate
            head = self.settings.head_learning_rate or body
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args, chosen)
            options.pop("lr")
            if options.get("optim_bits") == 8:
                keep_embeddings_whole(chosen)
            self.optimizer = optimizer(
                [
                    {
                        "params": parameters,
                        "lr": head if is_head else body,
                        "weight_decay": self.args.weight_decay if is_decayed else 0.0,
                    }
                    # The body first: its rate is the one that is reported.
                    for (is_head, is_decayed), parameters in sorted(groups.items(), key=lambda group: group[0])
                ],
                lr=body,
                **options,
            )
        return self.optimizer

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(self.args.output_dir)
        return str(folder / STAGING if self.staging else folder)

    def _save_checkpoint(self, model: PreTrainedModel, trial: Any) -> None:
        """A checkpoint is there whole or not at all: it is written aside, then renamed; the newest two are kept.

        Several processes write their parts of it."""
        folder = Path(self.args.output_dir)
        if ranks.first():
            shutil.rmtree(folder / STAGING, ignore_errors=True)
        ranks.meet()
        self.staging = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.staging = False
        ranks.meet()
        if ranks.first():
            self._rename_checkpoint(folder)
        ranks.meet()

    def _rename_checkpoint(self, folder: Path) -> None:
        name = f"checkpoint-{self.state.global_step}"
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / STAGING / name).rename(folder / name)
        shutil.rmtree(folder / STAGING)
        for old in sorted(folder.glob("checkpoint-*"), key=lambda one: int(one.name.rpartition("-")[2]))[:-2]:
            shutil.rmtree(old)


def fit(
    model: PreTrainedModel,
    examples: Examples,
    settings: TrainingConfig,
    *,
    folder: Path,
    pad_id: int,
    callbacks: Sequence[TrainerCallback] = (),
    resume: bool = False,
) -> Fit:
    """Trains `model` in place. The same settings, data and seed give the same losses, resumed or not.

    With `resume`, goes on from the newest checkpoint in `folder`, or from the start if there is none; without, removes
    the checkpoints that an earlier run left there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = get_last_checkpoint(str(folder)) if resume else None
    ranks.meet()
    if not resume and ranks.first():
        for stale in folder.glob("checkpoint-*"):
            shutil.rmtree(stale)
    set_seed(settings.seed)
    classification = isinstance(examples.train[0]["labels"], int)
    trainer = Fitter(
        settings=settings,
        examples=examples,
        model=model,
        args=arguments(settings, folder, validate=bool(examples.validation)),
        eval_dataset=list(examples.validation) or None,
        data_collator=Collator(pad_id),
        compute_metrics=accuracy if classification else None,
        preprocess_logits_for_metrics=best_class if classification else None,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    config: Any = model.config
    use_cache, config.use_cache = getattr(config, "use_cache", None), False
    try:
        outcome = trainer.train(resume_from_checkpoint=last)
    finally:
        config.use_cache = use_cache
    # From here on the model answers in its own precision, as it will when it is loaded again, not in mixed.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    # A Trainer that is done holds its optimizer in a cycle: what follows needs the room.
    del trainer
    gc.collect()
    return Fit(outcome.global_step, outcome.training_loss, outcome.metrics["train_runtime"])


def keep_embeddings_whole(model: PreTrainedModel) -> None:
    """Their optimizer states stay in 32 bits, as the authors of 8-bit AdamW advise (arXiv:2110.02861)."""
    import bitsandbytes  # takes a second, and few ask for it

    overrides = bitsandbytes.optim.GlobalOptimManager.get_instance()
    overrides.pid2config.clear()  # by identity: those of an earlier fit must not meet another parameter
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            overrides.override_config(module.weight, "optim_bits", 32)


def arguments(settings: TrainingConfig, folder: Path, *, validate: bool) -> TrainingArguments:
    on_cpu = device_for(settings.device).type == "cpu"
    return TrainingArguments(
        output_dir=str(folder),
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=4 * settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        lr_scheduler_type=SCHEDULES.get(settings.schedule, settings.schedule),
        # Below 1 it is a share of the steps.
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        label_smoothing_factor=settings.label_smoothing,
        max_grad_norm=settings.clip,
        optim=OPTIMIZERS.get(settings.optimizer, settings.optimizer),
        activation_checkpointing=settings.gradient_checkpointing,
        include_num_input_tokens_seen="non_padding",
        bf16=settings.precision == "bf16" or (settings.precision == "auto" and bf16_is_fast(on_cpu)),
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        seed=settings.seed,
        logging_steps=settings.log_every,
        logging_first_step=True,
        # A loss that is not a number is shown as what it is.
        logging_nan_inf_filter=False,
        eval_strategy="epoch" if validate else "no",
        save_strategy="steps" if settings.save_every else "no",
        save_steps=settings.save_every or 500,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )


def bf16_is_fast(on_cpu: bool) -> bool:
    if not on_cpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def best_class(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    first = logits[0] if isinstance(logits, tuple) else logits
    best: torch.Tensor = first.argmax(-1)
    return best


def accuracy(predicted: Any) -> dict[str, float]:
    return {"accuracy": float((predicted.predictions == predicted.label_ids).mean())}
