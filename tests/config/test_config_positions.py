"""Property: whatever is written somewhere is found there, with the value that was written."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from prism.config.document import read_text
from prism.config.nodes import Node, plain, walk

KEYS = st.text(alphabet="abcxyz_ é\"'.:#-", min_size=1, max_size=6)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet="ab 1é:#{}[],'\"\\\n$-", max_size=8),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)


class Writer:
    """Writes a tree as YAML, block style outside and flow style inside, and notes where everything stands."""

    def __init__(self) -> None:
        self.text = ""
        self.places: dict[int, tuple[int, int]] = {}
        self.count = 0

    def here(self) -> tuple[int, int]:
        return self.text.count("\n") + 1, len(self.text) - self.text.rfind("\n")

    def scalar(self, value: Any) -> None:
        self.note()
        self.text += json.dumps(value, ensure_ascii=False)

    def note(self) -> None:
        self.places[self.count] = self.here()
        self.count += 1

    def write(self, value: Any) -> None:
        if isinstance(value, dict):
            self.flow("{", "}", [(key, entry) for key, entry in value.items()])
        elif isinstance(value, list):
            self.flow("[", "]", [(None, entry) for entry in value])
        else:
            self.scalar(value)

    def flow(self, begin: str, end: str, entries: list[tuple[str | None, Any]]) -> None:
        self.note()
        self.text += begin
        for index, (key, entry) in enumerate(entries):
            self.text += ", " if index else " "
            if key is not None:
                self.scalar(key)
                self.text += ":   "
            self.write(entry)
        self.text += end

    def document(self, tree: dict[str, Any]) -> str:
        for key, entry in tree.items():
            self.text += "\n# a comment\n"
            self.scalar(key)
            self.text += ":\n  "
            self.write(entry)
            self.text += "\n"
        return self.text


def places(node: Node) -> list[tuple[int, int]]:
    found = []
    for path, each in walk(node):
        if each.key_line:
            found.append((each.key_line, each.key_column))
        if path:
            found.append((each.line, each.column))
    return found


@seed(20261123)
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, TREES, min_size=1, max_size=4))
def test_positions_and_values_survive_the_round_trip(tree: dict[str, Any]) -> None:
    writer = Writer()
    node = read_text(writer.document(tree), file="f.yaml")
    assert plain(node) == tree
    assert places(node) == [writer.places[index] for index in range(writer.count)]
