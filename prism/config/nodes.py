"""The tree that a configuration is read into: values that know where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from attrs import evolve, field, frozen


@frozen
class Node:
    """A value of a configuration, and where it stands (lines and columns from 1, 0 for "nowhere").

    `value` is a `dict[str, Node]`, a `list[Node]` or a plain scalar. `text` is a scalar as written;
    `quoted` says that it stood in quotes. `soft` marks a scalar whose kind its field decides (it came from a
    variable or the command line); `masked`, if not None, is what may be shown of a value that holds a secret;
    `written` is the text before variables were put in; `path` is set once all layers are one tree.
    """

    value: Any
    line: int = 0
    column: int = 0
    key_line: int = 0
    key_column: int = 0
    file: str = ""
    text: str = ""
    quoted: bool = False
    soft: bool = False
    masked: str | None = None
    written: str = field(default="", eq=False)
    path: str = field(default="", eq=False)

    def children(self) -> Iterator[tuple[str | int, Node]]:
        """The entries of a mapping by key, those of a list by index; nothing for a scalar."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from enumerate(self.value)


def plain(node: Node) -> Any:
    """The node's value without positions: dicts, lists and scalars, a soft scalar as YAML would read it."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def join(path: str, step: str | int) -> str:
    """The path of an entry: `a.b`, `a[0]`, and `a."b.c"` for a key that would be read as two."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    name = step if re.fullmatch(r"[^\s.\[\]\"]+", step) else '"' + step.replace('"', '\\"') + '"'
    return f"{path}.{name}" if path else name


def placed(node: Node, path: str = "") -> Node:
    """The same tree, every node with its path."""
    value: Any = node.value
    if isinstance(value, dict):
        value = {key: placed(child, join(path, key)) for key, child in value.items()}
    elif isinstance(value, list):
        value = [placed(child, join(path, index)) for index, child in enumerate(value)]
    return evolve(node, value=value, path=path)


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every node below and including `node`, with its path."""
    yield path, node
    for step, child in node.children():
        yield from walk(child, join(path, step))
