"""Calls to a database that does not answer: given up in time, and not gathered without end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prism.errors import Unreachable
from prism.protocols import Record, TrackedRun
from prism_mlflow.access.bounded import MOST_GIVEN_UP, Bounded
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker

Make = Callable[..., TrackedRun]


def test_what_does_not_return_is_given_up() -> None:
    bounded, answered = Bounded(0.2), threading.Event()
    for _ in range(MOST_GIVEN_UP):
        with pytest.raises(TimeoutError, match=r"timed out$"):
            bounded.call(lambda: answered.wait(60))
    begun = threading.active_count()
    with pytest.raises(TimeoutError, match="earlier calls are still waiting"):
        bounded.call(lambda: answered.wait(60))
    assert threading.active_count() <= begun
    answered.set()
    for thread in bounded._given_up:
        thread.join(60)
    assert bounded.call(lambda: "answered", size=60) == "answered"


def test_what_is_raised_is_raised_here() -> None:
    with pytest.raises(KeyError, match="why"):
        Bounded(60).call(lambda: {}["why"])


@pytest.mark.timeout(300)
def test_a_locked_postgresql_is_out_of_reach(postgres: Any, embedded: Path, make_run: Make) -> None:
    """A lock that somebody holds in the database, as a half-dead server would: the call is not waited for."""
    import sqlalchemy

    uri = postgres.new_database("locked")
    run = make_run(embedded, "locked", settings={"tracking_uri": uri}, experiment="locked")
    MlflowTracker(TrackerOptions(timeout=60)).open(run)
    tracker = MlflowTracker(TrackerOptions(timeout=3))
    tracker.open(run)
    point = Record("a1-rank0", 1, 10**12, "metrics", {"step": 1, "metrics": {"loss": 1.0}})
    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(Unreachable, match="no answer in time"):
            tracker.deliver([point], {"a1-rank0": 1})
    engine.dispose()
    patient = MlflowTracker(TrackerOptions(timeout=60))
    patient.open(run)
    patient.deliver([point], {"a1-rank0": 1})
    assert patient.position() == {"a1-rank0": 1}
