"""Demand: the status is true: lost nodes are closed, a kill is seen at once, and what lives is never closed for good.

`python -m campaigns.status --trials 100 --seed 0`: each lost node is a process in a pid namespace of its own, which is
another machine to Prism, killed with all that is in it. This machine looks with `prism runs list`, waits for the lease
(shortened to five seconds), and looks again: none may be RUNNING, here or at MLflow after `prism sync`. One more in
ten is not killed but stopped for ten seconds, which is longer than the lease, and goes on; and one in ten is stopped
for 60 seconds with the lease as it is, 90 seconds: those must be LOST then. All must be FINISHED at the end. One in
ten is killed on this machine: it must be FAILED within two seconds. Needs root, or user namespaces.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mlflow.entities import Run

from campaigns.ledger import Tally, tally_prism
from campaigns.project import Asked, Training, new_project, prism, train
from campaigns.report import campaign_arguments, publish, tell
from campaigns.stage import Stage, staged

LEASE = 5.0
SAME_HOST_SECONDS = 2.0


def elsewhere() -> tuple[str, ...]:
    """The command that runs another one as on another machine."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc")


def is_possible() -> bool:
    """Whether this machine lets us have pid namespaces."""
    return subprocess.run([*elsewhere(), "true"], capture_output=True, check=False).returncode == 0


def lost_nodes(stage: Stage, *, trials: int, seed: int, at_once: int, lease: float = LEASE) -> Tally:
    """Nodes that go away; `open_runs` counts those that are not FAILED after the lease, here or at MLflow."""
    draw = random.Random(seed)
    project = new_project(stage.folder / f"lost-{seed}", uri=stage.server.uri)
    trainings: list[Training] = []
    for begin in range(0, trials, at_once):
        batch = [_train(project, seed * 100_000 + number) for number in range(begin, min(begin + at_once, trials))]
        for one in batch:
            _await_first_step(one)
        time.sleep(draw.uniform(0, 0.5))
        for one in batch:
            one.kill()
        trainings += batch
    first = statuses(project, lease=lease)
    time.sleep(lease + 1)
    second = statuses(project, lease=lease)
    tell(f"{trials} lost nodes: {dict(Counter(first.values()))}, after the lease {dict(Counter(second.values()))}")
    runs = [one.noted().run_id for one in trainings]
    _sync(project, lease=lease)
    total = Tally(open_runs=sum(second[run] != "FAILED" for run in runs))
    for one in trainings:
        total += tally_prism(stage.client, seed=one.seed, noted=one.noted())
    return total


def stopped_nodes(stage: Stage, *, trials: int, seed: int, seconds: float, lease: float = LEASE) -> Tally:
    """Nodes that are stopped for some seconds and go on; `broken` counts what is not told as it is.

    That is LOST after the stop, FAILED if it was longer than the lease, and FINISHED in the end, here and at MLflow.
    """
    project = new_project(stage.folder / f"stopped-{seconds:g}-{seed}", uri=stage.server.uri)
    options = ("--steps", "200")
    trainings = [_train(project, seed * 100_000 + number, options=options) for number in range(trials)]
    for one in trainings:
        _await_first_step(one)
    stopped = [process for one in trainings for process in one.beside()]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    during = [statuses(project, lease=lease)]
    for _ in range(4):
        time.sleep(seconds / 4)
        during.append(statuses(project, lease=lease))
    for process in stopped:
        process.send_signal(signal.SIGCONT)
    for one in trainings:
        one.process.wait(120)
    after = statuses(project, lease=lease)
    said = [dict(Counter(look.values())) for look in [*during, after]]
    tell(f"{trials} nodes stopped for {seconds:g} s, lease {lease:g} s: {said}")
    _sync(project, lease=lease)
    at_mlflow = [run.info.status for run in _mlflow_runs(stage, project)]
    stop = "FAILED" if seconds > lease else "LOST"
    wrong = sum(status != stop for status in during[-1].values())
    total = Tally(broken=wrong + sum(status != "FINISHED" for status in [*after.values(), *at_mlflow]))
    for one in trainings:
        total += tally_prism(stage.client, seed=one.seed, noted=one.noted())
    return total


