"""Media: what a run may log besides numbers. `run.log({"samples": tunescope.Image(pixels), "loss": 0.3}, step=5)`.

Nothing here imports NumPy, PyTorch, PIL, pandas, Matplotlib or Plotly: a value of theirs brings its own package.
"""

from tunescope.media._audio import Audio
from tunescope.media._image import Image
from tunescope.media._media import LARGEST_GALLERY, LARGEST_ITEM, Frozen, Gallery, Media
from tunescope.media._plot import Plot
from tunescope.media._statistics import ConfusionMatrix, Histogram, PRCurve
from tunescope.media._take import take
from tunescope.media._text import Table, Text

__all__ = [
    "LARGEST_GALLERY",
    "LARGEST_ITEM",
    "Audio",
    "ConfusionMatrix",
    "Frozen",
    "Gallery",
    "Histogram",
    "Image",
    "Media",
    "PRCurve",
    "Plot",
    "Table",
    "Text",
    "take",
]
