"""What a server called the content of a file that was downloaded, so that an unchanged one is not downloaded again."""

from __future__ import annotations

import json
from pathlib import Path

from attrs import frozen

from prism.protocols import DatasetFile
from prism_data.cache import unique_name, unwritable


@frozen
class Seen:
    """A downloaded file, and its server's strong name for that content ("" if it has none)."""

    etag: str
    file: DatasetFile


def read_seen(note: Path, name: str) -> Seen | None:
    """What was noted of a file that is called `name`; None when there is nothing, or nothing of use."""
    try:
        kept = json.loads(note.read_bytes())
        seen = Seen(str(kept["etag"]), DatasetFile(str(kept["name"]), int(kept["size"]), str(kept["sha256"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # then the file is downloaded
    return seen if seen.file.path == name and seen.file.size > 0 and seen.etag else None


def write_seen(note: Path, seen: Seen) -> None:
    """Note it, whole or not at all; nothing is noted without an etag."""
    if not seen.etag:
        return
    kept = {"etag": seen.etag, "name": seen.file.path, "size": seen.file.size, "sha256": seen.file.sha256}
    temporary = note.with_name(unique_name())
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept), encoding="utf-8")
        temporary.replace(note)
    except OSError as error:
        raise unwritable(note.parent, error) from error
