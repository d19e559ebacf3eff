"""What is known of a model that is evaluated: its version, its framework, its task and what it was made from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from prism.journal.state import RunState, read_state

if TYPE_CHECKING:
    from prism.project import Project
    from prism.runs.model_folders import ModelFolder

TAGS = ("framework", "task_type", "base_model")
"""What is told of a model beside its scores, by the names that `ml.model_repo.tag` has for it."""
FIRST_VERSION = "1.0.0"
_SEMVER = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?((?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?)")


@frozen
class ModelFacts:
    """A semantic `version`, who says so (`registry`, `run`, `configuration`, or `default`), and the known of `TAGS`."""

    version: str
    version_from: str
    tags: Mapping[str, str]


def facts_of(found: ModelFolder, *, project: Project) -> ModelFacts:
    """What is known of a model, of each fact what the first of these says.

    The registered version; the run that made it (its tags, its parameters); the configuration's
    `ml.model_repo`; the model's own `config.json`. Of a model on the hub the configuration says nothing: this
    project has not made it. A version that nobody says is 1.0.0, what a first registration would give.
    """
    state = read_state(found.run) if found.run is not None else None
    source, version = next(_versions(found, state, project=project))
    tags: dict[str, str] = {}
    for said in _sayings(found, state, project=project):
        tags |= {name: project.config.redact(str(said[name])) for name in TAGS if name not in tags and said.get(name)}
    return ModelFacts(version, source, {name: tags[name] for name in TAGS if name in tags})


def _versions(found: ModelFolder, state: RunState | None, *, project: Project) -> Iterator[tuple[str, str]]:
    """(who says so, version), best first."""
    said = [("registry", found.registered.version if found.registered is not None else "")]
    if state is not None and state.model is not None and state.model["state"] != "refused":
        said.append(("run", state.model["version"]))
    if _is_here(found):
        said.append(("configuration", project.config.ml.model_repo.version))
    for source, text in (*said, ("default", FIRST_VERSION)):
        if match := _SEMVER.fullmatch(text):
            yield source, f"{match[1]}.{match[2] or 0}.{match[3] or 0}{match[4]}"  # a registry's own `3` is 3.0.0


def _sayings(found: ModelFolder, state: RunState | None, *, project: Project) -> Iterator[Mapping[str, Any]]:
    """What each source says, best first."""
    if found.registered is not None:
        yield found.registered.tags
    if state is not None:
        yield from (state.model_tags, state.tags, state.params)
    if not _is_here(found):
        yield {"base_model": str(found.path)}
        return
    if found.registered is None:
        yield project.config.ml.model_repo.tag
    yield _own(found.path)


def _is_here(found: ModelFolder) -> bool:
    return found.path.is_dir()


def _own(folder: Path) -> dict[str, str]:
    """What the `config.json` that transformers writes says of a model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # another kind of model
        return {}
    if not isinstance(config, dict) or "transformers_version" not in config:
        return {}
    names = config.get("architectures") or [""]
    causal = all(str(name).endswith("ForCausalLM") for name in names)
    base = config.get("_name_or_path")
    return {
        "framework": "pytorch",
        "task_type": "language-model" if causal else "",
        "base_model": base if isinstance(base, str) else "",
    }
