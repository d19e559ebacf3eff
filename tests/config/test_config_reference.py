"""The reference page: it names every key with its default, and its example loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from prism.config.sections import Launcher, Named, Sections, fields_of

PAGE = (Path(__file__).parents[2] / "docs/reference/configuration.md").read_text(encoding="utf-8")


def keys(cls: type, above: str = "") -> Iterator[tuple[str, Any]]:
    for each in fields_of(cls):
        path = f"{above}.{each.name}" if above else each.name
        if attrs.has(each.type) and not isinstance(each.default, Named | Launcher):
            yield from keys(each.type, path)
        else:
            yield path, each.default


def in_words(default: Any) -> str:
    if isinstance(default, Named | Launcher):
        return f"`{default.name}`"
    if isinstance(default, tuple):
        return f"`[{', '.join(one.name for one in default)}]`"
    if isinstance(default, bool | None):
        return f"`{ {True: 'true', False: 'false', None: 'null'}[default] }`"
    if isinstance(default, int | float | str) and default != "":
        return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
    return "empty"


@pytest.mark.parametrize(("path", "default"), list(keys(Sections)))
def test_every_key_has_its_row_with_its_default(path: str, default: Any) -> None:
    rows = re.findall(rf"^\| `{re.escape(path)}` \|([^|]*)\|([^|]*)\|(.*)\|$", PAGE, re.MULTILINE)
    assert len(rows) == 1, path
    _, shown, meaning = (cell.strip() for cell in rows[0])
    assert shown == in_words(default)
    assert meaning.endswith(".")


def test_the_example_loads_without_a_warning(configs: Any) -> None:
    project = type(configs)(configs.folder / "project")
    for name in ("institute.yaml", "team.yaml"):
        configs.write("foundation: {}\n", name=name)
    example = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    assert project.load(example).warnings == ()
