"""Layers of a configuration: the files that `extends` names, the file, `PRISM__A__B`, the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from prism.config.document import read_value
from prism.config.interpolation import interpolate
from prism.config.nodes import Node, join
from prism.config.problems import ConfigurationError, Problem
from prism.config.scalars import plain_scalar
from prism.config.secrets import MASK, is_secret_variable
from prism.config.spelling import DEFAULTS, NAMED, canonical
from prism.errors import UsageError

Read = Callable[[Path], Node]
EXTENDS = "extends"
ENVIRONMENT = "environment"
COMMAND_LINE = "command line"
_PREFIX = "PRISM__"
_STEP = re.compile(r'"((?:[^"\\]|\\.)*)"|([^."]+)')


@frozen
class Composed:
    """All layers in one tree, what was wrong with them, and the secret values that variables brought in."""

    node: Node
    problems: tuple[Problem, ...] = ()
    secrets: tuple[str, ...] = ()


@frozen
class _Gathered:
    problems: list[Problem] = field(factory=list)
    secrets: list[str] = field(factory=list)

    def filled(self, node: Node, environ: Mapping[str, str]) -> Node:
        node, problems, secrets = interpolate(node, environ)
        self.problems.extend(problems)
        self.secrets.extend(secrets)
        return node


def compose(path: Path, *, read: Read, environ: Mapping[str, str], overrides: Sequence[str] = ()) -> Composed:
    """Merge every layer of the configuration at `path` over the defaults, variables put in.

    Raises `ConfigurationError` only when the file itself yields nothing; other problems are in the answer.
    """
    gathered = _Gathered()
    tree = _file(path, read, environ, gathered, above=())
    for layer in _environment(tree, environ, gathered):
        tree = merge(tree, layer)
    for layer in _command_line(overrides, gathered):
        tree = merge(tree, gathered.filled(layer, environ))
    tree = merge(DEFAULTS, _without_empty(tree, DEFAULTS))
    return Composed(tree, tuple(gathered.problems), tuple(gathered.secrets))


def merge(below: Node, above: Node, path: str = "") -> Node:
    """`above` over `below`: mappings are merged, anything else replaces what is below it.

    A provider's options stay with its name: another name replaces them all.
    """
    if path in NAMED and isinstance(below.value, str) and isinstance(above.value, dict):
        below = evolve(below, value={"name": below})
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    if path in NAMED and _renamed(below, above):
        return above
    entries = dict(below.value)
    for key, node in above.value.items():
        entries[key] = merge(entries[key], node, join(path, key)) if key in entries else node
    return evolve(above, value=entries)


def _without_empty(tree: Node, defaults: Node) -> Node:
    # A section or a name with nothing after its key says nothing: its default holds.
    entries = dict(tree.value)
    for key, default in defaults.value.items():
        if key in entries and isinstance(default.value, dict):
            if entries[key].value is None:
                del entries[key]
            elif isinstance(entries[key].value, dict):
                entries[key] = _without_empty(entries[key], default)
    return evolve(tree, value=entries)


def _renamed(below: Node, above: Node) -> bool:
    ours, theirs = below.value.get("name"), above.value.get("name")
    return ours is not None and theirs is not None and bool(ours.value != theirs.value)


def _file(path: Path, read: Read, environ: Mapping[str, str], gathered: _Gathered, *, above: tuple[Path, ...]) -> Node:
    try:
        root = read(path)
    except ConfigurationError as error:
        if error.partial is None:
            raise
        gathered.problems.extend(error.problems)
        root = error.partial
    root, problems = canonical(gathered.filled(root, environ))
    gathered.problems.extend(problems)
    entries = dict(root.value)
    extends = entries.pop(EXTENDS, None)
    tree = evolve(root, value=entries)
    if extends is None:
        return tree
    below = evolve(root, value={})
    for name, node in _named_files(extends, path, gathered):
        below = merge(below, _base(name, node, read, environ, gathered, above=(*above, path.resolve())))
    return merge(below, tree)


def _named_files(extends: Node, path: Path, gathered: _Gathered) -> Iterator[tuple[Path, Node]]:
    entries = extends.value if isinstance(extends.value, list) else [extends]
    if extends.value is None:
        return
    if not isinstance(extends.value, list):
        _report(gathered, extends, "expected a list of files", "write `extends: [file.yaml]`")
        return
    for node in entries:
        if isinstance(node.value, str):
            found = path.parent / Path(node.value).expanduser()
            yield found.resolve() if ".." in found.parts else found, node
        else:
            _report(gathered, node, "expected the name of a file", "quote it if it is one")


def _base(
    path: Path, node: Node, read: Read, environ: Mapping[str, str], gathered: _Gathered, *, above: tuple[Path, ...]
) -> Node:
    empty = evolve(node, value={})
    if path.resolve() in above:
        between = ", ".join(map(str, above[above.index(path.resolve()) + 1 :]))
        through = f", through {between}" if between else ""
        _report(gathered, node, f"{path} extends itself{through}", "take one of these lines out")
        return empty
    if not path.is_file():
        _report(gathered, node, f"there is no file {path}", "paths are relative to the file that names them")
        return empty
    try:
        return _file(path, read, environ, gathered, above=above)
    except ConfigurationError as error:
        gathered.problems.extend(error.problems)
    except UsageError as error:  # nobody reads files of this kind
        _report(gathered, node, error.message, error.hint)
    return empty


def _report(gathered: _Gathered, node: Node, message: str, hint: str) -> None:
    gathered.problems.append(Problem(node.file, node.line, node.column, EXTENDS, message, hint))


# ---------------------------------------------------------------- overrides


def _environment(tree: Node, environ: Mapping[str, str], gathered: _Gathered) -> Iterator[Node]:
    for name in sorted(environ):
        if not name.startswith(_PREFIX):
            continue
        steps = name[len(_PREFIX) :].split("__")
        if not all(steps):
            gathered.problems.append(Problem(ENVIRONMENT, 0, 0, name, "an empty name between `__`"))
            continue
        secret = is_secret_variable(name)
        value = _secret(environ[name]) if secret else _value(environ[name], ENVIRONMENT, name, gathered)
        if value is not None:
            if secret:
                gathered.secrets.append(environ[name])
            yield canonical(_nest(_spelled(tree, steps), evolve(value, written=f"${{{name}}}")))[0]


def _spelled(tree: Node, steps: Sequence[str]) -> list[str]:
    # Variables are written in capitals, keys as their author liked: take the key that is there, else lower case.
    keys: list[str] = []
    node: Node | None = tree
    for step in steps:
        entries = node.value if node is not None and isinstance(node.value, dict) else {}
        key = next((key for key in entries if key.lower() == step.lower()), step.lower())
        node = entries.get(key)
        keys.append(key)
    return keys


def _command_line(overrides: Sequence[str], gathered: _Gathered) -> Iterator[Node]:
    for override in overrides:
        path, equals, text = override.partition("=")
        steps = split_path(path)
        if not equals or not steps:
            hint = "write KEY=VALUE, as in ml.parameters.learning_rate=2e-5"
            shown = path if equals else "an override"
            gathered.problems.append(Problem(COMMAND_LINE, 0, 0, "", f"{shown!r} is not KEY=VALUE", hint))
            continue
        value = _value(text, COMMAND_LINE, path, gathered)
        if value is not None:
            yield canonical(_nest(steps, value))[0]


def split_path(path: str) -> list[str]:
    """The keys of a path such as `ml.parameters."a.b"`; empty when it is not one."""
    steps, position = [], 0
    while position < len(path):
        match = _STEP.match(path, position)
        if not match:
            return []
        steps.append(match[2].strip() if match[2] is not None else match[1].replace('\\"', '"'))
        position = match.end()
        if position < len(path):
            if path[position] != "." or position + 1 == len(path):
                return []
            position += 1
    return steps if all(steps) else []


def _secret(text: str) -> Node:
    # Never parsed: a password may begin like a list, and no message may quote it.
    return Node(plain_scalar(text), file=ENVIRONMENT, text=text, soft=True, masked=MASK)


def _value(text: str, file: str, key: str, gathered: _Gathered) -> Node | None:
    try:
        return read_value(text, file=file)
    except ConfigurationError as error:
        message = error.problems[0].message if error.problems else "not a YAML value"
        gathered.problems.append(Problem(file, 0, 0, key, message, "quote it if it is text"))
        return None


def _nest(steps: Sequence[str], value: Node) -> Node:
    for step in reversed(steps):
        value = Node({step: value}, file=value.file)
    return value
