"""Everything of runs in files, unsampled: `tunescope export`."""

from __future__ import annotations

from tunescope.exports._export import LAYOUT, MANIFEST, Exported, NothingToExport, export
from tunescope.exports._tables import ARTIFACTS, MEDIA, METRICS, RUNS, SUFFIX, Columns, Format

__all__ = [
    "ARTIFACTS",
    "LAYOUT",
    "MANIFEST",
    "MEDIA",
    "METRICS",
    "RUNS",
    "SUFFIX",
    "Columns",
    "Exported",
    "Format",
    "NothingToExport",
    "export",
]
