"""A run's finished model: kept whole, looked at, and what is to be registered of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from prism.data.digest import digest_files, manifest_digest
from prism.runs.files import keep_folder
from prism.runs.weights import non_finite_tensors

if TYPE_CHECKING:
    from prism.config import Configuration
    from prism.config.sections import ModelRepo


@frozen
class KeptModel:
    """A model in the run directory: digest of its files, bytes, and its tensors that are not finite."""

    digest: str
    size: int
    non_finite: tuple[str, ...]


def keep_model(source: Path, target: Path) -> KeptModel:
    """Copy the model folder `source` to `target`, in place of an earlier one."""
    shutil.rmtree(target, ignore_errors=True)
    keep_folder(source, target)
    files = digest_files(target)
    return KeptModel(manifest_digest(files), sum(file.size for file in files), tuple(non_finite_tensors(target)))


def registration_intent(config: Configuration, *, repo: ModelRepo | None = None) -> dict[str, Any] | None:
    """What `repo`, else `ml.model_repo`, asks for, as the `model` record holds it; None: nothing is registered."""
    repo = repo or config.ml.model_repo
    if not repo.registers or not config.ml.enabled:
        return None
    tags = {str(key): str(value) for key, value in repo.tag.items()}
    return {"name": repo.name, "version": repo.version, "tags": tags, "await": repo.await_registration_for}
