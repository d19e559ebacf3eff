"""What is checked beyond types: names that collide, what custom metrics compute, and hints that fail nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prism.config.custom_metrics import PLACE, check_custom_metrics
from prism.config.nodes import Node, join, walk
from prism.config.parameters import GONE, RENAMED
from prism.config.problems import Problem
from prism.config.sections import OWN_MODEL, Sections

_PARAMETERS = "ml.parameters"
# Accepted keys that nothing acts on yet, and what to say about each.
NOT_YET = {
    "ml.metrics": "`ml.metrics` is accepted but does not act; its name is `custom_metrics` now",
}


def check_values(tree: Node) -> list[Problem]:
    """What is wrong with values of the right types."""
    return [*_check_parameters(tree), *check_custom_metrics(_at(tree, PLACE))]


def _check_parameters(tree: Node) -> list[Problem]:
    """Parameters that would have one flat name: `a.b: 1` beside `a: {b: 2}`."""
    first: dict[str, Node] = {}
    problems = []
    for name, node in _flat(_at(tree, _PARAMETERS), ""):
        if name in first:
            message = f"this and line {first[name].key_line} are both the parameter {name!r}"
            problems.append(Problem(node.file, node.key_line, node.key_column, f"{_PARAMETERS}.{name}", message))
        first.setdefault(name, node)
    return problems


def _flat(node: Node | None, prefix: str) -> Iterator[tuple[str, Node]]:
    if node is None or not isinstance(node.value, dict):
        return
    for key, child in node.value.items():
        name = f"{prefix}{key}"
        if isinstance(child.value, dict):
            yield from _flat(child, f"{name}.")
        else:
            yield name, child


def warnings_of(tree: Node, sections: Sections) -> Iterator[Problem]:
    """Hints about a configuration that is right: old names, keys that do not act, numbers that look like versions."""
    yield from _old_names(tree)
    yield from _versions(tree)
    for path, message in NOT_YET.items():
        node = _at(tree, path)
        if node is not None and node.value:
            yield _warning(node, path, message)
    trackers, repo = _at(tree, "trackers"), _at(tree, "ml.model_repo")
    if trackers is not None and trackers.file != "default" and not sections.ml.enabled and sections.trackers:
        yield _warning(trackers, "trackers", "no tracker is used while `ml.enabled` is false")
    if repo is not None and repo.value and sections.ml.model_repo.registered and not sections.ml.model_repo.name:
        yield _warning(repo, "ml.model_repo", "without a `name` nothing is registered")
    if sections.ml.model_repo.model_uri != OWN_MODEL:
        named = _at(tree, "ml.model_repo.model_uri")
        if named is not None:
            message = "another model than the run's own is not registered; `model_uri` does not act"
            yield _warning(named, "ml.model_repo.model_uri", message, f"leave it out, or write {OWN_MODEL}")


def _old_names(tree: Node) -> Iterator[Problem]:
    parameters = _at(tree, _PARAMETERS)
    entries = parameters.value if parameters is not None and isinstance(parameters.value, dict) else {}
    for name, node in entries.items():
        path, new = join(_PARAMETERS, name), RENAMED.get(name)
        if name in GONE:
            yield _warning(node, path, GONE[name])
        elif new in entries:
            yield _warning(node, path, f"`{new}` is there too; each is read under its own name", f"keep `{new}`")
        elif new is not None:
            yield _warning(node, path, f"`{name}` is the old name of `{new}`; both are understood", f"write `{new}`")


def _versions(tree: Node) -> Iterator[Problem]:
    for path, node in walk(tree):
        looks = "version" in path.rpartition(".")[2].lower() and isinstance(node.value, float) and not node.soft
        if looks and re.fullmatch(r"\d+\.\d*0", node.text):
            yield _warning(node, path, f"{node.text} is the number {node.value}", f'quote it: "{node.text}"')


def _warning(node: Node, path: str, message: str, hint: str = "") -> Problem:
    return Problem(node.file, node.key_line, node.key_column, path, message, hint)


def _at(tree: Node, path: str) -> Node | None:
    node: Node | None = tree
    for step in path.split("."):
        node = node.value.get(step) if node is not None and isinstance(node.value, dict) else None
    return node
