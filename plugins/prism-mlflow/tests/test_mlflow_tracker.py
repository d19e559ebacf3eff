"""The tracker against the embedded database and against a real server."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from prism.errors import EnvironmentUnfit, Unreachable, WorkFailed
from prism.protocols import Record, TrackedRun
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker

JOURNAL = "a1-rank0.jsonl"
PATIENT = TrackerOptions(timeout=60)  # these tests are not about time
Make = Callable[..., TrackedRun]


@pytest.fixture(params=["embedded", "server"])
def project(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    """A project folder and its `ml` section: once with the embedded database, once with a server."""
    folder: Path = request.getfixturevalue("embedded")
    uri = request.getfixturevalue("mlflow_server").uri if request.param == "server" else None
    return folder, {"tracking_uri": uri}


@pytest.fixture
def run(project: tuple[Path, dict[str, Any]], make_run: Make, request: pytest.FixtureRequest) -> TrackedRun:
    folder, settings = project
    return make_run(
        folder, f"run-{time.time_ns()}", settings=settings, experiment=request.node.name, description="What it is."
    )


def client_of(run: TrackedRun) -> MlflowClient:
    uri = run.settings["tracking_uri"] or f"sqlite:///{run.project}/mlflow.db"
    return MlflowClient(tracking_uri=uri)


def metrics(seq: int, **values: float) -> Record:
    return Record(JOURNAL, seq, 1_700_000_000_000 + seq, "metrics", {"step": seq, "metrics": values})


def of_kind(kind: str, seq: int = 1, **data: Any) -> Record:
    return Record(JOURNAL, seq, 1_700_000_000_000 + seq, kind, data)


def points(run: TrackedRun, mlflow_id: str, name: str) -> list[tuple[int, int, float]]:
    history = client_of(run).get_metric_history(mlflow_id, name)
    return sorted((point.step, point.timestamp, point.value) for point in history)


def test_opening_twice_gives_one_run(run: TrackedRun) -> None:
    first, second = MlflowTracker(PATIENT).open(run), MlflowTracker(PATIENT).open(run)
    assert first == second
    client = client_of(run)
    experiment = client.get_experiment_by_name(run.experiment)
    assert len(client.search_runs([experiment.experiment_id])) == 1
    found = client.get_run(first.id)
    assert (found.info.run_name, found.info.start_time, found.info.status) == ("first", run.started, "RUNNING")
    assert found.data.tags["prism.run_id"] == run.ref.run_id
    assert found.data.tags["mlflow.note.content"] == experiment.tags["mlflow.note.content"] == "What it is."
    assert [item.path for item in client.list_artifacts(first.id)] == ["config.yaml"]
    if run.settings["tracking_uri"]:
        assert first.url == f"{run.settings['tracking_uri']}/#/experiments/{experiment.experiment_id}/runs/{first.id}"


def test_delivering_twice_changes_nothing(run: TrackedRun) -> None:
    records = [metrics(n, loss=n / 3, acc=0.5) for n in range(1, 30)]
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    assert tracker.position() == {}
    tracker.deliver(records, {JOURNAL: 29})
    before = points(run, opened.id, "loss")
    tracker.deliver(records, {JOURNAL: 29})
    other = MlflowTracker(PATIENT)  # a delivery process that was killed before it knew
    other.open(run)
    other.deliver(records[10:], {JOURNAL: 29})
    assert points(run, opened.id, "loss") == before == [(n, 1_700_000_000_000 + n, n / 3) for n in range(1, 30)]
    assert other.position() == {JOURNAL: 29}


def test_the_position_of_many_journal_files(run: TrackedRun) -> None:
    tracker = MlflowTracker(PATIENT)
    tracker.open(run)
    position = {f"a{attempt}-rank0-p{10**6 + attempt}.jsonl": attempt * 1000 for attempt in range(1, 200)}
    tracker.deliver([], position)
    assert tracker.position() == position


def test_names_of_every_kind(run: TrackedRun) -> None:
    names = [
        "损失/训练",
        "acc[0]@k",
        "x" * 300,
        "a//b",
        "../up",
        "loss: μ 100%",
        "émoji 🙂",
        "with\nline",
        "/rooted",
        ".",
    ]
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    tracker.deliver(
        [
            of_kind("metrics", 1, step=1, metrics={name: float(index) for index, name in enumerate(names)}),
            of_kind("params", 2, params={name: index for index, name in enumerate(names)}),
            of_kind("tags", 3, tags={name: str(index) for index, name in enumerate(names)}),
        ],
        {JOURNAL: 3},
    )
    data = client_of(run).get_run(opened.id).data
    given = {stored: data.tags.get(f"prism.name.{stored}", stored) for stored in data.metrics}
    assert {given[stored]: value for stored, value in data.metrics.items()} == dict(
        zip(names, map(float, range(10)), strict=True)
    )
    assert {given[stored]: value for stored, value in data.params.items()} == dict(
        zip(names, map(str, range(10)), strict=True)
    )
    assert all(data.tags[stored] == data.params[stored] for stored in given)


def test_more_than_one_request_takes(run: TrackedRun) -> None:
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    records = [of_kind("params", 1, params={f"p{n}": "值" * 5000 for n in range(150)})]
    records += [of_kind("tags", 2, tags={f"t{n}": n for n in range(150)})]
    records += [metrics(n, **{f"m{k}": float(n) for k in range(4)}) for n in range(3, 400)]
    tracker.deliver(records, {JOURNAL: 399})
    data = client_of(run).get_run(opened.id).data
    assert len(data.params) == 150 and set(data.params.values()) == {"值" * 5000}
    assert {data.tags[f"t{n}"] for n in range(150)} == {str(n) for n in range(150)}
    assert len(points(run, opened.id, "m3")) == 397


def test_values_that_are_not_finite_are_marked(run: TrackedRun) -> None:
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    tracker.deliver(
        [metrics(1, a=math.nan), metrics(2, a=math.inf, b=-math.inf), metrics(3, tiny=5e-324)], {JOURNAL: 3}
    )
    data = client_of(run).get_run(opened.id).data
    first, second = points(run, opened.id, "a")
    assert math.isnan(first[2]) and second[2] == 1.7976931348623157e308
    assert data.metrics["a"] == 1.7976931348623157e308 and data.metrics["tiny"] == 5e-324
    assert data.tags["prism.nonfinite.a"] == '{"Infinity": 2, "NaN": 1}'
    assert data.tags["prism.nonfinite.b"] == '{"-Infinity": 2}'
    again = MlflowTracker(PATIENT)
    again.open(run)
    again.deliver([metrics(9, a=math.nan)], {JOURNAL: 9})
    assert client_of(run).get_run(opened.id).data.tags["prism.nonfinite.a"] == '{"Infinity": 2, "NaN": 1}'


def test_long_values_are_cut_marked_and_kept_whole(run: TrackedRun, tmp_path: Path) -> None:
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    value, tag = "p" * 1_000_000, "t" * 9000
    tracker.deliver([of_kind("params", params={"long": value}), of_kind("tags", 2, tags={"note": tag})], {JOURNAL: 2})
    client = client_of(run)
    data = client.get_run(opened.id).data
    assert len(data.params["long"]) == 6000 and data.params["long"].endswith("in params/long.txt]")
    assert len(data.tags["note"]) == 8000 and "9000 characters" in data.tags["note"]
    assert Path(client.download_artifacts(opened.id, "params/long.txt", str(tmp_path))).read_text() == value
    assert Path(client.download_artifacts(opened.id, "tags/note.txt", str(tmp_path))).read_text() == tag


def artifact(run: TrackedRun, mlflow_id: str, path: str, folder: Path) -> str:
    return Path(client_of(run).download_artifacts(mlflow_id, path, str(folder))).read_text()


def test_of_long_values_that_changed_each_is_whole_where_it_is_said_to_be(run: TrackedRun, tmp_path: Path) -> None:
    first, second, third = ("p" * 500_000 + end for end in ("one", "two", "few"))  # of one length, cut to the same
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    client = client_of(run)
    client.log_param(opened.id, "theirs", "by someone else, after we opened the run")
    tracker.deliver([of_kind("params", params={"long": first, "theirs": third})], {JOURNAL: 1})
    tracker.deliver([of_kind("params", 2, params={"long": second})], {JOURNAL: 2})
    data = client.get_run(opened.id).data
    assert data.params["long"].endswith("in params/long.txt]") and data.params["theirs"].startswith("by someone else")
    for name, value in (("long", second), ("theirs", third)):
        assert data.tags[f"prism.changed.{name}"].endswith(f"in changed/{name}.txt]")
        assert artifact(run, opened.id, f"changed/{name}.txt", tmp_path) == value
    assert artifact(run, opened.id, "params/long.txt", tmp_path) == first
    tracker.deliver([of_kind("params", 3, params={"long": first}), of_kind("params", 4, params={"long": third})], {})
    assert artifact(run, opened.id, "changed/long.txt", tmp_path) == third
    tracker.deliver([of_kind("params", 5, params={"long": first})], {JOURNAL: 5})  # the last word is the first again
    assert artifact(run, opened.id, "changed/long.txt", tmp_path) == artifact(
        run, opened.id, "params/long.txt", tmp_path
    )


def test_an_attempt_that_begins_while_its_run_is_delivered_brings_its_configuration(run: TrackedRun) -> None:
    tracker, directory = MlflowTracker(PATIENT), run.ref.directory
    opened = tracker.open(run)
    client = client_of(run)
    for attempt, tell in ((2, lambda: tracker.deliver([], {})), (3, lambda: tracker.close("RUNNING", 0))):
        (directory / f"config-a{attempt}.yaml").write_text(f"ml: {{parameters: {{lr: {attempt}}}}}")
        tell()
        kept = [item.path for item in client.list_artifacts(opened.id)]
        assert kept == [*(f"config-a{number}.yaml" for number in range(2, attempt + 1)), "config.yaml"]
    tags = client.get_run(opened.id).data.tags
    assert len([name for name in tags if name.startswith("prism.uploaded.config")]) == 3


def test_thousands_of_parameters(embedded: Path, make_run: Make) -> None:
    run = make_run(embedded, "thousands", settings={"tracking_uri": None})
    params = {f"model.layer{n // 50}.option_{n}": n / 7 for n in range(5000)}
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    tracker.deliver([of_kind("params", params=params)], {JOURNAL: 1})
    again = MlflowTracker(PATIENT)
    again.open(run)
    again.deliver([of_kind("params", params=params)], {JOURNAL: 1})  # MLflow has them: none is sent
    client = client_of(run)
    data = client.get_run(opened.id).data
    assert data.params == {name: str(value) for name, value in params.items()}
    assert not [name for name in data.tags if name.startswith("prism.changed")]
    assert [item.path for item in client.list_artifacts(opened.id)] == ["config.yaml"]


def test_a_changed_parameter_does_not_hold_up_the_rest(run: TrackedRun) -> None:
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    tracker.deliver([of_kind("params", params={"lr": 0.1})], {JOURNAL: 1})
    client = client_of(run)
    client.log_param(opened.id, "depth", "3")  # by someone else, after we opened the run
    tracker.deliver(
        [of_kind("params", 2, params={"lr": 0.2, "depth": 4, "new": 1}), metrics(3, loss=1.0)], {JOURNAL: 3}
    )
    data = client.get_run(opened.id).data
    assert data.params == {"lr": "0.1", "depth": "3", "new": "1"}
    assert (data.tags["prism.changed.lr"], data.tags["prism.changed.depth"]) == ("0.2", "4")
    assert data.metrics == {"loss": 1.0} and tracker.position() == {JOURNAL: 3}


def test_datasets_are_inputs_with_their_whole_digest(run: TrackedRun) -> None:
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    digest = "sha256:" + hashlib.sha256(b"data").hexdigest()
    facts = {"name": "facts.jsonl", "version": "1.2.0", "digest": digest, "uri": "/data/facts.jsonl"}
    records = [of_kind("dataset", 1, **facts, use="train"), of_kind("dataset", 2, **facts, use="validation")]
    tracker.deliver(records, {JOURNAL: 2})
    tracker.deliver(records, {JOURNAL: 2})
    found = client_of(run).get_run(opened.id)
    (given,) = found.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("facts.jsonl", digest[:36])
    assert {tag.key: tag.value for tag in given.tags}["prism.digest"] == digest
    for use in ("train", "validation"):
        assert found.data.tags[f"prism.dataset.{use}.facts.jsonl"] == f"1.2.0 {digest}"


def file_record(seq: int, name: str, path: Path, content: bytes) -> Record:
    sha256 = hashlib.sha256(content).hexdigest()
    return of_kind("file", seq, name=name, path=str(path), size=len(content), sha256=sha256)


def test_files_arrive_under_their_own_names(run: TrackedRun, tmp_path: Path) -> None:
    kept = tmp_path / "0f3a"
    kept.write_bytes(b"content")
    names = ["loss.png", "figures/损失 1.png", "odd/a#b?c%20d.txt", "brackets[0].txt", "deep/" + "n" * 300 + ".json"]
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    records = [file_record(seq, name, kept, b"content") for seq, name in enumerate(names, 1)]
    tracker.deliver(records, {JOURNAL: len(names)})
    tracker.deliver(records, {JOURNAL: len(names)})
    client = client_of(run)
    given = {tag.removeprefix("prism.name."): value for tag, value in client.get_run(opened.id).data.tags.items()}
    found = [
        item.path for folder in (None, "figures", "odd", "deep") for item in client.list_artifacts(opened.id, folder)
    ]
    found = [path for path in found if path not in ("config.yaml", "figures", "odd", "deep")]
    assert sorted(name.removesuffix(".json")[:150] for name in names) == sorted(
        given.get(path, given.get(path.replace("/", "_"), path)).removesuffix(".json")[:150] for path in found
    )
    for path in found:
        assert Path(client.download_artifacts(opened.id, path, str(tmp_path))).read_bytes() == b"content"


def test_a_file_that_is_gone_or_changed_is_told(run: TrackedRun, tmp_path: Path) -> None:
    changed = tmp_path / "changed.bin"
    changed.write_bytes(b"after")
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    records = [file_record(1, "gone.bin", tmp_path / "gone", b""), file_record(2, "changed.bin", changed, b"before")]
    tracker.deliver(records, {JOURNAL: 2})
    client = client_of(run)
    tags = client.get_run(opened.id).data.tags
    assert tags["prism.file.gone.bin"].startswith("missing")
    assert tags["prism.file.changed.bin"].startswith("changed since it was logged")
    assert [item.path for item in client.list_artifacts(opened.id)] == ["config.yaml"]


def test_the_status_is_set_and_set_again(run: TrackedRun) -> None:
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    tracker.close("FAILED", 1_700_000_005_000)
    info = client_of(run).get_run(opened.id).info
    assert (info.status, info.end_time) == ("FAILED", 1_700_000_005_000)
    tracker.close("RUNNING", 0)
    assert client_of(run).get_run(opened.id).info.status == "RUNNING"
    tracker.close("FINISHED", 1_700_000_009_000)
    info = client_of(run).get_run(opened.id).info
    assert (info.status, info.end_time) == ("FINISHED", 1_700_000_009_000)


def test_a_deleted_experiment_and_a_deleted_run_are_said_with_what_to_do(run: TrackedRun) -> None:
    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(run)
    client = client_of(run)
    client.delete_run(opened.id)
    with pytest.raises(EnvironmentUnfit, match=r"mlflow runs restore --run-id"):
        MlflowTracker(PATIENT).open(run)
    with pytest.raises(Unreachable, match="'active' state"):  # not final: it may be restored
        tracker.deliver([metrics(1, loss=1.0)], {JOURNAL: 1})
    client.restore_run(opened.id)
    assert MlflowTracker(PATIENT).open(run).id == opened.id
    client.delete_experiment(client.get_experiment_by_name(run.experiment).experiment_id)
    with pytest.raises(EnvironmentUnfit, match="mlflow experiments restore -x"):
        MlflowTracker(PATIENT).open(run)


def test_an_id_from_another_server_is_not_believed(run: TrackedRun, make_run: Make) -> None:
    opened = MlflowTracker(PATIENT).open(run)
    for stale in ("0" * 32, opened.id):
        other = make_run(run.project, "other", settings=run.settings, experiment="other", trackers={"mlflow": stale})
        assert MlflowTracker(PATIENT).open(other).id not in ("0" * 32, opened.id)


def test_what_mlflow_objects_to_is_final_and_nothing_else(run: TrackedRun) -> None:
    tracker = MlflowTracker(PATIENT)
    tracker.open(run)
    with pytest.raises(WorkFailed, match="did not take a batch"):
        tracker.deliver([Record(JOURNAL, 1, -5, "metrics", {"step": 1, "metrics": {"loss": 1.0}})], {JOURNAL: 1})


def test_nothing_is_left_in_the_environment(run: TrackedRun) -> None:
    before = dict(os.environ)
    tracker = MlflowTracker(PATIENT)
    tracker.open(run)
    tracker.deliver([metrics(1, loss=1.0)], {JOURNAL: 1})
    before["PYTEST_CURRENT_TEST"] = os.environ["PYTEST_CURRENT_TEST"]
    assert dict(os.environ) == before
    import mlflow

    assert mlflow.active_run() is None


def test_system_metrics_have_a_sample_at_once() -> None:
    tracker = MlflowTracker(PATIENT)
    first, second = tracker.system_metrics(), tracker.system_metrics()
    assert set(first) == set(second)
    assert {"system/cpu_utilization_percentage", "system/network_receive_megabytes"} <= set(first)
    assert 0 < first["system/system_memory_usage_percentage"] <= 100
