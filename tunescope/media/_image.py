"""Images: encoded ones as they are, pixels as PNG."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from typing import Any

from tunescope.media._media import Encoded, Frozen, Media, MediaProblem, made_by, read_file, ready

__all__ = ["Image"]

SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
# Color type of a PNG by the number of channels.
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
# Higher levels cost several times as much and save a tenth.
COMPRESSION = 4
# What a little overshoot of a model's output may be; more is another scale.
MARGIN = 0.1
PIL_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})


class Image(Media):
    """A picture: a path, the bytes of a file (PNG, JPEG, GIF, WebP, SVG), a PIL image, an array, or a tensor.

    Arrays are H×W or H×W×C with 1 to 4 channels (grey, grey and alpha, RGB, RGBA); tensors are H×W or, as
    everywhere in PyTorch, C×H×W. Whole numbers are 0 to 255; fractions are 0 to 1, and what exceeds that by less than
    a tenth is clipped. Pixels become PNG, without loss.
    """

    kind = "image"

    def __init__(self, source: Any, caption: str | None = None) -> None:
        super().__init__(caption)
        self.source = source

    def freeze(self) -> Frozen:
        source = self.source
        if isinstance(source, str | os.PathLike):
            source = read_file(source)
        if isinstance(source, bytes | bytearray | memoryview):
            content = bytes(source)
            return ready(self, content, _content_type(content), {})
        if made_by(source, "PIL"):
            picture = source.copy()
            width, height = picture.size
            size = width * height * len(picture.getbands())
            return Frozen(self.kind, self.caption, size, lambda: _encode_picture(picture))
        if hasattr(source, "detach"):
            return self._freeze_tensor(source.detach())
        if hasattr(source, "dtype") and hasattr(source, "shape"):
            pixels = _as_bytes(sys.modules["numpy"].asarray(source))
            return Frozen(self.kind, self.caption, pixels.nbytes, lambda: _encode_pixels(pixels))
        raise MediaProblem(f"an image is a path, bytes, a PIL image, an array or a tensor, not {type(source).__name__}")

    def _freeze_tensor(self, tensor: Any) -> Frozen:
        """Scaled on the tensor's own device, so that logging does not wait for a GPU; looked at in the background."""
        if tensor.numel() == 0:
            raise MediaProblem(f"shape {tuple(tensor.shape)} is no image")
        fractions = tensor.is_floating_point()
        if fractions:
            tensor = tensor.float().nan_to_num(0.0)
        elif tensor.dtype is sys.modules["torch"].bool:
            tensor = tensor.byte() * 255
        low, high = tensor.aminmax()
        pixels = (
            (tensor.clamp(0, 1) * 255).round().byte() if fractions else tensor.to(sys.modules["torch"].uint8, copy=True)
        )

        def encode() -> Encoded:
            _check_range(float(low), float(high), 1 if fractions else 255)
            last = pixels.permute(1, 2, 0) if pixels.ndim == 3 else pixels
            return _encode_pixels(last.cpu().numpy())

        return Frozen(self.kind, self.caption, pixels.numel(), encode)


def _content_type(content: bytes) -> str:
    for signature, name in SIGNATURES:
        if content.startswith(signature):
            return name
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"<") and b"<svg" in head:
        return "image/svg+xml"
    raise MediaProblem("these bytes are no PNG, JPEG, GIF, WebP or SVG")


def _encode_picture(picture: Any) -> Encoded:
    if picture.mode not in PIL_MODES:
        picture = picture.convert("RGBA" if "a" in picture.mode.lower() else "RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=COMPRESSION)
    width, height = picture.size
    return Encoded(buffer.getvalue(), "image/png", {"width": width, "height": height})


def _encode_pixels(pixels: Any) -> Encoded:
    """An array of unsigned bytes as PNG."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in COLOR_TYPES or 0 in pixels.shape:
        raise MediaProblem(
            f"shape {tuple(pixels.shape)} is no image: arrays are H×W or H×W×C, tensors H×W or C×H×W, "
            "with 1 to 4 channels"
        )
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels)
    numpy = sys.modules["numpy"]
    # Each row says how it differs from the one above ("up"), which compresses far better than the pixels do.
    filtered = numpy.empty((height, 1 + rows.shape[1]), numpy.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 8, COLOR_TYPES[channels], 0, 0, 0)
    data = zlib.compress(filtered.tobytes(), COMPRESSION)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return Encoded(SIGNATURES[0][0] + chunks, "image/png", {"width": width, "height": height})


def _as_bytes(pixels: Any) -> Any:
    """A copy of an array of pixels, as unsigned bytes."""
    numpy = sys.modules["numpy"]
    kind = pixels.dtype.kind
    if kind not in "biuf" or not pixels.size:
        raise MediaProblem(f"an array of {pixels.dtype} of shape {tuple(pixels.shape)} is no image")
    if kind == "b":
        return pixels.astype(numpy.uint8) * 255
    if kind == "f":
        pixels = pixels.astype(numpy.float32)
        if numpy.isnan(pixels.min()):
            numpy.nan_to_num(pixels, copy=False)
    _check_range(float(pixels.min()), float(pixels.max()), 1 if kind == "f" else 255)
    if kind == "f":
        pixels *= 255
        numpy.rint(pixels.clip(0, 255, out=pixels), out=pixels)
    return pixels.astype(numpy.uint8)


def _check_range(low: float, high: float, white: int) -> None:
    margin = MARGIN if white == 1 else 0
    if not (-margin <= low and high <= white + margin):
        kind = "fractions" if white == 1 else "whole numbers"
        raise MediaProblem(f"pixels in {kind} are 0 to {white}, these are {low:.4g} to {high:.4g}: scale them")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
