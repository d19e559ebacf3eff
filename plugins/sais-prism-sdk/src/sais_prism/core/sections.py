"""Sections of the configuration as objects with attributes, which stay up to date while scripts hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Protocol

from prism.config.nodes import join
from prism.config.parameters import RENAMED
from prism.config.problems import did_you_mean

_OTHER_NAME = {**RENAMED, **{new: old for old, new in RENAMED.items()}}


class Owner(Protocol):
    """Who holds the configuration that sections show."""

    def assign(self, key: str, value: Any) -> None:
        """Set a value for this process."""

    def redact(self, value: Any) -> Any:
        """Plain data without its secrets."""


class Section(SimpleNamespace):
    """A mapping of the configuration: `section.key`, `vars(section)`.

    Setting an attribute changes the value for this process. Secrets are in the values, and never in `repr`.
    """

    __slots__ = ("_owner", "_place")

    def __init__(self, values: Mapping[str, Any], *, place: str, owner: Owner) -> None:
        super().__init__()
        object.__setattr__(self, "_place", place)
        object.__setattr__(self, "_owner", owner)
        renew(self, values)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            known = vars(self)
            if _OTHER_NAME.get(name) in known:
                return known[_OTHER_NAME[name]]
            where = f"`{self._place}`" if self._place else "the configuration"
            hint = did_you_mean(name, known)
            raise AttributeError(f"{where} has no key {name!r}" + (f" ({hint})" if hint else ""))
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._owner.assign(join(self._place, name), value)

    def __repr__(self) -> str:
        return f"Section({self._owner.redact(copied(self))})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and other processes get the values alone."""
        return SimpleNamespace, (), {name: copied(value, SimpleNamespace) for name, value in vars(self).items()}


def renew(section: Section, values: Mapping[str, Any]) -> None:
    """Let `section`, and the sections in it, have these values; whoever holds one sees them."""
    held = vars(section)
    for name in held.keys() - values.keys():
        del held[name]
    for name, value in values.items():
        inner = held.get(name)
        if isinstance(value, Mapping) and isinstance(inner, Section):
            renew(inner, value)
        else:
            held[name] = _wrapped(value, join(section._place, name), section._owner)


def copied(value: Any, kind: Callable[..., Any] = dict) -> Any:
    """Plain data of a section's value, or with its mappings as another kind."""
    if isinstance(value, SimpleNamespace):
        return kind(**{name: copied(inner, kind) for name, inner in vars(value).items()})
    return [copied(entry, kind) for entry in value] if isinstance(value, list) else value


def _wrapped(value: Any, place: str, owner: Owner) -> Any:
    if isinstance(value, Mapping):
        return Section(value, place=place, owner=owner)
    if isinstance(value, list | tuple):
        return [_wrapped(entry, join(place, index), owner) for index, entry in enumerate(value)]
    return value
