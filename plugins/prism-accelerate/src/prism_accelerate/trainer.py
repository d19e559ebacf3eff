"""The trainer `accelerate`: from settings and a task to a finished model folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
from accelerate import Accelerator  # type: ignore[import-untyped]
from attrs import evolve
from safetensors.torch import save_model

from prism.errors import UsageError
from prism.protocols import Task
from prism.providers import Provider
from prism.runs.handle import Run
from prism.runs.progress import progress
from prism_accelerate import contents, rng
from prism_accelerate.devices import Numerics, choose_device, choose_numerics, devices_here, open_accelerator
from prism_accelerate.feeds import Feed
from prism_accelerate.loop import Loop, make_plan
from prism_accelerate.meter import Meter
from prism_accelerate.optimizers import make_optimizer
from prism_accelerate.options import TrainerOptions
from prism_accelerate.ranks import OneRank, TorchRanks, check_world_size, open_ranks
from prism_accelerate.settings import Settings, read_settings

TASKS = {"sft": Provider("sft", target="prism_accelerate.sft:SftTask", requires=("transformers",))}
"""The tasks that come with the trainer. Only the one that is trained is imported."""


class AccelerateTrainer:
    """Role `Trainer`."""

    def __init__(self, options: TrainerOptions | None = None) -> None:
        self.options = options or TrainerOptions()

    def train(self, task: Task | None, run: Run) -> Path:
        """See `prism.protocols.Trainer`.

        A task may have more than the role asks: `weight(batch)`, how many items its loss is the
        mean of (then accumulation over unequal batches is exact); `tokens(batch)`, for the rate;
        `save(model, folder)`, else the state is written as `model.safetensors`.
        """
        settings, unused = _settings(run)
        numerics = _numerics(settings, run)
        accelerator = open_accelerator(numerics)
        ranks = open_ranks()
        run.ranks = ranks
        check_world_size(ranks.world_size, environ=os.environ)
        rng.seed_everything(settings.seed)
        if task is None:
            _say_unused(settings, unused, run)
            settings = _with_evaluation(settings, run)
            task = TASKS[self.options.task].load_target()(run, settings=settings, numerics=numerics)
        else:
            unused = ()  # the names that the trainer does not know are the task's own
        _log_choices(settings, numerics, unused, run=run)
        return _train(task, run, settings=settings, accelerator=accelerator, ranks=ranks)


def _train(task: Task, run: Run, *, settings: Settings, accelerator: Accelerator, ranks: OneRank | TorchRanks) -> Path:
    feed = _feed(task, "train", ranks)  # first the data: what is wrong with it shows at once
    evaluation = _feed(task, "validation", ranks) if settings.eval_strategy not in (None, "no") else None
    model = task.model()
    if settings.gradient_checkpointing:
        _checkpoint_gradients(model, run)
    checkpoint = run.latest_checkpoint()
    if checkpoint:
        contents.load_weights(checkpoint, model)
    model.to(accelerator.device)
    model, optimizer = _prepare(accelerator, model, make_optimizer(model, settings))
    plan = make_plan(settings, rounds=feed.rounds())
    state = contents.load_state(checkpoint, rank=ranks.rank, world_size=ranks.world_size) if checkpoint else None
    position = state.position if state else contents.Position()
    with progress("training", total=plan.total, done=position.step, rank=ranks.rank) as bar:
        loop = Loop(
            task=task,
            run=run,
            settings=settings,
            accelerator=accelerator,
            ranks=ranks,
            model=model,
            optimizer=optimizer,
            feed=feed,
            evaluation=evaluation,
            plan=plan,
            bar=bar,
            position=position,
        )
        if checkpoint and state:
            _resume(loop, checkpoint, state)
        loop.train()
    return _save(task, accelerator.unwrap_model(model), run=run, step=loop.position.step)


def _prepare(accelerator: Accelerator, model: Any, optimizer: Any) -> tuple[Any, Any]:
    """Both as Accelerate wants them.

    Only loss scaling needs the optimizer wrapped, and the wrapper costs a third of a millisecond
    in every step: it looks through sys.path for an optional package.
    """
    if accelerator.scaler is None:
        return accelerator.prepare(model), optimizer
    model, optimizer = accelerator.prepare(model, optimizer)
    return model, optimizer


def _resume(loop: Loop, checkpoint: Path, state: contents.TrainerState) -> None:
    contents.load_optimizer(checkpoint, loop.optimizer)
    if loop.accelerator.scaler and state.scaler:
        loop.accelerator.scaler.load_state_dict(state.scaler)
    loop.meter = Meter.load(state.window)
    loop.resumed_from = checkpoint
    size = loop.settings.per_device_train_batch_size
    if state.batch_size != size:
        loop.position.taken = loop.position.taken * state.batch_size // size
        loop.run.warn(
            f"per_device_train_batch_size was {state.batch_size} and is {size}: the epoch goes on at about the same "
            "record, with other batches"
        )


def _save(task: Task, model: Any, *, run: Run, step: int) -> Path:
    """Write the finished model on rank 0; every rank returns its folder."""
    contents.check_finite(model, step=step)
    folder = run.scratch / "model"
    if run.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        save = getattr(task, "save", None)
        if save is None:
            save_model(model, str(folder / "model.safetensors"))
        else:
            save(model, folder)
    run.ranks.barrier()
    return folder


def _feed(task: Task, split: str, ranks: OneRank | TorchRanks) -> Feed:
    weigh = getattr(task, "weight", lambda batch: 1.0)
    return Feed(task.batches(split), weigh, rank=ranks.rank, world_size=ranks.world_size)


def _settings(run: Run) -> tuple[Settings, tuple[str, ...]]:
    def where(key: str) -> str:
        return f"{run.config.origin(key)}  {key}"

    return read_settings(run.params, where=where)


def _with_evaluation(settings: Settings, run: Run) -> Settings:
    """Naming validation data and no strategy means: evaluate after every epoch."""
    named = run.config.data.validation
    if settings.eval_strategy is None:
        return evolve(settings, eval_strategy="epoch" if named else "no")
    if settings.eval_strategy != "no" and not named:
        raise UsageError(
            f"ml.parameters.eval_strategy is {settings.eval_strategy!r}, and data.validation names no dataset",
            hint="name one under data.validation, or set eval_strategy: no",
        )
    return settings


def _numerics(settings: Settings, run: Run) -> Numerics:
    def warn(message: str) -> None:
        run.warn(f"ml.parameters.{message}")

    device = choose_device(settings.device, here=devices_here(), warn=warn)
    return choose_numerics(settings, device=device, warn=warn)


def _say_unused(settings: Settings, unused: tuple[str, ...], run: Run) -> None:
    """One line for the names that nothing here reads, and one for each that is understood and acts elsewhere."""
    if unused:
        run.warn(f"ml.parameters: the trainer does not use {', '.join(unused)}")
    if settings.output_dir:
        run.warn(
            f"ml.parameters.output_dir: checkpoints and model are in the run's directory, not in {settings.output_dir}"
        )
    wanted = settings.report_to if isinstance(settings.report_to, list | tuple) else [settings.report_to]
    trackers = {tracker.name for tracker in run.config.trackers}
    missing = [str(name) for name in wanted if name not in (None, "none", "all", *trackers)]
    if missing and run.config.ml.enabled:
        run.warn(f"ml.parameters.report_to: {', '.join(missing)} is not among `trackers`, which decides")


def _log_choices(settings: Settings, numerics: Numerics, unused: tuple[str, ...], *, run: Run) -> None:
    """Log what training goes by beyond `ml.parameters`: the defaults taken, and the names that do nothing."""
    if run.rank != 0 or not run.config.ml.auto_log:
        return
    values = {name: value for name, value in attrs.asdict(settings).items() if name not in run.params}
    chosen = {**values, "device": numerics.device, "world_size": run.world_size, "unused": ", ".join(unused)}
    run.log_params({"trainer": chosen})


def _checkpoint_gradients(model: Any, run: Run) -> None:
    """Trade time for memory in a transformers model, under the name it has in this version."""
    settings = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=settings)
    elif hasattr(model, "gradient_checkpointing_enable"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
    else:
        run.warn("ml.parameters.gradient_checkpointing: the model has no gradient_checkpointing_enable(), it acts not")
