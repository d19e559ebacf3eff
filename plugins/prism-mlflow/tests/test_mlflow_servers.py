"""Tracker and registry against what people run: PostgreSQL, S3 behind the server, a server with passwords."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from campaigns.servers import ADMIN
from prism.data.digest import digest_files, manifest_digest
from prism.errors import GateRefused
from prism.protocols import Record, TrackedRun
from prism_mlflow.access.connection import Connection
from prism_mlflow.naming import original_name
from prism_mlflow.options import TrackerOptions
from prism_mlflow.registry import MlflowRegistry
from prism_mlflow.tracker import MlflowTracker

JOURNAL = "a1-rank0"
PATIENT = TrackerOptions(timeout=60)
PLACES = ["postgres", "postgres_server", "s3_server", "guarded_server"]
Make = Callable[..., TrackedRun]

TINY, LARGE, SINGLE = 5e-324, 1.7976931348623157e308, struct.unpack("f", struct.pack("f", 0.1))[0]
VALUES = [0.1, 1 / 3, SINGLE, TINY, -TINY, 2.2250738585072014e-308, LARGE, -LARGE, 2.0**53, 1.0]
NAMES = ["损失/训练", "acc[0]@k", "x" * 300, "émoji 🙂", "Loss", "loss", 'quo"te', "nul\x00\ud800"]


@pytest.fixture(params=PLACES)
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The `ml` section for each place."""
    if request.param == "postgres":
        return {"tracking_uri": request.getfixturevalue("postgres").new_database("direct")}
    fixture = "guarded_mlflow_server" if request.param == "guarded_server" else request.param.replace("_", "_mlflow_")
    uri = request.getfixturevalue(fixture).uri
    security = {"enabled": request.param == "guarded_server", "username": ADMIN[0], "password": ADMIN[1]}
    return {"tracking_uri": uri, "security": security}


def client_of(run: TrackedRun) -> MlflowClient:
    return Connection.of(run.project, settings=run.settings, timeout=60).client


def of_kind(kind: str, seq: int, **data: Any) -> Record:
    return Record(JOURNAL, seq, 1_700_000_000_000 + seq, kind, data)


def everything(kept: Path) -> list[Record]:
    sha256 = hashlib.sha256(kept.read_bytes()).hexdigest()
    records = [of_kind("metrics", seq, step=seq, metrics={"value": value}) for seq, value in enumerate(VALUES, 1)]
    records += [
        of_kind("metrics", 20, step=1, metrics={name: float(number) for number, name in enumerate(NAMES)}),
        of_kind("metrics", 21, step=1, metrics={"odd": math.nan}),
        of_kind("metrics", 22, step=2, metrics={"odd": -math.inf}),
        of_kind("params", 23, params={name: number for number, name in enumerate(NAMES)} | {"long": "p" * 10_000}),
        of_kind("tags", 24, tags={"note": "t" * 9000, "nul": "a\x00b"}),
        of_kind("dataset", 25, name="facts", version="1.0.0", digest="sha256:" + "0" * 64, uri="/data", use="train"),
        of_kind("file", 26, name="deep/损失 1.bin", path=str(kept), size=kept.stat().st_size, sha256=sha256),
    ]
    return records


@pytest.mark.timeout(400)
def test_everything_that_a_run_says(settings: dict[str, Any], embedded: Path, make_run: Make, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"content" * 50_000)
    run = make_run(embedded, "all", settings=settings, experiment="everything")
    for _ in range(2):  # the second as of a deliverer that does not know of the first
        tracker = MlflowTracker(PATIENT)
        opened = tracker.open(run)
        tracker.deliver(everything(kept), {JOURNAL: 26})
        tracker.close("FINISHED", 1_700_000_009_000)
    assert tracker.position() == {JOURNAL: 26}
    client = client_of(run)
    found = client.get_run(opened.id)
    assert (found.info.status, found.info.end_time) == ("FINISHED", 1_700_000_009_000)
    values = [point.value for point in client.get_metric_history(opened.id, "value")]
    assert sorted(values) == sorted(VALUES)
    data = found.data
    given = {original_name(stored, data.tags): stored for stored in data.metrics}
    assert {name: data.metrics[given[name]] for name in NAMES} == {name: float(n) for n, name in enumerate(NAMES)}
    assert {name: data.params[given[name]] for name in NAMES} == {name: str(n) for n, name in enumerate(NAMES)}
    assert data.tags["prism.nonfinite.odd"] == '{"-Infinity": 2, "NaN": 1}'
    assert data.params["long"].endswith("in params/long.txt]") and data.tags["nul"] == "a\\x00b"
    assert [item.dataset.name for item in found.inputs.dataset_inputs] == ["facts"]
    assert {item.path for item in client.list_artifacts(opened.id)} == {"config.yaml", "deep", "params", "tags"}
    assert Path(client.download_artifacts(opened.id, "deep", str(tmp_path))).is_dir()
    assert (tmp_path / "deep" / "损失 1.bin").read_bytes() == kept.read_bytes()


@pytest.mark.timeout(400)
def test_a_model_goes_there_and_comes_back(
    settings: dict[str, Any], embedded: Path, make_run: Make, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    (model / "weights.bin").write_bytes(bytes(range(256)) * 5000)
    (model / "deep" / "config.json").write_text("{}")
    digest = manifest_digest(digest_files(model))
    run = make_run(embedded, "makes", settings=settings, experiment="models")
    registry = MlflowRegistry(timeout=60)
    registry.open(embedded, settings)
    wanted = {"name": "served model", "version": "", "digest": digest, "tags": {"task": "qa"}, "run": run}
    version = registry.register(model, **wanted)
    assert registry.register(model, **wanted) == version and version.version == "1.0.0"
    registry.alias("served model", "best", "1.0.0")
    (listed,) = registry.versions("served model")
    assert (listed.aliases, listed.digest, listed.run_id) == (("best",), digest, "makes")
    fetched = registry.fetch(listed, tmp_path / "fetched")
    assert manifest_digest(digest_files(fetched)) == digest
    (model / "weights.bin").write_bytes(b"other")
    other = wanted | {"version": "1.0.0", "digest": manifest_digest(digest_files(model))}
    with pytest.raises(GateRefused):
        registry.register(model, **other)
