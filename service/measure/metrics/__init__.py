"""The metrics by name. Each module here holds one family in a list named `FAMILY`; adding a metric is adding a file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from service.measure.metric import Metric

__all__ = ["METRICS", "Metric"]


def _discover() -> Mapping[str, Metric]:
    found: dict[str, Metric] = {}
    for module in pkgutil.iter_modules(__path__):
        for metric in importlib.import_module(f"{__name__}.{module.name}").FAMILY:
            if metric.name in found:
                raise RuntimeError(f"two metrics are named {metric.name!r}; the second is in {module.name}.py")
            found[metric.name] = metric
    return MappingProxyType(found)


METRICS: Mapping[str, Metric] = _discover()
