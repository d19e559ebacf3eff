"""The seed's own API on top of Prism: the decorator, the configuration, the manager and the data client."""

from sais_prism.core.config import config
from sais_prism.core.decorators import sais_foundation

__all__ = ["config", "sais_foundation"]
__version__ = "0.2.0"
