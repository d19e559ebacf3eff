"""What the manager does as a callback of Lightning's `Trainer`, of either package."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

from prism import Run

MLFLOW = "MLFlowLogger"


def attach(run: Run, trainer: Any, module: Any) -> None:
    """Let the run hear what a logger of the trainer hears, and of each checkpoint, until the fit ends.

    Where MLflow's own logger is there it is left to that: inside a run it logs to the run.
    """
    if not any(type(logger).__name__ == MLFLOW for logger in trainer.loggers):
        trainer.loggers = [*trainer.loggers, _logger(run, trainer)]
        if trainer.is_global_zero:
            _log_hyperparameters(run, getattr(module, "hparams_initial", None) or {})
    trainer.save_checkpoint = _recording(run, trainer, trainer.save_checkpoint)


def detach(trainer: Any) -> None:
    """Undo `attach`."""
    trainer.loggers = [logger for logger in trainer.loggers if type(logger).__name__ != _JOURNAL]
    vars(trainer).pop("save_checkpoint", None)


def batch_loss(outputs: Any) -> Any:
    """The loss that a training step has returned, or None."""
    if isinstance(outputs, Mapping):
        outputs = outputs.get("loss")
    return outputs.detach().item() if hasattr(outputs, "detach") and outputs.numel() == 1 else None


_JOURNAL = "JournalLogger"


def _logger(run: Run, trainer: Any) -> Any:
    """A logger of the trainer's own package that writes to the run's journal."""
    package = type(trainer).__module__.partition(".trainer")[0]
    silent = sys.modules[f"{package}.loggers.logger"].DummyLogger

    def log_metrics(_: Any, metrics: Mapping[str, float], step: int | None = None) -> None:
        if trainer.is_global_zero:
            run.log_metrics(metrics, step=trainer.global_step)

    return type(_JOURNAL, (silent,), {"log_metrics": log_metrics})()


def _log_hyperparameters(run: Run, given: Mapping[str, Any]) -> None:
    """What `save_hyperparameters()` has kept; a parameter of the configuration stays what it is there."""
    run.log_params({name: value for name, value in given.items() if name not in run.params})


def _recording(run: Run, trainer: Any, save: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(save)
    def recorded(filepath: Any, *arguments: Any, **named: Any) -> Any:
        answer = save(filepath, *arguments, **named)
        if trainer.is_global_zero:
            run.record_checkpoint(filepath, step=trainer.global_step)
        return answer

    return recorded
