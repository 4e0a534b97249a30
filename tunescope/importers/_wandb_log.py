"""W&B's run folders on this disk: the log of a run record by record, the media it names, what it says of its machine.

A `.wandb` file is a log in the format of LevelDB's: blocks of 32 KiB holding records, each framed with checksum,
length and whether it is whole or a part. The records are W&B's protocol buffers, which its own package decodes.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunescope.importers._media import Place, gallery, histogram, table, within
from tunescope.importers._record import ImportedMedium, LeftOut, need

__all__ = ["Log", "environment", "find_logs", "media_of", "parsed", "seconds", "table_file"]

IDENT = b":W&B"
BLOCK = 1 << 15
HEADER = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def find_logs(root: Path) -> list[Path]:
    """`.wandb` files at most three folders deep, each once (`latest-run` is a link), oldest first."""
    if root.is_file():
        return [root]
    found = [file for depth in ("", "*/", "*/*/", "*/*/*/") for file in root.glob(f"{depth}run-*.wandb")]
    return sorted({file.resolve() for file in found}, key=lambda file: (file.parent.name, file.name))


@dataclass(slots=True)
class Log:
    """One `.wandb` file."""

    path: Path
    records: Any
    left_out: LeftOut
    head: Any = field(init=False)
    """The record that describes the run, None if there is none that can be read."""

    def __post_init__(self) -> None:
        self.head = next((r.run for r in self.read(quiet=True) if r.WhichOneof("record_type") == "run"), None)

    def read(self, *, quiet: bool = False) -> Iterator[Any]:
        """Records up to the first damage, which is reported unless `quiet`."""
        with self.path.open("rb") as stream:
            if stream.read(7)[:4] != IDENT:
                if not quiet:
                    self.left_out.add(self.path.name, "it is no W&B log")
                return
            while True:
                start = stream.tell()
                payload = _next_record(stream)
                if payload is None:
                    break
                try:
                    record = self.records.Record.FromString(payload)
                except Exception:  # protobuf's errors differ between its implementations
                    break
                yield record
            left = self.path.stat().st_size - start
            if left > 0 and not quiet:
                self.left_out.add(
                    f"the last {left:,} bytes of {self.path.name}", f"cut off or damaged at byte {start:,}"
                )


def _next_record(stream: Any) -> bytes | None:
    """The next record, put together from its parts; None at the end or at a damage."""
    parts: list[bytes] = []
    while True:
        left = BLOCK - stream.tell() % BLOCK
        if left < HEADER.size:  # a header never spans two blocks
            stream.seek(left, 1)
        head = stream.read(HEADER.size)
        if len(head) < HEADER.size:
            return None
        checksum, length, kind = HEADER.unpack(head)
        data = stream.read(length)
        if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return None
        if (kind in (WHOLE, FIRST)) == bool(parts):  # a part that does not fit the one before
            return None
        parts.append(data)
        if kind in (WHOLE, LAST):
            return b"".join(parts)


def media_of(log: Log, value: Any, place: Place) -> list[ImportedMedium]:
    """The media that a logged value stands for; none if it is something else, or its file is gone."""
    if not isinstance(value, dict) or "_type" not in value:
        return []
    folder = log.path.parent / "files"
    match value["_type"]:
        case "histogram":
            return _listed(histogram(value.get("bins"), value.get("values"), place))
        case "table-file":
            file = table_file(log, value)
            held = parsed(file.read_text(encoding="utf-8")) if file is not None else None
            return _listed(table(held["columns"], held["data"], place)) if isinstance(held, dict) else []
        case "image-file" | "audio-file":
            paths, captions = [value.get("path")], [value.get("caption")]
        case "images/separated":
            paths = value.get("filenames") or []
            captions = value.get("captions") or [None] * len(paths)
        case "audio":
            sounds = value.get("audio") or []
            paths, captions = [one.get("path") for one in sounds], [one.get("caption") for one in sounds]
        case _:
            return []
    files = [within(folder, path) for path in paths]
    present = [file for file in files if file is not None]
    return gallery(present, captions, place) if len(present) == len(captions) else []


def _listed(medium: ImportedMedium | None) -> list[ImportedMedium]:
    return [medium] if medium is not None else []


def table_file(log: Log, value: Any) -> Path | None:
    is_table = isinstance(value, dict) and value.get("_type") == "table-file"
    return within(log.path.parent / "files", value.get("path")) if is_table else None


def environment(logs: list[Log]) -> dict[str, Any]:
    """What W&B recorded of machine and code, under the names runs of our own use."""
    file = logs[-1].path.parent / "files" / "wandb-metadata.json"
    head = logs[-1].head
    held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else _recorded_environment(logs[-1])
    git = held.get("git") or {}
    commit, remote = head.git.commit or git.get("commit"), head.git.remote_url or git.get("remote")
    found = {
        "git": {"commit": commit, "remote": remote} if commit or remote else None,
        "command": [held["program"], *held.get("args", [])] if held.get("program") else None,
        "working_directory": held.get("root"),
        "python": held.get("python"),
        "executable": held.get("executable"),
        "platform": held.get("os"),
        "host": held.get("host") or head.host,
        "user": held.get("username") or held.get("email"),
        "cpu_count": held.get("cpu_count_logical") or held.get("cpu_count"),
        "gpus": [gpu.get("name") for gpu in held.get("gpu_nvidia") or []] or None,
    }
    packages = logs[-1].path.parent / "files" / "requirements.txt"
    if packages.is_file():
        pairs = (line.partition("==") for line in packages.read_text(encoding="utf-8").splitlines())
        found["packages"] = {name: version for name, equals, version in pairs if equals}
    return {name: value for name, value in found.items() if value}


def _recorded_environment(log: Log) -> dict[str, Any]:
    """What newer logs hold themselves, before the first step."""
    as_dict = need("google.protobuf.json_format").MessageToDict
    found: dict[str, Any] = {}
    for record in log.read(quiet=True):
        kind = record.WhichOneof("record_type")
        if kind == "environment":
            found |= as_dict(record.environment, preserving_proto_field_name=True)
        elif kind == "history":
            break
    return found


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def seconds(stamp: Any) -> float:
    return float(stamp.seconds) + float(stamp.nanos) / 1e9
