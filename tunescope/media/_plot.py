"""Figures of Plotly, kept as data, and of Matplotlib, kept as pictures."""

from __future__ import annotations

import io
from typing import Any, Literal

from tunescope.media._media import JSON, Frozen, Media, MediaProblem, made_by, ready

__all__ = ["Plot", "is_figure"]

CONTENT_TYPES = {"png": "image/png", "svg": "image/svg+xml"}


class Plot(Media):
    """A figure. Plotly's stays interactive; Matplotlib's (or the axes of one, as seaborn gives) is drawn when it is
    logged, as PNG or, with `format="svg"`, as SVG."""

    kind = "plot"

    def __init__(self, figure: Any, caption: str | None = None, format: Literal["png", "svg"] = "png") -> None:
        super().__init__(caption)
        self.figure = figure
        self.format = format

    def freeze(self) -> Frozen:
        if made_by(self.figure, "plotly") and hasattr(self.figure, "to_json"):
            return ready(self, self.figure.to_json().encode(), JSON, {})
        if self.format not in CONTENT_TYPES:
            raise MediaProblem(f"a plot is kept as png or svg, not {self.format!r}")
        if not is_figure(self.figure):
            raise MediaProblem(f"a plot is a figure of Plotly or Matplotlib, not {type(self.figure).__name__}")
        figure = self.figure if hasattr(self.figure, "savefig") else self.figure.get_figure()
        buffer = io.BytesIO()
        figure.savefig(buffer, format=self.format, bbox_inches="tight")
        return ready(self, buffer.getvalue(), CONTENT_TYPES[self.format], {})


def is_figure(value: object) -> bool:
    """Whether `value` is a figure that `Plot` can keep."""
    return (made_by(value, "plotly") and hasattr(value, "to_json")) or (
        made_by(value, "matplotlib") and (hasattr(value, "savefig") or hasattr(value, "get_figure"))
    )
