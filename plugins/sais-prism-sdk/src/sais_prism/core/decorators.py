"""`@sais_foundation`: each call of a class's `run()` becomes a run that is tracked."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any

from prism.runs.start import mark_experiment
from sais_prism.core.config import ConfigManager, take_overrides
from sais_prism.core.exceptions import ConfigurationError
from sais_prism.frameworks.devices import choose_device
from sais_prism.frameworks.transformers import understand_old_scripts
from sais_prism.running import running


def sais_foundation(cls: Any = None) -> Any:
    """Make each call of the class's `run()` a run of the project that `sais_foundation.yaml` describes.

    What the class does under that name stays as it is. Nothing is contacted. Raises `ConfigurationError` for what
    is no class, and for a configuration that is missing or wrong.
    """
    if cls is None:  # with parentheses after it
        return sais_foundation
    if not inspect.isclass(cls):
        name = getattr(cls, "__name__", repr(cls))
        raise ConfigurationError(
            f"@sais_foundation stands before {name!r}, which is no class",
            hint=f"write `class {name}:`, with `def run(self):` in it",
        )
    take_overrides(sys.argv[1:])
    manager = ConfigManager()
    for section in ("foundation", "unified_data_access", "ml"):
        setattr(cls, f"_{section}_config", getattr(manager.config, section))
    understand_old_scripts()
    choose_device(manager)
    work = getattr(cls, "run", None)
    if inspect.iscoroutinefunction(work):
        hint = "write `def run(self):` with `asyncio.run(…)` in it"
        raise ConfigurationError(f"{cls.__name__}.run is `async def`: it returns before it has worked", hint=hint)
    if callable(work):
        cls.run = mark_experiment(cls, _tracked(work, cls.__name__))  # type: ignore[attr-defined]
    return cls


def _tracked(work: Any, name: str) -> Any:
    @functools.wraps(work)
    def run(*arguments: Any, **named: Any) -> Any:
        with running(name):
            return work(*arguments, **named)

    return run
