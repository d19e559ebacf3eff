"""The model that a script saves: the last folder that `save_pretrained` wrote outside a trainer's `output_dir`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field

from prism import Run
from prism.config.sections import ModelRepo


@define
class LastSaved:
    """What was saved since a run began, and as what it is to be registered (None: as the YAML says)."""

    folder: Path | None = None
    inside: Path | None = None
    repo: ModelRepo | None = None
    outputs: set[Path] = field(factory=set)
    kept: bool = True

    def add_output(self, folder: Any) -> None:
        """A folder that a trainer writes its checkpoints to."""
        self.outputs.add(Path(str(folder)).absolute())

    def note(self, folder: Any) -> None:
        """A model was written to `folder`; a tokenizer may follow."""
        path = Path(str(folder)).absolute()
        if any(path.is_relative_to(output) for output in self.outputs):
            self.inside = path
        else:
            self.folder, self.kept = path, False

    def name(self, repo: ModelRepo) -> None:
        """Register it under this name."""
        self.repo, self.kept = repo, self.folder is None

    def keep(self, run: Run, say: Callable[[str], None]) -> None:
        """Keep the folder as the run's model, unless it is kept already; registered once the run has succeeded."""
        if self.folder is not None and not self.kept:
            run.log_model(self.folder, repo=self.repo)
            self.kept = True
        elif self.folder is None and self.inside is not None and run.config.ml.model_repo.registers:
            say(
                f"no model is registered: {self.inside} is inside the trainer's output_dir, whose checkpoints are not"
                " the model; save the finished one elsewhere"
            )
