"""The metrics by name. Each module here holds one family in a list named `FAMILY`; adding a metric is adding a file.

A name may set options: "rouge1:stemmer=yes", "top_k_accuracy:k=5", "f1_macro:zero_division=1,…".
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, cast

from service.measure.metric import Metric

__all__ = ["METRICS", "Metric", "options"]


class Registry(Mapping[str, Metric]):
    """Every metric by its name. Iteration gives the names without options; a lookup takes them."""

    def __init__(self, found: Mapping[str, Metric]) -> None:
        self._found = dict(found)
        self._variant = lru_cache(maxsize=1024)(self._make)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, name: str) -> Metric:
        """Raises KeyError, with what is wrong where an option is."""
        return self._found[name] if name in self._found else self._variant(name)

    def _make(self, name: str) -> Metric:
        base, separator, settings = name.partition(":")
        if not separator or base not in self._found:
            raise KeyError(name)
        metric, known, values = self._found[base], options(self._found[base]), {}
        for setting in settings.split(","):
            key, _, text = setting.partition("=")
            if key not in known or key in values:
                raise KeyError(
                    f"{name}: {base} has the options {', '.join(known) or '(none)'}, each once, as key=value"
                )
            try:
                values[key] = known[key](text)
            except ValueError as error:
                raise KeyError(f"{name}: {key}={text}: {error}") from error
        return cast(Metric, replace(cast(Any, metric), name=name, **values))


def options(metric: Metric) -> Mapping[str, Any]:
    """The options a metric's name may set: their parsers by name."""
    declared = fields(cast(Any, metric))
    return {one.name: one.metadata["parse"] for one in declared if "parse" in one.metadata}


def _discover() -> Registry:
    found: dict[str, Metric] = {}
    for module in pkgutil.iter_modules(__path__):
        for metric in importlib.import_module(f"{__name__}.{module.name}").FAMILY:
            if metric.name in found:
                raise RuntimeError(f"two metrics are named {metric.name!r}; the second is in {module.name}.py")
            found[metric.name] = metric
    return Registry(found)


METRICS: Mapping[str, Metric] = _discover()
