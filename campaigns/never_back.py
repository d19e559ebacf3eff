"""Demand: a server that never comes back does not hold the job up, and what is pending is delivered later.

`python -m campaigns.never_back --trials 20 --seed 0`: the server goes away at a random moment of a job (`prism run`,
exit code 7, two seconds of logging), in a quarter of the trials before it. In half of them it refuses connections, in
the others it takes them and never answers. In half of them the job logs a model for `ml.model_repo`, and ends with 0.
The job must end with that exit code within ten seconds of its work's end, and `prism runs list` must show what is
pending, and `prism runs show` that the model is. Then the server is there again, and `prism sync` must complete it,
with the one version of the model.
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

from attrs import field, frozen

from campaigns.ledger import Tally, read_acknowledged, tally_prism
from campaigns.project import LOOP, clean_environment, new_project, prism
from campaigns.proxy import FaultProxy
from campaigns.report import campaign_arguments, publish, tell
from campaigns.stage import Stage, staged

EXIT_CODE = 7
END_SECONDS = 10.0
ABSENCES = ("refuses", "silent")


@frozen
class Plan:
    """When the server goes away (`away_after`: a step, -1 before the job begins), how, and whether there is a model.

    `within` is how many seconds after its work's end the job may end; `environment` has variables of the job and
    of `prism sync`.
    """

    seed: int
    steps: int
    absence: str
    away_after: int
    model: str
    within: float = END_SECONDS
    environment: Mapping[str, str] = field(factory=dict)

    @property
    def exit_code(self) -> int:
        """What the job's script ends with; the model of one that fails is not registered."""
        return 0 if self.model else EXIT_CODE


def plan(seed: int, *, steps: int = 80) -> Plan:
    """The trial that a seed means: four seeds in a row have all there is but for the moment, which is drawn."""
    draw = random.Random(seed)
    away_after = -1 if draw.random() < 0.25 else draw.randrange(steps)
    return Plan(seed, steps, ABSENCES[seed % 2], away_after, f"never-back-{seed}" if seed % 4 >= 2 else "")


def run_trial(stage: Stage, plan: Plan) -> tuple[Tally, Mapping[str, Any]]:
    """One job; `broken` counts a wrong exit code, an end that took too long, and what is not shown as pending."""
    with FaultProxy(stage.server.port, seed=plan.seed) as proxy:
        model_repo = {"name": plan.model, "registered": True} if plan.model else {}
        project = new_project(stage.folder / f"never-back-{plan.seed}", uri=proxy.uri, model_repo=model_repo)
        if plan.away_after < 0:
            _go_away(proxy, plan)
        job = _start_job(project, plan)
        worked_at = _watch(job, project / "acknowledged", proxy, plan)
        code = job.wait(120)
        ended_after = time.monotonic() - worked_at
        problems = [
            f"exit code {code}" if code != plan.exit_code else "",
            f"ended {ended_after:.1f} s after its work" if ended_after > plan.within else "",
            *_untold(project, plan),
        ]
        proxy.clear()
        synced = prism(project, "sync", environment=plan.environment)
        if synced.returncode:
            problems.append(f"prism sync ended with {synced.returncode}: {synced.stderr[-500:]}")
        if plan.model and (versions := len(stage.client.search_model_versions(f"name='{plan.model}'"))) != 1:
            problems.append(f"{versions} versions of the model")
        for problem in filter(None, problems):
            tell(f"{plan}: {problem}")
        tell(f"{plan}: ended {ended_after:.1f} s after its work")
        tally = tally_prism(stage.client, seed=plan.seed, noted=read_acknowledged(project / "acknowledged"))
        return tally + Tally(broken=int(any(problems))), {"ended_after_s": round(ended_after, 2)}


def _go_away(proxy: FaultProxy, plan: Plan) -> None:
    """From now on the server is away, in the plan's way."""
    if plan.absence == "refuses":
        proxy.refuse()
    else:
        proxy.fault("half_open")


def _untold(project: Path, plan: Plan) -> list[str]:
    """What of that which is pending neither the job's own last words nor the project's runs say, in words."""
    said = (project / "job.log").read_bytes()
    (listed,) = json.loads(prism(project, "runs", "list", "--json").stdout)
    shown = json.loads(prism(project, "runs", "show", listed["run_id"], "--json").stdout)
    model = (shown["model"] or {}).get("state", "")
    return [
        "the job does not say that anything is pending" if b"pending    " not in said else "",
        f"pending {listed['pending']}" if not listed["pending"] else "",
        f"the model is {model!r}" if model != ("pending" if plan.model else "") else "",
    ]


def _start_job(project: Path, plan: Plan) -> subprocess.Popen[bytes]:
    """A job under `prism run`: the loop as a user's script, which joins the run and exits with a code of its own."""
    loop = project / "train.py"
    loop.write_text(LOOP.read_text())
    options = ["prism", "--acknowledged", "acknowledged", "--seed", str(plan.seed), "--steps", str(plan.steps)]
    options += ["--exit", str(plan.exit_code)]
    if plan.model:
        (project / "model").mkdir()
        (project / "model" / "weights.bin").write_bytes(random.Random(plan.seed).randbytes(100_000))
        options += ["--model", "model"]
    command = [sys.executable, "-m", "prism", "--project", str(project), "run", "train.py", "--", *options]
    variables = {**clean_environment(), **plan.environment}
    with (project / "job.log").open("wb") as log:
        return subprocess.Popen(command, cwd=project, env=variables, stdout=log, stderr=log, start_new_session=True)


def _watch(job: subprocess.Popen[bytes], acknowledged: Path, proxy: FaultProxy, plan: Plan) -> float:
    """Take the server away when that step was acknowledged; returns when the work ended, on the monotonic clock."""
    is_away = plan.away_after < 0
    while job.poll() is None:
        noted = read_acknowledged(acknowledged)
        if not is_away and len(noted.steps) > plan.away_after:
            _go_away(proxy, plan)
            is_away = True
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
            tally, more = run_trial(stage, plan(asked.seed + number))
            total, slowest = total + tally, max(slowest, more["ended_after_s"])
    return publish("never_back", total, seed=asked.seed, slowest_end_s=slowest)


if __name__ == "__main__":
    sys.exit(main())
