"""One run in MLflow for one of ours: whoever asks twice, or at once, and on whichever node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

import prism_mlflow.runs
from campaigns.proxy import FaultProxy
from prism.errors import Unanswered, Unreachable
from prism.protocols import Record, TrackedRun
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker

JOURNAL = "a1-rank0.jsonl"
PATIENT = TrackerOptions(timeout=60)
Make = Callable[..., TrackedRun]


def metrics(seq: int, file: str = JOURNAL) -> Record:
    return Record(file, seq, 1_700_000_000_000 + seq, "metrics", {"step": seq, "metrics": {"loss": seq / 7}})


def runs_of(client: MlflowClient, experiment: str, run_id: str) -> list[Run]:
    """All with our tag, deleted ones too."""
    number = client.get_experiment_by_name(experiment).experiment_id
    return list(client.search_runs([number], f"tags.`prism.run_id` = '{run_id}'", run_view_type=ViewType.ALL))


@pytest.mark.timeout(200)
@pytest.mark.parametrize("path", ["runs/create", "experiments/create"])
def test_a_reply_lost_after_making_makes_no_second(
    path: str, fault_proxy: FaultProxy, mlflow_server: Any, embedded: Path, make_run: Make
) -> None:
    experiment = f"lost {path}"
    run = make_run(embedded, "lost", settings={"tracking_uri": fault_proxy.uri}, experiment=experiment)
    fault_proxy.fault("reply_lost", path=path, times=1)
    tracker = MlflowTracker(PATIENT)
    with pytest.raises(Unreachable):
        tracker.open(run)
    opened = tracker.open(run)
    assert fault_proxy.counts == {"reply_lost": 1}
    found = runs_of(MlflowClient(mlflow_server.uri), experiment, "lost")
    assert [run.info.run_id for run in found] == [opened.id]


@pytest.mark.parametrize(
    ("kind", "surely"), [("429", True), ("503", True), ("504", False), ("reset", False), ("reply_lost", False)]
)
def test_what_may_still_be_made_is_told_from_what_surely_was_not(
    kind: str, surely: bool, fault_proxy: FaultProxy, embedded: Path, make_run: Make
) -> None:
    run = make_run(embedded, kind, settings={"tracking_uri": fault_proxy.uri}, experiment="surely")
    fault_proxy.fault(kind, path="runs/create", times=1)
    with pytest.raises(Unreachable) as raised:
        MlflowTracker(PATIENT).open(run)
    assert isinstance(raised.value, Unanswered) is not surely
    fault_proxy.refuse()
    with pytest.raises(Unreachable) as raised:
        MlflowTracker(PATIENT).open(run)
    assert not isinstance(raised.value, Unanswered)


@pytest.mark.timeout(200)
def test_a_run_made_late_is_removed_at_the_end(
    fault_proxy: FaultProxy, mlflow_server: Any, embedded: Path, make_run: Make
) -> None:
    """The server was stalled: what we had given up and asked for again is carried out after all."""
    run = make_run(embedded, "late", settings={"tracking_uri": fault_proxy.uri}, experiment="late")
    fault_proxy.fault("stall", path="runs/create", times=1, seconds=15)
    with pytest.raises(Unanswered):
        MlflowTracker(TrackerOptions(timeout=2)).open(run)
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    tracker.deliver([metrics(1)], {JOURNAL: 1})
    client = MlflowClient(mlflow_server.uri)
    until = time.monotonic() + 90
    while len(runs_of(client, "late", "late")) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert len(runs_of(client, "late", "late")) == 2
    tracker.close("FINISHED", 1_700_000_009_000)
    (stays,) = runs_of(client, "late", "late")
    assert (stays.info.run_id, stays.info.status, stays.data.metrics) == (opened.id, "FINISHED", {"loss": 1 / 7})
    assert [run.info.run_id for run in client.search_runs([stays.info.experiment_id])] == [opened.id]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("store", "late"), [("sqlite", False), ("sqlite", True), ("postgresql", True)])
def test_two_that_begin_at_once_end_in_one_run(
    store: str,
    late: bool,
    embedded: Path,
    make_run: Make,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = f"sqlite:///{embedded}/mlflow.db"
    if store == "postgresql":
        uri = request.getfixturevalue("postgres").new_database("at_once")
    run = make_run(embedded, "both", settings={"tracking_uri": uri}, experiment="at once")
    MlflowTracker(PATIENT).open(make_run(embedded, "other", settings={"tracking_uri": uri}, experiment="at once"))
    make, together = prism_mlflow.runs._create, threading.Barrier(2)

    def make_together(*given: Any) -> Run:
        together.wait(60)  # both have looked, and found none
        made = make(*given)
        if late:
            together.wait(60)  # both are there before either looks again
        return made

    monkeypatch.setattr(prism_mlflow.runs, "_create", make_together)
    failed: list[Exception] = []

    def deliver(number: int) -> None:
        tracker = MlflowTracker(PATIENT)
        try:
            _again(lambda: tracker.open(run))
            _again(lambda: tracker.deliver([metrics(number)], {JOURNAL: number}))
            _again(lambda: tracker.close("FINISHED", 1_700_000_009_000))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=deliver, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed
    client = MlflowClient(uri)
    (stays,) = runs_of(client, "at once", "both")
    assert (stays.info.lifecycle_stage, stays.info.status) == ("active", "FINISHED")
    assert sorted(point.step for point in client.get_metric_history(stays.info.run_id, "loss")) == [1, 2]
    (gone,) = client.search_runs([stays.info.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert gone.data.tags["prism.superseded_by"] == stays.info.run_id


def _again(call: Callable[[], Any]) -> None:
    """As a delivery does it: two that tidy up at the same moment can be in each other's way."""
    for _ in range(5):
        try:
            call()
            return
        except Unreachable:
            time.sleep(0.5)
    call()


