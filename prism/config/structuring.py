"""Structures nodes into attrs classes, strictly: a kind that is not due is a mismatch, never coerced."""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs
from cattrs import AttributeValidationNote, BaseValidationError, Converter, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from prism.config.mismatch import Mismatch, Mismatched, expect, hidden, leaves, unknown_key
from prism.config.nodes import Node, plain
from prism.config.parameters import Parameters
from prism.config.problems import did_you_mean
from prism.config.scalars import plain_scalar
from prism.config.secrets import is_secret_name
from prism.config.sections import AtLeast, MayBeEmpty, NotEmpty

Hook = Callable[[Node, Any], Any]
_LISTS = (list, tuple, set, frozenset, Sequence, Collection)


def strict_converter() -> Converter:
    """A converter whose `structure` takes a `Node` and raises `Mismatched` with everything that does not fit."""
    converter = Converter(structure_fallback_factory=_unsupported, forbid_extra_keys=True)
    for scalar, hook in {bool: _truth, int: _integer, float: _number, str: _text, Path: _path}.items():
        converter.register_structure_hook(scalar, hook)
    converter.register_structure_hook(Parameters, lambda node, _: Parameters(plain(_mapping(node))))
    converter.register_structure_hook_func(lambda kind: kind is Any, lambda node, _: plain(node))
    factories: list[tuple[Callable[[Any], bool], Callable[[Any, Converter], Hook]]] = [
        (attrs.has, _class_hook),
        (lambda kind: _origin(kind) in _LISTS, _list_hook),
        (lambda kind: _origin(kind) in (dict, Mapping), _mapping_hook),
        (lambda kind: _origin(kind) in (Union, types.UnionType), _union_hook),
        (lambda kind: _origin(kind) is Literal, _literal_hook),
        (lambda kind: isinstance(kind, type) and issubclass(kind, enum.Enum), _literal_hook),
        (lambda kind: _origin(kind) is Annotated, _annotated_hook),
    ]
    for predicate, factory in factories:
        converter.register_structure_hook_factory(predicate, factory)
    return converter


def structure(converter: Converter, node: Node, kind: Any) -> Any:
    """`node` as a `kind`. Raises `Mismatched`."""
    return converter.get_structure_hook(kind)(node, kind)


def collect(actions: Iterable[Callable[[], Any]]) -> list[Any]:
    """The results of all actions. Raises one `Mismatched` with what all of them found."""
    results, found = [], []
    for action in actions:
        try:
            results.append(action())
        except Mismatched as error:
            found.append(error)
    if found:
        raise Mismatched(*(one for error in found for one in error.found))
    return results


def _origin(kind: Any) -> Any:
    return get_origin(kind) or kind


# ---------------------------------------------------------------- scalars


def _soft(node: Node) -> Node:
    # What a variable or the command line gave is read as YAML where a number or a truth value is due.
    read = plain_scalar(node.text) if node.soft and isinstance(node.value, str) else node.value
    return attrs.evolve(node, value=read)


def _scalar(node: Node, kinds: type | tuple[type, ...], expected: str) -> Any:
    try:
        return expect(_soft(node), kinds, expected)
    except Mismatched as error:
        raise Mismatched(*(attrs.evolve(one, node=node) for one in error.found)) from None


def _truth(node: Node, _: Any) -> bool:
    return bool(_scalar(node, bool, "true or false"))


def _integer(node: Node, _: Any) -> int:
    return int(_scalar(node, int, "a whole number"))


def _number(node: Node, _: Any) -> float:
    return float(_scalar(node, (int, float), "a number"))


def _text(node: Node, _: Any) -> str:
    if node.soft and not isinstance(node.value, dict | list) and _is_text(node):
        return node.text
    return str(expect(node, str, "text"))


def _is_text(node: Node) -> bool:
    return isinstance(node.value, str | bool | int | float | None)


def _path(node: Node, _: Any) -> Path:
    text = _text(node, str)
    if not text:
        raise Mismatched(Mismatch(node, "a path"))
    return Path(text).expanduser()


# ---------------------------------------------------------------- compounds


def _mapping(node: Node) -> Node:
    if node.value is None:  # a key with nothing after it: an empty section
        return attrs.evolve(node, value={})
    expect(node, dict, "a mapping")
    return node


def _list_hook(kind: Any, converter: Converter) -> Hook:
    arguments = get_args(kind) or (Any,)
    fixed = _origin(kind) is tuple and len(arguments) > 1 and arguments[-1] is not Ellipsis
    make: Callable[[list[Any]], Any] = _origin(kind) if _origin(kind) in (tuple, set, frozenset) else list

    def hook(node: Node, _: Any) -> Any:
        entries = [] if node.value is None else expect(node, list, "a list")
        if fixed and len(entries) != len(arguments):
            raise Mismatched(Mismatch(node, message=f"expected {len(arguments)} values, found {len(entries)}"))
        kinds = arguments if fixed else [arguments[0]] * len(entries)
        pairs = zip(entries, kinds, strict=True)
        return make(collect(partial(structure, converter, entry, inner) for entry, inner in pairs))

    return hook


