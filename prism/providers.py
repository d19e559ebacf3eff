"""The record by which a plugin says what it provides, and how that is imported when it is picked."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from prism.errors import EnvironmentUnfit


@frozen
class Provider:
    """One thing a plugin provides: a name, and strings that say where to import it from.

    `target` ("package.module:Attribute") is called with the options, or with nothing when
    `options` is empty. `options` names an attrs `@frozen` class in a module that imports nothing
    heavy. `requires` lists the modules that `target` needs beyond its own distribution's.

    `inside` (trackers only) names a function in a light module that is called with the `Run` in
    every process that enters a run of a configuration which names this tracker, before any user
    code: there the tracker's own library can be told to speak to the journal. It returns what undoes
    that when the run has ended and the process goes on, or None.
    """

    name: str
    target: str = field()
    options: str = field(default="")
    requires: tuple[str, ...] = ()
    summary: str = ""
    inside: str = field(default="")

    @target.validator
    def _check_target(self, _: object, value: str) -> None:
        _split(value)

    @options.validator
    @inside.validator
    def _check_optional(self, _: object, value: str) -> None:
        if value:
            _split(value)

    def load_target(self) -> Any:
        """The class or function that `target` names.

        Raises `EnvironmentUnfit` when a module it needs is not installed or fails on import.
        """
        return _load(self, self.target)

    def load_options(self) -> type[Any] | None:
        """The options class, or None when this provider takes no options."""
        return _load(self, self.options) if self.options else None

    def load_inside(self) -> Callable[[Any], Callable[[], None] | None] | None:
        """The function that `inside` names, or None."""
        return _load(self, self.inside) if self.inside else None


def _split(target: str) -> tuple[str, str]:
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{target!r} is not of the form 'package.module:Attribute'")
    return module, attribute


def _load(provider: Provider, target: str) -> Any:
    module_name, attribute = _split(target)
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        wanted = ", ".join(provider.requires) or error.name
        raise EnvironmentUnfit(
            f"{provider.name!r} cannot load {target}: there is no module {error.name!r}",
            hint=f"pip install what it needs: {wanted}",
        ) from error
    except (Exception, SystemExit) as error:  # a plugin's import may do anything
        raise EnvironmentUnfit(f"{provider.name!r} cannot load {target}: {type(error).__name__}: {error}") from error
