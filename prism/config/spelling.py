"""The spellings that a configuration may have, brought to one; and where it names providers."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from prism.config.nodes import Node
from prism.config.problems import Problem

DATA = "unified_data_access"
DATA_SHORT = "data_access"
# Where one provider is named, by a bare name or by a mapping with `name` and its options.
NAMED = frozenset({"trainer", "launcher", f"{DATA}.client", "evaluation.predictor"})


def _default(value: object) -> Node:
    if isinstance(value, dict):
        return Node({key: _default(child) for key, child in value.items()}, file="default")
    if isinstance(value, list):
        return Node([_default(child) for child in value], file="default")
    return Node(value, file="default", text=str(value), written=str(value))


# What is picked while the configuration says nothing.
DEFAULTS = _default(
    {
        DATA: {"client": {"name": "local"}},
        "trainer": {"name": "accelerate"},
        "evaluation": {"predictor": {"name": "generate"}, "evaluators": [{"name": "rouge"}, {"name": "bleu"}]},
        "trackers": [{"name": "mlflow"}],
        "launcher": {"name": "accelerate"},
    }
)


def canonical(root: Node) -> tuple[Node, list[Problem]]:
    """The root with one spelling of the data section and of lists, and what could not be brought to it.

    `data_access:` at the top is `unified_data_access:`; a list below it is its `dataset_names`; a mapping of
    lists under `ml.artifacts` (or `ml.metrics`) is one list.
    """
    entries = dict(root.value)
    problems: list[Problem] = []
    short = entries.pop(DATA_SHORT, None)
    if short is not None and DATA in entries:
        message = f"`{DATA}` is there too (line {entries[DATA].key_line}): both are the same section"
        problems.append(Problem(short.file, short.key_line, short.key_column, DATA_SHORT, message, "keep one of them"))
    elif short is not None:
        entries[DATA] = short
    if DATA in entries:
        entries[DATA] = _changed(entries[DATA], (DATA_SHORT,), _names)
    if "ml" in entries:
        entries["ml"] = _changed(entries["ml"], ("artifacts", "metrics", "custom_metrics"), _flat)
    return evolve(root, value=entries), problems


def _changed(section: Node, keys: Iterable[str], change: object) -> Node:
    if not isinstance(section.value, dict):
        return section
    assert callable(change)
    return evolve(section, value={k: change(n) if k in keys else n for k, n in section.value.items()})


def _names(node: Node) -> Node:
    return evolve(node, value={"dataset_names": node}) if isinstance(node.value, list) else node


def _flat(node: Node) -> Node:
    lists = [child.value for child in node.value.values()] if isinstance(node.value, dict) else []
    if not lists or not all(isinstance(entries, list) for entries in lists):
        return evolve(node, value=[]) if node.value == {} else node
    return evolve(node, value=[entry for entries in lists for entry in entries])
