"""What is checked of `ml.custom_metrics` beyond types: what each computes, and from which metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from prism.config.expressions import Expression, ExpressionError, parse_expression, parts
from prism.config.nodes import Node, join
from prism.config.problems import Problem

PLACE = "ml.custom_metrics"
_SCORED = ("predictions", "references")


def check_custom_metrics(listed: Node | None) -> list[Problem]:
    """What is wrong with the entries of the list, where each by itself is of the right types."""
    entries = listed.value if listed is not None and isinstance(listed.value, list) else []
    problems: list[Problem] = []
    names = [_text(entry, "name") for entry in entries]
    for index, entry in enumerate(entries):
        if isinstance(entry.value, dict):
            path = join(PLACE, index)
            problems += _check_kind(entry, path)
            if names[index] and names[index] in names[:index]:
                node, said = entry.value["name"], f"another custom metric above is called {names[index]!r} too"
                problems.append(Problem(node.file, node.line, node.column, f"{path}.name", said))
            problems += _check_expression(entry, path, later={name for name in names[index:] if name})
    return problems


def _check_kind(entry: Node, path: str) -> Iterator[Problem]:
    """An entry is an expression, or an evaluator with two series."""
    given = {key for key, node in entry.value.items() if node.value is not None}
    both = {"expression", "evaluator"} & given
    if len(both) != 1:
        wanted = "an `expression`, or an `evaluator` with `predictions` and `references`"
        said = "is either an expression or an evaluator's" if both else "says nothing of how it is computed"
        yield Problem(entry.file, entry.line, entry.column, path, f"a custom metric that {said}: give it {wanted}")
    for key in _SCORED:
        if both == {"evaluator"} and key not in given:
            yield Problem(entry.file, entry.line, entry.column, path, f"the key {key!r} is missing", _hint(key))
        if both == {"expression"} and key in given:
            node = entry.value[key]
            yield Problem(node.file, node.key_line, node.key_column, f"{path}.{key}", "only an evaluator takes this")


def _hint(key: str) -> str:
    return f"{key}: the name of the logged metric that the evaluator takes for them"


def _check_expression(entry: Node, path: str, *, later: Collection[str]) -> Iterator[Problem]:
    node = entry.value.get("expression")
    text = _text(entry, "expression")
    if not text:
        return
    found: Expression | None = None
    try:
        found = parse_expression(text)
    except ExpressionError as error:
        cut_off = not node.quoted and text.count("(") > text.count(")")
        hint = error.hint or ("quote it: without quotes a comma ends it here" if cut_off else "")
        yield Problem(node.file, node.line, _column(node, error.at), f"{path}.expression", error.message, hint)
    used = {part.name for part in parts(found)} if found is not None else set()
    if found is not None and not used:
        yield Problem(node.file, node.line, node.column, f"{path}.expression", "it names no metric")
    for name in sorted(used & set(later)):
        itself = name == _text(entry, "name")
        said = "it names itself" if itself else f"the custom metric {name!r} stands below: move it above this one"
        yield Problem(node.file, node.line, node.column, f"{path}.expression", said)


def _column(node: Node, at: int) -> int:
    """The column of a character of a text, where it stands in its file as it is; else the text's own."""
    as_written = node.column and not node.soft and "\n" not in node.text
    return node.column + at + bool(node.quoted) if as_written else node.column


def _text(entry: Node, key: str) -> str:
    node = entry.value.get(key) if isinstance(entry.value, dict) else None
    return node.value if node is not None and isinstance(node.value, str) else ""
