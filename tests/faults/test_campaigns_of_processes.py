"""A small seeded share of the campaigns whose faults are those of processes: killed, stopped, many at once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("mlflow")
pytest.importorskip("psutil")

from campaigns import kill, status, store, sync_kills
from campaigns.servers import MlflowServer
from campaigns.stage import Stage

SEED = 11
pytestmark = pytest.mark.timeout(600)
needs_a_namespace = pytest.mark.skipif(not status.is_possible(), reason="needs a pid namespace")


@pytest.fixture
def stage(tmp_path: Path, mlflow_server: MlflowServer) -> Stage:
    print(f"seed {SEED}")
    return Stage(tmp_path, mlflow_server)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_kills_at_random_moments(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> None:
    server = request.getfixturevalue("mlflow_server" if database == "sqlite" else "postgres_mlflow_server")
    tally, failed_syncs = kill.run_trials(Stage(tmp_path, server), trials=3, seed=SEED, at_once=3)
    assert tally.is_clean and failed_syncs == 0, tally
    assert tally.trials == 3 and tally.acknowledged > 0


def test_a_run_that_is_still_open_is_counted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Had `prism sync` done nothing: what was killed with its delivery goes on at MLflow for ever."""
    monkeypatch.setattr(kill, "_sync", lambda project, *runs: 0)
    monkeypatch.setattr(kill, "plans", lambda trials, seed: [kill.Plan(0, seed, "delivering", 0.0, also_delivery=True)])
    tally, _ = kill.run_trials(stage, trials=1, seed=SEED, at_once=1)
    assert tally.open_runs == 1


def test_syncs_that_are_killed_and_four_at_once(stage: Stage) -> None:
    tally, more = sync_kills.run_trials(stage, kills=3, seed=SEED, kills_a_run=3)
    assert tally.is_clean and more["kills_midway"] >= 1, (tally, more)
    runs, rest = divmod(tally.acknowledged, sync_kills.STEPS * 5)  # another run where a sync was done before its kill
    assert tally.stored == tally.acknowledged and runs >= 1 and rest == 0


@needs_a_namespace
def test_nodes_that_are_lost(stage: Stage) -> None:
    tally = status.lost_nodes(stage, trials=2, seed=SEED, at_once=2, lease=3.0)
    assert tally.is_clean, tally


@needs_a_namespace
def test_nodes_that_are_stopped_for_longer_than_the_lease(stage: Stage) -> None:
    tally = status.stopped_nodes(stage, trials=1, seed=SEED, seconds=4.0, lease=2.0)
    assert tally.is_clean and tally.trials == 1, tally


def test_a_training_killed_on_this_machine(stage: Stage) -> None:
    tally, slowest = status.killed_here(stage, trials=1, seed=SEED)
    assert tally.trials == 1 and slowest < 10  # 2 s on a machine that has nothing else to do


def test_processes_that_start_together_on_no_database(tmp_path: Path) -> None:
    tally = store.start_together(tmp_path / "together", seed=SEED, processes=4, steps=5)
    assert tally.is_clean and tally.stored == 4 * 5 * 5, tally
    names = sorted(path.name for path in (tmp_path / "together").iterdir() if "mlflow" in path.name)
    assert names == ["mlflow.db"]  # nothing half made beside it
    with closing(sqlite3.connect(tmp_path / "together" / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM experiments WHERE name = 'together'").fetchone() == (1,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_processes_that_write_together(tmp_path: Path) -> None:
    tally, more = store.write_together(tmp_path, seed=SEED, processes=2, points=500)
    assert tally.is_clean and tally.stored == 2 * 500, tally
    assert more["p999_ms"] > 0 and more["p999_journal_alone_ms"] > 0
