"""Demand: twelve kinds of faults between client and server lose nothing, double nothing and raise nothing in training.

`python -m campaigns.faults --trials 20 --seed 0`: for each kind that many trainings (4 s, 40 steps of 5 points a
second, a file) through a proxy that spoils three requests in ten, while they train and while `prism sync` is called.
Then the faults end and `prism sync` is called again. A stall lasts 60 s, and its request is carried out after that.
Two more kinds: `create_reply_lost`, each run's `runs/create` once, and `mixed`, all that a proxy can do in one line.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from attrs import field, frozen
from mlflow.tracking import MlflowClient

from campaigns.ledger import Tally, p99, tally_mlflow, tally_prism
from campaigns.names import NAME, HostName
from campaigns.project import Asked, Training, new_project, prism, train
from campaigns.proxy import KINDS, STALL_SECONDS, FaultProxy
from campaigns.report import campaign_arguments, publish, tell
from campaigns.stage import Stage, staged

ALL_KINDS = (*KINDS, "dns", "create_reply_lost", "mixed")
SHARE = 0.3


@frozen
class Plan:
    """One kind of fault: how many trainings, of how many steps, through how bad a connection."""

    kind: str
    trials: int
    seed: int
    way: str = "prism"
    steps: int = 160
    share: float = SHARE
    stall: float = STALL_SECONDS
    timeout: float = 3.0
    at_once: int = 2
    environment: Mapping[str, str] = field(factory=dict)
    """Variables of the trainings and of `prism sync`."""
    patience: float = 240.0
    """Seconds after which a training that has not ended counts as broken and is killed."""


@frozen
class Line:
    """What stands between the trainings and the server in one trial."""

    proxy: FaultProxy
    name: HostName | None
    uri: str = field()

    @property
    def before(self) -> tuple[str, ...]:
        return self.name.before if self.name is not None else ()

    @property
    def faults(self) -> int:
        """How many have been done."""
        return sum(self.proxy.counts.values()) + (self.name.lapses if self.name is not None else 0)


def run_kind(stage: Stage, plan: Plan) -> tuple[Tally, Mapping[str, Any]]:
    """All trials of one kind; returns the tally, and more to report: faults done, log call p99 in ms."""
    folder = stage.folder / f"{plan.way}-{plan.kind}-{plan.seed}"
    folder.mkdir()
    with FaultProxy(stage.server.port, seed=plan.seed) as proxy:
        name = HostName(folder) if plan.kind == "dns" else None
        line = Line(proxy, name, f"http://{NAME}:{proxy.port}" if name is not None else proxy.uri)
        project = new_project(folder, uri=line.uri, timeout=plan.timeout)
        with ExitStack() as faults:
            _begin_faults(line, plan, faults)
            trainings = _train_all(project, plan, line)
            if plan.way == "prism":
                _sync(project, plan, line)  # under fire: what it cannot do now is done below
        proxy.clear()
        failed = _finish(project, plan, line) if plan.way == "prism" else 0
        if plan.kind in ("stall", "mixed"):
            time.sleep(plan.stall)  # the stalled requests are carried out until then
        tally = _tally(stage.client, plan, trainings)
        if plan.way != "prism":
            tally += Tally(extra_runs=_beside(stage.client, project, trainings))
        seconds = [
            one for training in trainings if training.timing.exists() for one in training.timings()["log_seconds"]
        ]
        return tally + Tally(broken=failed), {"faults": line.faults, "log_call_p99_ms": round(p99(seconds) * 1000, 3)}


def _begin_faults(line: Line, plan: Plan, faults: ExitStack) -> None:
    if line.name is not None:
        faults.enter_context(line.name.flickering(seed=plan.seed))
    elif plan.kind == "create_reply_lost":
        line.proxy.fault("reply_lost", path="runs/create", times=plan.trials)
    else:
        if plan.kind == "mixed":
            line.proxy.fault("reply_lost", path="runs/create", times=plan.trials)
        kinds = KINDS if plan.kind == "mixed" else (plan.kind,)
        for kind in kinds:
            seconds = {"stall": plan.stall, "drip": 0.2}.get(kind)
            line.proxy.fault(kind, share=plan.share / len(kinds), seconds=seconds)


def _train_all(project: Path, plan: Plan, line: Line) -> list[Training]:
    """All trainings, `at_once` at a time, each until its end or the end of our patience."""
    environment = dict(plan.environment) if plan.way == "prism" else {"MLFLOW_TRACKING_URI": line.uri}
    trainings: list[Training] = []
    for begin in range(0, plan.trials, plan.at_once):
        batch = []
        for number in range(begin, min(begin + plan.at_once, plan.trials)):
            label, seed = f"{plan.way}-{number}", plan.seed * 100_000 + number
            file = project / f"{label}.bin"
            file.write_bytes(content_of(seed))
            asked = Asked(plan.way, seed, label, ("--steps", str(plan.steps), "--file", str(file)))
            batch.append(train(project, asked, environment=environment, before=line.before))
        for one in batch:
            try:
                one.process.wait(plan.patience)
            except subprocess.TimeoutExpired:
                one.kill()
        trainings += batch
    return trainings


def content_of(seed: int) -> bytes:
    """The file that a training logs: 200,000 bytes."""
    return random.Random(seed).randbytes(200_000)


def _sync(project: Path, plan: Plan, line: Line) -> int:
    found = prism(project, "sync", environment=plan.environment, before=line.before)
    if found.returncode not in (0, 4):
        tell(f"prism sync ended with {found.returncode}: {found.stderr[-1000:]}")
    return found.returncode


def _finish(project: Path, plan: Plan, line: Line) -> int:
    """`prism sync` without faults; 1 when it does not come to an end within three calls."""
    return 0 if any(_sync(project, plan, line) == 0 for _ in range(3)) else 1


def _tally(client: MlflowClient, plan: Plan, trainings: Sequence[Training]) -> Tally:
    count: Callable[..., Tally] = tally_prism if plan.way == "prism" else tally_mlflow
    total = Tally()
    for one in trainings:
        noted = one.noted()
        found = count(client, seed=one.seed, noted=noted)
        found += Tally(broken=int(one.went_wrong(plan.steps)))
        if plan.way == "prism":
            found += Tally(wrong=_files_wrong(client, noted.run_id, one.seed))
        if not found.is_clean:
            tell(f"{plan.kind}, seed {one.seed}, exit {one.process.returncode}: {found}")
        total += found
    return total


def _beside(client: MlflowClient, project: Path, trainings: Sequence[Training]) -> int:
    """How many runs plain MLflow has made of these trainings that none of them knows of."""
    experiment = client.get_experiment_by_name(project.name)
    runs = client.search_runs([experiment.experiment_id]) if experiment is not None else []
    return len({run.info.run_id for run in runs} - {one.noted().run_id for one in trainings})


def _files_wrong(client: MlflowClient, run_id: str, seed: int) -> int:
    """1 unless the logged file is in the one MLflow run, byte for byte."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, filter_string=f"tags.`prism.run_id` = '{run_id}'")
    wanted = hashlib.sha256(content_of(seed)).digest()
    for run in runs:
        for file in client.list_artifacts(run.info.run_id):
            if file.path.endswith(".bin"):
                local = Path(client.download_artifacts(run.info.run_id, file.path))
                return 0 if hashlib.sha256(local.read_bytes()).digest() == wanted else 1
    return 1


def main() -> int:
    """The command."""
    parser = campaign_arguments(__doc__ or "", trials=20)
    parser.add_argument("--kind", choices=ALL_KINDS, action="append", help="only this kind (may be repeated)")
    parser.add_argument("--way", choices=("prism", "mlflow-sync", "mlflow-async"), default="prism")
    parser.add_argument("--patience", type=float, default=240.0, help="seconds until a training counts as hung")
    asked = parser.parse_args()
    tell(f"seed {asked.seed}")
    worst = 0
    with staged("faults") as stage:
        for kind in asked.kind or ALL_KINDS:
            plan = Plan(kind, asked.trials, asked.seed, way=asked.way, at_once=asked.at_once, patience=asked.patience)
            if kind == "dns" and not HostName(stage.folder).is_possible():
                tell("dns: left out, this machine has no mount namespaces for us")
                worst = 1
                continue
            tally, more = run_kind(stage, plan)
            missed = [] if more["faults"] else [f"faults is 0: no {kind} was done"]
            shown = {"kind": kind, "seed": asked.seed, "way": asked.way, **more}
            worst = max(worst, publish("faults", tally, missed=missed, **shown))
    return worst


if __name__ == "__main__":
    sys.exit(main())
