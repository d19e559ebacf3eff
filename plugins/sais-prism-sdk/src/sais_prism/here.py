"""What this process has: its run, and the instances that the service locator gives out."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from prism import Run
from sais_prism.frameworks.saved import LastSaved


@define
class Here:
    """`run` is the run begun last, `saved` the model that was saved since.

    `working` says that a decorated `run()` is at work in it, `spoken_for` that one was. `data_client` and
    `ml_manager` are the service locator's, None until they are set or asked for.
    """

    run: Run | None = None
    saved: LastSaved = field(factory=LastSaved)
    working: bool = False
    spoken_for: bool = False
    data_client: Any = None
    ml_manager: Any = None

    @property
    def open_run(self) -> Run | None:
        """The run, while something can be said in it."""
        return self.run if self.run is not None and self.run.status == "RUNNING" else None


here = Here()
