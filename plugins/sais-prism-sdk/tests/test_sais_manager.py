"""`MLflowManager` and `MLflowService`: what scripts log, before, within and after runs; and what the YAML switches."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from prism.journal.state import read_state
from sais_prism.core.config import ConfigManager, config
from sais_prism.core.decorators import sais_foundation
from sais_prism.core.exceptions import MLFlowIntegrationError
from sais_prism.core.service_locator import ServiceLocator
from sais_prism.ml.mlflow_integration import MLflowManager, MLflowService, initialize


def params(here: Any) -> dict[str, Any]:
    found: dict[str, Any] = here.state().params
    return found


def test_both_ways_to_make_a_manager(here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    here.configure()
    one = MLflowManager(config.ml)
    assert (one.ml_config, one.experiment_name) == (config.ml, "seeds")
    assert capsys.readouterr().err == ""
    own = {"mine": True}
    for four in (
        MLflowManager("theirs", "text", own, None),
        initialize(experiment_name="theirs", experiment_description="text", config=own, mlflow=None),
    ):
        assert (four.experiment_name, four.experiment_description, four.ml_config) == ("theirs", "text", own)
    assert "runs are of the experiment 'seeds'" in capsys.readouterr().err
    assert isinstance(one, MLflowService) and isinstance(pickle.loads(pickle.dumps(one)), MLflowManager)
    assert not here.runs()


def test_everything_that_can_be_logged(here: Any) -> None:
    here.configure()
    for name in ("out/a.txt", "out/b.txt", "c.txt", "d.txt"):
        here.write(name, name)

    @sais_foundation
    class Study:
        def run(self) -> str:
            ml = ServiceLocator.get_ml_manager()
            ml.init_run()
            ml.log_metrics({"loss": 1.0})
            ml.log_metrics({"loss": 0.5}, 2)
            ml.log_metrics({})
            ml.log_params({"net": {"layers": 2}, "lr": 0.1})
            ml.log_params(config.foundation)
            ml.set_log_params("seed", 7)
            ml.log_artifacts({"artifacts": ["out"]})
            ml.log_artifacts(["c.txt"])
            ml.set_log_artifacts("d.txt")
            return str(ml.run.run_id)

    assert Study().run() == here.run().run_id
    MLflowService().log_metrics({"later": 1.0})  # from `__main__`: the same run
    assert here.points("loss") == [(None, 1.0), (2, 0.5)] and here.points("later") == [(None, 1.0)]
    said = {"lr": 0.1, "net.layers": 2, "seed": 7, "experiment_name": "seeds", "experiment_description": ""}
    assert params(here) == said
    assert {record.data["name"] for record in here.records("file")} == {"out/a.txt", "out/b.txt", "c.txt", "d.txt"}
    assert len(here.runs()) == 1


def test_before_any_run_and_after_one_has_ended(here: Any) -> None:
    """What is said is never lost: without a run one begins, which the first `run()` then has."""
    here.configure()
    ml = ServiceLocator.get_ml_manager()
    ml.log_metrics({"early": 1.0})

    @sais_foundation
    class Study:
        def run(self, *, fails: bool) -> None:
            ml.log_metrics({"within": 1.0})
            if fails:
                raise ValueError("as told")

    Study().run(fails=False)
    assert len(here.runs()) == 1 and here.points("early") == here.points("within") == [(None, 1.0)]
    with pytest.raises(ValueError, match="as told"):
        Study().run(fails=True)
    assert len(here.runs()) == 2 and here.state().status == "FAILED"
    ml.log_metrics({"after": 1.0})
    assert len(here.runs()) == 3 and here.points("after") == [(None, 1.0)]
    assert [read_state(run).status for run in sorted(here.runs(), key=lambda run: run.run_id)][1] == "FAILED"


def model(here: Any, name: str = "model") -> Path:
    path: Path = here.write(f"{name}/config.json", "{}").parent
    return path


REGISTERING = """
foundation: {experiment_name: models}
unified_data_access: {enabled: false}
ml:
  system_tracing: false
  tracking_uri: sqlite:///mlflow.db
  model_repo:
    name: ours
    tag: {framework: pytorch}
    version:
