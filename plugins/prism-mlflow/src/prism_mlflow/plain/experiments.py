"""An experiment of the MLflow that plain MLflow code talks to, by its name."""

from __future__ import annotations

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient


def experiment_id(name: str) -> str:
    """MLflow's id of the experiment `name`, made when it is not there. Raises `MlflowException` for a deleted one."""
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was quicker
                raise
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise MlflowException.invalid_parameter_value(
            f"the project's experiment {name!r} was deleted in MLflow; restore it, or name another"
        )
    return str(found.experiment_id)
