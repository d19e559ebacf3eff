"""`MLflowService` and `MLflowManager`: a script's way to its run, also as a callback of Trainer and of Lightning."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import wrapt

from prism import Run
from sais_prism.core.config import ConfigManager
from sais_prism.core.exceptions import MLFlowIntegrationError, of_this_package
from sais_prism.core.sections import copied
from sais_prism.frameworks import hugging_face, lightning
from sais_prism.here import here
from sais_prism.hints import hint
from sais_prism.running import current_run, model_repo

_CALLBACKS = {
    "transformers.trainer_callback": "TrainerCallback",
    "lightning.pytorch.callbacks.callback": "Callback",
    "pytorch_lightning.callbacks.callback": "Callback",
}


class MLflowService:
    """Tracking and the model registry, for the run that is open; without one a run begins that ends with the process.

    Everything is in the run's journal when a call returns; the server is not waited for.
    """

    def __init__(self) -> None:
        self.config = ConfigManager()

    @property
    def run(self) -> Run:
        """Prism's handle on the run: more than this class has is there."""
        return current_run()

    @property
    def mlflow(self) -> Any:
        """The module `mlflow`. Inside a run its calls go to the run."""
        return importlib.import_module("mlflow")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers (Python, numpy or torch scalars) at an optimizer `step`."""
        if metrics:
            self.run.log_metrics(metrics, step=step)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; nested mappings become dotted names."""
        if params:
            self.run.log_params(copied(params) if isinstance(params, SimpleNamespace) else params)

    def set_log_params(self, key: str, val: Any) -> None:
        """Log one parameter."""
        self.log_params({key: val})

    def log_artifacts(self, artifacts: Any) -> None:
        """Keep files and folders as they are now: a path, a list of paths, or a mapping of such lists."""
        for path in _paths(artifacts):
            self.run.log_artifact(path)

    def set_log_artifacts(self, obj_str: str) -> None:
        """Keep one file or folder as it is now."""
        self.log_artifacts(obj_str)

    def log_model(self, params: Any) -> None:
        """Say what the run's model is: a folder, or a mapping with `name`, `version` and `tag` to register it as.

        It is registered once the run has succeeded. Raises `ValueError` for a mapping without `name` or `version`.
        """
        if isinstance(params, str | Path):
            run = self.run
            here.saved.choose(params)
            here.saved.keep(run)
            return
        given = copied(params)
        if missing := sorted({"name", "version"} - given.keys()):
            raise ValueError(f"log_model() needs {' and '.join(missing)}: it has {', '.join(given) or 'nothing'}")
        current_run()
        here.saved.name(model_repo(given))

    def model_versions(self, name: str = "") -> list[Any]:
        """The versions of a registered model, by default of `ml.model_repo.name`; asks the server.

        Raises `MLFlowIntegrationError` when it does not answer.
        """
        project = self.config.project
        if not project.config.trackers:
            raise MLFlowIntegrationError("no model is registered anywhere while `ml.enabled` is false")
        with of_this_package():
            registry = project.plugins.build("model_registry", project.config.trackers[0].name)
            registry.open(project.config.project, project.config.section("ml"))
            return list(registry.versions(name or project.config.ml.model_repo.name))


class MLflowManager(MLflowService):
    """The service that is also a callback: `Trainer(callbacks=[manager])`, of Transformers or of Lightning.

    It is an instance of the Callback classes of those of these frameworks that the script imports. The arguments are
    those of the seed (`MLflowManager(config.ml)`) or those of sais-prism-sdk 0.1, of which only the configuration
    counts: one process has one configuration.
    """

    def __init__(
        self, experiment_name: Any = None, experiment_description: Any = None, config: Any = None, mlflow: Any = None
    ) -> None:
        super().__init__()
        named = isinstance(experiment_name, str)
        self.ml_config = config if config is not None or named else experiment_name
        self.ml_config = self.config.config.ml if self.ml_config is None else self.ml_config
        self.experiment_name = experiment_name if named else self.config.config.foundation.experiment_name
        self.experiment_description = experiment_description
        configured = self.config.config.foundation.experiment_name
        if self.experiment_name != configured:
            hint(f"runs are of the experiment {configured!r}: write `foundation.experiment_name` for another")
        self._last_step = -1
        _become_callback(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process has its own."""
        return MLflowManager, ()

    def init_run(self) -> None:
        """Begin a run, where none is open."""
        current_run()

    def system_tracing(self, enabled: bool) -> None:
        """Whether the machine's own metrics are logged, from the next run on."""
        self.config.update_config("ml.system_tracing", bool(enabled))

    # ------------------------------------------------------------ of both frameworks

    def on_train_end(self, *arguments: Any, **named: Any) -> None:
        """Nothing: the run goes on, for what is said after the training."""

    # ------------------------------------------------------------ Transformers

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        current_run()
        hugging_face.look_at_labels(named.get("train_dataloader"))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **named: Any) -> None:
        hugging_face.log_figures(self.run, args=args, state=state, logs=logs)

    def on_save(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        hugging_face.record_checkpoint(self.run, args=args, state=state)

    # ------------------------------------------------------------ Lightning

    logs_to_prism = True
    """Tells MLflow's autologging that the trainer's metrics reach the run already."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        lightning.attach(self.run, trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._last_step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = lightning.batch_loss(trainer, outputs)
        if loss is not None and trainer.is_global_zero and trainer.global_step != self._last_step:
            self._last_step = trainer.global_step
            self.log_metrics({"batch_loss": loss}, step=trainer.global_step)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        lightning.detach(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        lightning.detach(trainer)


def initialize(*arguments: Any, **named: Any) -> MLflowManager:
    """`MLflowManager(…)`, by the name that sais-prism-sdk 0.1 had."""
    return MLflowManager(*arguments, **named)


_managers: WeakSet[MLflowManager] = WeakSet()


def _become_callback(manager: MLflowManager) -> None:
    """Make it an instance of the Callback classes that are imported, and of others when they are."""
    _managers.add(manager)
    _watch_imports()
    _rebase(manager)


@functools.cache
def _watch_imports() -> None:
    def rebase_all(_: Any) -> None:
        for manager in _managers:
            _rebase(manager)

    for module in _CALLBACKS:
        if module not in sys.modules:
            wrapt.register_post_import_hook(rebase_all, module)


def _rebase(manager: MLflowManager) -> None:
    imported = [(sys.modules.get(module), name) for module, name in _CALLBACKS.items()]
    callbacks = tuple(getattr(module, name) for module, name in imported if hasattr(module, name))
    own = next(cls for cls in type(manager).__mro__ if not cls.__dict__.get("_is_rebased"))
    if callbacks:
        body = {"_is_rebased": True, "__module__": own.__module__, "__qualname__": own.__qualname__}
        manager.__class__ = type(own.__name__, (own, *callbacks), body)


def _paths(artifacts: Any) -> Iterable[str | Path]:
    if isinstance(artifacts, SimpleNamespace):
        artifacts = vars(artifacts)
    if isinstance(artifacts, Mapping):
        artifacts = list(artifacts.values())
    if isinstance(artifacts, str | Path):
        yield artifacts
    else:
        for entry in artifacts or ():
            yield from _paths(entry)
