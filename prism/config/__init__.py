"""The configuration of a project, read from `sais_foundation.yaml`: strict, typed, every value with its origin.

What is named here is imported when it is first used: naming the plugin `yaml` must not cost reading YAML.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prism.config.configuration import Configuration, Origin
    from prism.config.finding import find_config, locate_config
    from prism.config.layers import compose
    from prism.config.loading import load
    from prism.config.named import AnyOptions
    from prism.config.parameters import Parameters
    from prism.config.peeking import peek_plugins
    from prism.config.problems import ConfigurationError, Problem, did_you_mean
    from prism.config.secrets import SECRET
    from prism.config.sections import Launcher, Named

__all__ = [
    "SECRET",
    "AnyOptions",
    "Configuration",
    "ConfigurationError",
    "Launcher",
    "Named",
    "Origin",
    "Parameters",
    "Problem",
    "compose",
    "did_you_mean",
    "find_config",
    "load",
    "locate_config",
    "peek_plugins",
]

_HOMES = {
    "SECRET": "secrets",
    "AnyOptions": "named",
    "Configuration": "configuration",
    "ConfigurationError": "problems",
    "Launcher": "sections",
    "Named": "sections",
    "Origin": "configuration",
    "Parameters": "parameters",
    "Problem": "problems",
    "compose": "layers",
    "did_you_mean": "problems",
    "find_config": "finding",
    "load": "loading",
    "locate_config": "finding",
    "peek_plugins": "peeking",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
