"""Demand: a server that never comes back does not hold the job up, and what is pending is delivered later.

`python -m campaigns.never_back --trials 20 --seed 0`: the server goes away at a random moment of a job (`prism run`,
exit code 7, two seconds of logging), in a quarter of the trials before it. The job must end with its own exit code
within ten seconds of its work's end, and `prism runs list` must show what is pending. Then the server is there again,
and `prism sync` must complete it.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from campaigns.ledger import Tally, read_acknowledged, tally_prism
from campaigns.project import LOOP, clean_environment, new_project, prism
from campaigns.proxy import FaultProxy
from campaigns.report import campaign_arguments, publish, tell
from campaigns.stage import Stage, staged

EXIT_CODE = 7
END_SECONDS = 10.0


def run_trial(stage: Stage, *, seed: int, steps: int = 80) -> tuple[Tally, Mapping[str, Any]]:
    """One job; `broken` counts a wrong exit code, an end that took too long, and nothing shown as pending."""
    draw = random.Random(seed)
    with FaultProxy(stage.server.port, seed=seed) as proxy:
        project = new_project(stage.folder / f"never-back-{seed}", uri=proxy.uri)
        away_after = -1 if draw.random() < 0.25 else draw.randrange(steps)
        if away_after < 0:
            proxy.refuse()
        job = _start_job(project, seed=seed, steps=steps)
        acknowledged = project / "acknowledged"
        worked_at = _watch(job, acknowledged, proxy, away_after=away_after)
        code = job.wait(120)
        ended_after = time.monotonic() - worked_at
        (listed,) = json.loads(prism(project, "runs", "list", "--json").stdout)
        proxy.accept()
        synced = prism(project, "sync")
        problems = [
            f"exit code {code}" if code != EXIT_CODE else "",
            f"ended {ended_after:.1f} s after its work" if ended_after > END_SECONDS else "",
            f"pending {listed['pending']}" if not listed["pending"] else "",
            f"prism sync ended with {synced.returncode}: {synced.stderr[-500:]}" if synced.returncode else "",
        ]
        for problem in filter(None, problems):
            tell(f"seed {seed}: {problem}")
        noted = read_acknowledged(acknowledged)
        tally = tally_prism(stage.client, seed=seed, noted=noted)
        return tally + Tally(broken=int(any(problems))), {"ended_after_s": round(ended_after, 2)}


def _start_job(project: Path, *, seed: int, steps: int) -> subprocess.Popen[bytes]:
    """A job under `prism run`: the loop as a user's script, which joins the run and exits with a code of its own."""
    loop = project / "train.py"
    loop.write_text(LOOP.read_text())
    options = ["prism", "--acknowledged", "acknowledged", "--seed", str(seed), "--steps", str(steps)]
    options += ["--exit", str(EXIT_CODE)]
    command = [sys.executable, "-m", "prism", "--project", str(project), "run", "train.py", "--", *options]
    with (project / "job.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=project, env=clean_environment(), stdout=log, stderr=log, start_new_session=True
        )


def _watch(job: subprocess.Popen[bytes], acknowledged: Path, proxy: FaultProxy, *, away_after: int) -> float:
    """Take the server away when that step was acknowledged; returns when the work ended, on the monotonic clock."""
    while job.poll() is None:
        noted = read_acknowledged(acknowledged)
        if len(noted.steps) > away_after:
            proxy.refuse()
        if noted.worked:
            break
        time.sleep(0.05)
    return time.monotonic()


def main() -> int:
    """The command."""
    asked = campaign_arguments(__doc__ or "", trials=20).parse_args()
    tell(f"seed {asked.seed}")
    total, slowest = Tally(), 0.0
    with staged("never-back") as stage:
        for number in range(asked.trials):
            tally, more = run_trial(stage, seed=asked.seed + number)
            total, slowest = total + tally, max(slowest, more["ended_after_s"])
    return publish("never_back", total, seed=asked.seed, slowest_end_s=slowest)


if __name__ == "__main__":
    sys.exit(main())
