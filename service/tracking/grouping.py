"""Which runs belong together: by config keys, tags, group, or as seeds of one configuration. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from service.errors import Invalid
from service.tracking.flatten import flatten

Leaf = tuple[str, float | None]
"""A flattened value: its text, and the number it is, if it is one."""

SEED = "seed"
# What a launcher sets anew for every run says where it goes, not what it is.
PLACES = frozenset({"output_dir", "logging_dir", "run_name", "run_id", "hub_model_id", "resume_from_checkpoint"})
MAX_GROUPS = 50
_LABEL_PARTS = 3


class BadGrouping(Invalid):
    code = "bad_grouping"


class TooManyGroups(Invalid):
    code = "too_many_groups"


@dataclass(frozen=True)
class Member:
    """What grouping reads of a run."""

    id: str
    group: str | None
    config: dict[str, Any]
    tags: dict[str, str]


@dataclass(frozen=True)
class Group:
    """`settings`: what its runs have in common and other groups have not, text by field (None: not set)."""

    label: str
    settings: dict[str, str | None]
    run_ids: tuple[str, ...]


def group(members: Sequence[Member], fields: Sequence[str]) -> list[Group]:
    """The runs by the values of `fields`, in the order of their first run.

    Args:
        fields: `params.KEY`, `tags.KEY` or `group`; or `seed` alone: runs whose config is the same but for keys that
            end in `seed` and for places (`output_dir` and its like).

    Raises:
        BadGrouping: for a field that is none of these. TooManyGroups: for more than 50 groups.
    """
    by_seed = list(fields) == [SEED]
    keyed: dict[tuple[Any, ...], list[Member]] = {}
    texts: dict[tuple[Any, ...], dict[str, str | None]] = {}
    for member in members:
        found = _recipe(member) if by_seed else {field: _value(member, field) for field in fields}
        key = tuple(sorted((name, None if leaf is None else identity(leaf)) for name, leaf in found.items()))
        keyed.setdefault(key, []).append(member)
        texts.setdefault(key, {name: None if leaf is None else leaf[0] for name, leaf in found.items()})
    if len(keyed) > MAX_GROUPS:
        raise TooManyGroups(
            f"These runs make {len(keyed):,} groups, at most {MAX_GROUPS} are drawn: "
            "group by fewer fields, or by one with fewer values."
        )
    settings = _telling(list(texts.values())) if by_seed else list(texts.values())
    return [
        Group(_label(told), told, tuple(member.id for member in held))
        for told, held in zip(settings, keyed.values(), strict=True)
    ]


def identity(leaf: Leaf) -> str | Decimal:
    """What two equal values share: 1, 1.0 and the text `1e0` are one number, and no digit of a long one is lost."""
    text, number = leaf
    return text if number is None else Decimal(text)


def _value(member: Member, field: str) -> Leaf | None:
    head, _, rest = field.partition(".")
    if field == "group":
        return None if member.group is None else (member.group, None)
    if head == "tags" and rest:
        return None if rest not in member.tags else (member.tags[rest], None)
    if head == "params" and rest:
        return flatten(member.config).get(rest)
    raise BadGrouping(f"Runs cannot be grouped by '{field}': write params.KEY, tags.KEY, group, or seed by itself.")


def _recipe(member: Member) -> dict[str, Leaf | None]:
    """The config but for seeds and places."""
    return {key: leaf for key, leaf in flatten(member.config).items() if not _varies(key.rpartition(".")[2])}


def _varies(name: str) -> bool:
    """Does a key of this name differ between seeds of one configuration?"""
    return name.endswith(SEED) or name in PLACES


def _telling(recipes: Sequence[dict[str, str | None]]) -> list[dict[str, str | None]]:
    """Of each recipe what is not the same in all."""
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    different = [key for key in keys if len({recipe.get(key) for recipe in recipes}) > 1]
    return [{f"params.{key}": recipe.get(key) for key in different} for recipe in recipes]


def _label(settings: dict[str, str | None]) -> str:
    if not settings:
        return "same configuration"
    parts = [f"{field.rpartition('.')[2]} {'not set' if text is None else text}" for field, text in settings.items()]
    more = f", and {len(parts) - _LABEL_PARTS} more" if len(parts) > _LABEL_PARTS else ""
    return ", ".join(part if len(part) <= 40 else f"{part[:39]}…" for part in parts[:_LABEL_PARTS]) + more
