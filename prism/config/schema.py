"""JSON Schema (draft-07) of `sais_foundation.yaml`, made from the sections and the options classes of providers."""

from __future__ import annotations

import enum
import types
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs

from prism.config.parameters import Parameters
from prism.config.sections import AtLeast, Count, Kind, Launcher, MayBeEmpty, Sections, fields_of
from prism.config.spelling import DATA, DATA_SHORT

Schema = dict[str, Any]
OptionTypes = Mapping[str, Mapping[str, type | None]]
# What a variable gives is known when the file is loaded, so a text with one in it fits everywhere.
_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
_SCALARS: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
_LISTS = (list, tuple, set, frozenset, Sequence, Collection)


def json_schema(option_types: OptionTypes) -> Schema:
    """The schema of the whole file; `option_types`: kind → provider's name → its options class, None if it has none."""
    schema = _class(Sections, option_types)
    properties = schema["properties"]
    names: Schema = {"type": "array", "items": {"type": "string"}}
    access = properties[DATA]["properties"][DATA_SHORT]
    properties[DATA]["properties"][DATA_SHORT] = {**_any_of([access, names]), "description": access["description"]}
    properties[DATA_SHORT] = {**properties[DATA], "description": f"Another spelling of {DATA}."}
    files = "Files below this one, relative to the file that names them."
    properties["extends"] = {**_any_of([names, {"type": "null"}]), "description": files}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "sais_foundation.yaml",
        **schema,
        "patternProperties": {"^x-": {}},
    }


def _class(cls: type, option_types: OptionTypes) -> Schema:
    fields = [each for each in fields_of(cls) if each.init]
    properties = {each.name: _field(each, option_types) for each in fields}
    required = [each.name for each in fields if each.default is attrs.NOTHING]
    return {
        "type": ["object", "null"] if not required else "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _field(each: attrs.Attribute[Any], option_types: OptionTypes) -> Schema:
    schema = _of(each.type, option_types)
    meaning = each.metadata.get("doc")
    default = each.default
    plain = isinstance(default, bool | int | float | str) and not each.metadata.get("secret")
    return {**schema, **({"description": meaning} if meaning else {}), **({"default": default} if plain else {})}


def _of(kind: Any, option_types: OptionTypes) -> Schema:
    origin = get_origin(kind) or kind
    if origin is Annotated:
        return _annotated(kind, option_types)
    if origin in (Union, types.UnionType):
        return _any_of([_of(member, option_types) for member in get_args(kind)])
    if kind in _SCALARS:
        scalar: Schema = {"type": _SCALARS[kind]}
        return scalar if scalar["type"] == "string" else _any_of([scalar, _VARIABLE])
    if kind in (None, type(None)):
        return {"type": "null"}
    if origin is Literal:
        return _any_of([{"enum": list(get_args(kind))}, _VARIABLE])
    if isinstance(kind, enum.EnumType):
        members: Mapping[str, Any] = kind.__members__
        return _any_of([{"enum": [member.value for member in members.values()]}, _VARIABLE])
    if origin in _LISTS:
        inner = (get_args(kind) or (Any,))[0]
        return {"type": ["array", "null"], "items": _of(inner, option_types)}
    if origin in (dict, Mapping):
        values = (get_args(kind) or (str, Any))[1]
        return {"type": ["object", "null"], "additionalProperties": _of(values, option_types)}
    if kind is Parameters:
        return {"type": ["object", "null"]}
    return _class(kind, option_types) if attrs.has(origin) else {}


def _annotated(kind: Any, option_types: OptionTypes) -> Schema:
    inner, *marks = get_args(kind)
    role = next((mark.name for mark in marks if isinstance(mark, Kind)), None)
    if role is not None:
        return _named(role, inner, option_types)
    schema = _of(inner, option_types)
    for mark in marks:
        if isinstance(mark, MayBeEmpty):
            schema = _any_of([schema, {"type": "null"}])
        if isinstance(mark, AtLeast):
            bounded = [{**one, "minimum": mark.lowest} if one is not _VARIABLE else one for one in schema["anyOf"]]
            schema = _any_of(bounded)
    return schema


def _named(role: str, target: Any, option_types: OptionTypes) -> Schema:
    providers = option_types.get(role, {})
    more = {"processes": _of(Count | None, option_types)} if target is Launcher else {}
    forms = [_provider(name, options, more, option_types) for name, options in sorted(providers.items())]
    return _any_of([{"enum": sorted(providers)}, _VARIABLE, *forms])


def _provider(name: str, options: type | None, more: Schema, option_types: OptionTypes) -> Schema:
    none: Schema = {"properties": {}, "additionalProperties": False}
    schema = none if options is None else _class(options, option_types)
    return {
        **schema,
        "type": "object",
        "properties": {"name": {"const": name}, **schema["properties"], **more},
        "description": f"The options of {name}.",
    }


def _any_of(choices: Sequence[Schema]) -> Schema:
    flat = [inner for choice in choices for inner in (choice["anyOf"] if set(choice) == {"anyOf"} else [choice])]
    unique = [one for index, one in enumerate(flat) if one not in flat[:index]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}
