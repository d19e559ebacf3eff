"""The configuration as scripts read and change it: `config`, `ConfigManager` and `parse_cli_args`."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any, ClassVar

import attrs
from attrs import evolve

from prism.config import Configuration, find_config
from prism.config.editing import set_value
from prism.config.finding import CONFIG_NAME
from prism.config.layers import EXTENDS, split_path
from prism.config.nodes import Node
from prism.config.parameters import GONE, RENAMED
from prism.config.sections import Sections
from prism.config.spelling import DATA, DATA_SHORT
from prism.project import Project, open_project
from prism.runs.start import hosted_project, outer_environment, reconfigure
from sais_prism.core.exceptions import ConfigurationError, ConfigurationMissing, SecretNotWritten, of_this_package
from sais_prism.core.sections import Section, renew
from sais_prism.here import here
from sais_prism.hints import hint

_OWN = "x-"
_SECTIONS = tuple(attrs.fields_dict(Sections))
_KNOWN = (*_SECTIONS, EXTENDS, DATA_SHORT)
_MISSPELT = 0.8
"""A section's name this like to one of Prism's is a misspelling, not a section of the user's own."""


class ConfigManager:
    """The one configuration of this process, from `sais_foundation.yaml` here or in a folder above.

    Under `prism run` it is the run's. What is changed holds for this process only, unless the file is asked for.
    """

    _instance: ClassVar[ConfigManager | None] = None
    project: Project
    config: Section
    _overrides: dict[str, str]
    _renamed: dict[str, str]
    _hosted: Project | None

    def __new__(cls) -> ConfigManager:
        if cls._instance is None:
            made = super().__new__(cls)
            made._load()
            cls._instance = made
        return cls._instance

    @property
    def config_path(self) -> str:
        """The file's absolute path."""
        return str(self.project.config.path)

    @property
    def raw_config(self) -> dict[str, Any]:
        """All values as plain data."""
        return _values(self.project.config)

    def get(self, key: str, default: Any = None) -> Any:
        """The section or value at `key` ("ml", "ml.parameters.device"), else `default`."""
        found: Any = self.config if split_path(key) else ...
        for step in split_path(self._spelled(key)):
            found = vars(found).get(step, ...) if isinstance(found, SimpleNamespace) else ...
        return default if found is ... else found

    def update_config(self, key_path: str, value: Any, update_yaml: bool = False) -> None:
        """Set the value at `key_path` for this process, in the file too when `update_yaml` is true.

        A text is read as on the command line: "5" is a number, "[1, 2]" a list. A mapping is merged into the one
        that is there. In the file comments are kept; a secret is never written. Raises `ConfigurationError`, and
        changes nothing then.
        """
        self._change(key_path, value if isinstance(value, str) else _literal(value), update_yaml=update_yaml)
        _say_where_it_holds(key_path)

    def assign(self, key: str, value: Any) -> None:
        """Set the value at `key` for this process, a text as it is: what `section.key = value` does."""
        self.replace(key, value)
        _say_where_it_holds(key)

    def replace(self, key: str, value: Any) -> None:
        """`assign`, for who says himself why it is another."""
        self._change(key, _literal(value))

    def project_with(self, values: Mapping[str, Any]) -> Project:
        """The project of this process, with other values at these keys."""
        if not values:
            return self.project
        with of_this_package():
            return self._open({**self._overrides, **{key: _literal(value) for key, value in values.items()}})

    def redact(self, value: Any) -> Any:
        """Plain data without its secrets."""
        return self.project.config.redactor.redact_values(value)

    def _change(self, key: str, text: str, *, update_yaml: bool = False) -> None:
        overrides = {**self._overrides, self._spelled(key): text}
        with of_this_package():
            project = self._open(overrides)
            if update_yaml:
                self._write(project.config, key)
        if here.open_run is None:
            reconfigure(project)
        self.project, self._overrides = project, overrides
        renew(self.config, _values(project.config))

    def _load(self) -> None:
        self._overrides, self._renamed, self._hosted = {}, {}, hosted_project()
        with of_this_package():
            self.project = self._hosted or self._open({})
        self.config = Section(_values(self.project.config), place="", owner=self)
        for name in self._renamed:
            hint(f"the section `{name}` is your own: write `{_OWN}{name}`, which `prism config check` takes too")
        if self._hosted is None:  # `prism run` has told them
            for warning in self.project.config.warnings:
                if warning.key.rpartition(".")[2] not in {*RENAMED, *GONE}:  # told where a script uses them
                    hint(str(warning))

    def _open(self, overrides: Mapping[str, str]) -> Project:
        hosted = self._hosted  # as it was, without what was changed here since
        given = tuple(f"{key}={text}" for key, text in overrides.items())
        if hosted is None:
            return open_project(_find_file(), overrides=given, environ=outer_environment(), adapt=self._adapted)
        return open_project(
            hosted.config.path,
            overrides=(*hosted.overrides, *given),
            off=hosted.plugins.off,
            environ=outer_environment(),
            folder=hosted.config.project,
            adapt=self._adapted,
        )

    def _adapted(self, tree: Node) -> Node:
        """Sections that Prism does not know, under names that it leaves to the user."""
        entries = {}
        for name, node in tree.value.items():
            if _is_own(name) and f"{_OWN}{name}" not in tree.value:
                self._renamed[name] = name = _OWN + name
            entries[name] = node
        return evolve(tree, value=entries)

    def _spelled(self, key: str) -> str:
        section, dot, rest = key.partition(".")
        if section == DATA_SHORT:
            return f"{DATA}{dot}{rest}"
        own = _is_own(section) and (dot or f"{_OWN}{section}" in self.project.config.extra)
        return f"{_OWN}{section}{dot}{rest}" if own else key

    def _write(self, config: Configuration, key: str) -> None:
        place = self._spelled(key)
        value, shown = _at(_values(config), place), config.shown().get(place)
        node = config.nodes.get(place)
        if node is not None and "${" in node.written:
            value, shown = node.written, config.origin(place).text
        if self.redact(value) != value or shown != value:
            raise SecretNotWritten(
                f"{key} is a secret, which is never written to {config.path.name}",
                hint="write ${NAME} there, and set the variable",
            )
        section, dot, rest = place.partition(".")
        set_value(config.path, f"{self._as_written(section)}{dot}{rest}", value)

    def _as_written(self, section: str) -> str:
        return next((name for name, own in self._renamed.items() if own == section), section)