def _mapping_hook(kind: Any, converter: Converter) -> Hook:
    inner = (get_args(kind) or (str, Any))[1]

    def hook(node: Node, _: Any) -> dict[str, Any]:
        entries: dict[str, Node] = _mapping(node).value
        values = collect(partial(structure, converter, entry, inner) for entry in entries.values())
        return dict(zip(entries, values, strict=True))

    return hook


def _union_hook(kind: Any, converter: Converter) -> Hook:
    members = [member for member in get_args(kind) if member is not type(None)]
    optional = len(members) < len(get_args(kind))

    def hook(node: Node, _: Any) -> Any:
        if optional and (node.value is None or (node.soft and not node.quoted and not node.text)):
            return None
        # What is soft is a number or a truth value before it is text.
        order = sorted(members, key=lambda member: member is str) if node.soft else members
        found: list[Mismatch] = []
        for member in order:
            try:
                return structure(converter, node, member)
            except Mismatched as error:
                found += error.found
        # What has no place was made up here, unless all has none: an override.
        deeper = [one for one in found if one.node is not node and (one.node.line or not node.line)]
        if len(members) == 1 or deeper or not found:
            raise Mismatched(*(deeper or found))
        expected = " or ".join(dict.fromkeys(one.expected for one in found if one.expected))
        raise Mismatched(Mismatch(node, expected)) if expected else Mismatched(*found)

    return hook


def _literal_hook(kind: Any, _: Converter) -> Hook:
    named = isinstance(kind, enum.EnumType)
    choices = [choice.value for choice in kind] if named else list(get_args(kind))

    def hook(node: Node, _: Any) -> Any:
        for value in (_soft(node).value, node.text if node.soft else node.value):
            for choice in choices:
                if type(choice) is type(value) and choice == value:
                    return kind(choice) if named else choice
        expected = "one of " + ", ".join(map(str, choices))
        raise Mismatched(Mismatch(node, expected, hint=did_you_mean(str(node.text), map(str, choices))))

    return hook


def _annotated_hook(kind: Any, converter: Converter) -> Hook:
    inner, *marks = get_args(kind)
    lowest = next((mark.lowest for mark in marks if isinstance(mark, AtLeast)), None)
    may_be_empty = any(isinstance(mark, MayBeEmpty) for mark in marks)
    not_empty = any(isinstance(mark, NotEmpty) for mark in marks)

    def hook(node: Node, _: Any) -> Any:
        if may_be_empty and node.value is None:
            return ""
        value = structure(converter, node, inner)
        if lowest is not None and not value >= lowest:
            raise Mismatched(Mismatch(node, f"at least {lowest}"))
        if not_empty and not value:
            raise Mismatched(Mismatch(node, message="expected text that is not empty"))
        return value

    return hook


def _unsupported(kind: Any) -> Hook:
    def hook(node: Node, _: Any) -> Any:
        raise Mismatched(Mismatch(node, message=f"the options class has a type that cannot be configured: {kind}"))

    return hook


# ---------------------------------------------------------------- classes


def _class_hook(kind: Any, converter: Converter) -> Hook:
    fields = {each.name: each for each in attrs.fields(attrs.resolve_types(_origin(kind)))}
    build: Callable[[Mapping[str, Node], Any], Any] = make_dict_structure_fn(
        kind, converter, _cattrs_forbid_extra_keys=True
    )

    def hook(node: Node, _: Any) -> Any:
        entries: dict[str, Node] = _mapping(node).value
        try:
            return build(entries, kind)
        except (BaseValidationError, Mismatched) as error:
            found = [one for leaf in leaves(error) for one in _explain(leaf, node, entries, fields)]
            raise Mismatched(*found) from None

    return hook


def _explain(
    error: BaseException, node: Node, entries: Mapping[str, Node], fields: Mapping[str, attrs.Attribute[Any]]
) -> list[Mismatch]:
    name = next((n.name for n in getattr(error, "__notes__", ()) if isinstance(n, AttributeValidationNote)), "")
    if isinstance(error, Mismatched):
        return hidden(error.found) if name in fields and is_secret(fields[name]) else list(error.found)
    if isinstance(error, ForbiddenExtraKeysError):
        extra = [key for key in entries if key in error.extra_fields]
        return [unknown_key(entries[key], key, _not_given(entries[key], entries, fields)) for key in extra]
    if isinstance(error, KeyError) and name and name not in entries:
        return [Mismatch(node, message=f"the key {name!r} is missing")]
    name = name or _named_in(error, fields)
    return [Mismatch(entries.get(name, node), message=str(error.args[0] if error.args else error))]


def _not_given(node: Node, entries: Mapping[str, Node], fields: Iterable[str]) -> list[str]:
    """What an unknown key may have been meant to be: no key that the same file gives already."""
    names = list(fields)
    return [name for name in names if name not in entries or entries[name].file != node.file] or names


def _named_in(error: BaseException, fields: Mapping[str, attrs.Attribute[Any]]) -> str:
    # attrs' own validators give the attribute along, or begin their message with its name in quotes.
    given = next((each.name for each in error.args if isinstance(each, attrs.Attribute)), "")
    return given or next((name for name in fields if str(error).startswith(f"'{name}'")), "")


def is_secret(attribute: attrs.Attribute[Any]) -> bool:
    """Whether a field of a section or options class holds a secret."""
    return bool(attribute.metadata.get("secret")) or is_secret_name(attribute.name)
