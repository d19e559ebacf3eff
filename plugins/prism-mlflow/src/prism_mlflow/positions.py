"""What was delivered up to which record, as tags of the run: of the run itself, and of each of its parts apart."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from prism_mlflow.naming import own_tag

_FILES = 60  # journal files whose names and numbers surely fit in one tag


def position_tags(position: Mapping[str, int], *, part: str) -> dict[str, str]:
    """The position in as many tags as it takes, each within MLflow's limit for one; `part` as in `TrackedRun`."""
    files = sorted(position.items())
    pieces = [dict(files[start : start + _FILES]) for start in range(0, max(len(files), 1), _FILES)]
    stem = _stem(part)
    return {f"{stem}.{number}" if number or part else stem: json.dumps(piece) for number, piece in enumerate(pieces)}


def position_in(tags: Mapping[str, str], *, part: str) -> dict[str, int]:
    """Journal file → number of its last record delivered, as `position_tags` has put it."""
    stem = re.escape(_stem(part))
    ours = re.compile(rf"{stem}\.\d+" if part else rf"{stem}(\.\d+)?")
    found: dict[str, int] = {}
    for name, value in tags.items():
        if ours.fullmatch(name):
            found.update(json.loads(value))
    return found


def _stem(part: str) -> str:
    return own_tag("position", part) if part else "prism.position"