def test_who_lost_and_had_delivered_already_does_not_go_over(embedded: Path, make_run: Make) -> None:
    """What it had delivered is not in the run that was kept: who opens that one begins where it is."""
    run = make_run(embedded, "behind")
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    tracker.deliver([metrics(1)], {JOURNAL: 1})
    client = MlflowClient(f"sqlite:///{embedded}/mlflow.db")
    other = client.create_run(client.get_run(opened.id).info.experiment_id, tags={"prism.run_id": "behind"})
    prism_mlflow.runs.settle(client, other.info.experiment_id, run_id="behind", keep=other.info.run_id)
    with pytest.raises(Unreachable, match="'active' state"):
        tracker.deliver([metrics(2)], {JOURNAL: 2})
    again = MlflowTracker(PATIENT)
    assert again.open(run).id == other.info.run_id
    assert again.position() == {}


def test_a_part_finds_the_run_and_keeps_a_position_of_its_own(embedded: Path, make_run: Make) -> None:
    whole = make_run(embedded, "parts")
    part = make_run(embedded, "parts", part="node-b.7/1")
    tracker = MlflowTracker(PATIENT)
    with pytest.raises(Unreachable, match=r"is not in MLflow at .* yet"):
        tracker.open(part)
    first = MlflowTracker(PATIENT)
    opened = first.open(whole)
    assert tracker.open(part).id == opened.id
    many = {f"node-{number}.jsonl": number for number in range(1, 100)}
    first.deliver([metrics(1)], {JOURNAL: 1})
    tracker.deliver([metrics(5, "node-1.jsonl")], many)
    assert (first.position(), tracker.position()) == ({JOURNAL: 1}, many)
    for other in ("1", "node-b.7", ""):
        another = MlflowTracker(PATIENT)
        another.open(make_run(embedded, "parts", part=other))
        assert another.position() == ({} if other else {JOURNAL: 1})
    tracker.close("FAILED", 1_700_000_009_000)
    client = MlflowClient(f"sqlite:///{embedded}/mlflow.db")
    assert client.get_run(opened.id).info.status == "RUNNING"
    assert sorted(point.step for point in client.get_metric_history(opened.id, "loss")) == [1, 5]
