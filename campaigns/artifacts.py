"""Demand: a large artifact through a connection that drops arrives whole, and the delivery does not grow by its size.

`python -m campaigns.artifacts --trials 1 --seed 0 --megabytes 5000 --drops 3`: a training logs a file of random bytes;
the proxy resets the connection at a random place within each of the first uploads. Counted as lost is a file whose
digest, read back from the server, is another one. The growth must be below 64 MB; it is that of the process that
delivers, from the moment when the first upload begins, without the share of the file cache that it maps.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import requests
from attrs import frozen

from campaigns.ledger import Tally, tally_prism
from campaigns.project import Asked, Training, new_project, prism, train
from campaigns.proxy import FaultProxy
from campaigns.report import campaign_arguments, publish, tell
from campaigns.stage import Stage, staged

STEPS = 20
MOST_GROWTH_MB = 64
"""By how much (10^6 bytes) the process that delivers must grow less, however large the file."""
_BLOCK = 1 << 20
_SERVED = "/api/2.0/mlflow-artifacts/artifacts"


@frozen
class Plan:
    """A file of `megabytes` (10^6 bytes), whose first `drops` uploads are cut off, within `seconds` at most."""

    megabytes: int
    drops: int
    seed: int
    seconds: float = 3600.0


def run_trial(stage: Stage, plan: Plan) -> tuple[Tally, Mapping[str, Any]]:
    """One training that logs one file; returns the tally, and how the delivery grew and how long it took."""
    large = stage.folder / f"large-{plan.seed}.bin"
    digest = _write_random(large, plan)
    with FaultProxy(stage.server.port, seed=plan.seed) as proxy:
        project = new_project(stage.folder / f"artifacts-{plan.seed}", uri=proxy.uri, timeout=30)
        proxy.fault("reset", path=large.name, method="PUT", times=plan.drops)
        training = train(project, Asked("prism", plan.seed, "training", ("--steps", str(STEPS), "--file", str(large))))
        begun = time.monotonic()
        growth = _growth(training, proxy, name=large.name, until=begun + plan.seconds)
        took = time.monotonic() - begun
        synced = prism(project, "sync", seconds=plan.seconds)
        training.process.wait(60)
        noted = training.noted()
        tally = tally_prism(stage.client, seed=plan.seed, noted=noted)
        if proxy.counts["reset"] != plan.drops or training.went_wrong(STEPS) or synced.returncode:
            tally += Tally(broken=1)
    tally += Tally(lost=int(_digest_there(stage, noted.run_id, large.name) != digest))
    large.unlink()
    return tally, {"delivery_growth_mb": round(growth / 1e6, 1), "took_s": round(took, 1)}


def _write_random(path: Path, plan: Plan) -> str:
    """Make the file; returns its sha256 in hex."""
    draw, digest = random.Random(plan.seed), hashlib.sha256()
    with path.open("wb") as content:
        for _ in range(plan.megabytes):
            block = draw.randbytes(1_000_000)
            digest.update(block)
            content.write(block)
    return digest.hexdigest()


def _growth(training: Training, proxy: FaultProxy, *, name: str, until: float) -> int:
    """By how many bytes the processes beside the training grew at most, until they are gone."""
    before: dict[int, int] = {}
    growth = 0
    known: dict[int, psutil.Process] = {}
    while time.monotonic() < until:
        known |= {one.pid: one for one in training.beside()}
        uploads = any(path.endswith(name) for path in tuple(proxy.paths))
        sizes = {pid: size for pid, one in known.items() if (size := _resident(one))}
        if not sizes and training.process.poll() is not None:
            break
        for pid, size in sizes.items():
            if not uploads:
                before[pid] = size
            growth = max(growth, size - before.get(pid, size))
        time.sleep(0.02)
    return growth


def _resident(process: psutil.Process) -> int:
    """Bytes of memory of its own; 0 of one that is gone."""
    try:
        found = process.memory_info()
        return 0 if process.status() == psutil.STATUS_ZOMBIE else int(found.rss - found.shared)
    except psutil.NoSuchProcess:
        return 0


def _digest_there(stage: Stage, run_id: str, name: str) -> str:
    """The sha256 of the run's artifact as the server gives it, "" if it has none."""
    client = stage.client
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, f"tags.`prism.run_id` = '{run_id}'"):
        folder = run.info.artifact_uri.removeprefix("mlflow-artifacts:").strip("/")
        digest = hashlib.sha256()
        with requests.get(f"{stage.server.uri}{_SERVED}/{folder}/{name}", stream=True, timeout=600) as response:
            for block in response.iter_content(_BLOCK):
                digest.update(block)
        if response.ok:
            return digest.hexdigest()
    return ""


def missed_by(figures: Mapping[str, Any]) -> list[str]:
    """What of a trial's figures is not as it must be, in words."""
    found = figures["delivery_growth_mb"]
    return [] if found < MOST_GROWTH_MB else [f"delivery_growth_mb {found} is not below {MOST_GROWTH_MB}"]


def main() -> int:
    """The command."""
    parser = campaign_arguments(__doc__ or "", trials=1)
    parser.add_argument("--megabytes", type=int, default=5000)
    parser.add_argument("--drops", type=int, default=3)
    asked = parser.parse_args()
    tell(f"seed {asked.seed}")
    worst = 0
    with staged("artifacts") as stage:
        for seed in range(asked.seed, asked.seed + asked.trials):
            tally, more = run_trial(stage, Plan(asked.megabytes, asked.drops, seed))
            shown = {"seed": seed, "megabytes": asked.megabytes, "drops": asked.drops, **more}
            worst = max(worst, publish("artifacts", tally, missed=missed_by(more), **shown))
    return worst


if __name__ == "__main__":
    sys.exit(main())