def killed_here(stage: Stage, *, trials: int, seed: int) -> tuple[Tally, float]:
    """Trainings killed on this machine; `broken` counts those not FAILED in two seconds. Also the slowest, seconds."""
    project = new_project(stage.folder / f"killed-{seed}", uri=stage.server.uri)
    total, slowest = Tally(), 0.0
    for number in range(trials):
        one = train(project, Asked("prism", seed * 100_000 + number, f"training-{number}"))
        _await_first_step(one)
        journal = project / "artifacts" / "runs" / one.noted().run_id / "journal"
        while not list(journal.glob("node-*.jsonl")):
            time.sleep(0.05)
        one.kill()
        seconds = _until_ended(journal)
        slowest = max(slowest, seconds)
        total += Tally(trials=1, broken=int(seconds > SAME_HOST_SECONDS))
    return total, slowest


def statuses(project: Path, *, lease: float) -> dict[str, str]:
    """Run id → status as `prism runs list` says it, one look."""
    listed = json.loads(_prism(project, "runs", "list", "--json", lease=lease).stdout)
    return {run["run_id"]: run["status"] for run in listed}


def _train(project: Path, seed: int, *, options: Sequence[str] = ()) -> Training:
    return train(project, Asked("prism", seed, f"training-{seed}", options), before=elsewhere())


def _await_first_step(training: Training) -> None:
    until = time.monotonic() + 120
    while not training.noted().steps and training.process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)


def _until_ended(journal: Path) -> float:
    """Seconds until somebody has written the end of the worker, at most a minute."""
    begun = time.monotonic()
    while time.monotonic() - begun < 60:
        if any(b'"kind":"end"' in file.read_bytes() for file in journal.glob("node-*.jsonl")):
            break
        time.sleep(0.02)
    return time.monotonic() - begun


def _prism(project: Path, *words: str, lease: float) -> subprocess.CompletedProcess[str]:
    return prism(project, *words, seconds=900, environment={"PRISM_LEASE_SECONDS": str(lease)})


def _sync(project: Path, *, lease: float) -> None:
    """`prism sync` until it has delivered all: what was delivered by a node that is gone must wait for its lease."""
    until = time.monotonic() + 2 * lease + 60
    while (done := _prism(project, "sync", lease=lease)).returncode != 0 and time.monotonic() < until:
        time.sleep(1)
    if done.returncode != 0:
        tell(f"prism sync ended with {done.returncode}: {done.stderr[-500:]}")


def _mlflow_runs(stage: Stage, project: Path) -> list[Run]:
    experiment = stage.client.get_experiment_by_name(project.name)
    return list(stage.client.search_runs([experiment.experiment_id])) if experiment else []


def main() -> int:
    """The command."""
    asked = campaign_arguments(__doc__ or "", trials=100).parse_args()
    tell(f"seed {asked.seed}")
    if not is_possible():
        tell("left out: this machine has no pid namespaces for us")
        return 1
    tenth = max(1, asked.trials // 10)
    with staged("status") as stage:
        lost = lost_nodes(stage, trials=asked.trials, seed=asked.seed, at_once=asked.at_once)
        worst = publish("status", lost, what="lost nodes", seed=asked.seed, lease_s=LEASE)
        for seconds, lease in ((2 * LEASE, LEASE), (60.0, 90.0)):
            stopped = stopped_nodes(stage, trials=tenth, seed=asked.seed, seconds=seconds, lease=lease)
            what = f"nodes stopped for {seconds:g} s"
            worst = max(worst, publish("status", stopped, what=what, seed=asked.seed, lease_s=lease))
        killed, slowest = killed_here(stage, trials=tenth, seed=asked.seed)
        what = "killed on this machine"
        return max(worst, publish("status", killed, what=what, seed=asked.seed, slowest_s=round(slowest, 2)))


if __name__ == "__main__":
    sys.exit(main())
