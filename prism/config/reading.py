"""Turns ruamel's YAML 1.2 events into nodes, refusing what a configuration should not contain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.reader import ReaderError

from prism.config.interpolation import spans
from prism.config.nodes import Node, join, walk
from prism.config.problems import ConfigurationError, Problem
from prism.config.scalars import plain_scalar

DEEPEST = 64
MOST_ALIASED = 10_000
# `{password: ${PASSWORD:-}}` must read as it looks, though YAML gives braces a meaning inside braces. What stands
# in a `${…}` is shown to the YAML parser as harmless characters (one for one, so positions stay) and then put back.
_SHIELDED = str.maketrans("{}[],:#", "\ue000\ue001\ue002\ue003\ue004\ue005\ue006")
_RESTORED = {shield: plain for plain, shield in _SHIELDED.items()}
_TAGS = {"tag:yaml.org,2002:" + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq")}


class Reader:
    """Reads one document; `problems` collects what is wrong but does not end the reading."""

    def __init__(self, text: str, *, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._events = self._parse(text)
        self._anchors: dict[str, Node | None] = {}
        self._aliased = 0

    def document(self) -> Node | None:
        """The document's root, None if there is none. Raises `ConfigurationError` where reading must end."""
        for event in self._events:
            if isinstance(event, StreamStartEvent | DocumentStartEvent):
                continue
            if isinstance(event, StreamEndEvent) or _is_nothing(event):
                return None
            root = self._node(event, 0, "")
            self._end()
            return root
        return None

    def _end(self) -> None:
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                raise self._ended(
                    event, "", "a second document begins here", "a configuration is one document: remove `---`"
                )
            elif not isinstance(event, DocumentEndEvent):
                return

    def _parse(self, text: str) -> Iterator[Any]:
        try:
            yield from YAML(typ="safe", pure=True).parse(_shield(text))
        except MarkedYAMLError as error:
            raise ConfigurationError([_syntax_problem(error, self.file)]) from None
        except ReaderError as error:
            line, column = _place(text, error.position)
            what = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
            raise ConfigurationError([Problem(self.file, line, column, "", what)]) from None
        except YAMLError as error:
            raise ConfigurationError([Problem(self.file, 1, 1, "", f"not YAML: {error}")]) from None

    def _node(self, event: Any, depth: int, path: str) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        if depth > DEEPEST:
            raise self._ended(event, "", f"nested more than {DEEPEST} levels deep")
        if event.anchor:
            self._anchors[event.anchor] = None
        if event.tag is not None and str(event.tag) not in _TAGS:
            self._report(event, path, f"the tag {event.tag} is not allowed", "write plain values only")
        node = self._build(event, depth, path)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _build(self, event: Any, depth: int, path: str) -> Node:
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        if isinstance(event, SequenceStartEvent):
            entries: list[Node] = []
            for entry in self._inside():
                entries.append(self._node(entry, depth + 1, join(path, len(entries))))
            return self._at(event, value=entries)
        return self._at(event, value=self._mapping(depth, path))

    def _inside(self) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, CollectionEndEvent):
                return
            yield event

    def _scalar(self, event: Any) -> Node:
        text = self._whole(event, event.value.translate(_RESTORED))
        quoted = not event.implicit[0]
        value = text if quoted else plain_scalar(text)
        return self._at(event, value=value, text=text, quoted=quoted, written=text)

    def _whole(self, event: Any, text: str) -> str:
        # JSON writes a character beyond U+FFFF as two halves ("\\ud83d\\ude00"); a lone half is no character.
        if not any("\ud800" <= character <= "\udfff" for character in text):
            return text
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if "\ufffd" in joined and "\ufffd" not in text:
            self._report(event, "", "half of a character (a lone surrogate) is not text")
        return joined

    def _mapping(self, depth: int, path: str) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        merged: list[Node] = []
        for key in self._inside():
            name = self._key(key, path)
            inner = join(path, name)
            value = self._node(next(self._events), depth + 1, inner)
            line, column = key.start_mark.line + 1, key.start_mark.column + 1
            value = evolve(value, key_line=line, key_column=column)
            if name == "<<" and key.implicit[0]:
                merged += self._merged(value, inner)
            elif name in entries:
                self._twice(key, inner, entries[name])
            else:
                entries[name] = value
        for source in merged:
            entries.update({name: child for name, child in source.value.items() if name not in entries})
        return entries

    def _twice(self, key: Any, path: str, first: Node) -> None:
        number = isinstance(plain_scalar(key.value), int | float)
        hint = f"keys are text: {key.value} and '{key.value}' are the same key" if number else "keep one of them"
        self._report(key, path, f"this key is already at line {first.key_line}", hint)

    def _key(self, event: Any, path: str) -> str:
        if not isinstance(event, ScalarEvent):
            raise self._ended(event, path, "a key must be text", "write `key: value`")
        name = str(event.value).translate(_RESTORED)
        if not name:
            raise self._ended(event, path, "a key is missing before `:`")
        return name

    def _merged(self, node: Node, path: str) -> list[Node]:
        sources = node.value if isinstance(node.value, list) else [node]
        wrong = [source for source in sources if not isinstance(source.value, dict)]
        for source in wrong:
            message = "`<<` takes a mapping or a list of mappings"
            self.problems.append(Problem(self.file, source.line, source.column, path, message))
        return [source for source in sources if isinstance(source.value, dict)]

    def _alias(self, event: Any, path: str) -> Node:
        if event.anchor not in self._anchors:
            raise self._ended(event, path, f"there is no anchor &{event.anchor} above")
        target = self._anchors[event.anchor]
        if target is None:
            raise self._ended(event, path, f"&{event.anchor} contains itself")
        # Counted as written out: nodes are shared here, but whoever walks them later visits each.
        for _ in walk(target):
            self._aliased += 1
            if self._aliased > MOST_ALIASED:
                raise self._ended(event, path, f"aliases stand for more than {MOST_ALIASED} values", "write them out")
        return evolve(target, line=event.start_mark.line + 1, column=event.start_mark.column + 1)

    def _at(self, event: Any, **content: Any) -> Node:
        return Node(line=event.start_mark.line + 1, column=event.start_mark.column + 1, file=self.file, **content)

    def _report(self, event: Any, path: str, message: str, hint: str = "") -> None:
        mark = event.start_mark
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, path, message, hint))

    def _ended(self, event: Any, path: str, message: str, hint: str = "") -> ConfigurationError:
        self._report(event, path, message, hint)
        return ConfigurationError(self.problems)


def _is_nothing(event: Any) -> bool:
    return isinstance(event, ScalarEvent) and event.value == "" and bool(event.implicit[0])


def _shield(text: str) -> str:
    if any(chr(shield) in text for shield in _RESTORED):
        return text
    pieces, position = [], 0
    for start, end in spans(text):
        pieces += [text[position : start + 1], text[start + 1 : end].translate(_SHIELDED)]
        position = end
    return "".join(pieces) + text[position:]


def _place(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


def _syntax_problem(error: MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = str(error.problem or error.context or "this is not YAML").translate(_RESTORED)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    hint = "indent with spaces, not tabs" if "\\t" in what or "tab" in what else ""
    return Problem(file, line, column, "", f"not YAML: {what}", hint)
