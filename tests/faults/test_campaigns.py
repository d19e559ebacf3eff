"""A small seeded share of the campaigns whose faults are between client and server, and of how campaigns judge."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
from pathlib import Path

import pytest
from attrs import evolve

pytest.importorskip("mlflow")
pytest.importorskip("psutil")

from campaigns import artifacts, faults, ledger, never_back, outage, report, store
from campaigns.__main__ import COMMANDS
from campaigns.loop import values
from campaigns.names import HostName
from campaigns.project import Training
from campaigns.servers import MlflowServer, S3Store
from campaigns.stage import Stage
from campaigns.table import figures, rows

SEED = 11
MEGABYTES = 32
LATE = {"PRISM_LATE_SECONDS": "4"}  # longer than any stall here
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def stage(tmp_path: Path, mlflow_server: MlflowServer) -> Stage:
    print(f"seed {SEED}")
    return Stage(tmp_path, mlflow_server)


def test_all_kinds_of_faults_in_one_line(stage: Stage) -> None:
    plan = faults.Plan("mixed", trials=2, seed=SEED, steps=80, share=0.5, stall=3.0, timeout=2.0, environment=LATE)
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
    # 8.5 s of silence and the ends of two processes, which take longer on a busy machine
    tally, _ = never_back.run_trial(stage, evolve(plan, within=15.0, environment=LATE))
    assert tally.is_clean, tally


def test_a_large_file_into_an_s3_store(s3_mlflow_server: MlflowServer, s3_store: S3Store, tmp_path: Path) -> None:
    tally, more = artifacts.run_trial(Stage(tmp_path, s3_mlflow_server), artifacts.Plan(MEGABYTES, drops=3, seed=SEED))
    assert tally.is_clean and tally.stored == artifacts.STEPS * 5, tally
    assert more["delivery_growth_mb"] < MEGABYTES / 2  # it is never in memory at once
    (kept,) = (s3_store.folder / "buckets" / s3_store.bucket).rglob(f"large-{SEED}.bin")
    assert kept.stat().st_size == MEGABYTES * 1_000_000


def test_every_campaign_is_a_command_and_has_its_share() -> None:
    shares = "".join(file.read_text() for file in Path(__file__).parent.glob("test_campaigns*.py"))
    for name in {name for name, _, _ in COMMANDS}:
        module = importlib.import_module(f"campaigns.{name}")
        parts = [
            word
            for word, function in inspect.getmembers(module, inspect.isfunction)
            if function.__module__ == module.__name__
            and "Tally" in str(function.__annotations__.get("return"))
            and not word.startswith("_")
        ]
        assert callable(module.main) and parts, name
        assert [part for part in parts if f"{name}.{part}(" not in shares] == [], name


def test_every_result_has_its_row() -> None:
    clean = ledger.as_result(ledger.Tally(trials=2, acknowledged=10, stored=10))
    found = [{"campaign": "faults", "kind": kind, "way": "prism", **clean} for kind in faults.ALL_KINDS]
    found += [{"campaign": "outage", "seconds": 600.0, "way": "mlflow-sync", **clean}]
    lines = list(rows(found))
    assert len(lines) == 15 and len(set(lines)) == 15
    assert lines[-1] == "| outage in mid-run of 600 s | MLflow sync | 2 | 10 | 0 | 0 | 0 | 0 | 0 |"


def test_figures_are_judged_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert outage.missed_by({"log_call_p99_ms": 0.9}) == []
    assert outage.missed_by({"log_call_p99_ms": 1.0}) == ["log_call_p99_ms 1.0 is not below 1"]
    assert len(outage.missed_by({})) == 1  # a training that was never measured
    assert artifacts.missed_by({"delivery_growth_mb": 63.9}) == [] != artifacts.missed_by({"delivery_growth_mb": 64.0})
    alone = {"p999_journal_alone_ms": 0.5}
    assert store.missed_by({"p999_ms": 1.0, **alone}) == [] != store.missed_by({"p999_ms": 1.1, **alone})
    assert report.publish("outage", ledger.Tally(trials=1), log_call_p99_ms=0.9, seconds=1.0) == 0
    missed = outage.missed_by({"log_call_p99_ms": 7.0})
    assert report.publish("outage", ledger.Tally(trials=1), missed=missed, log_call_p99_ms=7.0, seconds=1.0) == 1
    assert report.publish("outage", ledger.Tally(trials=1, lost=1)) == 1
    good, bad, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert (good["missed"], bad["missed"]) == ([], missed)
    assert list(figures([good, bad])) == [
        "| outage in mid-run of 1 s | log call, 99th percentile, ms | 0.9 | below 1 |",
        "| outage in mid-run of 1 s | log call, 99th percentile, ms | 7.0 | below 1 (missed) |",
    ]


@pytest.mark.parametrize(
    ("command", "said", "is_wrong"),
    [("exit 0", "fine", False), ("exit 3", "fine", True), ("exit 0", "Traceback (most recent call last):", True)],
)
def test_a_training_that_says_an_exception_is_broken(tmp_path: Path, command: str, said: str, is_wrong: bool) -> None:
    (tmp_path / "one.acknowledged").write_text("run a-run\n0\n1\nworked\n")
    (tmp_path / "one.log").write_text(f"{said}\n")
    process = subprocess.Popen(["sh", "-c", command])
    process.wait(30)
    training = Training("prism", SEED, tmp_path / "one.acknowledged", tmp_path / "one.timing", process)
    assert training.went_wrong(2) == is_wrong
    assert training.went_wrong(3)  # a step is missing


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
