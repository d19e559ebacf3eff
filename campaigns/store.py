"""Demand: many processes on MLflow's embedded store: all begin, all finish, and logging costs what the journal costs.

`python -m campaigns.store --seed 0`: first 16 processes start together in an empty directory without a tracking URI,
`--trials` times; then 8 processes log 10,000 points each into one SQLite store, beside the same loops with the
journal alone (`ml.enabled: false`), and the 99.9th percentile of the log calls may be twice that at most.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from campaigns.ledger import Tally, tally_mlflow, tally_prism
from campaigns.loop import METRICS
from campaigns.project import Asked, Training, new_project, prism, train
from campaigns.report import campaign_arguments, publish, tell

TOGETHER = 16
WRITERS = 8
POINTS = 10_000
MOST_TIMES = 2
"""How many times the 99.9th percentile of the journal alone the log call may take."""


def start_together(folder: Path, *, seed: int, way: str = "prism", processes: int = TOGETHER, steps: int = 20) -> Tally:
    """Processes that begin at once on a store that nobody has made; `broken` counts those that do not end well."""
    project = new_project(folder, uri=None, timeout=60)
    options = ("--steps", str(steps), "--rate", "0")
    trainings = [train(project, Asked(way, seed * 100 + n, f"{way}-{n}", options)) for n in range(processes)]
    broken = _wait(trainings, steps)
    if way == "prism":
        broken += int(prism(project, "sync").returncode != 0)
    broken += _locked(project)
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    return _tally(client, trainings, way) + Tally(broken=broken)


def write_together(
    folder: Path, *, seed: int, processes: int = WRITERS, points: int = POINTS, rate: float = 200.0
) -> tuple[Tally, Mapping[str, Any]]:
    """Writers into one SQLite store, and the same with the journal alone; the tally is of the first."""
    steps = points // METRICS
    stored, with_store = _write(folder / "store", seed=seed, processes=processes, steps=steps, rate=rate, ml={})
    _, alone = _write(folder / "alone", seed=seed, processes=processes, steps=steps, rate=rate, ml={"enabled": False})
    milliseconds = {"p999_ms": p999(with_store) * 1000, "p999_journal_alone_ms": p999(alone) * 1000}
    return stored, {name: round(value, 4) for name, value in milliseconds.items()}


def missed_by(figures: Mapping[str, Any]) -> list[str]:
    """What of the figures of `write_together` is not as it must be, in words."""
    found, most = figures["p999_ms"], MOST_TIMES * figures["p999_journal_alone_ms"]
    return [] if found <= most else [f"p999_ms {found} is more than {MOST_TIMES} x p999_journal_alone_ms = {most:.4g}"]


def p999(seconds: list[float]) -> float:
    """The 99.9th percentile; 0 of none."""
    return sorted(seconds)[int(len(seconds) * 0.999)] if seconds else 0.0


def _write(
    folder: Path, *, seed: int, processes: int, steps: int, rate: float, ml: Mapping[str, Any]
) -> tuple[Tally, list[float]]:
    project = new_project(folder, uri=None, timeout=60, **ml)
    options = ("--steps", str(steps), "--rate", str(rate))
    trainings = [train(project, Asked("prism", seed * 100 + n, f"writer-{n}", options)) for n in range(processes)]
    broken = _wait(trainings, steps)
    seconds = [one for training in trainings if training.timing.exists() for one in training.timings()["log_seconds"]]
    if ml:
        return Tally(), seconds
    broken += int(prism(project, "sync", seconds=1800).returncode != 0) + _locked(project)
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    return _tally(client, trainings, "prism") + Tally(broken=broken), seconds


def _wait(trainings: list[Training], steps: int) -> int:
    """Wait for all; how many did not end with 0, or not with every step."""
    codes = [one.process.wait(900) for one in trainings]
    if any(codes):
        tell(f"exit codes {codes}")
    return sum(one.went_wrong(steps) for one in trainings)


def _locked(project: Path) -> int:
    """In how many logs "database is locked" stands."""
    logs = [
        *project.glob("notes/*.log"),
        *project.glob("artifacts/runs/*/logs/*"),
        *project.glob("artifacts/runs/*/delivery/*.jsonl"),
    ]
    found = [log for log in logs if b"database is locked" in log.read_bytes()]
    for log in found:
        tell(f"database is locked: {log.name}")
    return len(found)


def _tally(client: MlflowClient, trainings: list[Training], way: str) -> Tally:
    total = Tally()
    for one in trainings:
        try:
            found = tally_prism if way == "prism" else tally_mlflow
            total += found(client, seed=one.seed, noted=one.noted())
        except (sqlite3.Error, OSError) as error:
            tell(f"{one.seed}: {error}")
            total += Tally(trials=1, missing_runs=1)
    return total


def main() -> int:
    """The command."""
    parser = campaign_arguments(__doc__ or "", trials=3)
    parser.add_argument("--way", choices=("prism", "mlflow-sync", "mlflow-async"), default="prism")
    asked = parser.parse_args()
    tell(f"seed {asked.seed}")
    with tempfile.TemporaryDirectory(prefix="prism-store-", ignore_cleanup_errors=True) as scratch:
        total = Tally()
        for number in range(asked.trials):
            folder = Path(scratch) / f"together-{number}"
            total += start_together(folder, seed=asked.seed + number, way=asked.way)
        worst = publish("store", total, what=f"{TOGETHER} start together", way=asked.way, seed=asked.seed)
        if asked.way != "prism":
            return worst
        begun = time.monotonic()
        tally, more = write_together(Path(scratch), seed=asked.seed)
        more = {**more, "seconds": round(time.monotonic() - begun, 1)}
        what, missed = f"{WRITERS} x {POINTS} points", missed_by(more)
        return max(worst, publish("store", tally, missed=missed, what=what, seed=asked.seed, **more))


if __name__ == "__main__":
    sys.exit(main())
