"""Demand: `kill -9` of a training at random moments loses nothing that was acknowledged, and doubles nothing.

`python -m campaigns.kill --trials 1000 --seed 0`: 40 steps of 5 points a second. A third of the kills hit the first
moments of the process, a third the logging, a third the delivery under way. In three quarters of the trials the
process that delivers is killed with the training. `prism sync` follows for each batch of trials, by their run ids, and
at the end once without any, as there are runs killed before they noted theirs: then none may be shown as going on.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from attrs import frozen
from mlflow.tracking import MlflowClient

from campaigns.ledger import RUN_TAG, Tally, tally_mlflow, tally_prism
from campaigns.project import Asked, Training, kill_processes, new_project, prism, train
from campaigns.report import campaign_arguments, publish, tell
from campaigns.stage import Stage, staged

BATCH = 20
PATIENCE = 90.0
MOMENTS = ("early", "logging", "delivering")


@frozen
class Plan:
    """How one trial goes: when the kill comes, how long after that moment (seconds), and whom it hits."""

    number: int
    seed: int
    moment: str
    delay: float
    also_delivery: bool


@frozen
class Killed:
    """A training that was killed, and what is to be held against the server."""

    plan: Plan
    training: Training


def plans(trials: int, *, seed: int) -> list[Plan]:
    """The trials that a seed means."""
    draw = random.Random(seed)
    made = []
    for number in range(trials):
        moment = MOMENTS[number % len(MOMENTS)]
        longest = {"early": 0.8, "logging": 1.5, "delivering": 0.8}[moment]
        made.append(Plan(number, seed * 100_000 + number, moment, draw.uniform(0, longest), draw.random() < 0.75))
    return made


def kill_batch(project: Path, batch: Sequence[Plan], *, way: str, at_once: int, uri: str) -> list[Killed]:
    """Begin and kill the trials, `at_once` at a time."""
    waiting, killed = list(batch), []
    alive: list[tuple[Plan, Training, _Fuse]] = []
    while waiting or alive:
        while waiting and len(alive) < at_once:
            plan = waiting.pop(0)
            environment = {} if way == "prism" else {"MLFLOW_TRACKING_URI": uri}
            training = train(project, Asked(way, plan.seed, f"{way}-{plan.number}"), environment=environment)
            alive.append((plan, training, _Fuse(project, plan, training)))
        for one in list(alive):
            plan, training, fuse = one
            if fuse.is_due():
                beside = training.beside()
                training.kill()
                if plan.also_delivery:
                    kill_processes(beside)
                alive.remove(one)
                killed.append(Killed(plan, training))
        time.sleep(0.005)
    return killed


class _Fuse:
    """Says when a trial's kill is due: `delay` seconds after its moment has come."""

    def __init__(self, project: Path, plan: Plan, training: Training) -> None:
        self._project, self._plan, self._training = project, plan, training
        self._begun = time.monotonic()
        self._due: float | None = None

    def is_due(self) -> bool:
        now = time.monotonic()
        if self._due is None and self._has_come():
            self._due = now + self._plan.delay
        return now - self._begun > PATIENCE or (self._due is not None and now >= self._due)

    def _has_come(self) -> bool:
        if self._plan.moment == "early":
            return True
        steps = self._training.noted().steps
        if self._plan.moment == "logging" or self._training.way != "prism":
            return bool(steps)
        folder = self._project / "artifacts" / "runs" / self._training.noted().run_id / "delivery"
        return bool(steps) and any(b'"tracker"' in file.read_bytes() for file in folder.glob("*.jsonl"))


def run_trials(stage: Stage, *, trials: int, seed: int, at_once: int, way: str = "prism") -> tuple[Tally, int]:
    """The campaign on a running server: its tally, and how many `prism sync` did not end with 0."""
    client, uri = stage.client, stage.server.uri
    project = new_project(stage.folder / f"kill-{way}-{seed}", uri=uri)
    count: Callable[..., Tally] = tally_prism if way == "prism" else tally_mlflow
    total, failed_syncs = Tally(), 0
    planned = plans(trials, seed=seed)
    for begin in range(0, trials, BATCH):
        batch = kill_batch(project, planned[begin : begin + BATCH], way=way, at_once=at_once, uri=uri)
        runs = [one.training.noted().run_id for one in batch if one.training.noted().run_id]
        if way == "prism" and runs:
            failed_syncs += _sync(project, *runs)
        for one in batch:
            found = count(client, seed=one.plan.seed, noted=one.training.noted())
            if not found.is_clean:
                tell(f"trial {one.plan.number} ({one.plan.moment}): {found}")
            total += found
        tell(f"{way}: {total.trials} of {trials} trials, lost {total.lost}, doubled {total.doubled}")
    if way != "prism":
        return total, failed_syncs
    failed_syncs += _sync(project)
    return attrs.evolve(total, open_runs=len(_left_open(client, project))), failed_syncs


def _sync(project: Path, *runs: str) -> int:
    """`prism sync` of these runs, or of all; 1 when it does not end well."""
    synced = prism(project, "sync", *runs, seconds=900)
    if synced.returncode != 0:
        tell(f"prism sync ended with {synced.returncode}: {synced.stderr[-1000:]}")
    return int(synced.returncode != 0)


def _left_open(client: MlflowClient, project: Path) -> set[str]:
    """The runs that have not ended, here or at MLflow, also of those that were killed before they noted their id."""
    listed = json.loads(prism(project, "runs", "list", "--json").stdout)
    here = {run["run_id"] for run in listed if run["status"] not in ("FINISHED", "FAILED", "KILLED")}
    experiment = client.get_experiment_by_name(project.name)
    runs = client.search_runs([experiment.experiment_id], "status = 'RUNNING'") if experiment is not None else []
    there = {run.data.tags.get(RUN_TAG, run.info.run_id) for run in runs}
    tell(f"{len(listed)} runs; not ended here: {sorted(here)}, at MLflow: {sorted(there)}")
    return here | there


def main() -> int:
    """The command."""
    parser = campaign_arguments(__doc__ or "", trials=1000)
    parser.add_argument("--way", choices=("prism", "mlflow-sync", "mlflow-async"), default="prism")
    asked = parser.parse_args()
    tell(f"seed {asked.seed}")
    with staged("kill") as stage:
        tally, failed = run_trials(stage, trials=asked.trials, seed=asked.seed, at_once=asked.at_once, way=asked.way)
    return max(publish("kill", tally, seed=asked.seed, way=asked.way, failed_syncs=failed), min(failed, 1))


if __name__ == "__main__":
    sys.exit(main())
