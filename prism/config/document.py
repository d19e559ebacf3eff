"""Reads YAML 1.2 into values that know where they stand: the exact line and column of keys and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve

from prism.config.nodes import Node as Node
from prism.config.problems import ConfigurationError, Problem
from prism.config.reading import Reader
from prism.config.scalars import kind_of, plain_scalar


def read_yaml(path: Path) -> Node:
    """The one document of the YAML file at `path`, which must be a mapping.

    Raises `ConfigurationError` with every problem found; where the file could be read beyond them its
    `partial` holds the rest.
    """
    file = str(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        hint = "`prism init` writes one to start from"
        raise ConfigurationError([Problem(file, 0, 0, "", "there is no such file", hint)]) from None
    except OSError as error:
        raise ConfigurationError([Problem(file, 0, 0, "", f"cannot be read: {error.strerror}")]) from error
    return read_text(_decode(content, file), file=file)


def read_text(text: str, *, file: str) -> Node:
    """Like `read_yaml`, for a text that is called `file` in positions and messages."""
    reader = Reader(text, file=file)
    root = reader.document()
    problems = list(reader.problems)
    if root is None:
        problems.append(Problem(file, 1, 1, "", "the file is empty", "`prism init` writes one to start from"))
    elif not isinstance(root.value, dict):
        found = kind_of(root.value)
        problems.append(Problem(file, root.line, root.column, "", f"expected a mapping of sections, found {found}"))
    if root is None or problems:
        usable = root if root is not None and isinstance(root.value, dict) else None
        raise ConfigurationError(problems, partial=usable)
    return root


def read_value(text: str, *, file: str) -> Node:
    """The value of an override: one YAML scalar, or a list or mapping in flow style.

    A scalar is soft, so that `version=1.10` is text where text is due. Raises `ConfigurationError`.
    """
    stripped = text.strip()
    if stripped[:1] not in ("[", "{", '"', "'"):
        return Node(plain_scalar(stripped), file=file, text=stripped, soft=True, written=text)
    reader = Reader(text, file=file)
    root = reader.document()
    if root is None or reader.problems:
        raise ConfigurationError(reader.problems)
    return _placeless(root)


def _placeless(node: Node) -> Node:
    if isinstance(node.value, dict):
        value: Any = {key: _placeless(child) for key, child in node.value.items()}
    elif isinstance(node.value, list):
        value = [_placeless(child) for child in node.value]
    else:
        value = node.value
    return evolve(node, value=value, line=0, column=0, key_line=0, key_column=0)


def _decode(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        problem = Problem(file, line, column, "", "this is not UTF-8 text", "save the file as UTF-8")
        raise ConfigurationError([problem]) from None
