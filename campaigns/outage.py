"""Demand: ten minutes without the server in mid-run: training never stops, nothing is lost, nothing is doubled.

`python -m campaigns.outage --trials 2 --seed 0 --seconds 600`: the training logs 40 steps of 5 points a second. After
ten seconds connections are refused, for that long; then the server is back, and the training goes on for ten more.
The added step time is the time in the log call, with nothing in the loop but a pause: the 99th percentile must be
below a millisecond (of Prism; what MLflow's calls take is only measured). The process that delivers is
asked during the outage how much processor time and memory it takes.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
from attrs import frozen

from campaigns.ledger import Tally, p99, tally_mlflow, tally_prism
from campaigns.project import Asked, Training, new_project, prism, train
from campaigns.proxy import FaultProxy
from campaigns.report import campaign_arguments, publish, tell
from campaigns.stage import Stage, staged

RATE = 40
LONGEST_CALL_MS = 1.0
"""The 99th percentile of the log call must be below."""


@frozen
class Plan:
    """An outage of `seconds` that begins `before` seconds into a training, which goes on for `after` more."""

    seconds: float
    seed: int
    way: str = "prism"
    before: float = 10.0
    after: float = 10.0

    @property
    def steps(self) -> int:
        return int((self.before + self.seconds + self.after) * RATE)


def run_trial(stage: Stage, plan: Plan) -> tuple[Tally, Mapping[str, Any]]:
    """One training through one outage; returns the tally, and what the log call and the delivery cost."""
    with FaultProxy(stage.server.port, seed=plan.seed) as proxy:
        project = new_project(stage.folder / f"outage-{plan.way}-{plan.seed}", uri=proxy.uri)
        asked = Asked(plan.way, plan.seed, "training", ("--steps", str(plan.steps), "--rate", str(RATE)))
        environment = {} if plan.way == "prism" else {"MLFLOW_TRACKING_URI": proxy.uri}
        training = train(project, asked, environment=environment)
        _await_steps(training, plan.before)
        proxy.refuse()
        tell(f"{plan.way}: the server is away")
        load = _load_during(training, plan.seconds)
        proxy.accept()
        tell(f"{plan.way}: the server is back")
        training.process.wait(plan.after + 300 + plan.seconds)
        if plan.way == "prism":
            prism(project, "sync")
        noted = training.noted()
        count: Callable[..., Tally] = tally_prism if plan.way == "prism" else tally_mlflow
        tally = count(stage.client, seed=plan.seed, noted=noted)
        tally += Tally(broken=int(training.went_wrong(plan.steps)))
        return tally, {**load, **_timing(training, plan)}


def _await_steps(training: Training, seconds: float) -> None:
    """Until the training has logged for that long by its own count."""
    while training.process.poll() is None and len(training.noted().steps) < seconds * RATE:
        time.sleep(0.2)


def _load_during(training: Training, seconds: float) -> dict[str, float]:
    """What the processes beside the training take while time passes: cores, and the growth of their memory in MB."""
    beside = training.beside()
    before = {one.pid: (sum(one.cpu_times()[:2]), one.memory_info().rss) for one in beside}
    time.sleep(seconds)
    cores = growth = 0.0
    for one in beside:
        try:
            cpu, memory = sum(one.cpu_times()[:2]), one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        cores += (cpu - before[one.pid][0]) / seconds
        growth += (memory - before[one.pid][1]) / 1e6
    return {"delivery_cores": round(cores, 4), "delivery_growth_mb": round(growth, 1)}


def _timing(training: Training, plan: Plan) -> dict[str, float]:
    if not training.timing.exists():
        return {}
    found = training.timings()
    slow = sorted(found["log_seconds"])
    late = found["loop_seconds"] - plan.steps / RATE
    return {
        "log_call_p99_ms": round(p99(slow) * 1000, 4),
        "log_call_max_ms": round(slow[-1] * 1000, 3),
        "late_s": round(late, 2),
    }


def missed_by(figures: Mapping[str, Any]) -> list[str]:
    """What of a trial's figures is not as it must be, in words."""
    found = figures.get("log_call_p99_ms", math.inf)
    return [] if found < LONGEST_CALL_MS else [f"log_call_p99_ms {found} is not below {LONGEST_CALL_MS:g}"]


def main() -> int:
    """The command."""
    parser = campaign_arguments(__doc__ or "", trials=2)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--way", choices=("prism", "mlflow-sync", "mlflow-async"), default="prism")
    asked = parser.parse_args()
    tell(f"seed {asked.seed}")
    worst = 0
    with staged("outage") as stage:
        for number in range(asked.trials):
            tally, more = run_trial(stage, Plan(asked.seconds, asked.seed + number, way=asked.way))
            missed = missed_by(more) if asked.way == "prism" else []
            shown = {"seed": asked.seed + number, "way": asked.way, "seconds": asked.seconds, **more}
            worst = max(worst, publish("outage", tally, missed=missed, **shown))
    return worst


if __name__ == "__main__":
    sys.exit(main())
