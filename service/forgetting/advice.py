"""What usually helps when an audit fails, with the run's own numbers beside it.

The order is that of effect: the learning rate is the main lever and replay the best remedy; an adapter by itself does
not protect while it is active.
"""

from __future__ import annotations

from collections.abc import Mapping

from service.forgetting.schemas import Advice, TaskResult

_FULL = {"full", "full_finetune", "full-finetune", "none"}


def advise(params: Mapping[str, str] | None, method: str | None, worst: TaskResult) -> list[Advice]:
    """Advice on the loss of `worst`; `params` is the run's flattened config, None when no run is linked."""
    known = _Config(
        params or {}, "No run is linked to this audit." if params is None else "The run does not record it."
    )
    method = method or known.find("method.name", "method", "peft_method", "peft_type")
    return [
        _learning_rate(known, worst),
        _epochs(known),
        _adapter(known, method),
        _replay(known),
        _freeze(known, method),
    ]


class _Config:
    """A flattened config that is asked by the last part of a key: `lr` finds `optimizer.lr`."""

    def __init__(self, params: Mapping[str, str], absent: str) -> None:
        self.params = params
        self.absent = absent

    def find(self, *names: str) -> str | None:
        for name in names:
            for key, value in self.params.items():
                if key == name or key.endswith(f".{name}"):
                    return value
        return None

    def number(self, *names: str) -> float | None:
        value = self.find(*names)
        try:
            return None if value is None else float(value)
        except ValueError:
            return None


def _learning_rate(config: _Config, worst: TaskResult) -> Advice:
    rate = config.number("learning_rate", "lr")
    fall = f"'{worst.suite}' went from {worst.before:.3f} to {worst.after:.3f}"
    if rate is None:
        evidence = f"{config.absent} {fall}."
    else:
        evidence = f"This run used {rate:g}, and {fall}. Next: {rate / 3:.1g}, then {rate / 10:.1g}."
    return Advice(text="Lower the learning rate: it is the main lever on forgetting.", evidence=evidence)


def _epochs(config: _Config) -> Advice:
    epochs = config.number("num_train_epochs", "num_epochs", "epochs") or 0
    steps = config.number("max_steps", "num_steps", "steps") or 0
    if steps > 0:  # trainers let a number of steps override the epochs
        evidence = f"This run was to make {steps:g} steps."
    elif epochs > 0:
        evidence = f"This run was to make {epochs:g} epochs."
    else:
        evidence = config.absent
    return Advice(text="Train for fewer epochs: stop where the target task stops improving.", evidence=evidence)


def _adapter(config: _Config, method: str | None) -> Advice:
    text = (
        "Train a LoRA adapter instead of all weights. It learns less and forgets less, but it does not protect by "
        "itself while it is active; switched off, it gives the base model back."
    )
    if method is None:
        return Advice(text=text, evidence=config.absent)
    if method.lower() in _FULL:
        return Advice(text=text, evidence=f"This run trained all weights (method '{method}').")
    rank = config.number("r", "rank", "lora_r")
    shown = f"'{method}'" + (f" with rank {rank:g}" if rank is not None else "")
    return Advice(
        text="Keep the adapter apart from the base and switch it off outside the target task: an adapter does not "
        "protect by itself while it is active.",
        evidence=f"This run already used {shown} and forgot with it active.",
    )


def _replay(config: _Config) -> Advice:
    share = config.number("replay_share", "replay.share", "replay_ratio", "replay_fraction", "replay")
    text = "Mix 10–20 % general data into the training data (replay): the best remedy, also for items it never shows."
    if share is None:
        evidence = config.absent if not config.params else "This run records no replay."
    elif share < 0.1:
        evidence = f"This run replayed {share:.0%}."
    else:
        evidence = f"This run already replayed {share:.0%}: replay cannot rescue a learning rate that is far too high."
    return Advice(text=text, evidence=evidence)


def _freeze(config: _Config, method: str | None) -> Advice:
    frozen = config.find("freeze_layers", "frozen_layers", "freeze", "unfreeze_layers", "trainable_layers")
    if frozen is not None:
        evidence = f"This run set {frozen}."
    elif method is not None and method.lower() in _FULL:
        evidence = "This run trained every layer."
    else:
        evidence = config.absent if not config.params else "This run records no frozen layers."
    return Advice(text="Freeze the lower layers, or give them a smaller learning rate.", evidence=evidence)
