"""A small seeded share of each campaign: nothing lost, nothing doubled, and the status is true."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from attrs import evolve

pytest.importorskip("mlflow")
pytest.importorskip("psutil")

from campaigns import faults, kill, ledger, never_back, outage, status, sync_kills
from campaigns.__main__ import COMMANDS
from campaigns.loop import values
from campaigns.names import HostName
from campaigns.servers import MlflowServer
from campaigns.stage import Stage
from campaigns.table import rows

SEED = 11
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def stage(tmp_path: Path, mlflow_server: MlflowServer) -> Stage:
    print(f"seed {SEED}")
    return Stage(tmp_path, mlflow_server)


def test_kills_at_random_moments(stage: Stage) -> None:
    tally, failed_syncs = kill.run_trials(stage, trials=6, seed=SEED, at_once=3)
    assert tally.is_clean and failed_syncs == 0, tally
    assert tally.trials == 6 and tally.acknowledged > 0


def test_all_kinds_of_faults_in_one_line(stage: Stage) -> None:
    plan = faults.Plan("mixed", trials=2, seed=SEED, steps=80, share=0.5, stall=5.0, timeout=2.0)
    tally, more = faults.run_kind(stage, plan)
    assert tally.is_clean, tally
    assert more["faults"] >= 4 and tally.acknowledged == tally.stored == 2 * 80 * 5


def test_a_name_that_does_not_always_resolve(stage: Stage) -> None:
    if not HostName(stage.folder).is_possible():
        pytest.skip("needs a mount namespace")
    tally, more = faults.run_kind(stage, faults.Plan("dns", trials=1, seed=SEED, steps=60, timeout=2.0))
    assert tally.is_clean and more["faults"] >= 1, tally


def test_an_outage_in_mid_run(stage: Stage) -> None:
    tally, more = outage.run_trial(stage, outage.Plan(4.0, SEED, before=1.0, after=1.0))
    assert tally.is_clean, tally
    assert more["late_s"] < 5  # the training was not held up


@pytest.mark.parametrize(("seed", "absence", "code"), [(9, "silent", 7), (10, "refuses", 0)])
def test_a_server_that_never_comes_back(stage: Stage, seed: int, absence: str, code: int) -> None:
    plan = never_back.plan(seed, steps=20)
    assert (plan.absence, plan.exit_code, bool(plan.model)) == (absence, code, code == 0)
    # 9 s of silence and the ends of two processes, which take longer on a busy machine
    tally, _ = never_back.run_trial(stage, evolve(plan, within=15.0))
    assert tally.is_clean, tally


def test_syncs_that_are_killed_and_four_at_once(stage: Stage) -> None:
    tally, more = sync_kills.run_trials(stage, kills=3, seed=SEED, kills_a_run=3)
    assert tally.is_clean and more["kills_midway"] >= 1, (tally, more)
    assert tally.stored == tally.acknowledged == sync_kills.STEPS * 5


def test_nodes_that_are_lost(stage: Stage) -> None:
    if not status.is_possible():
        pytest.skip("needs a pid namespace")
    tally = status.lost_nodes(stage, trials=2, seed=SEED, at_once=2, lease=3.0)
    assert tally.is_clean, tally


def test_every_campaign_is_a_command_and_has_its_row() -> None:
    for module, trials, _ in COMMANDS:
        assert callable(importlib.import_module(f"campaigns.{module}").main) and trials > 0
    clean = ledger.as_result(ledger.Tally(trials=2, acknowledged=10, stored=10))
    found = [{"campaign": "faults", "kind": kind, "way": "prism", **clean} for kind in faults.ALL_KINDS]
    found += [{"campaign": "outage", "seconds": 600.0, "way": "mlflow-sync", **clean}]
    lines = list(rows(found))
    assert len(lines) == 15 and len(set(lines)) == 15
    assert lines[-1] == "| outage in mid-run of 600 s | MLflow sync | 2 | 10 | 0 | 0 | 0 | 0 | 0 |"


def test_the_ledger_finds_what_is_lost_and_what_is_doubled(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    client = Stage(tmp_path, mlflow_server).client
    experiment = client.create_experiment("ledger")
    for _ in range(2):
        run = client.create_run(experiment, tags={ledger.RUN_TAG: "a-run"})
    for step in (0, 2, 2):
        for name, value in values(SEED, step).items():
            client.log_metric(run.info.run_id, name, value, step=step)
    client.log_metric(run.info.run_id, "m0", 7.0, step=0)
    (tmp_path / "notes").write_text("run a-run\n0\n1\n2\n3")
    noted = ledger.read_acknowledged(tmp_path / "notes")
    assert noted == ledger.Acknowledged("a-run", (0, 1, 2), worked=False)
    found = ledger.tally_prism(client, seed=SEED, noted=noted)
    assert (found.extra_runs, found.open_runs) == (1, 2) and not found.is_clean
    points = ledger.tally_points(client, client.get_run(run.info.run_id), seed=SEED, noted=noted)
    assert (points.acknowledged, points.lost, points.wrong) == (15, 5, 1)
    assert points.doubled >= 1
