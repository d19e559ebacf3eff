"""Bringing a finished model to the registry that goes with the first tracker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prism.errors import EnvironmentUnfit, PrismError
from prism.journal.state import LiveState
from prism.project import Project
from prism.protocols import ModelRegistry, TrackedRun


def open_registry(project: Project) -> ModelRegistry:
    """The registry that goes with the first tracker: the one of the same name. Raises `EnvironmentUnfit`."""
    name = project.config.trackers[0].name if project.config.trackers else "mlflow"
    registry: ModelRegistry = project.plugins.build("model_registry", name, None)
    registry.open(project.config.project, project.config.section("ml"))
    return registry


def has_model(live: LiveState) -> bool:
    """Whether there is a model that is to be registered and is not yet."""
    model = live.state.model
    return model is not None and model["state"] in ("intended", "pending") and not live.state.part


def register(live: LiveState, project: Project, *, run: TrackedRun) -> dict[str, str]:
    """Register the run's model; what a record `registration` says of it.

    Only an error of Prism's own kinds is final and a refusal. Raises what may be over later: `EnvironmentUnfit`,
    and whatever a registry raises that does not say what it means.
    """
    model = live.state.model or {}
    try:
        version = open_registry(project).register(
            live.directory.model,
            name=model["name"],
            version=model["version"],
            digest=model["digest"],
            tags=live.state.model_tags,
            run=run,
        )
        return registration(model, "registered", version=version.version, url=version.url)
    except EnvironmentUnfit:
        raise
    except PrismError as error:
        return registration(model, "refused", reason=project.config.redact(error.message))


def registration(
    model: Mapping[str, Any], state: str, *, version: str = "", reason: str = "", url: str = ""
) -> dict[str, str]:
    """The content of a record `registration`."""
    facts = {"digest": model["digest"], "name": model["name"], "version": version or model["version"]}
    return {**facts, "state": state, "reason": reason, "url": url}
