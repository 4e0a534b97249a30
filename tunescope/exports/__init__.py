"""Everything of runs in files, unsampled: `tunescope export`."""

from __future__ import annotations

from tunescope.exports._export import LAYOUT, MANIFEST, Exported, NothingToExport, export
from tunescope.exports._tables import (
    ARTIFACTS,
    CONSOLE,
    EVALUATIONS,
    MEDIA,
    METRICS,
    PREDICTIONS,
    RUNS,
    SUFFIX,
    SUITE_ITEMS,
    SUITES,
    Columns,
    Format,
)

__all__ = [
    "ARTIFACTS",
    "CONSOLE",
    "EVALUATIONS",
    "LAYOUT",
    "MANIFEST",
    "MEDIA",
    "METRICS",
    "PREDICTIONS",
    "RUNS",
    "SUFFIX",
    "SUITES",
    "SUITE_ITEMS",
    "Columns",
    "Exported",
    "Format",
    "NothingToExport",
    "export",
]