def _is_own(section: str) -> bool:
    """Whether a section is neither Prism's, nor a misspelling of one, nor named as the user's own already."""
    misspelt = difflib.get_close_matches(section, _KNOWN, cutoff=_MISSPELT)
    return section not in _KNOWN and not section.startswith(_OWN) and not misspelt


def _find_file() -> Path:
    """The configuration here or above, else beside the script or above. Raises `ConfigurationMissing`."""
    here_, script = Path.cwd(), Path(sys.argv[0]).absolute().parent
    found = find_config(here_) or find_config(script)
    if found is None:
        places = str(here_) if script == here_ else f"{here_} or {script}"
        hint = "`prism init` writes one to start from"
        raise ConfigurationMissing(f"there is no {CONFIG_NAME} in {places}, or in any folder above", hint=hint)
    return found


_NOT_FINITE = {"NaN": ".nan", "Infinity": ".inf", "-Infinity": "-.inf"}


def _literal(value: Any) -> str:
    """The text that is read as `value`. Raises `ConfigurationError` for what no configuration holds."""
    text = json.dumps(value, ensure_ascii=False, default=_plain).replace("${", "$${")
    return _NOT_FINITE.get(text, text)


def _plain(value: Any) -> Any:
    if isinstance(value, SimpleNamespace):
        return vars(value)
    if isinstance(value, PurePath):
        return str(value)
    if callable(getattr(value, "item", None)):
        return value.item()  # a scalar of numpy or torch
    raise ConfigurationError(
        f"a value of type {type(value).__name__} cannot stand in the configuration",
        hint="numbers, texts, truths, lists and mappings can",
    )


def _say_where_it_holds(key: str) -> None:
    if here.open_run is not None:
        hint(f"{key} is changed while a run is open: the run's record keeps what it began with")
    elif hosted_project() is not None:
        hint(f"the run has begun with another {key}: give it to `prism run` itself, before `--`")


class _Config:
    """`config.<section>`: the configuration, loaded when it is first asked for; None where there is no such section."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return ConfigManager().get(name)

    def __repr__(self) -> str:
        return "<the configuration: config.foundation, config.unified_data_access, config.ml, …>"


config = _Config()


def parse_cli_args(description: str = "Override configuration values", update_yaml: bool = False) -> None:
    """Take `--config KEY=VALUE [KEY=VALUE …]` from the command line, in the file too when `update_yaml` is true.

    Other arguments are left to the script. Raises `ConfigurationError`.
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False, parents=[_overriding()])
    _take_overrides(parser.parse_known_args()[0].config, update_yaml=update_yaml)


def take_overrides(words: Sequence[str]) -> None:
    """As `parse_cli_args`, from these words, with `--help` left to the script too."""
    _take_overrides(_overriding().parse_known_args(words)[0].config)


def _overriding() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--config", action="append", nargs="*", default=[], metavar="KEY=VALUE")
    return parser


def _take_overrides(given: Sequence[Sequence[str]], *, update_yaml: bool = False) -> None:
    for override in (text for several in given for text in several):
        key, equals, text = override.partition("=")
        if not equals:
            hint("--config: a word that is not KEY=VALUE is passed over")
            continue
        try:
            ConfigManager().update_config(key, text, update_yaml=update_yaml)
        except SecretNotWritten as error:  # the others are
            ConfigManager().update_config(key, text)
            hint(str(error.message))
        hint(f"--config: {key} = {ConfigManager().project.config.redact(text)}")


def _values(config: Configuration) -> dict[str, Any]:
    """All sections as plain data, the user's own also without the `x-` before their names."""
    found = {name: config.section(name) for name in _SECTIONS}
    own = {name: config.section(name) for name in config.extra}
    return {**{name.removeprefix(_OWN): values for name, values in own.items()}, **own, **found}


def _at(values: Any, key: str) -> Any:
    for step in split_path(key):
        values = values[step]
    return values
