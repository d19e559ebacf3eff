"""What the `accelerate` trainer adds to a step over a bare torch loop on the same tiny model, with tracking on.

    OMP_NUM_THREADS=1 python benchmarks/trainer_overhead.py [--steps 300] [--rounds 7]

Both train the same random Llama on the same batches with the same optimizer and clipping. They
take turns, so that whatever else the machine does hits both; the figures are medians over the
turns, of wall time and of this process's CPU time, without the trainer's start and its save.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import prism
from prism_accelerate.trainer import AccelerateTrainer

GOAL_MS = 1.0


def make_model() -> LlamaForCausalLM:
    """2 layers, 64 wide, 512 tokens: small enough that what is around it shows."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        )
    )  # fmt: skip


def make_batches(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 512, (count, 8, 32), generator=generator)
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in ids]


class Timed:
    """Wall and CPU seconds between the first and the last step."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        self.marks.append((time.perf_counter(), time.process_time()))

    def per_step(self) -> tuple[float, float]:
        """(wall, CPU) in ms a step; the first tenth of the steps warms up."""
        skip = len(self.marks) // 10
        steps = len(self.marks) - 1 - skip
        (wall, cpu), (wall_end, cpu_end) = self.marks[skip], self.marks[-1]
        return (wall_end - wall) * 1e3 / steps, (cpu_end - cpu) * 1e3 / steps


def bare(batches: list[dict[str, torch.Tensor]]) -> tuple[float, float]:
    """The loop that everybody writes."""
    model, timed = make_model().train(), Timed()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for batch in batches:
        timed.mark()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return timed.per_step()


class Task:
    """The same work as a task; the batches tell the time when they are fetched."""

    def __init__(self, batches: list[dict[str, torch.Tensor]], timed: Timed) -> None:
        self._batches, self._timed = batches, timed

    def model(self) -> Any:
        return make_model()

    def batches(self, split: str) -> Any:
        return self

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Any:
        for batch in self._batches:
            self._timed.mark()
            yield batch

    def loss(self, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        return model(**batch).loss

    def weight(self, batch: dict[str, torch.Tensor]) -> int:
        return int((batch["labels"][:, 1:] != -100).sum())

    def tokens(self, batch: dict[str, torch.Tensor]) -> int:
        return int(batch["attention_mask"].sum())


def tracked(folder: Path, logging_steps: int) -> Callable[[list[dict[str, torch.Tensor]]], tuple[float, float]]:
    """Prism's trainer in a real run that is delivered to MLflow on SQLite while it trains."""
    parameters = {"device": "cpu", "num_train_epochs": 1, "learning_rate": 1e-3, "save_strategy": "no"}
    values = {"ml": {"parameters": {**parameters, "logging_steps": logging_steps}, "system_tracing": False}}
    file = folder / "sais_foundation.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")

    def train(batches: list[dict[str, torch.Tensor]]) -> tuple[float, float]:
        timed = Timed()
        with prism.start_run(file) as run:
            AccelerateTrainer().train(Task(batches, timed), run)
        return timed.per_step()

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    batches = make_batches(options.steps)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ways = {"bare torch": bare}
        for every in (10, 1):
            project = Path(folder) / str(every)
            project.mkdir()
            ways[f"prism, logging_steps {every}"] = tracked(project, every)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                times[name].append(way(batches))
    report(times)


def report(times: dict[str, list[tuple[float, float]]]) -> None:
    """One line a way: ms a step, and what that is over the bare loop of the same round."""
    first, *others = times
    out = sys.stdout
    out.write(f"{'':26}{'wall ms':>9}{'CPU ms':>9}{'added wall':>12}{'added CPU':>11}{'ratio':>7}\n")
    for name, rounds in times.items():
        wall, cpu = (statistics.median(each[at] for each in rounds) for at in (0, 1))
        added = [
            statistics.median(mine[at] - theirs[at] for mine, theirs in zip(rounds, times[first], strict=True))
            for at in (0, 1)
        ]
        ratio = statistics.median(mine[1] / theirs[1] for mine, theirs in zip(rounds, times[first], strict=True))
        out.write(f"{name:26}{wall:9.2f}{cpu:9.2f}{added[0]:12.2f}{added[1]:11.2f}{ratio:7.2f}\n")
    out.write(f"goal: at most {GOAL_MS} ms added a step ({', '.join(others)})\n")


if __name__ == "__main__":
    main()
