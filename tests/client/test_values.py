"""What may be logged, by tables of values."""

from __future__ import annotations

import argparse
import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunescope._values import NotStorable, flatten, freeze, metric_key, to_number, to_plain
from tunescope.media import take


class Explodes:
    """A foreign class that raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return object.__getattribute__(self, name)
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1.5, 1.5),
        (2, 2.0),
        (True, 1.0),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 4), 0.25),
        (np.float16(0.5), 0.5),
        (np.int64(-7), -7.0),
        (np.bool_(True), 1.0),
        (np.array(3.5), 3.5),
        (np.array([[3.5]]), 3.5),
        (torch.tensor(0.5), 0.5),
        (torch.tensor([2], dtype=torch.int8), 2.0),
        (torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True), 0.5),
        (1e308, 1e308),
        (2**63, 2.0**63),
        (math.inf, math.inf),
        ("0.5", None),
        (None, None),
        (b"1", None),
        (1j, None),
        (10**400, None),
        ([1.0], None),
        (np.array([1.0, 2.0]), None),
        (np.array([], dtype=float), None),
        (torch.zeros(2), None),
        (np.complex64(1j), None),
        (object(), None),
        (Explodes, None),
    ],
)
def test_a_metric_is_one_number(value: Any, number: float | None) -> None:
    assert to_number(freeze(value)) == number


def test_nan_is_a_number() -> None:
    assert math.isnan(to_number(np.float32("nan")) or 0.0)


def test_a_frozen_value_does_not_change() -> None:
    tensor, array, nested = torch.tensor(1.0), np.array(1.0), {"a": torch.tensor(1.0)}
    frozen = freeze(tensor), freeze(array), take({"nested": nested})[0]["nested"]
    tensor.add_(1)
    array += 1
    nested["a"].add_(1)
    nested["b"] = torch.tensor(9.0)
    assert [to_number(frozen[0]), to_number(frozen[1])] == [1.0, 1.0]
    assert [(key, to_number(v)) for key, v in flatten(frozen[2])] == [("a", 1.0)]


def test_what_is_too_large_is_not_kept() -> None:
    frozen = freeze(np.zeros((3, 4)))
    assert isinstance(frozen, NotStorable)
    assert frozen.what == "ndarray of shape (3, 4)"


@pytest.mark.parametrize(
    ("values", "leaves"),
    [
        ({"a": 1, "b": {"c": 2, "d": {"e": 3}}}, [("a", 1), ("b/c", 2), ("b/d/e", 3)]),
        ({"": 1}, [("unnamed", 1)]),
        ({3: 1, None: 2, ("x", 1): 3}, [("3", 1), ("None", 2), ("('x', 1)", 3)]),
        ({"größe µ 😀": 1}, [("größe µ 😀", 1)]),
        ({"nul\0": 1, "half \ud800": 2}, [("nul�", 1), ("half ?", 2)]),
        ({"empty": {}}, []),
    ],
)
def test_flatten(values: dict[Any, Any], leaves: list[tuple[str, Any]]) -> None:
    assert list(flatten(values)) == leaves


def test_a_dictionary_that_contains_itself_ends() -> None:
    loop: dict[str, Any] = {"leaf": 1}
    loop["loop"] = loop
    assert next(iter(flatten(loop))) == ("leaf", 1)
    assert len(list(flatten(loop))) < 100
    assert to_plain(loop)["loop"]["loop"]["leaf"] == 1


@given(st.text())
def test_any_key_is_storable(key: str) -> None:
    stored = metric_key(key)
    assert 0 < len(stored) <= 500
    assert "\0" not in stored
    stored.encode()


def test_long_keys_stay_apart() -> None:
    first, second = metric_key("k" * 600 + "a"), metric_key("k" * 600 + "b")
    assert len(first) == len(second) == 500
    assert first != second


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Settings:
    lr: float
    path: Path


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": {"b": [1, (2.5, None)]}}, {"a": {"b": [1, [2.5, None]]}}),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (2**70, str(2**70)),
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        (torch.tensor([1.0]), [1.0]),
        (torch.float16, "torch.float16"),
        ({"b", "a"}, ["a", "b"]),
        (Path("/data/x"), "/data/x"),
        (Colour.RED, "red"),
        (Settings(1e-4, Path("x")), {"lr": 1e-4, "path": "x"}),
        (argparse.Namespace(lr=1), {"lr": 1}),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        ("nul\0 \ud800", "nul� ?"),
        (b"bytes", "b'bytes'"),
    ],
)
def test_config_values(value: Any, plain: Any) -> None:
    assert to_plain(value) == plain


def test_config_takes_anything() -> None:
    assert to_plain({"bad": Explodes()}) == {"bad": "<Explodes>"}


@pytest.mark.parametrize("make", [lambda: torch.nn.Linear(2, 2), lambda: print, lambda: Explodes, lambda: open])
def test_config_never_raises(make: Callable[[], Any]) -> None:
    to_plain({"x": make()})
