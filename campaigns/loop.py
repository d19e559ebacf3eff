"""The training that campaigns disturb: a paced loop that logs, and notes on its own what was acknowledged.

Run as a script, so that it imports nothing but what it logs with. After each log call that returned, the step goes to
the file of acknowledgements with a write(2) of its own: what stands there has been promised to the user.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

WAYS = ("prism", "mlflow-sync", "mlflow-async", "none")
METRICS = 5
Log = Callable[[Mapping[str, float], int], None]


def values(seed: int, step: int) -> dict[str, float]:
    """The points of a step, the same for every process that asks: name → value."""
    draw = random.Random(seed * 1_000_003 + step)
    return {f"m{index}": draw.random() for index in range(METRICS)}


def main() -> None:
    """Log `--steps` steps (0: without end), `--rate` a second (0: as fast as it goes), and end with `--exit`."""
    asked = _arguments().parse_args()
    acknowledged = os.open(asked.acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(line: str) -> None:
        os.write(acknowledged, f"{line}\n".encode())

    log, finish = _open(asked, note)
    taken: list[float] = []
    begun = time.perf_counter()
    step = 0
    while asked.steps == 0 or step < asked.steps:
        points = values(asked.seed, step)
        before = time.perf_counter()
        log(points, step)
        taken.append(time.perf_counter() - before)
        note(str(step))
        step += 1
        if asked.rate and (ahead := begun + step / asked.rate - time.perf_counter()) > 0:
            time.sleep(ahead)
    note("worked")
    looped = time.perf_counter() - begun
    if asked.exit:
        sys.exit(asked.exit)
    finish()
    if asked.timing:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        kept = {"log_seconds": taken, "loop_seconds": looped, "cpu_seconds": usage.ru_utime + usage.ru_stime}
        Path(asked.timing).write_text(json.dumps(kept))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--acknowledged", required=True, metavar="FILE")
    parser.add_argument("--timing", default="", metavar="FILE")
    parser.add_argument("--config", default="sais_foundation.yaml", metavar="FILE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--exit", type=int, default=0)
    parser.add_argument("--file", default="", help="log this file too")
    parser.add_argument("--model", default="", help="and this folder as the model (Prism only)")
    return parser


def _open(asked: argparse.Namespace, note: Callable[[str], None]) -> tuple[Log, Callable[[], object]]:
    """How to log, and how to end, the way that was asked for; notes the run's id."""
    if asked.way == "none":
        return (lambda points, step: None), (lambda: None)
    if asked.way == "prism":
        return _open_prism(asked, note)
    import mlflow

    mlflow.set_experiment(Path.cwd().name)
    note(f"run {mlflow.start_run().info.run_id}")
    if asked.file:
        mlflow.log_artifact(asked.file)
    at_once = asked.way == "mlflow-sync"

    def log(points: Mapping[str, float], step: int) -> None:
        mlflow.log_metrics(dict(points), step=step, synchronous=at_once)

    def finish() -> None:
        mlflow.flush_async_logging()
        mlflow.end_run()

    return log, finish


def _open_prism(asked: argparse.Namespace, note: Callable[[str], None]) -> tuple[Log, Callable[[], object]]:
    import prism

    run = prism.start_run(asked.config)
    note(f"run {run.run_id}")
    if asked.file:
        run.log_artifact(asked.file)
    if asked.model:
        run.log_model(asked.model)

    def log(points: Mapping[str, float], step: int) -> None:
        run.log_metrics(points, step=step)

    return log, run.finish


if __name__ == "__main__":
    main()