trackers: []
"""


@pytest.mark.parametrize(
    ("given", "intent"),
    [
        (None, {"name": "ours", "version": "", "tags": {"framework": "pytorch"}, "await": 300.0}),
        (
            {"model_uri": "runs:/{run_id}/artifacts/model", "name": "b", "version": "2.0.0", "tag": {"a": 1}},
            {"name": "b", "version": "2.0.0", "tags": {"a": "1"}, "await": 300.0},
        ),
        (
            {"name": "b", "version": None, "await_registration_for": 5},
            {"name": "b", "version": "", "tags": {}, "await": 5},
        ),
        ({"name": "b", "version": "1.0.0", "registered": False}, None),
    ],
    ids=["as the YAML says", "as published", "empty version", "not registered"],
)  # fmt: skip
def test_how_a_model_is_registered(here: Any, given: Any, intent: Any) -> None:
    here.configure(REGISTERING)
    folder = model(here)

    @sais_foundation
    class Study:
        def run(self) -> None:
            ml = ServiceLocator.get_ml_manager()
            ml.log_model(str(folder))
            if given is not None:
                ml.log_model(given)

    Study().run()
    last = here.records("model")[-1].data
    assert last["register"] == intent and (here.run().path / "model" / "config.json").exists()


def test_a_model_without_a_name_is_refused(here: Any) -> None:
    here.configure()
    for given, missing in (({}, "name and version"), ({"name": "b"}, "version")):
        with pytest.raises(ValueError, match=f"needs {missing}"):
            ServiceLocator.get_ml_manager().log_model(given)


def test_versions_are_asked_of_the_server(here: Any, free_port: int) -> None:
    here.configure(REGISTERING.replace("trackers: []", "trackers: [mlflow]"))
    assert MLflowService().model_versions() == [] == MLflowService().model_versions("other")
    ConfigManager().update_config("ml.tracking_uri", f"http://127.0.0.1:{free_port}")
    with pytest.raises(MLFlowIntegrationError, match=str(free_port)):
        MLflowService().model_versions()
    ConfigManager().update_config("ml.enabled", False)
    with pytest.raises(MLFlowIntegrationError, match=r"`ml.enabled` is false"):
        MLflowService().model_versions()


# ---------------------------------------------------------------- what the YAML switches


STATES = """
foundation: {experiment_name: states}
unified_data_access: {enabled: false, data_access: {dataset_names: [nowhere.jsonl]}}
ml:
  enabled: false
  system_tracing: false
  security: {enabled: true, username: me, password: "${MY_PASSWORD}"}
  custom_metrics: [{name: double, expression: loss * 2}]
  artifacts: [notes/*.txt, nothing.txt]
  model_repo: {name: ours, version: "1.0.0"}
"""


def test_a_run_of_the_journal_alone(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ml.enabled: false`, data switched off, credentials, a metric of one's own, artifacts at the end."""
    here.configure(STATES)
    here.write("notes/a.txt", "a")
    folder = model(here)
    monkeypatch.setenv("MY_PASSWORD", "hunter-22")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter-33")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    @sais_foundation
    class Study:
        def run(self) -> None:
            assert not {"MY_PASSWORD", "MLFLOW_TRACKING_PASSWORD"} & os.environ.keys()
            assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"  # nothing of ours is in it
            ml = ServiceLocator.get_ml_manager()
            assert config.ml.security.password == "hunter-22"
            ml.log_metrics({"loss": 1.5}, step=1)
            ml.log_model(folder)

    Study().run()
    assert not here.records("file")  # they are those of the end
    ServiceLocator.get_ml_manager().run.finish()
    assert os.environ["MY_PASSWORD"] == "hunter-22"
    assert here.points("double") == [(1, 3.0)]
    assert [record.data["name"] for record in here.records("file")] == ["notes/a.txt"]
    assert any("nothing matches 'nothing.txt'" in record.data["message"] for record in here.records("warning"))
    assert here.state().trackers == {} and here.records("model")[0].data["register"] is None
    assert not here.records("dataset")
    assert not any(b"hunter" in path.read_bytes() for path in here.run().path.rglob("*") if path.is_file())


UNLISTED = """
foundation: {experiment_name: empty}
ml: {enabled: false, custom_metrics: [], artifacts: [], system_tracing: false}
"""


def test_empty_lists_do_nothing(here: Any) -> None:
    here.configure(UNLISTED)
    sais_foundation(type("Study", (), {"run": lambda self: None}))().run()
    ServiceLocator.get_ml_manager().run.finish()
    assert here.state().status == "FINISHED" and not here.records("file") and not here.records("warning")


def test_the_machine_s_own_metrics_are_switched_for_the_next_run(here: Any) -> None:
    here.configure()
    ml = ServiceLocator.get_ml_manager()
    ml.system_tracing(True)
    assert config.ml.system_tracing is True and not here.runs()
    assert ml.run.config.ml.system_tracing is True
