"""What a bad network does to a delivery: it is tried again, nothing is lost or doubled, and nothing waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from campaigns.proxy import KINDS, FaultProxy
from prism.errors import Unreachable
from prism.protocols import Record, TrackedRun
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker

JOURNAL = "a1-rank0.jsonl"
PATIENT = TrackerOptions(timeout=60)
SECONDS = {"stall": 12.0, "drip": 0.5}
Make = Callable[..., TrackedRun]


def metrics(seq: int) -> Record:
    return Record(JOURNAL, seq, 1_700_000_000_000 + seq, "metrics", {"step": seq, "metrics": {"loss": seq / 7}})


def steps(server: Any, mlflow_id: str) -> list[int]:
    return [point.step for point in MlflowClient(server.uri).get_metric_history(mlflow_id, "loss")]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_costs_another_try_and_no_point(
    kind: str, fault_proxy: FaultProxy, mlflow_server: Any, embedded: Path, make_run: Make
) -> None:
    run = make_run(embedded, kind, settings={"tracking_uri": fault_proxy.uri}, experiment="faults")
    tracker = MlflowTracker(TrackerOptions(timeout=5))
    opened = tracker.open(run)
    fault_proxy.fault(kind, times=1, seconds=SECONDS.get(kind))
    first, second = [metrics(n) for n in range(1, 60)], [metrics(n) for n in range(60, 90)]
    begun = time.monotonic()
    if kind == "duplicated":  # the reply that was not asked for is nobody's
        tracker.deliver(first, {JOURNAL: 59})
    else:
        with pytest.raises(Unreachable):
            tracker.deliver(first, {JOURNAL: 59})
    assert time.monotonic() - begun < 40  # a reply of a byte every half a second takes longer by far
    assert fault_proxy.counts == {kind: 1}
    for records in (first, second):
        _until_delivered(tracker, records)
    assert tracker.position() == {JOURNAL: 89}
    assert sorted(steps(mlflow_server, opened.id)) == list(range(1, 90))


def _until_delivered(tracker: MlflowTracker, records: list[Record]) -> None:
    """What was stalled may be carried out in between, and be in the way on the server's SQLite for a moment."""
    for _ in range(8):
        try:
            tracker.deliver(records, {JOURNAL: records[-1].seq})
            return
        except Unreachable:
            time.sleep(1)
    pytest.fail("the server did not take the records again")


@pytest.mark.timeout(200)
def test_replies_that_come_twice_answer_one_request(
    fault_proxy: FaultProxy, mlflow_server: Any, embedded: Path, make_run: Make
) -> None:
    settings = {"tracking_uri": fault_proxy.uri}
    fault_proxy.fault("duplicated")
    ids = []
    for number in range(3):
        tracker = MlflowTracker(PATIENT)
        run = make_run(embedded, f"twice-{number}", settings=settings, experiment="twice")
        ids.append(tracker.open(run).id)
        tracker.deliver([metrics(number + 1)], {JOURNAL: number + 1})
        assert tracker.position() == {JOURNAL: number + 1}
    assert [steps(mlflow_server, mlflow_id) for mlflow_id in ids] == [[1], [2], [3]]
    assert fault_proxy.counts["duplicated"] > 20


@pytest.mark.timeout(200)
def test_one_that_hangs_holds_up_no_other(
    fault_proxy: FaultProxy, mlflow_server: Any, embedded: Path, make_run: Make
) -> None:
    fault_proxy.fault("half_open")
    raised: list[Exception] = []

    def hang() -> None:
        try:
            MlflowTracker(TrackerOptions(timeout=90)).open(
                make_run(embedded, "hangs", settings={"tracking_uri": fault_proxy.uri}, experiment="hangs")
            )
        except Unreachable as error:
            raised.append(error)

    waiting = threading.Thread(target=hang, daemon=True)
    waiting.start()
    while not fault_proxy.counts:
        time.sleep(0.05)
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(make_run(embedded, "goes-on", settings={"tracking_uri": mlflow_server.uri}, experiment="on"))
    tracker.deliver([metrics(1)], {JOURNAL: 1})
    assert steps(mlflow_server, opened.id) == [1]
    assert waiting.is_alive() and not raised
    fault_proxy.stop()
    waiting.join(60)
    assert len(raised) == 1


@pytest.mark.timeout(200)
def test_a_gateways_objection_is_not_mlflows(fault_proxy: FaultProxy, embedded: Path, make_run: Make) -> None:
    """Only what MLflow itself objects to is given up: a page of a gateway on the way says nothing about the content."""
    tracker = MlflowTracker(PATIENT)
    tracker.open(make_run(embedded, "gateway", settings={"tracking_uri": fault_proxy.uri}, experiment="gateway"))
    fault_proxy.fault("503")
    with pytest.raises(Unreachable, match=r"HTTP 503 .*a fault of the proxy"):
        tracker.deliver([metrics(1)], {JOURNAL: 1})
