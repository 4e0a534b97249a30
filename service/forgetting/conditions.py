"""How the answers were made before and after: the settings of two evaluations, compared aspect by aspect. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from service.forgetting.schemas import Compared

Settings = Mapping[str, Any]

# What an audit always reports, recorded or not, and the settings each aspect goes by (the last part of a key).
ASPECTS: dict[str, frozenset[str]] = {
    "prompt": frozenset(
        {
            "chat_template", "instruction", "parser", "prompt", "prompt_hash", "prompt_template", "system_prompt",
            "template",
        }
    ),
    "generation": frozenset(
        {
            "do_sample", "max_length", "max_new_tokens", "max_tokens", "min_new_tokens", "num_beams",
            "repetition_penalty", "stop", "temperature", "top_k", "top_p",
        }
    ),
    "few-shot": frozenset({"few_shot", "fewshot", "num_fewshot", "shots"}),
    "batch size": frozenset({"batch_size", "eval_batch_size", "per_device_eval_batch_size"}),
    "precision": frozenset({"dtype", "load_in_4bit", "load_in_8bit", "precision", "quantization", "torch_dtype"}),
}  # fmt: skip
# What changes the question or how the answer is read. The rest (precision, batch size, device) may belong to the
# model that would ship: a difference there is told, and does not invalidate.
_MUST_AGREE = ("prompt", "generation", "few-shot")
MUST_AGREE = frozenset[str]().union(*(ASPECTS[aspect] for aspect in _MUST_AGREE))
_OF_AN_ASPECT = frozenset[str]().union(*ASPECTS.values())


def compared(before: Settings, after: Settings) -> list[Compared]:
    """Every aspect, then each other setting that is not the same on both sides."""
    old, new = flat(before), flat(after)
    rows = [_aspect(name, keys, old, new) for name, keys in ASPECTS.items()]
    for key, one, other in differences(before, after):
        if _last(key) not in _OF_AN_ASPECT:
            state = "not recorded" if one is None or other is None else "differs"
            rows.append(_row(key, None if one is None else repr(one), None if other is None else repr(other), state))
    return rows


def contradictions(before: Settings, after: Settings) -> Iterator[tuple[str, Any, Any]]:
    """(setting, before, after) of what both recorded, must agree on and do not."""
    for key, old, new in differences(before, after):
        if must_agree(key) and old is not None and new is not None:
            yield key, old, new


def remarks(before: Settings, after: Settings) -> Iterator[tuple[str, Any, Any]]:
    """(setting, before, after) of the other differences; None: not recorded."""
    for key, old, new in differences(before, after):
        if not must_agree(key) or old is None or new is None:
            yield key, old, new


def differences(before: Settings, after: Settings) -> Iterator[tuple[str, Any, Any]]:
    old, new = flat(before), flat(after)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def must_agree(key: str) -> bool:
    return _last(key) in MUST_AGREE


def flat(settings: Settings) -> dict[str, Any]:
    """Nested settings as `a.b.c` -> value."""
    return dict(_flat(settings))


def _flat(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _aspect(name: str, keys: frozenset[str], old: Settings, new: Settings) -> Compared:
    one, other = ({key: value for key, value in side.items() if _last(key) in keys} for side in (old, new))
    shared = [key for key in one.keys() & other.keys() if one[key] is not None and other[key] is not None]
    if any(one[key] != other[key] for key in shared):
        state = "differs"
    else:
        state = "equal" if shared and len(shared) == len(one.keys() | other.keys()) else "not recorded"
    return _row(name, _told(one), _told(other), state)


def _told(settings: Settings) -> str | None:
    return ", ".join(f"{key} {value!r}" for key, value in sorted(settings.items())) or None


def _row(aspect: str, before: str | None, after: str | None, state: str) -> Compared:
    invalidates = aspect in _MUST_AGREE
    return Compared.model_validate(
        {"aspect": aspect, "before": before, "after": after, "state": state, "invalidates": invalidates}
    )


def _last(key: str) -> str:
    return key.rpartition(".")[2].lower()
