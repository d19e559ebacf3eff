"""What the manager does as a callback of Lightning's `Trainer`, of either package."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wrapt

from prism import Run
from prism.project import JOURNAL_SCHEME
from sais_prism.frameworks.checkpoints import note_checkpoint
from sais_prism.here import here

_JOURNAL = "JournalLogger"
_TRAINER = ".trainer.trainer"


def attach(run: Run, trainer: Any) -> None:
    """Let the run hear what a logger of the trainer hears, and of each checkpoint.

    Where MLflow's own logger speaks to the run already it is left to that.
    """
    _record_checkpoints(type(trainer))
    if not any(_speaks_to_run(logger) for logger in trainer.loggers):
        trainer.loggers = [*trainer.loggers, _logger(run, trainer)]


def detach(trainer: Any) -> None:
    """Let the run hear no more of what the trainer's loggers hear."""
    trainer.loggers = [logger for logger in trainer.loggers if type(logger).__name__ != _JOURNAL]


def batch_loss(trainer: Any, outputs: Any) -> Any:
    """The loss that a training step has returned, or None; Lightning has divided it by the batches of a step."""
    if isinstance(outputs, Mapping):
        outputs = outputs.get("loss")
    if not hasattr(outputs, "detach") or outputs.numel() != 1:
        return None
    return outputs.detach().item() * trainer.accumulate_grad_batches


def _speaks_to_run(logger: Any) -> bool:
    return type(logger).__name__ == _JOURNAL or str(getattr(logger, "_tracking_uri", "")).startswith(JOURNAL_SCHEME)


def _logger(run: Run, trainer: Any) -> Any:
    """A logger of the trainer's own package that writes to the run's journal."""
    module = next(cls.__module__ for cls in type(trainer).__mro__ if cls.__module__.endswith(_TRAINER))
    silent = sys.modules[module.removesuffix(_TRAINER) + ".loggers.logger"].DummyLogger
    epoch_told_at = -1

    def log_metrics(_: Any, metrics: Mapping[str, float], step: int | None = None) -> None:
        nonlocal epoch_told_at
        now = trainer.global_step
        again = now == epoch_told_at  # Lightning adds `epoch` to all that is logged at a step
        news = {name: value for name, value in metrics.items() if not (again and name == "epoch")}
        if trainer.is_global_zero and news:
            run.log_metrics(news, step=now)
        epoch_told_at = now

    def log_hyperparams(_: Any, params: Mapping[str, Any], *arguments: Any, **named: Any) -> None:
        if trainer.is_global_zero:  # a parameter of the configuration stays what it is there
            run.log_params({name: value for name, value in dict(params).items() if name not in run.params})

    body = {"log_metrics": log_metrics, "log_hyperparams": log_hyperparams, "save_dir": trainer.default_root_dir}
    return type(_JOURNAL, (silent,), body)()


def _record_checkpoints(kind: Any) -> None:
    """Let trainers of this class record the checkpoints that they write, when they have the manager as a callback."""
    if not isinstance(kind.save_checkpoint, wrapt.BoundFunctionWrapper):
        wrapt.wrap_function_wrapper(kind, "save_checkpoint", _save_checkpoint)


def _save_checkpoint(save: Any, trainer: Any, arguments: Any, named: Any) -> Any:
    answer = save(*arguments, **named)
    path = Path(arguments[0] if arguments else named["filepath"])
    ours = any(getattr(callback, "logs_to_prism", False) for callback in trainer.callbacks)
    if ours and trainer.is_global_zero and here.open_run is not None and path.exists():
        note_checkpoint(here.open_run, path, step=trainer.global_step)
    return answer
