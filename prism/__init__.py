"""Prism: one YAML file, or an existing training script, becomes a run that is tracked and reproducible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prism.hookspecs import hookimpl
    from prism.providers import Provider
    from prism.runs.handle import Run
    from prism.runs.start import experiment, start_run

__all__ = ["Provider", "Run", "experiment", "hookimpl", "start_run"]

# Imported when first asked for: `prism --help` and a plugin's registration need none of it.
_PLACES = {
    "Provider": "prism.providers",
    "Run": "prism.runs.handle",
    "experiment": "prism.runs.start",
    "hookimpl": "prism.hookspecs",
    "start_run": "prism.runs.start",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'prism' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
