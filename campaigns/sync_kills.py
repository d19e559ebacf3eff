"""Demand: `prism sync` killed at random points and called again, and four at once, double nothing: one MLflow run.

`python -m campaigns.sync_kills --trials 200 --seed 0`: runs of 6,000 points whose delivery was killed at their start.
`prism sync` is killed up to five times a run, the first time within its start, later while it delivers; then four are
started at once, and one of them is killed too. Each kill is a trial.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs

from campaigns.ledger import Tally, tally_prism
from campaigns.project import Asked, Training, clean_environment, kill_processes, new_project, prism, train
from campaigns.report import campaign_arguments, publish, tell
from campaigns.stage import Stage, staged

KILLS = 5
STEPS = 1200
TOGETHER = 4


def run_trials(stage: Stage, *, kills: int, seed: int, kills_a_run: int = KILLS, steps: int = STEPS) -> Tally:
    """Kill `prism sync` that often; the tally has the kills as its trials, and as broken what failed without a kill."""
    draw = random.Random(seed)
    project = new_project(stage.folder / f"sync-kills-{seed}", uri=stage.server.uri, timeout=30)
    total = Tally()
    while total.trials < kills:
        number = seed * 100_000 + total.trials
        training = undelivered(project, seed=number, steps=steps)
        run_id = training.noted().run_id
        done = 0
        while done < min(kills_a_run - 1, kills - total.trials):
            kill_one(project, run_id, draw, moment="start" if done == 0 else "delivering")
            done += 1
        broken = all_at_once(project, run_id, draw)
        found = tally_prism(stage.client, seed=number, noted=training.noted())
        found = attrs.evolve(found, trials=done + 1, broken=found.broken + broken)
        if not found.is_clean:
            tell(f"seed {number}: {found}")
        total += found
        tell(f"{total.trials} of {kills} kills, lost {total.lost}, doubled {total.doubled}")
    return total


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


def kill_one(project: Path, run_id: str, draw: random.Random, *, moment: str) -> None:
    """Begin a `prism sync` and kill it: `start`, somewhere in its first second, or once it has claimed the run."""
    delivery = project / "artifacts" / "runs" / run_id / "delivery"
    before = set(delivery.glob("*.jsonl"))
    process = _begin(project, run_id)
    if moment == "start":
        time.sleep(draw.uniform(0, 1))
    else:
        while process.poll() is None and set(delivery.glob("*.jsonl")) == before:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 2.5))
    process.send_signal(signal.SIGKILL)
    process.wait(60)


def all_at_once(project: Path, run_id: str, draw: random.Random) -> int:
    """Four at once, one of them killed; then one that must end well: returns how many did not."""
    processes = [_begin(project, run_id) for _ in range(TOGETHER)]
    time.sleep(draw.uniform(0.5, 3))
    victim = draw.choice(processes)
    victim.send_signal(signal.SIGKILL)
    codes = [code for process in processes if (code := process.wait(300)) != -signal.SIGKILL]
    last = prism(project, "sync", run_id)
    if last.returncode or any(codes):
        tell(
            f"prism sync ended with {codes}, the last one with {last.returncode}: {_said(project)}{last.stderr[-500:]}"
        )
    return sum(code != 0 for code in (*codes, last.returncode))


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
        return publish("sync_kills", run_trials(stage, kills=asked.trials, seed=asked.seed), seed=asked.seed)


if __name__ == "__main__":
    sys.exit(main())
