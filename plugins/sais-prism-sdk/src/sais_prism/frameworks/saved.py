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
    _kept: Any = None
    _is_settled: bool = False

    def add_output(self, folder: Any) -> None:
        """A folder that a trainer writes its checkpoints to."""
        self.outputs.add(_path(folder))

    def note(self, folder: Any) -> None:
        """A model was written to `folder`; a tokenizer may follow."""
        path = _path(folder)
        if any(path.is_relative_to(output) for output in self.outputs):
            self.inside = path
        else:
            self.choose(path)

    def choose(self, folder: Any) -> None:
        """It is `folder`, wherever that is."""
        self.folder, self._kept = _path(folder), None

    def name(self, repo: ModelRepo) -> None:
        """Register it under this name."""
        self.repo, self._kept = repo, None

    def is_last(self, folder: Any) -> bool:
        """Whether the last model was written to `folder`."""
        return self.folder == _path(folder)

    def keep(self, run: Run) -> None:
        """Keep the folder as the run's model, as it is now; registered once the run has succeeded."""
        now = _looks_of(self.folder) if self.folder is not None else frozenset()
        if self.folder is not None and now and now != self._kept:
            run.log_model(self.folder, repo=self.repo)
            self._kept = now

    def settle(self, run: Run, say: Callable[[str], None]) -> None:
        """The last word about it, of a run that has succeeded or is followed by another."""
        if self._is_settled:
            return
        self.keep(run)
        ml = run.config.ml
        if self.folder is None and self.inside is not None and ml.enabled and ml.model_repo.registers:
            say(
                f"no model is registered: {self.inside} is inside the trainer's output_dir, whose checkpoints are not"
                " the model; save the finished one elsewhere"
            )
        self._is_settled = True


def _path(folder: Any) -> Path:
    return Path(str(folder)).absolute()


def _looks_of(folder: Path) -> frozenset[tuple[str, int, int]]:
    """What tells that a folder has changed; nothing where it is gone."""
    facts = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return frozenset((str(path), found.st_size, found.st_mtime_ns) for path, found in facts)
