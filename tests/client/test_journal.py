"""The journal: what was written is read back, up to wherever it was cut."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunescope import JournalError
from tunescope._journal import (
    Column,
    Create,
    File,
    JournalReader,
    JournalWriter,
    Points,
    Record,
    Update,
    created,
    journals,
)

RECORDS: list[Record] = [
    Create({"id": "r1", "config": {"lr": 1e-4}}, "w1", 1.0, "host", 7, 0.5),
    Points(2.0, [Column("loss", b"\1" * 8, b"\2" * 8, struct.pack("<d", math.nan))]),
    Update({"tags": {"a": "b"}}),
    File("model/x.bin", "file", "abc"),
    Points(3.0, []),
]


def written(folder: Path, records: list[Record]) -> list[int]:
    """Write records; the offset after each."""
    journal = JournalWriter(folder)
    ends = []
    for record in records:
        journal.append(record)
        ends.append(journal.end)
    journal.close()
    return ends


def read(folder: Path, offset: int = JournalReader.start) -> list[Record]:
    reader = JournalReader(folder)
    records = [record for record, _ in reader.read(offset)]
    reader.close()
    return records


def test_round_trip(tmp_path: Path) -> None:
    ends = written(tmp_path / "j", RECORDS)
    assert read(tmp_path / "j") == RECORDS
    assert read(tmp_path / "j", ends[1]) == RECORDS[2:]
    assert created(tmp_path / "j") == RECORDS[0]


def test_cut_anywhere_it_is_read_up_to_the_cut(tmp_path: Path) -> None:
    ends = written(tmp_path / "j", RECORDS)
    file = tmp_path / "j" / "journal"
    whole = file.read_bytes()
    for length in range(JournalReader.start, len(whole)):
        file.write_bytes(whole[:length])
        assert len(read(tmp_path / "j")) == sum(end <= length for end in ends)


def test_damage_ends_the_reading(tmp_path: Path) -> None:
    ends = written(tmp_path / "j", RECORDS)
    file = tmp_path / "j" / "journal"
    whole = file.read_bytes()
    for position in range(ends[1], ends[2]):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        assert read(tmp_path / "j") == RECORDS[:2]


@given(st.lists(st.dictionaries(st.text(min_size=1), st.lists(st.floats(), min_size=1), max_size=4), max_size=5))
def test_any_points_round_trip(flushes: list[dict[str, list[float]]]) -> None:
    import tempfile

    records: list[Record] = [
        Points(0.0, [Column(k, b"", b"", struct.pack(f"<{len(v)}d", *v)) for k, v in flush.items()])
        for flush in flushes
    ]
    records = [r for r in records if "\ud800" not in repr(r)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            written(Path(folder) / "j", records)
        except UnicodeEncodeError:
            return  # keys are made storable before they come here
        assert read(Path(folder) / "j") == records


def test_a_growing_journal_is_read_as_it_grows(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "j")
    reader = JournalReader(tmp_path / "j")
    offset = reader.start
    for record in RECORDS:
        assert list(reader.read(offset)) == []
        journal.append(record)
        ((seen, offset),) = reader.read(offset)
        assert seen == record
    journal.close()
    reader.close()


def test_what_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"something else entirely")
    with pytest.raises(JournalError, match="is not a journal"):
        JournalReader(tmp_path)
    with pytest.raises(JournalError, match="Cannot read"):
        JournalReader(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="TUNESCOPE_DIR"):
        JournalWriter(tmp_path / "file" / "run")


def test_journals_are_found_at_every_level(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "writer"
    written(folder, RECORDS)
    assert journals(tmp_path) == journals(tmp_path / "run") == journals(folder) == [folder]
    assert journals(tmp_path / "nowhere") == []


FULL_DISK = """
import json, resource, signal, sys, time
import tunescope
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = tunescope.init(mode="offline", dir=sys.argv[1], system_interval=None, quiet=True)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))     # the disk is full
for step in range(20_000):
    run.log({"loss": step * 0.5}, step=step)
full = run._writer.folder / "journal"
held = 0                                                        # looks in a row that found it waiting for space
deadline = time.monotonic() + 60
while held < 100 and time.monotonic() < deadline:
    time.sleep(0.01)
    held = held + 1 if run._writer.recorder._unwritten else 0
size = full.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))        # space is back
report = run.finish()
print(json.dumps({"size": size, "left": report.left, "journal": str(report.journal)}))
"""


def test_a_full_disk_loses_nothing_when_space_comes_back(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["size"] <= 200_000
    assert said["left"] == 20_000
    assert done.stderr.count("cannot be written (File too large)") == 1
    points = [column for r in read(Path(said["journal"])) if isinstance(r, Points) for column in r.columns]
    steps = [step for column in points for step in struct.unpack(f"<{len(column)}q", column.step)]
    assert steps == list(range(20_000))
