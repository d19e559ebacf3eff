"""The configuration of a project: typed sections, the origin of every value, and what may be shown of it."""

from __future__ import annotations

import enum
import functools
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from prism.config.nodes import Node, join
from prism.config.problems import Problem, did_you_mean
from prism.config.secrets import MASK, Redactor
from prism.config.sections import (
    Data,
    Evaluation,
    Foundation,
    Launcher,
    Ml,
    Named,
    PluginSwitches,
    Sections,
    UnifiedDataAccess,
)
from prism.config.structuring import is_secret
from prism.errors import UsageError


@frozen
class Origin:
    """Where a value comes from: a file, "environment", "command line" or "default".

    `line` and `column` count from 1 and are 0 where there are none; `text` is what is written there.
    """

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@frozen(repr=False)
class Configuration:
    """One configuration, resolved. `path` is its file, `project` the folder of that file.

    The sections are attributes as they are named in the YAML; `extra` holds the user's `x-…` sections.
    `warnings` are hints that fail nothing.
    """

    path: Path
    project: Path
    sections: Sections
    extra: Mapping[str, Any] = field(factory=dict)
    warnings: tuple[Problem, ...] = ()
    nodes: Mapping[str, Node] = field(factory=dict, eq=False)
    redactor: Redactor = field(factory=Redactor)

    @property
    def foundation(self) -> Foundation:
        return self.sections.foundation

    @property
    def unified_data_access(self) -> UnifiedDataAccess:
        return self.sections.unified_data_access

    @property
    def data(self) -> Data:
        return self.sections.data

    @property
    def ml(self) -> Ml:
        return self.sections.ml

    @property
    def trainer(self) -> Named:
        return self.sections.trainer

    @property
    def evaluation(self) -> Evaluation:
        return self.sections.evaluation

    @property
    def trackers(self) -> tuple[Named, ...]:
        """The trackers in use: none while `ml.enabled` is false."""
        return self.sections.trackers if self.ml.enabled else ()

    @property
    def launcher(self) -> Launcher:
        return self.sections.launcher

    @property
    def plugins(self) -> PluginSwitches:
        return self.sections.plugins

    def __repr__(self) -> str:
        return f"Configuration({str(self.path)!r}, digest={self.digest!r})"

    def section(self, name: str) -> dict[str, Any]:
        """A top-level section as plain data, its secrets included: not for showing."""
        if name in self.extra:
            return dict(self.extra[name])
        if name not in attrs.fields_dict(Sections):
            raise KeyError(name)
        plain: dict[str, Any] = self._unstructured(getattr(self, name), name, None)
        return plain

    def plain(self) -> dict[str, Any]:
        """Everything as plain data (dicts, lists, scalars), secrets as "***", paths relative to the project."""
        shown = {each.name: getattr(self, each.name) for each in attrs.fields(Sections)}
        return {name: self._unstructured(value, name, self.redactor) for name, value in {**shown, **self.extra}.items()}

    def dump(self) -> str:
        """`plain()` as YAML that Prism reads back to the same values."""
        from ruamel.yaml import YAML

        stream, yaml = io.StringIO(), YAML(typ="safe", pure=True)
        yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = False, 10_000, False  # type: ignore[assignment]
        yaml.dump(_escaped(self.plain()), stream)
        return stream.getvalue()

    @property
    def digest(self) -> str:
        """ "sha256:<hex>" of the resolved values without secrets: the same on every machine."""
        canonical = json.dumps(self.plain(), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    def redact(self, text: str) -> str:
        """`text` with every known secret value and the user information of URLs masked."""
        return self.redactor.redact(text)

    def origin(self, key: str) -> Origin:
        """Where the value at `key` ("ml.parameters.learning_rate", "trackers[0]") was set.

        Raises `UsageError` when there is no such key.
        """
        shown = self.shown()
        if key not in shown:
            raise UsageError(f"there is no key {key!r}", hint=did_you_mean(key, shown))
        node = self.nodes.get(key) or self._bare_name(key)
        if node is None or node.file == "default":
            return Origin("default", 0, 0, _text(shown[key]))
        masked = shown[key] != "" and (node.masked is not None or shown[key] == MASK)
        written = node.written or node.text
        text = written if not masked or _names_only(written) else MASK
        return Origin(node.file, node.line, node.column, self.redact(text))

    def _bare_name(self, key: str) -> Node | None:
        # `trainer: accelerate` sets `trainer.name`, which is not in the file.
        node = self.nodes.get(key.removesuffix(".name"))
        return node if key.endswith(".name") and node is not None and isinstance(node.value, str) else None

    def secrets(self) -> dict[str, Any]:
        """What `plain()` masks, as overrides take it: key → value. Not for showing.

        A list that holds a secret is there as a whole.
        """
        real = {each.name: self.section(each.name) for each in attrs.fields(Sections)}
        return dict(_differing(_escaped({**real, **self.extra}), _escaped(self.plain()), ""))

    def shown(self) -> dict[str, Any]:
        """Path → value, redacted, for every value at every level."""
        found: dict[str, Any] = {}

        def visit(value: Any, path: str) -> None:
            if path:
                found[path] = value
            entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for step, entry in entries:
                visit(entry, join(path, step))

        visit(self.plain(), "")
        return found

    def _unstructured(self, value: Any, path: str, redactor: Redactor | None) -> Any:
        visit = functools.partial(self._unstructured, redactor=redactor)
        node = self.nodes.get(path)
        if redactor is not None and node is not None and node.masked is not None and value not in ("", None):
            return redactor.redact(node.masked)
        if isinstance(value, Named | Launcher):
            options = {} if value.options is None else visit(value.options, path)
            own = {"processes": value.processes} if isinstance(value, Launcher) else {}
            return {"name": value.name, **options, **own}
        if attrs.has(type(value)):
            return {
                each.name: MASK
                if redactor is not None and is_secret(each) and getattr(value, each.name)
                else visit(getattr(value, each.name), join(path, each.name))
                for each in attrs.fields(type(value))
            }
        if isinstance(value, Mapping):
            return {str(key): visit(entry, join(path, str(key))) for key, entry in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [visit(entry, join(path, index)) for index, entry in enumerate(value)]
        if isinstance(value, enum.Enum):
            return value.value
        if isinstance(value, Path):
            inside = value.is_relative_to(self.project)
            value = value.relative_to(self.project).as_posix() if inside else str(value)
        return redactor.redact(value) if redactor is not None and isinstance(value, str) else value


def _differing(real: Any, shown: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(real, dict) and isinstance(shown, dict):
        for key, value in real.items():
            yield from _differing(value, shown.get(key), join(path, key))
    elif real != shown and real == real:  # not-a-number is no secret
        yield path, real


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _names_only(text: str) -> bool:
    # `${NAME}` and `${NAME:-}` say where a secret comes from without containing any.
    return text.startswith("${") and text.endswith("}") and text[2:-1].removesuffix(":-").isidentifier()


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: _escaped(entry) for key, entry in value.items()}
    return [_escaped(entry) for entry in value] if isinstance(value, list) else value
