"""A data folder on a network file system is told from one on a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import cli
from service.settings import Settings
from service.store.mounts import network_file_system

MOUNTS = """\
overlay / overlay rw 0 0
/dev/sda1 /home ext4 rw 0 0
server:/export /home/shared nfs4 rw 0 0
/dev/sdb1 /home/shared/local\\040disk xfs rw 0 0
//nas/runs /mnt/runs cifs rw 0 0
/dev/sdc1 /mnt/runs ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/tunescope", None),
        ("/home/ada/tunescope-data", None),
        ("/home/shared/tunescope-data", "nfs4"),
        ("/home/sharedness", None),
        ("/home/shared/local disk/data", None),
        ("/mnt/runs/data", None),  # a disk was mounted over it
    ],
)
def test_the_innermost_mount_counts(path: str, kind: str | None) -> None:
    assert network_file_system(Path(path), MOUNTS) == kind


def test_what_cannot_be_told_is_no_network() -> None:
    assert network_file_system(Path("/home"), "") is None
    assert network_file_system(Path("/home"), "odd\n\n") is None


def test_the_service_warns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cli.warn_of_network(Settings(data_dir=Path("/tmp/here")))
    monkeypatch.setattr(cli, "network_file_system", lambda _: "nfs4")
    cli.warn_of_network(Settings(database_url="postgresql+psycopg://db/tunescope"))
    assert capsys.readouterr().out == ""
    cli.warn_of_network(Settings(data_dir=Path("/net/data")))
    assert capsys.readouterr().out.startswith("/net/data/tunescope.db is on a network file system (nfs4), where SQLite")
