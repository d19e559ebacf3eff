"""What file system a path is on, and whether several machines share it."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
_SHARED = re.compile(
    r"nfs4?|lustre|gpfs|cpfs|beegfs|ceph|cifs|smb3|smbfs|ncpfs|afs|coda|glusterfs|pvfs2|orangefs|ocfs2|gfs2|wekafs|"
    r"panfs|yrfs|juicefs|alinas|efc"
)
# FUSE says nothing about where the bytes are; these are known to keep them on this machine
_LOCAL_FUSE = re.compile(r"fuse\.(fuse-overlayfs|overlayfs|mergerfs|bindfs|lxcfs|gocryptfs|encfs|portal)")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def file_system(path: Path, *, mounts: Path = MOUNTS) -> str:
    """The type of the file system that `path` is or would be on, "" where that is not known."""
    if not mounts.exists():
        return ""
    real = path.resolve()
    found, depth = "", -1
    # the last mount on a mount point hides the ones before it
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        point, kind = _mount(line)
        if real.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = kind, len(point.parts)
    return found


def is_shared(kind: str) -> bool:
    """Whether a file system of this type is shared between machines, as far as its name tells."""
    if kind.startswith("fuse."):
        return not _LOCAL_FUSE.fullmatch(kind)
    return bool(_SHARED.fullmatch(kind))


def _mount(line: str) -> tuple[Path, str]:
    fields = line.split(" ")
    point = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[1])
    return Path(point), fields[2]
