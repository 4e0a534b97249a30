"""Which file systems reach over a network: SQLite's locks and its shared memory do not hold on those."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import make_url

_MOUNTS = Path("/proc/self/mounts")
_NETWORK = frozenset(
    "9p afp afs beegfs ceph cifs davfs gfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 smb2 smb3 smbfs "
    "fuse.ceph fuse.davfs2 fuse.gcsfuse fuse.glusterfs fuse.juicefs fuse.rclone fuse.s3fs fuse.sshfs".split()
)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for another database, and for one in memory."""
    parts = make_url(url)
    return Path(parts.database) if parts.get_backend_name() == "sqlite" and parts.database else None


def network_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The kind of network file system that `path` is on; None on a local disk, and where nothing tells.

    `mounts`: the system's table of mounts, as Linux writes it.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    place = path.resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        _, mounted_at, found, *_ = [*line.split(" "), "", "", ""]
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), mounted_at))
        # Of two mounts at one place the later one is seen.
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), found
    return kind if kind in _NETWORK else None
