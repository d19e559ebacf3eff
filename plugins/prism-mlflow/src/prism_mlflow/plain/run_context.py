"""MLflow's run-context provider: tags that say from which project and code a plain MLflow run comes.

MLflow imports this module whenever it is imported itself, for everybody in the environment: nothing
here is imported before there is a project, and nothing raises.
"""

from __future__ import annotations

from mlflow.tracking.context.abstract_context import RunContextProvider

from prism_mlflow.plain.whereabouts import project_here


class ProjectRunContext(RunContextProvider):
    """Inside a project (`sais_foundation.yaml` here or in a folder above): its tags `prism.…`."""

    def in_context(self) -> bool:
        return project_here() is not None

    def tags(self) -> dict[str, str]:
        project = project_here()
        return dict(project.tags()) if project is not None else {}
