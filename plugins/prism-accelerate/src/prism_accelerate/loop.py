"""The training loop: epochs of steps, each a few micro-batches, with logging, evaluation and checkpoints between."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import send_to_device  # type: ignore[import-untyped]
from attrs import define, field, frozen

from prism.errors import DataError, UsageError, WorkFailed
from prism.protocols import Task
from prism.runs.handle import Run
from prism.runs.progress import Progress
from prism_accelerate import contents, rng
from prism_accelerate.contents import Position, TrainerState
from prism_accelerate.feeds import Feed, Weighed, grouped
from prism_accelerate.meter import Meter
from prism_accelerate.ranks import OneRank, TorchRanks
from prism_accelerate.schedules import Schedule, warmup_steps
from prism_accelerate.settings import Settings


@frozen
class Plan:
    """How long training is, in optimizer steps; `per_epoch` is None when the data has no length."""

    total: int
    per_epoch: int | None
    schedule: Schedule


def make_plan(settings: Settings, *, rounds: int | None) -> Plan:
    """The plan for epochs of `rounds` micro-batches, None where that is not known.

    Raises `UsageError` when nothing says how long training is, `DataError` when there are no batches.
    """
    if rounds == 0:
        raise DataError("the training data makes no batch")
    per_epoch = None if rounds is None else math.ceil(rounds / settings.gradient_accumulation_steps)
    if settings.max_steps > 0:
        total = settings.max_steps
    elif per_epoch is not None:
        total = math.ceil(settings.num_train_epochs * per_epoch)
    else:
        raise UsageError("the batches have no length, and ml.parameters.max_steps is not set", hint="set max_steps")
    warmup = warmup_steps(total, steps=settings.warmup_steps, ratio=settings.warmup_ratio)
    return Plan(total, per_epoch, Schedule(settings.lr_scheduler_type, warmup, total))


@define
class Loop:
    """One training, from where `position` stands to the end of `plan`.

    `model` is Accelerate's, and so is `optimizer` where losses are scaled. `evaluation` None: nothing
    is evaluated.
    """

    task: Task
    run: Run
    settings: Settings
    accelerator: Accelerator
    ranks: OneRank | TorchRanks
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    feed: Feed
    evaluation: Feed | None
    plan: Plan
    bar: Progress
    position: Position = field(factory=Position)
    meter: Meter = field(factory=Meter)
    resumed_from: Path | None = None
    _saved: int = -1
    _grad_norm: Any = None
    _generators_began: list[bytes] = field(factory=list)
    _count_tokens: Callable[[Any], float] = field(init=False)
    _watches: bool = field(init=False)
    _weights: list[torch.nn.Parameter] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._count_tokens = getattr(self.task, "tokens", lambda batch: 0)
        self._weights = list(self.model.parameters())
        self._watches = self.accelerator.device.type == "cpu"  # elsewhere each look would wait for the device

    def train(self) -> None:
        """Run to the end, or raise `Stopped` after a checkpoint when the run is asked to stop."""
        self.model.train()
        self.optimizer.zero_grad()
        while self.position.step < self.plan.total:
            self._run_epoch()
        if self.meter.weight:
            self._log()

    # ------------------------------------------------------------ epochs and steps

    def _run_epoch(self) -> None:
        before = self.position.step
        for group in grouped(self._start_epoch(), self.settings.gradient_accumulation_steps):
            self._step(group)
            self._between_steps()
            if self.position.step >= self.plan.total:
                break
        if self.position.step == before and not self.position.taken:
            raise DataError("the training data makes no batch")
        self._end_epoch()

    def _start_epoch(self) -> Iterator[Weighed]:
        """The epoch's batches from `position` on, with the random numbers as they were there."""
        epoch, taken, seed = self.position.epoch, self.position.taken, self.settings.seed
        resumed, self.resumed_from = self.resumed_from, None
        if resumed:
            contents.rewind_generators(resumed, self.feed.generators, rank=self.ranks.rank)
        self._generators_began = [bytes(g.get_state().numpy()) for g in self.feed.generators]
        rng.seed_everything(seed, epoch)  # the same on all ranks, so that a loader shuffles alike everywhere
        batches = self.feed.start(epoch, skip=taken)
        if self.ranks.world_size > 1:
            rng.seed_everything(seed, epoch, self.ranks.rank)  # but each rank has a dropout of its own
        if resumed and taken:
            rng.restore(contents.load_random(resumed, rank=self.ranks.rank))
        return batches

    def _step(self, group: list[Weighed]) -> None:
        """One optimizer step on the mean over all items of `group`, on all ranks."""
        whole = self._whole_weight(group)
        for at, (batch, weight) in enumerate(group):
            with self._synchronised(last=at == len(group) - 1):
                loss = self._forward(batch, weight)
                share = weight * self.ranks.world_size / whole  # DDP takes the mean over ranks
                self.accelerator.backward(loss if share == 1.0 else loss * share)
        self._clip()
        rate = self._learning_rate()
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.position.step += 1
        self.position.taken += len(group)
        self.meter.steps += 1

    def _whole_weight(self, group: list[Weighed]) -> float:
        mine = float(sum(weight for _, weight in group))
        whole = self.ranks.total([mine])[0] if self.ranks.world_size > 1 else mine
        if whole <= 0:
            raise DataError(f"step {self.position.step + 1}: its batches have no item to take the loss of")
        return whole

    def _forward(self, batch: Any, weight: float) -> torch.Tensor:
        tokens = self._count_tokens(batch) if weight else 0
        loss, values = self._loss(batch)
        if self._watches and weight and not math.isfinite(loss.item()):
            raise WorkFailed(
                f"step {self.position.step + 1}: the loss is {loss.item()}",
                hint="a lower learning_rate, warm-up, or other data; the checkpoints up to here are good",
            )
        self.meter.add(values, weight=weight, tokens=tokens)
        self.position.tokens += tokens
        return loss

    def _loss(self, batch: Any) -> tuple[torch.Tensor, Mapping[str, Any]]:
        if not self._watches:
            batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
        found = self.task.loss(self.model, batch)
        values = found if isinstance(found, Mapping) else {"loss": found}
        return values["loss"], values

    def _synchronised(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        alone = self.ranks.world_size == 1
        return contextlib.nullcontext() if last or alone else self.accelerator.no_sync(self.model)

    def _clip(self) -> None:
        if self.settings.max_grad_norm:
            self._grad_norm = self.accelerator.clip_grad_norm_(self._weights, self.settings.max_grad_norm)

    def _learning_rate(self) -> float:
        return self.settings.learning_rate * self.plan.schedule.factor(self.position.step)

    # ------------------------------------------------------------ between steps

    def _between_steps(self) -> None:
        step = self.position.step
        self.bar.advance()
        if step % self.settings.logging_steps == 0:
            self._log()
        eval_steps = self.settings.eval_steps or self.settings.logging_steps
        if self.settings.eval_strategy == "steps" and step % eval_steps == 0:
            self._evaluate()
        stopping = self.run.stopping
        if stopping or (self.settings.save_strategy == "steps" and step % self.settings.save_steps == 0):
            self._save()
        if stopping:
            self.run.stop()

    def _end_epoch(self) -> None:
        if self.settings.eval_strategy == "epoch":
            self._evaluate()
        if self.position.step < self.plan.total:
            self.position.epoch, self.position.taken = self.position.epoch + 1, 0
        if self.settings.save_strategy == "epoch":
            self._save()

    def _log(self) -> None:
        """Log the window since the last time, and begin a new one."""
        means, rates = self.meter.means(self.ranks.total), self.meter.rates(self.ranks.total)
        self.meter = Meter()
        if not math.isfinite(means["loss"]):
            raise WorkFailed(
                f"the loss is {means['loss']} at or shortly before step {self.position.step}",
                hint="a lower learning_rate, warm-up, or other data; the last checkpoint is good",
            )
        rate = self.settings.learning_rate * self.plan.schedule.factor(self.position.step - 1)
        metrics = {**means, "learning_rate": rate, "epoch": self._epochs_done(), **rates}
        if self._grad_norm is not None:
            metrics["grad_norm"] = float(self._grad_norm)
        self._report(metrics)
        self.bar.advance(0, f"loss {means['loss']:.4g}")

    def _report(self, metrics: Mapping[str, float]) -> None:
        if self.ranks.rank == 0 and self.run.config.ml.auto_log:
            self.run.log_metrics(metrics, step=self.position.step)

    def _epochs_done(self) -> float:
        if self.plan.per_epoch is None:
            return float(self.position.epoch)
        return self.position.step / self.plan.per_epoch

    def _evaluate(self) -> None:
        """Log the mean loss over the validation data; training does not notice."""
        if self.evaluation is None:
            return
        meter = Meter()
        self.model.eval()
        with rng.untouched(), torch.no_grad():
            rng.seed_everything(self.settings.seed)
            for batch, weight in self.evaluation.start(0):
                meter.add(self._loss(batch)[1], weight=weight)
        self.model.train()
        means = {f"eval_{name}": value for name, value in meter.means(self.ranks.total).items()}
        self._report(means)
        self.bar.advance(0, f"eval_loss {means.get('eval_loss', math.nan):.4g}")

    # ------------------------------------------------------------ checkpoints

    def _save(self) -> None:
        """Publish a checkpoint of this step, unless there is one."""
        step = self.position.step
        if self._saved == step:
            return
        model = self.accelerator.unwrap_model(self.model)
        contents.check_finite(model, step=step)
        scaler = self.accelerator.scaler
        rank = self.ranks.rank
        with self.run.checkpoint(step=step, keep=self.settings.save_total_limit) as folder:
            contents.save_random(folder, rank=rank, generators=self.feed.generators, epoch_start=self._generators_began)
            contents.save_state(folder, self._state(scaler.state_dict() if scaler else {}), rank=rank)
            if rank == 0:
                contents.save_weights(folder, model)
                contents.save_optimizer(folder, self.optimizer)
        self._saved = step

    def _state(self, scaler: dict[str, float]) -> TrainerState:
        return TrainerState(
            position=self.position,
            world_size=self.ranks.world_size,
            batch_size=self.settings.per_device_train_batch_size,
            window=self.meter.state(),
            scaler=scaler,
        )
