"""What a metric's name says it measures, whatever its writer's habits: `train/loss`, `train_loss`, `loss` are one.

Names are compared in lower case with every separator (`/ . - :` and space) turned into `_`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Role = Literal[
    "train_loss",
    "eval_loss",
    "grad_norm",
    "learning_rate",
    "throughput",
    "progress",
    "gpu_utilisation",
    "gpu_memory_percent",
    "gpu_memory",
    "memory_percent",
]

_HELD_OUT = r"(?:eval|evaluation|val|valid|validation|dev|test|held_?out)"
_KIND = r"(?:(?:batch|step|lm|nll|ce|cross_entropy|total|mean|avg|average|running)_)?loss"
# The first pattern that fits decides: a held-out loss must not be taken for the training loss.
_PATTERNS: list[tuple[Role, re.Pattern[str]]] = [
    ("eval_loss", re.compile(rf"{_HELD_OUT}_(?:\w+_)?loss|loss_{_HELD_OUT}|{_HELD_OUT}_nll")),
    ("train_loss", re.compile(rf"(?:train(?:ing)?_){{0,2}}{_KIND}(?:_step|_train(?:ing)?)?")),
    ("grad_norm", re.compile(r"(?:train(?:ing)?_)?(?:total_|global_)?grad(?:ient)?s?_?(?:l2_)?norm(?:_step)?")),
    ("learning_rate", re.compile(r"(?:train(?:ing)?_)?(?:learning_rate|lr)(?:_\w*group_?0|_0)?|lr_\w+")),
    ("throughput", re.compile(r"(?:(?:train(?:ing)?|perf|throughput)_)?(?:tokens|samples|steps|examples|it)_"
                              r"(?:per_(?:second|sec)|sec|s)")),
    ("progress", re.compile(r"(?:train(?:ing)?_)?progress")),
    ("gpu_utilisation", re.compile(r"system_gpu_?\d+_(?:percent|gpu|utili[sz]ation(?:_percentage)?)")),
    ("gpu_memory_percent", re.compile(r"system_gpu_?\d+_memory_?(?:percent|allocated|usage_percentage)")),
    ("gpu_memory", re.compile(r"system_gpu_?\d+_memory_(?:mib|bytes|usage_megabytes)|(?:train_)?peak_gpu_memory_\w+")),
    ("memory_percent", re.compile(r"system_(?:system_)?memory_(?:usage_)?percent(?:age)?")),
]  # fmt: skip
_SEPARATORS = re.compile(r"[/.\-: ]+")
# Where reward or an opponent sets the pace, the loss is no measure of progress: it may rise while all is well.
_REWARD = re.compile(
    r"(?:\w*_)?(?:rewards?|ep_rew_mean|episode_(?:return|reward)s?)(?:_(?:mean|std))?|(?:\w*_)?policy_(?:gradient_)?loss"
)
_OPPONENTS = re.compile(r"(?:\w*_)?(?:loss_?[dg]|[dg]_loss|discriminator_loss|generator_loss|disc_loss|gen_loss)")


def normalised(key: str) -> str:
    return _SEPARATORS.sub("_", key.lower()).strip("_")


@lru_cache(maxsize=8192)
def role(key: str) -> Role | None:
    """What `key` measures, or None: nothing that a rule reads."""
    name = normalised(key)
    return next((found for found, pattern in _PATTERNS if pattern.fullmatch(name)), None)


@lru_cache(maxsize=8192)
def loss_is_no_yardstick(key: str) -> bool:
    """Does this metric show reinforcement learning or an adversarial game? (DPO's `rewards/margins` does not.)"""
    name = normalised(key)
    return bool(_REWARD.fullmatch(name) or _OPPONENTS.fullmatch(name))


def preference(key: str) -> tuple[int, str]:
    """Orders keys of one role: the plainest name first, whole-epoch and derived ones later."""
    name = normalised(key)
    order = ("train_loss", "loss", "tokens", "steps", "samples")
    rank = next((place for place, start in enumerate(order) if start in name), len(order))
    return (rank if "epoch" not in name else len(order) + 1, name)
