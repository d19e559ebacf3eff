"""The table of the SDK's promises names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PAGE = ROOT / "docs/reference/sais-prism.md"


def test_every_row_has_a_test_that_is_there() -> None:
    rows = [row for row in re.findall(r"^\| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) if ".py" in row]
    assert len(rows) > 40
    for row in rows:
        named = re.findall(r"`([\w/-]+\.py)::(\w+)`", row.rpartition(" | ")[2])
        assert named, row
        for file, name in named:
            path = next(path for path in (HERE / file, ROOT / file) if path.is_file())
            assert f"def {name}(" in path.read_text(encoding="utf-8"), f"{path} has no {name}"
