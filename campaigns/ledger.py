"""The ledger of a campaign: what was acknowledged, what the server stored, and so what was lost or doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from attrs import frozen
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from campaigns.loop import METRICS, values

RUN_TAG = "prism.run_id"


@frozen
class Acknowledged:
    """What one training noted about itself: its run's id ("" if it did not get so far), the steps, its end."""

    run_id: str
    steps: tuple[int, ...]
    worked: bool


@frozen
class Tally:
    """Counts of one or several trials; all but `trials` and the first three points are wished to be 0.

    `lost` and `doubled` are points: acknowledged and not stored, stored more than once. `wrong` points are stored with
    a value that was not said. `extra_runs` are MLflow runs beside the one, `missing_runs` trials without one,
    `open_runs` runs that MLflow shows as RUNNING, `broken` trainings that ended otherwise than they should.
    """

    trials: int = 0
    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    extra_runs: int = 0
    missing_runs: int = 0
    open_runs: int = 0
    broken: int = 0

    def __add__(self, other: Tally) -> Tally:
        mine, others = attrs.asdict(self), attrs.asdict(other)
        return Tally(**{name: mine[name] + others[name] for name in mine})

    @property
    def is_clean(self) -> bool:
        """Nothing lost, doubled, wrong, missing or left open."""
        counted = attrs.asdict(self)
        return not any(counted[name] for name in counted if name not in ("trials", "acknowledged", "stored"))


def read_acknowledged(path: Path) -> Acknowledged:
    """Read a training's own notes; a last line that was cut by a kill does not count."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    run_id = lines[0].removeprefix("run ") if lines else ""
    return Acknowledged(run_id, tuple(int(line) for line in lines[1:] if line != "worked"), "worked" in lines)


def tally_points(client: MlflowClient, run: Run, *, seed: int, noted: Acknowledged) -> Tally:
    """Hold the points that one MLflow run stores against what was acknowledged.

    A step that was logged but not noted, because the kill fell between the two, may be there or not.
    """
    expected = {step: values(seed, step) for step in (*noted.steps, len(noted.steps))}
    lost = doubled = wrong = stored = 0
    for index in range(METRICS):
        name = f"m{index}"
        points = client.get_metric_history(run.info.run_id, name)
        at = Counter(point.step for point in points)
        stored += len(points)
        doubled += sum(count - 1 for count in at.values())
        wrong += sum(expected.get(point.step, {}).get(name) != point.value for point in points)
        lost += sum(step not in at for step in noted.steps)
    return Tally(acknowledged=len(noted.steps) * METRICS, stored=stored, lost=lost, doubled=doubled, wrong=wrong)


def tally_prism(client: MlflowClient, *, seed: int, noted: Acknowledged) -> Tally:
    """One trial of Prism: exactly one MLflow run carries its run id, and it has ended."""
    if not noted.run_id:
        return Tally(trials=1)  # the kill came first; nothing was promised
    runs = tagged(client, noted.run_id)
    return Tally(trials=1) + _tally_runs(client, runs, seed=seed, noted=noted)


def tally_mlflow(client: MlflowClient, *, seed: int, noted: Acknowledged) -> Tally:
    """One trial of plain MLflow: the run that it noted."""
    runs = [client.get_run(noted.run_id)] if noted.run_id else []
    return Tally(trials=1) + (_tally_runs(client, runs, seed=seed, noted=noted) if runs else Tally())


def _tally_runs(client: MlflowClient, runs: Sequence[Run], *, seed: int, noted: Acknowledged) -> Tally:
    if not runs:
        points = len(noted.steps) * METRICS
        return Tally(acknowledged=points, lost=points, missing_runs=1 if points else 0)
    first, *others = runs
    still_open = sum(run.info.status == "RUNNING" for run in runs)
    found = tally_points(client, first, seed=seed, noted=noted)
    return found + Tally(extra_runs=len(others), open_runs=still_open)


def tagged(client: MlflowClient, run_id: str) -> list[Run]:
    """The MLflow runs that carry a Prism run's id."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, filter_string=f"tags.`{RUN_TAG}` = '{run_id}'"))


def p99(seconds: Sequence[float]) -> float:
    """The 99th percentile of durations, in the unit they come in; 0 of none."""
    ordered = sorted(seconds)
    return ordered[int(len(ordered) * 0.99)] if ordered else 0.0


def as_result(tally: Tally) -> Mapping[str, int]:
    """The counts by name, for a report."""
    return attrs.asdict(tally)
