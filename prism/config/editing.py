"""Changes one value in a configuration file, and nothing else that stands in it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prism.config.layers import split_path
from prism.config.spelling import DATA, DATA_SHORT
from prism.errors import EnvironmentUnfit, UsageError
from prism.writing import write_whole


def set_value(file: Path, key: str, value: Any) -> None:
    """Write plain data (dicts, lists, scalars) at `key` ("ml.parameters.seed") of the YAML file, comments kept.

    The data section keeps the spelling that the file has for it, and lines end as they do there.
    The file is replaced whole, with its permissions, or left as it was; a link stays a link. Raises `UsageError` for
    a key that leads through something that is no mapping, `EnvironmentUnfit` when the file cannot be written.
    """
    from ruamel.yaml import YAML  # only who edits pays for what keeps comments
    from ruamel.yaml.util import load_yaml_guess_indent

    steps = split_path(key)
    if not steps:
        raise UsageError(f"{key!r} is no key", hint="write it as ml.parameters.learning_rate")
    written = file.read_bytes().decode()
    head, text = _split_head(written.replace("\r\n", "\n"))
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 10_000
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    tree, indent, offset = load_yaml_guess_indent(text, yaml=yaml)
    if steps[0] == DATA and DATA not in tree and DATA_SHORT in tree:
        steps[0] = DATA_SHORT  # the other spelling of the same section, which cannot stand beside it
    _put(tree, steps, value, key=key, file=file)
    if indent is not None:
        yaml.indent(mapping=2, sequence=indent, offset=offset or 0)
    stream = io.StringIO()
    yaml.dump(tree, stream)
    changed = head + stream.getvalue()
    try:
        write_whole(file.resolve(), changed.replace("\n", "\r\n") if "\r\n" in written else changed)
    except OSError as error:
        hint = "it is as it was"
        raise EnvironmentUnfit(f"{file} cannot be written: {error.strerror or error}", hint=hint) from error


def _split_head(text: str) -> tuple[str, str]:
    """What stands up to and with a line `---`, which ruamel.yaml would drop, and the rest."""
    found = re.match(r"(?:[ \t]*(?:[#%].*)?\n)*---[ \t]*(?:#.*)?\n", text)
    end = found.end() if found else 0
    return text[:end], text[end:]


def _put(tree: Any, steps: Sequence[str], value: Any, *, key: str, file: Path) -> None:
    for depth, step in enumerate(steps[:-1], start=1):
        if tree.get(step) is None:
            tree[step] = {}
        tree = tree[step]
        if not isinstance(tree, dict):
            raise UsageError(f"{file}: {'.'.join(steps[:depth])} is no mapping, so {key} cannot be set")
    tree[steps[-1]] = value
