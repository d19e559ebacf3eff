"""What this distribution provides: the tracker and the model registry `mlflow`."""

from __future__ import annotations

from prism.hookspecs import hookimpl
from prism.providers import Provider


@hookimpl
def prism_trackers() -> list[Provider]:
    return [
        Provider(
            "mlflow",
            target="prism_mlflow.tracker:MlflowTracker",
            options="prism_mlflow.options:TrackerOptions",
            requires=("mlflow",),
            summary="runs in MLflow: a server, or a SQLite file in the project",
            inside="prism_mlflow.inside.entering:enter",
        )
    ]


@hookimpl
def prism_model_registries() -> list[Provider]:
    return [
        Provider(
            "mlflow",
            target="prism_mlflow.registry:MlflowRegistry",
            requires=("mlflow",),
            summary="model versions in MLflow's registry, with semantic versions",
        )
    ]
