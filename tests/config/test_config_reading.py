"""YAML 1.2 with exact positions, and everything that a configuration file may not contain."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from prism.config.document import read_text, read_yaml
from prism.config.nodes import Node, plain, walk
from prism.config.problems import ConfigurationError, Problem
from prism.config.scalars import plain_scalar


def read(text: str) -> Node:
    return read_text(text, file="f.yaml")


def refused(text: str) -> list[Problem]:
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-0.5e+2", -50.0),
        ("12", 12),
        ("+12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0xFF", 255),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("off", "off"),
        ("2026-11-23", "2026-11-23"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("0b11", "0b11"),
        ("nan", "nan"),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    found = plain(read(f"a: {text}\n"))["a"]
    assert (type(found), found) == (type(value), value)
    assert plain(read(f"a: '{text}'\n"))["a"] == text


def test_not_a_number_and_endless_digits() -> None:
    assert math.isnan(float(str(plain_scalar(".nan"))))
    assert plain_scalar("9" * 5000) == "9" * 5000


def test_keys_and_values_know_their_line_and_column() -> None:
    node = read('a:\n  b: 1\n  "c d": [x, {e: 2}]\n# comment\nf:\n- |\n  text\n')
    places = {path: (n.key_line, n.key_column, n.line, n.column) for path, n in walk(node)}
    assert places == {
        "": (0, 0, 1, 1),
        "a": (1, 1, 2, 3),
        "a.b": (2, 3, 2, 6),
        'a."c d"': (3, 3, 3, 10),
        'a."c d"[0]': (0, 0, 3, 11),
        'a."c d"[1]': (0, 0, 3, 14),
        'a."c d"[1].e': (3, 15, 3, 18),
        "f": (5, 1, 6, 1),
        "f[0]": (0, 0, 6, 3),
    }


def test_variables_are_plain_text_inside_flow_collections() -> None:
    node = read("s: {p: ${PASS:-}, q: ${A:-a,b}, r: [${B:?say: why #now}, $${X}], t: ${O:-{}}}\n")
    assert plain(node) == {
        "s": {"p": "${PASS:-}", "q": "${A:-a,b}", "r": ["${B:?say: why #now}", "$${X}"], "t": "${O:-{}}"}
    }
    assert node.value["s"].value["q"].column == 22


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, 3, "already at line 3"),
        ("1: a\n'1': b\n", 2, 1, "already at line 1"),
        ("a: 1\n\tb: 2\n", 2, 1, "tab"),
        ("a: [1, 2\nb: 3\n", 2, 2, "not YAML"),
        ("a: b: c\n", 1, 5, "not YAML"),
        ("a: 'x\n", 2, 1, "not YAML"),
        ("- a\n- b\n", 1, 1, "expected a mapping of sections, found a list"),
        ("just text\n", 1, 1, "expected a mapping of sections, found text"),
        ("", 1, 1, "empty"),
        ("# only a comment\n\n", 1, 1, "empty"),
        ("---\n", 1, 1, "empty"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("a: !!python/object:os.system x\n", 1, 4, "tag"),
        ("a: !mine x\n", 1, 4, "tag"),
        ("a: 1\n? [x]\n: 2\n", 2, 3, "key must be text"),
        ("a: 1\n: 2\n", 2, 1, "key is missing"),
        ("a: *nowhere\n", 1, 4, "no anchor"),
        ("a: &x\n  b: *x\n", 2, 6, "contains itself"),
        ("a: 1\nb: \x07\n", 2, 4, "U+0007"),
        ("a: 1\n<<: 3\n", 2, 5, "takes a mapping"),
        ('a: "\\ud83d"\n', 1, 4, "surrogate"),
    ],
)
def test_what_is_refused_is_refused_with_its_place(text: str, line: int, column: int, word: str) -> None:
    problems = refused(text)
    assert [(one.file, one.line, one.column) for one in problems] == [("f.yaml", line, column)]
    assert word in problems[0].message + problems[0].hint


def test_every_duplicate_is_named_at_once_and_the_rest_is_kept() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("a: 1\na: 2\nb: 3\nb: 4\nc: 5\n")
    assert [one.line for one in caught.value.problems] == [2, 4]
    assert caught.value.partial is not None
    assert plain(caught.value.partial) == {"a": 1, "b": 3, "c": 5}


def test_colliding_keys_say_that_keys_are_text() -> None:
    assert refused("1: a\n'1': b\n")[0].hint == "keys are text: 1 and '1' are the same key"


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    begun = time.process_time()
    (problem,) = refused("\n".join(lines))
    assert "aliases stand for more than" in problem.message
    assert problem.line == 4
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 5000, "a: " + "{b: " * 5000, "\n".join("  " * n + "k:" for n in range(200))]
)
def test_deep_nesting_is_refused(text: str) -> None:
    (problem,) = refused(text)
    assert "levels deep" in problem.message


def test_anchors_and_merge_keys_work() -> None:
    node = read("base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\nboth: {<<: [*b, {z: 4}]}\n")
    assert plain(node)["other"] == {"x": 1, "y": 3}
    assert plain(node)["both"] == {"x": 1, "y": 2, "z": 4}


def test_text_that_is_not_utf_8_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes("a: 1\nname: é".encode() + b"\xff\n")
    with pytest.raises(ConfigurationError) as caught:
        read_yaml(file)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column) == (str(file), 2, 8)
    assert "UTF-8" in problem.message


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert plain(read_yaml(file)) == {"a": 1}


def test_a_missing_file_and_a_folder_are_clear(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file") as caught:
        read_yaml(tmp_path / "none.yaml")
    assert "prism init" in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_yaml(tmp_path)
