"""Variables in values: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, and `$${` for a literal `${`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import evolve, frozen

from prism.config.nodes import Node, join
from prism.config.problems import Problem
from prism.config.scalars import plain_scalar
from prism.config.secrets import MASK, is_secret_variable

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::([-?])(.*))?", re.DOTALL)

_BEGIN = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?=\}|:[-?])")


class Unset(Exception):
    """A variable that cannot be put in: what is wrong, and what would be right."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@frozen
class Filled:
    """A text with its variables put in, and the same with "***" where a secret variable stood."""

    text: str = ""
    shown: str = ""
    secrets: tuple[str, ...] = ()

    def __add__(self, other: Filled) -> Filled:
        return Filled(self.text + other.text, self.shown + other.shown, self.secrets + other.secrets)


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each whole `${NAME…}` that begins and ends on one line; braces inside must balance."""
    position = 0
    while begin := _BEGIN.search(text, position):
        end = _closing(text, begin.start() + 1)
        if end:
            yield begin.start(), end
        position = end or begin.end()


def _closing(text: str, brace: int) -> int:
    depth = 0
    for index in range(brace, len(text)):
        character = text[index]
        if character == "\n":
            return 0
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return index + 1
    return 0


def fill(text: str, environ: Mapping[str, str]) -> Filled:
    """Put the variables into `text`. Raises `Unset`."""
    filled, position = Filled(), 0
    while (start := text.find("${", position)) >= 0:
        literal = text[position:start]
        if literal.endswith("$"):  # $${ stands for ${
            filled += Filled(literal + "{", literal + "{")
            position = start + 2
            continue
        end = _closing(text, start + 1)
        if not end:
            raise Unset("`${` is not closed", "write `${NAME}`, or `$${` for a literal `${`")
        filled += Filled(literal, literal) + _variable(text[start + 2 : end - 1], environ)
        position = end
    return filled + Filled(text[position:], text[position:])


def _variable(body: str, environ: Mapping[str, str]) -> Filled:
    match = _VARIABLE.fullmatch(body)
    if not match:
        raise Unset("this is not a variable", "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`")
    name, operator, argument = match.groups()
    value = environ.get(name)
    if operator is None and value is None:
        hint = f"set it, or write `${{{name}:-default}}`"
        raise Unset(f"the environment variable {name} is not set", hint)
    if operator == "?" and not value:
        raise Unset(f"the environment variable {name} is not set: {argument}" if argument else f"{name} is not set")
    found = fill(argument, environ) if operator == "-" and not value else Filled(value or "", value or "")
    if found.text and is_secret_variable(name):
        return Filled(found.text, MASK, (*found.secrets, found.text))
    return found


def interpolate(node: Node, environ: Mapping[str, str]) -> tuple[Node, list[Problem], list[str]]:
    """The tree with its variables put in, the problems met, and the values of secret variables."""
    problems: list[Problem] = []
    secrets: list[str] = []

    def visit(node: Node, path: str) -> Node:
        value: Any = node.value
        if isinstance(value, dict):
            return evolve(node, value={key: visit(child, join(path, key)) for key, child in value.items()})
        if isinstance(value, list):
            return evolve(node, value=[visit(child, join(path, index)) for index, child in enumerate(value)])
        if not isinstance(value, str) or "${" not in node.text:
            return evolve(node)
        try:
            filled = fill(node.text, environ)
        except Unset as error:
            problems.append(Problem(node.file, node.line, node.column, path, str(error), error.hint))
            return evolve(node, value=Unfilled())
        secrets.extend(filled.secrets)
        return _filled(node, filled)

    return visit(node, ""), problems, secrets


class Unfilled:
    """Stands for a value whose variable is missing: it has been reported, and no further check applies."""


def _filled(node: Node, filled: Filled) -> Node:
    return evolve(
        node,
        value=filled.text if node.quoted else plain_scalar(filled.text),
        text=filled.text,
        soft=True,
        masked=filled.shown if filled.secrets else None,
    )
