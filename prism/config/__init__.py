"""The configuration of a project, read from `sais_foundation.yaml`: strict, typed, every value with its origin."""

from prism.config.configuration import Configuration, Origin
from prism.config.finding import find_config, locate_config
from prism.config.layers import compose
from prism.config.loading import load
from prism.config.parameters import Parameters
from prism.config.peeking import peek_plugins
from prism.config.problems import ConfigurationError, Problem, did_you_mean
from prism.config.secrets import SECRET
from prism.config.sections import Launcher, Named

__all__ = [
    "SECRET",
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
