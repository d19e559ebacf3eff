"""Demand: `prism sync` killed at random points and called again, and four at once, double nothing: one MLflow run.

`python -m campaigns.sync_kills --trials 200 --seed 0`: runs of 20,000 points whose delivery was killed at their start.
`prism sync` is killed up to five times a run: a quarter of the kills fall into its first second, the others within a
second after it has opened the tracker. Then four are started at once, and one of them is killed too. A kill is a trial
when it was the kill that ended the process; `kills_midway` is how many of them left a part of the points stored.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from campaigns.ledger import Tally, tagged, tally_prism
from campaigns.loop import METRICS
from campaigns.project import Asked, Training, clean_environment, kill_processes, new_project, prism, train
from campaigns.report import campaign_arguments, publish, tell
from campaigns.stage import Stage, staged

KILLS = 5
STEPS = 4000
TOGETHER = 4
IN_START = 0.25
OPENED = b'"position"'
"""What stands in a delivery's journal once its tracker is open: from then on points are sent."""


def run_trials(
    stage: Stage, *, kills: int, seed: int, kills_a_run: int = KILLS, steps: int = STEPS
) -> tuple[Tally, Mapping[str, Any]]:
    """Kill `prism sync` that often: the tally, with the kills as its trials, and how many left a part stored.

    Broken is what failed without a kill.
    """
    draw = random.Random(seed)
    project = new_project(stage.folder / f"sync-kills-{seed}", uri=stage.server.uri, timeout=30)
    total, midway, number = Tally(), 0, seed * 100_000
    while total.trials < kills:
        number += 1
        training = undelivered(project, seed=number, steps=steps)
        run_id = training.noted().run_id
        done = broken = 0
        while done < min(kills_a_run - 1, kills - total.trials):
            code = kill_one(project, run_id, draw)
            if code != -signal.SIGKILL:  # it was done before the kill came, and the next would have nothing to do
                broken += int(code != 0)
                break
            done += 1
            midway += int(_is_midway(stage, run_id, steps))
        killed, failed = all_at_once(project, run_id, draw)
        found = tally_prism(stage.client, seed=number, noted=training.noted())
        found = attrs.evolve(found, trials=done + killed, broken=found.broken + broken + failed)
        if not found.is_clean:
            tell(f"seed {number}: {found}")
        total += found
        tell(f"{total.trials} of {kills} kills, {midway} midway, lost {total.lost}, doubled {total.doubled}")
    return total, {"kills_midway": midway}


def undelivered(project: Path, *, seed: int, steps: int) -> Training:
    """A run that has finished, and whose process beside it was killed before it delivered anything."""
    options = ("--steps", str(steps), "--rate", "0")
    training = train(project, Asked("prism", seed, f"training-{seed}", options))
    beside = training.beside()
    while training.process.poll() is None and not beside:
        time.sleep(0.002)
        beside = training.beside()
    kill_processes(beside)
    training.process.wait(120)
    return training


def kill_one(project: Path, run_id: str, draw: random.Random) -> int:
    """Begin a `prism sync` and kill it, in its start or while it delivers; returns what it ended with."""
    before = _delivered_by(project, run_id)
    process = _begin(project, run_id)
    if draw.random() >= IN_START:
        _await_opened(project, run_id, before, [process])
    time.sleep(draw.uniform(0, 1))
    process.send_signal(signal.SIGKILL)
    return process.wait(60)


def all_at_once(project: Path, run_id: str, draw: random.Random) -> tuple[int, int]:
    """Four at once, one of them killed; then one that must end well. How many were killed, and how many failed."""
    before = _delivered_by(project, run_id)
    processes = [_begin(project, run_id) for _ in range(TOGETHER)]
    _await_opened(project, run_id, before, processes)
    time.sleep(draw.uniform(0, 1))
    draw.choice(processes).send_signal(signal.SIGKILL)
    codes = [process.wait(300) for process in processes]
    last = prism(project, "sync", run_id)
    failed = [code for code in (*codes, last.returncode) if code not in (0, -signal.SIGKILL)]
    if failed:
        tell(f"prism sync ended with {codes}, the last with {last.returncode}: {_said(project)}{last.stderr[-500:]}")
    return codes.count(-signal.SIGKILL), len(failed)


def _delivered_by(project: Path, run_id: str) -> set[Path]:
    """The journals of those that have delivered the run."""
    return set((project / "artifacts" / "runs" / run_id / "delivery").glob("*.jsonl"))


def _await_opened(project: Path, run_id: str, before: set[Path], processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until a deliverer that is not of those before has opened the tracker, or all these processes have ended."""
    while any(process.poll() is None for process in processes):
        if any(OPENED in path.read_bytes() for path in _delivered_by(project, run_id) - before):
            return
        time.sleep(0.002)


def _is_midway(stage: Stage, run_id: str, steps: int) -> bool:
    """Whether the server has a part of the points."""
    runs = tagged(stage.client, run_id)
    names = ("m0", f"m{METRICS - 1}")  # those of a step are stored in this order
    first, last = (sum(len(stage.client.get_metric_history(run.info.run_id, name)) for run in runs) for name in names)
    return first > 0 and last < steps


def _begin(project: Path, run_id: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prism", "--project", str(project), "sync", run_id]
    with (project / "sync.log").open("ab") as log:
        return subprocess.Popen(command, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=log)


def _said(project: Path) -> str:
    """The end of what `prism sync` said last."""
    return (project / "sync.log").read_text(errors="replace")[-1000:]


def main() -> int:
    """The command."""
    asked = campaign_arguments(__doc__ or "", trials=200).parse_args()
    tell(f"seed {asked.seed}")
    with staged("sync-kills") as stage:
        tally, more = run_trials(stage, kills=asked.trials, seed=asked.seed)
    missed = [] if more["kills_midway"] else ["kills_midway is 0: no kill fell into the delivery"]
    return publish("sync_kills", tally, missed=missed, seed=asked.seed, **more)


if __name__ == "__main__":
    sys.exit(main())
