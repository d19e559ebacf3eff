"""`ServiceLocator`: the manager and the data client of this process, made when they are first asked for."""

from __future__ import annotations

from typing import Any

from sais_prism.core.config import config
from sais_prism.here import here
from sais_prism.ml.mlflow_integration import MLflowManager
from sais_prism.unified_data_access.client import DataAccessClient, as_data_client


class ServiceLocator:
    """One manager and one data client for all of a process's code."""

    @classmethod
    def get_ml_manager(cls) -> MLflowManager:
        """The manager that was set, else one made of `config.ml`."""
        if here.ml_manager is None:
            here.ml_manager = MLflowManager(config.ml)
        manager: MLflowManager = here.ml_manager
        return manager

    @classmethod
    def set_ml_manager(cls, instance: MLflowManager) -> None:
        """Give this one out from now on; None: make one when it is asked for."""
        here.ml_manager = instance

    @classmethod
    def get_data_client(cls) -> Any:
        """The client that was set, else one over the data client that the configuration names."""
        if here.data_client is None:
            return DataAccessClient.configured()
        return here.data_client

    @classmethod
    def set_data_client(cls, instance: Any) -> None:
        """Resolve the datasets of the run that follows, or of the one that is open, with this client.

        It has `get_dataset(names)`, or `resolve` and `fetch` as every data client of Prism's; None: the
        configuration's again. Raises `DataAccessError` for anything else.
        """
        client = None if instance is None else as_data_client(instance)
        here.data_client = instance
        if here.open_run is not None:
            here.open_run.use_data_client(client)
