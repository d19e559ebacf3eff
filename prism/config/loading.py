"""Loads a configuration: layers, variables, strict structure, and everything that is wrong at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import evolve

from prism.config.checks import check_values, warnings_of
from prism.config.configuration import Configuration
from prism.config.interpolation import Unfilled
from prism.config.layers import EXTENDS, Composed, Read, compose
from prism.config.mismatch import Mismatch, Mismatched, unknown_key
from prism.config.named import Naming, OptionType, absolute, register
from prism.config.nodes import Node, placed, plain, walk
from prism.config.parameters import Parameters
from prism.config.problems import ConfigurationError, Problem
from prism.config.secrets import MASK, is_secret_name, redactor, user_of_url
from prism.config.sections import Sections
from prism.config.spelling import DATA_SHORT
from prism.config.structuring import is_secret, strict_converter, structure

_LAST_KEY = re.compile(r"^(?:.*\.)?([^.\[]*)(?:\[\d+\])*$")


def load(
    path: Path,
    *,
    read: Read,
    option_type: OptionType,
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
    project: Path | None = None,
) -> Configuration:
    """The configuration at `path`, under what `environ` (`PRISM__A__B`) and `overrides` ("a.b=value") change.

    `read` turns a file into nodes; `option_type(kind, name)` gives a provider's options class, or None when it
    takes none. `project` is the folder that paths are relative to, where that is not the file's own.
    Raises `ConfigurationError` with every problem there is.
    """
    composed = compose(path, read=read, environ=environ, overrides=overrides)
    tree, folder = placed(composed.node), (project or path.parent).absolute()
    naming = Naming(tree, folder, option_type)
    found, sections = _structured(tree, naming)
    problems = [
        *composed.problems,
        *(one.problem() for one in found if not isinstance(one.node.value, Unfilled)),
        *check_values(tree),
    ]
    if sections is None or problems:
        raise _redacted(problems, composed, tree)
    mask = redactor({*composed.secrets, *_secret_values(sections), *_secrets_in(tree)})
    parameters = Parameters(sections.ml.parameters, redactor=mask)
    return Configuration(
        path=path.absolute(),
        project=folder,
        sections=evolve(sections, ml=evolve(sections.ml, parameters=parameters)),
        extra={name: plain(node) for name, node in tree.value.items() if name.startswith("x-")},
        warnings=tuple(evolve(one, message=mask.redact(one.message)) for one in warnings_of(tree, sections)),
        nodes={place: _marked(place, node) for place, node in [*walk(tree), *naming.inherited.items()]},
        redactor=mask,
    )


def _structured(tree: Node, naming: Naming) -> tuple[list[Mismatch], Sections | None]:
    converter = strict_converter()
    register(converter, naming)
    known = set(attrs.fields_dict(Sections))
    own = {name: node for name, node in tree.value.items() if name in known}
    names = [*known, EXTENDS, DATA_SHORT]
    unknown = [
        _unknown_section(node, name, names)
        for name, node in tree.value.items()
        if name not in known and not name.startswith("x-")
    ]
    try:
        sections: Sections = structure(converter, evolve(tree, value=own), Sections)
    except Mismatched as error:
        return [*unknown, *error.found], None
    return unknown, evolve(sections, plugins=absolute(sections.plugins, naming.project))


def _unknown_section(node: Node, name: str, known: Sequence[str]) -> Mismatch:
    if name == EXTENDS:
        return unknown_key(node, name, (), hint="files are extended by files only")
    mismatch = unknown_key(node, name, known)
    close = mismatch.hint.startswith("did you mean")
    return mismatch if close else evolve(mismatch, hint=f"name a section of your own x-{name}")


def _secret_values(value: Any) -> Iterator[str]:
    if attrs.has(type(value)):
        for each in attrs.fields(type(value)):
            inner = getattr(value, each.name)
            if is_secret(each) and isinstance(inner, str):
                yield inner
            yield from _secret_values(inner)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _secret_values(entry)
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _secret_values(entry)


def _secrets_in(tree: Node) -> Iterator[str]:
    for place, node in walk(tree):
        if isinstance(node.value, str):
            yield from user_of_url(node.text or node.value)
        if _named_secret(place, node):
            yield node.text


def _named_secret(place: str, node: Node) -> bool:
    # Parameters are the user's own: there a key's name says that its text is a secret.
    return bool(node.text) and not isinstance(node.value, bool | None) and is_secret_name(_LAST_KEY.sub(r"\1", place))


def _marked(place: str, node: Node) -> Node:
    return evolve(node, masked=MASK) if _named_secret(place, node) else node


def _redacted(problems: Sequence[Problem], composed: Composed, tree: Node) -> ConfigurationError:
    mask = redactor({*composed.secrets, *_secrets_in(tree)})
    clean = [evolve(one, message=mask.redact(one.message), hint=mask.redact(one.hint)) for one in problems]
    order = {name: index for index, name in enumerate(dict.fromkeys(one.file for one in clean))}
    return ConfigurationError(sorted(dict.fromkeys(clean), key=lambda one: (order[one.file], one.line, one.column)))
