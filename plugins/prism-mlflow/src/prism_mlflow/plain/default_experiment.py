"""MLflow's default-experiment provider: plain MLflow code inside a project logs to the project's experiment.

MLflow imports this module whenever it is imported itself, for everybody in the environment: nothing
here is imported before there is a project, and nothing raises.
"""

from __future__ import annotations

from mlflow.tracking.default_experiment.abstract_context import DefaultExperimentProvider

from prism_mlflow.plain.whereabouts import project_here


class ProjectExperiment(DefaultExperimentProvider):
    """Inside a project: the experiment `foundation.experiment_name`, made when it is not there yet.

    MLflow asks only where no experiment was set, by `set_experiment` or its environment variables.
    """

    def in_context(self) -> bool:
        project = project_here()
        return project is not None and bool(project.experiment)

    def get_experiment_id(self) -> str:
        """MLflow's id of the experiment. What goes wrong MLflow tells in a warning, and takes its own default."""
        from prism_mlflow.plain.experiments import (
            experiment_id,  # MLflow's client: imports the registry that imports us
        )

        project = project_here()
        assert project is not None  # in_context() said so
        return experiment_id(project.experiment)
