"""One value changed in a file that people write: what else stands there stays, and the file is still read."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism.config.editing import set_value
from prism.errors import UsageError
from prism.project import open_project

WINDOWS = "# of\r\nml:\r\n  enabled: true # lines\r\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("data_access: {token: ''} # short\n", "data_access: {token: '', cached: false} # short\n"),
        ("ml: {}\n", "ml: {}\nunified_data_access:\n  cached: false\n"),
        (WINDOWS, f"{WINDOWS}unified_data_access:\r\n  cached: false\r\n"),
    ],
    ids=["the other spelling", "a new section", "lines as on Windows"],
)
def test_what_else_stands_there_stays(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "sais_foundation.yaml"
    file.write_bytes(before.encode())
    set_value(file, "unified_data_access.cached", False)
    assert file.read_bytes().decode() == after
    assert open_project(file, environ={}).config.unified_data_access.cached is False


@pytest.mark.parametrize(("key", "said"), [("ml.tags.a", "ml.tags is no mapping"), ("ml..a", "is no key")])
def test_a_key_that_leads_nowhere_leaves_the_file_as_it_was(tmp_path: Path, key: str, said: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("ml: {tags: [a]}\n")
    with pytest.raises(UsageError, match=said):
        set_value(file, key, 1)
    assert file.read_text() == "ml: {tags: [a]}\n"
