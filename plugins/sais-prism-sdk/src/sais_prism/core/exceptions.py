"""The errors of this package. Each says what is wrong, where, and what would be right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prism.errors import DataError, EnvironmentUnfit, PrismError, UsageError


class SAISError(PrismError):
    """Anything that goes wrong in this package."""


class ConfigurationError(SAISError, UsageError):
    """The configuration, or the way in which this package is used, is wrong."""


class ConfigurationMissing(ConfigurationError, FileNotFoundError):
    """There is no `sais_foundation.yaml`: scripts for sais-prism-sdk 0.1 catch a FileNotFoundError."""


class SecretNotWritten(ConfigurationError):
    """A secret was to be written to the configuration file."""


class DataAccessError(SAISError, DataError):
    """A dataset is missing, damaged, or cannot be reached."""


class MLFlowIntegrationError(SAISError):
    """A run or a model cannot be tracked as it is asked for."""


@contextmanager
def of_this_package() -> Iterator[None]:
    """Raise Prism's own errors as those of this package that scripts catch."""
    try:
        yield
    except SAISError:
        raise
    except UsageError as error:
        raise ConfigurationError(error.message, hint=error.hint) from None
    except DataError as error:
        raise DataAccessError(error.message, hint=error.hint) from error
    except EnvironmentUnfit as error:
        raise MLFlowIntegrationError(error.message, hint=error.hint) from error
