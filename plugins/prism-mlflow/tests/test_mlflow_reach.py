"""What is said, and how soon, when MLflow cannot be reached, does not let us in or refuses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    REQUEST_LIMIT_EXCEEDED,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.tracking import MlflowClient

from prism.errors import EnvironmentUnfit, Unreachable, UsageError, WorkFailed
from prism.protocols import Record, TrackedRun
from prism_mlflow.access.connection import explain
from prism_mlflow.access.location import Location
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker

JOURNAL = "a1-rank0.jsonl"
PATIENT = TrackerOptions(timeout=60)
Make = Callable[..., TrackedRun]


def metrics(seq: int, **values: float) -> Record:
    return Record(JOURNAL, seq, 1_700_000_000_000 + seq, "metrics", {"step": seq, "metrics": values})


def test_a_stopped_server_is_out_of_reach_in_ten_seconds(mlflow_server: Any, embedded: Path, make_run: Make) -> None:
    run = make_run(embedded, "stopped", settings={"tracking_uri": mlflow_server.uri}, experiment="stopped")
    tracker = MlflowTracker()
    tracker.open(run)
    records = [metrics(n, loss=float(n)) for n in range(1, 1500)]
    with mlflow_server.paused():
        for attempt in (lambda: tracker.deliver(records, {JOURNAL: 1499}), lambda: MlflowTracker().open(run)):
            begun = time.monotonic()
            with pytest.raises(Unreachable, match=rf"MLflow at {mlflow_server.uri} did not .*no answer in time"):
                attempt()
            assert time.monotonic() - begun < 15
    tracker.deliver(records, {JOURNAL: 1499})
    history = MlflowClient(mlflow_server.uri).get_metric_history(tracker.open(run).id, "loss")
    assert [point.step for point in history] == list(range(1, 1500))


def test_an_absent_server_is_out_of_reach_at_once(free_port: int, embedded: Path, make_run: Make) -> None:
    settings = {"tracking_uri": f"http://ada:secret@127.0.0.1:{free_port}"}
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        MlflowTracker().open(make_run(embedded, settings=settings))
    assert time.monotonic() - begun < 10
    assert "secret" not in str(caught.value) and f"http://127.0.0.1:{free_port}" in str(caught.value)


@pytest.mark.timeout(300)
def test_credentials_of_the_configuration(guarded_mlflow_server: Any, embedded: Path, make_run: Make) -> None:
    uri = guarded_mlflow_server.uri
    security = {"enabled": True, "username": "admin", "password": "correct horse 12"}
    run = make_run(embedded, "guarded", settings={"tracking_uri": uri, "security": security})
    tracker = MlflowTracker(PATIENT)
    tracker.open(run)  # uploads the configuration too, which is another path through MLflow
    tracker.deliver([metrics(1, loss=1.0)], {JOURNAL: 1})
    assert tracker.position() == {JOURNAL: 1}
    assert not {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} & set(os.environ)
    for refused in (security | {"password": "wrong battery"}, {"enabled": False}):
        with pytest.raises(Unreachable, match=r"check ml\.security") as caught:
            MlflowTracker(PATIENT).open(
                make_run(embedded, "guarded", settings={"tracking_uri": uri, "security": refused})
            )
        assert "wrong battery" not in str(caught.value)
    inline = {"tracking_uri": uri.replace("://", "://admin:correct%20horse%2012@")}
    assert MlflowTracker(PATIENT).open(make_run(embedded, "guarded", settings=inline)).url.startswith(uri)


@pytest.mark.parametrize(
    "uri", ["postgresql+psycopg2://ada:secret@127.0.0.1:{port}/db", "http://no-such-host.invalid:5000"]
)
def test_other_servers_that_are_not_there(uri: str, free_port: int, embedded: Path, make_run: Make) -> None:
    begun = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        MlflowTracker().open(make_run(embedded, settings={"tracking_uri": uri.format(port=free_port)}))
    assert time.monotonic() - begun < 15 and "secret" not in str(caught.value)


def test_an_address_that_is_none(embedded: Path, make_run: Make) -> None:
    with pytest.raises((UsageError, WorkFailed), match=r"tracking_uri|MLflow at"):
        MlflowTracker().open(make_run(embedded, settings={"tracking_uri": "ftp://host/x"}))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE), Unreachable),
        (MlflowException("too many requests", error_code=REQUEST_LIMIT_EXCEEDED), Unreachable),
        (MlflowException("no entry", error_code=PERMISSION_DENIED), Unreachable),
        (MlflowException("bad name", error_code=INVALID_PARAMETER_VALUE), WorkFailed),
        (OSError(28, "No space left on device"), Unreachable),
        (OSError(20, "Not a directory", "a/b"), WorkFailed),
        (ValueError("not JSON"), WorkFailed),
        (ModuleNotFoundError("No module named 'psycopg2'", name="psycopg2"), EnvironmentUnfit),
    ],
)
def test_only_the_content_itself_is_refused_for_good(error: Exception, kind: type[Exception]) -> None:
    found = explain(error, location=Location("postgresql://ada:secret@host/db"), doing="take a batch")
    assert type(found) is kind
    assert str(found).startswith("MLflow at postgresql://host/db did not take a batch: ")
