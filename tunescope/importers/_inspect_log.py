"""Logs of Inspect, version 2, as JSON or as `.eval` archives.

An archive is a ZIP file with `header.json` and a file for each sample; since Inspect 0.3.1xx its members are
Zstandard-compressed, which Python's zipfile reads from 3.14 on only. A sample is one JSON file, or (chunked) a folder
whose texts lie in `attachments/`.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tunescope.importers._record import ImportProblem, need
from tunescope.importers._results import json_object

__all__ = ["NoLog", "log_of"]

Json = dict[str, Any]
VERSION = 2
ZSTANDARD = 93
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
ATTACHMENT = "attachment://"
DEEPEST = 32


class NoLog(ImportProblem):
    """A file that holds JSON, but no log."""


def log_of(file: Path) -> Json:
    """The log with its samples, their attached texts put in place."""
    log = _archive(file) if file.suffix == ".eval" else json_object(file)
    if "eval" not in log or "version" not in log:
        raise NoLog(f"{file}: this is no log of Inspect: there is no `{'version' if 'eval' in log else 'eval'}`.")
    if log["version"] != VERSION:
        raise ImportProblem(
            f"{file}: the log is of version {log['version']!r}, and {VERSION} is read. Have a current Inspect write it "
            "anew: inspect log convert --to json"
        )
    samples = log.get("samples")
    if not isinstance(samples, list) or not samples:
        raise ImportProblem(f"{file}: there are no samples in it: it was run with --no-log-samples, or cut off.")
    log["samples"] = [_resolved(sample, sample.get("attachments") or {}) for sample in samples]
    return log


def _archive(file: Path) -> Json:
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
            members = {info.filename: info for info in archive.infolist()}
            if "header.json" not in members:
                raise ImportProblem(f"{file}: there is no header.json in it: the evaluation did not finish.")

            def member(name: str) -> Any:
                info = members[name]
                packed = info.compress_type == ZSTANDARD
                content = _zstandard(raw, info, file) if packed else archive.read(info)
                try:
                    return msgspec.json.decode(content)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise ImportProblem(f"{file}, {name}: not JSON ({error}).") from None

            header: Json = member("header.json")
            header["samples"] = [_sample(name, members, member) for name in _sample_names(members)]
    except FileNotFoundError:
        raise ImportProblem(f"{file}: there is no such file.") from None
    except (zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise ImportProblem(f"{file}: no .eval archive that can be read ({error}). Was it cut off?") from None
    return header


def _sample_names(members: Mapping[str, Any]) -> Iterator[str]:
    for name in members:
        folder, _, rest = name.partition("/")
        if folder == "samples" and (("/" not in rest and rest.endswith(".json")) or rest.endswith("/sample.json")):
            yield name


def _sample(name: str, members: Mapping[str, Any], member: Any) -> Json:
    sample: Json = member(name)
    if name.endswith("/sample.json"):
        start = name.removesuffix("sample.json") + "attachments/"
        parts = sorted((one for one in members if one.startswith(start)), key=lambda one: int(Path(one).stem))
        texts = [text for part in parts for text in member(part)]
        sample["attachments"] = {str(index): text for index, text in enumerate(texts)}
    return sample


def _zstandard(raw: Any, info: zipfile.ZipInfo, file: Path) -> bytes:
    """A member that zipfile cannot unpack."""
    raw.seek(info.header_offset)
    *_, name_length, extra_length = LOCAL_HEADER.unpack(raw.read(LOCAL_HEADER.size))
    raw.seek(name_length + extra_length, 1)
    zstandard = need("zstandard")
    try:
        with zstandard.ZstdDecompressor().stream_reader(
            raw.read(info.compress_size), read_across_frames=True
        ) as reader:
            content: bytes = reader.read()
    except zstandard.ZstdError as error:
        raise ImportProblem(f"{file}, {info.filename}: damaged ({error}).") from None
    if zlib.crc32(content) != info.CRC:
        raise ImportProblem(f"{file}, {info.filename}: damaged (its checksum is another).")
    return content


def _resolved(value: Any, attachments: Mapping[str, str], depth: int = 0) -> Any:
    if isinstance(value, str):
        return attachments.get(value.removeprefix(ATTACHMENT), value) if value.startswith(ATTACHMENT) else value
    if depth == DEEPEST:
        return value
    if isinstance(value, list):
        return [_resolved(one, attachments, depth + 1) for one in value]
    if isinstance(value, dict):
        # What happened on the way is most of a log, and not brought over.
        kept = ((name, one) for name, one in value.items() if depth or name not in ("events", "attachments", "store"))
        return {name: _resolved(one, attachments, depth + 1) for name, one in kept}
    return value
