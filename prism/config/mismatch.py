"""What does not fit its place in the configuration, collected while structuring and told afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import evolve, frozen

from prism.config.interpolation import Unfilled
from prism.config.nodes import Node
from prism.config.problems import Problem, did_you_mean
from prism.config.scalars import kind_of, plain_scalar

_ALMOST_TRUTH = {"yes", "no", "on", "off", "y", "n"}


@frozen
class Mismatch:
    """One node that does not fit. `expected` is what is due there ("" when `message` says it all).

    `at_key` points at the key instead of the value; `hidden` keeps the value out of the message.
    """

    node: Node
    expected: str = ""
    message: str = ""
    hint: str = ""
    at_key: bool = False
    hidden: bool = False
    unfit: bool = False

    def problem(self) -> Problem:
        """This mismatch as a problem at its node."""
        node = self.node
        line, column = (node.key_line, node.key_column) if self.at_key else (node.line, node.column)
        message = self.message or f"expected {self.expected}, found {self._found()}"
        return Problem(node.file, line, column, node.path, message, self.hint or self._hint(), self.unfit)

    def _found(self) -> str:
        kind, shown = kind_of(self.node.value), self._shown()
        return f"{kind} ({shown})" if shown else kind

    def _shown(self) -> str:
        if self.hidden or self.node.masked is not None or isinstance(self.node.value, dict | list | None):
            return ""
        text = self.node.text if len(self.node.text) <= 60 else self.node.text[:57] + "…"
        return repr(text) if isinstance(self.node.value, str) else text

    def _hint(self) -> str:
        value, shown = self.node.value, self._shown()
        if self.expected.startswith("text") and isinstance(value, bool | int | float):
            return f'quote it: "{shown}"' if shown else "quote it"
        if self.expected.startswith("true or false") and str(value).lower() in _ALMOST_TRUTH:
            return "write true or false"
        if "number" in self.expected and isinstance(value, str) and not isinstance(plain_scalar(value), str | None):
            return "remove the quotes" if self.node.quoted else ""
        if self.expected.startswith("a list") and shown and not shown.startswith("'["):
            return f"write [{self.node.text}]"
        return ""


class Mismatched(Exception):
    """Some nodes do not fit."""

    def __init__(self, *found: Mismatch) -> None:
        super().__init__("; ".join(one.message or one.expected for one in found))
        self.found = found


def expect(node: Node, kinds: type | tuple[type, ...], expected: str) -> Any:
    """The node's value when it is one of `kinds`; a bool is never a number. Raises `Mismatched`."""
    value = node.value
    if isinstance(value, Unfilled):
        raise Mismatched()  # reported where its variable was missing
    truth_is_due = kinds is bool
    if not isinstance(value, kinds) or (isinstance(value, bool) and not truth_is_due):
        raise Mismatched(Mismatch(node, expected))
    return value


def unknown_key(node: Node, name: str, known: Iterable[str], *, hint: str = "") -> Mismatch:
    """The key `name`, which nothing reads."""
    return Mismatch(node, message=f"unknown key {name!r}", hint=hint or did_you_mean(name, known), at_key=True)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The single exceptions of a tree of exception groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def hidden(found: Iterable[Mismatch]) -> list[Mismatch]:
    """The mismatches with their values kept out of the messages."""
    return [evolve(one, hidden=True) for one in found]
