"""Audio: encoded files as they are, samples as WAV."""

from __future__ import annotations

import io
import os
import sys
import wave
from array import array
from typing import Any

from tunescope.media._media import Encoded, Frozen, Media, MediaProblem, read_file, ready

__all__ = ["Audio"]

SIGNATURES = (
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
)
LOUDEST = 32767
# Beyond this, floats are not samples that overshoot but samples of another scale.
CLIPPED_UP_TO = 1.5


class Audio(Media):
    """Sound: a path, the bytes of a file (WAV, MP3, Ogg, FLAC), or samples with their `rate` in Hz.

    Samples are a list or an array of n, or of n×channels; tensors are n or, as in torchaudio, channels×n. Floats are
    −1 to 1 (what is a little louder is clipped), whole numbers 16 bits. Samples become 16-bit WAV.
    """

    kind = "audio"

    def __init__(self, source: Any, rate: int | None = None, caption: str | None = None) -> None:
        super().__init__(caption)
        self.source = source
        self.rate = rate

    def freeze(self) -> Frozen:
        source, rate = self.source, self.rate
        if isinstance(source, str | os.PathLike):
            source = read_file(source)
        if isinstance(source, bytes | bytearray | memoryview):
            content = bytes(source)
            return ready(self, content, _content_type(content), {})
        if not isinstance(rate, int) or not 1 <= rate <= 1_000_000:
            raise MediaProblem(f"samples need their rate in Hz, a whole number, not {rate!r}")
        if hasattr(source, "detach"):
            tensor = source.detach().clone()
            size = tensor.numel() * tensor.element_size()
            return Frozen(self.kind, self.caption, size, lambda: _encode_array(_channels_last(tensor), rate))
        if hasattr(source, "dtype") and hasattr(source, "shape"):
            samples = sys.modules["numpy"].array(source)
            return Frozen(self.kind, self.caption, samples.nbytes, lambda: _encode_array(samples, rate))
        numbers = array("d", source)
        return Frozen(self.kind, self.caption, 8 * len(numbers), lambda: _encode_list(numbers, rate))


def _content_type(content: bytes) -> str:
    if content.startswith(b"RIFF") and content[8:12] == b"WAVE":
        return "audio/wav"
    for signature, name in SIGNATURES:
        if content.startswith(signature):
            return name
    raise MediaProblem("these bytes are no WAV, MP3, Ogg or FLAC")


def _channels_last(tensor: Any) -> Any:
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return (tensor.T if tensor.ndim == 2 else tensor).contiguous().cpu().numpy()


def _encode_array(samples: Any, rate: int) -> Encoded:
    numpy = sys.modules["numpy"]
    if samples.ndim not in (1, 2) or 0 in samples.shape or samples.reshape(len(samples), -1).shape[1] > 64:
        raise MediaProblem(f"shape {tuple(samples.shape)} is no sound: arrays are n or n×channels, tensors channels×n")
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if samples.dtype.kind == "f":
        samples = numpy.nan_to_num(samples.astype(numpy.float64))
        _check_loudness(float(abs(samples).max()))
        samples = (samples.clip(-1, 1) * LOUDEST).round().astype("<i2")
    elif samples.dtype != numpy.int16:
        raise MediaProblem(f"samples are floats or 16-bit integers, not {samples.dtype}")
    return _wav(samples.astype("<i2").tobytes(), channels, rate)


def _encode_list(samples: array[float], rate: int) -> Encoded:
    if not samples:
        raise MediaProblem("there are no samples")
    plain = [sample if sample == sample else 0.0 for sample in samples]
    _check_loudness(max(abs(sample) for sample in plain))
    whole = array("h", (round(max(-1.0, min(1.0, sample)) * LOUDEST) for sample in plain))
    if sys.byteorder == "big":
        whole.byteswap()
    return _wav(whole.tobytes(), 1, rate)


def _check_loudness(most: float) -> None:
    if most > CLIPPED_UP_TO:
        raise MediaProblem(f"samples in floats are -1 to 1, these reach {most:.3g}: scale them")


def _wav(samples: bytes, channels: int, rate: int) -> Encoded:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples)
    seconds = len(samples) / (2 * channels * rate)
    return Encoded(buffer.getvalue(), "audio/wav", {"seconds": seconds, "rate": rate, "channels": channels})
