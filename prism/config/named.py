"""Structures what names a provider: a bare name, or a mapping of `name` and the provider's own options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import attrs
from attrs import evolve, field, frozen
from cattrs import Converter

from prism.config.mismatch import Mismatch, Mismatched, unknown_key
from prism.config.nodes import Node, join
from prism.config.sections import Count, Evaluation, Kind, Launcher, Named, UnifiedDataAccess
from prism.config.spelling import DATA
from prism.config.structuring import Hook, collect, structure
from prism.errors import EnvironmentUnfit, UsageError

OptionType = Callable[[str, str], type | None]


class AnyOptions:
    """Stands for the options class of a provider that is not here: its options are neither checked nor read."""


# Values of a section that its provider's options take over when they declare the field and do not say otherwise.
_INHERITED: Mapping[str, tuple[str, type, tuple[str, ...]]] = {
    "data_client": (DATA, UnifiedDataAccess, ("token", "cached")),
    "predictor": ("evaluation", Evaluation, ("max_new_tokens",)),
    "evaluator": ("evaluation", Evaluation, ("max_new_tokens",)),
    "launcher": ("launcher", Launcher, ("processes",)),
}


@frozen
class Naming:
    """What structuring a name needs: the whole tree, the project's folder, and who knows the options classes.

    `inherited` is filled with what options took over from their section: the option's path → the section's node.
    """

    tree: Node
    project: Path
    option_type: OptionType
    inherited: dict[str, Node] = field(factory=dict)


def register(converter: Converter, naming: Naming) -> None:
    """Let `converter` structure `Annotated[Named, Kind(…)]` and `Annotated[Launcher, Kind(…)]`."""

    def is_named(kind: Any) -> bool:
        return get_origin(kind) is Annotated and any(isinstance(mark, Kind) for mark in get_args(kind)[1:])

    def factory(kind: Any, converter: Converter) -> Hook:
        target, *marks = get_args(kind)
        role = next(mark.name for mark in marks if isinstance(mark, Kind))
        make = _launcher if target is Launcher else _named
        return lambda node, _: make(node, role, naming, converter)

    converter.register_structure_hook_factory(is_named, factory)


def absolute(value: Any, project: Path) -> Any:
    """`value` with every path in it made absolute against the project's folder."""
    if isinstance(value, Path):
        return project / value
    if isinstance(value, tuple | list | set | frozenset):
        return type(value)(absolute(entry, project) for entry in value)
    if isinstance(value, dict):
        return {key: absolute(entry, project) for key, entry in value.items()}
    if attrs.has(type(value)) and not isinstance(value, type):
        fields = {each.name: each for each in attrs.fields(type(value)) if each.init}
        changed = {name: absolute(getattr(value, name), project) for name in fields}
        different = {fields[n].alias or n: new for n, new in changed.items() if new is not getattr(value, n)}
        return evolve(value, **different) if different else value
    return value


def _named(node: Node, role: str, naming: Naming, converter: Converter) -> Named:
    entries = _entries(node)
    name = _name(node, entries)
    return Named(name, _options(node, entries, role, naming, converter))


def _launcher(node: Node, role: str, naming: Naming, converter: Converter) -> Launcher:
    entries = _entries(node)
    count = entries.pop("processes", Node(None))
    processes, options = collect(
        [
            partial(structure, converter, count, Count | None),
            partial(_options, node, entries, role, naming, converter),
        ]
    )
    return Launcher(_name(node, entries), processes, options)


def _entries(node: Node) -> dict[str, Node]:
    if isinstance(node.value, str):
        return {"name": node}
    if not isinstance(node.value, dict):
        raise Mismatched(Mismatch(node, "a name, or a mapping of `name` and options"))
    return dict(node.value)


def _name(node: Node, entries: Mapping[str, Node]) -> str:
    if "name" not in entries:
        raise Mismatched(Mismatch(node, message="the key 'name' is missing"))
    name = entries["name"]
    if not isinstance(name.value, str) or not name.value:
        raise Mismatched(Mismatch(name, "text, the name of a provider"))
    return name.value


def _options(node: Node, entries: Mapping[str, Node], role: str, naming: Naming, converter: Converter) -> Any:
    name, given = _name(node, entries), {key: value for key, value in entries.items() if key != "name"}
    try:
        options_class = naming.option_type(role, name)
    except (UsageError, EnvironmentUnfit) as error:
        if entries["name"].file == "default" and not given:
            return None  # nobody asked for it; whoever builds it says what is missing
        unfit = isinstance(error, EnvironmentUnfit)
        raise Mismatched(Mismatch(entries["name"], message=error.message, hint=error.hint, unfit=unfit)) from None
    if options_class is AnyOptions:
        return None
    if options_class is None:
        if given:
            hint = f"{name} takes no options"
            raise Mismatched(*(unknown_key(value, key, (), hint=hint) for key, value in given.items()))
        return None
    inherited = _inherited(role, options_class, naming.tree)
    naming.inherited.update({join(node.path, key): value for key, value in inherited.items() if key not in given})
    given = {**inherited, **given}
    try:
        options = structure(converter, evolve(node, value=given), options_class)
    except NameError as error:
        if entries["name"].file == "default" and not given:
            return None
        message = f"the options class of {name!r} is broken: {error}"
        raise Mismatched(Mismatch(entries["name"], message=message, unfit=True)) from None
    return absolute(options, naming.project)


def _inherited(role: str, options_class: type, tree: Node) -> dict[str, Node]:
    section, section_class, names = _INHERITED.get(role, ("", Named, ()))
    declared = {each.name for each in attrs.fields(options_class)}
    inside = tree.value.get(section, Node({})).value
    given = inside if isinstance(inside, dict) else {}
    defaults = {each.name: each.default for each in attrs.fields(section_class)}
    chosen = {name: given.get(name) or Node(defaults[name], file="default") for name in names if name in declared}
    return {name: node for name, node in chosen.items() if node.value is not None}
