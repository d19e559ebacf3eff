"""A run that is resumed by the real command: its attempts, its checkpoint, and the exit code of the last one alone."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

SCRIPT = """
import prism

@prism.experiment
def train(run):
    saved = run.latest_checkpoint()
    if saved is not None:
        run.log_metrics({"resumed": float((saved / "step").read_text())}, step=2)
        return
    with run.checkpoint(step=1) as folder:
        (folder / "step").write_text("1")
    raise SystemExit(7)
"""


def test_a_resumed_run_goes_on_from_its_checkpoint_with_an_exit_code_of_its_own(project: Any) -> None:
    project.write("train.py", SCRIPT)
    first = project.prism("run", "train.py:train")
    assert first.code == 7, first.err
    second = project.prism("run", "train.py:train", "--resume", "auto")
    assert second.code == 0, second.err
    state = project.state()
    assert (state.status, state.attempts, state.metrics["resumed"]) == ("FINISHED", 2, 1.0)
    third = project.prism("run", "train.py:train", "--resume", state.run_id)
    assert (third.code, project.state().attempts) == (0, 3)


def test_of_several_that_resume_a_run_at_once_one_does(project: Any) -> None:
    source = """
        import time
        def train(run):
            run.log_metrics({"attempt": float(run.attempt)}, step=run.attempt)
            while run.attempt > 1 and not (run.project / "go").exists():
                time.sleep(0.02)
            if run.attempt == 1:
                raise SystemExit(7)
        """
    project.write("train.py", source)
    assert project.prism("run", "train.py:train").code == 7
    run_id = project.run().run_id
    resuming = [project.start_prism("run", "train.py:train", "--resume", run_id) for _ in range(4)]
    deadline = time.monotonic() + 60
    while sum(one.process.poll() is not None for one in resuming) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    project.write("go", "")
    done = [one.finish() for one in resuming]
    assert sorted(one.code for one in done) == [0, 2, 2, 2], done
    assert all("resumes the run" in one.err or "still running" in one.err for one in done if one.code == 2)
    state = project.state()
    assert (state.status, state.attempts, state.metrics) == ("FINISHED", 2, {"attempt": 2.0})
    assert [path.stem for path in project.run().journal.glob("a2-*-p*")] == []


PARAMETERS = 5_000
CHANGING = """
import prism

@prism.experiment
def train(run):
    run.log_metrics({"attempt": run.attempt}, step=run.attempt)
    if run.attempt == 1:
        raise SystemExit(7)
"""


@pytest.mark.timeout(900)
def test_the_configuration_of_each_attempt_is_whole_in_mlflow(project: Any, mlflow_server: Any, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    words = {"text": "no", "number": 2e-5, "odd": "a: b # c\n'\"", "nothing": None, "list": [1, "two", {"three": 3.0}]}
    given = {f"layer{n // 50}": {f"option_{n + k}": (n + k) / 7 for k in range(50)} for n in range(0, PARAMETERS, 50)}
    parameters = {**given, **words, "prompt": "值" * 350_000}
    secret, name = secrets.token_hex(8), f"whole-{secrets.token_hex(4)}"
    ml = {"tracking_uri": mlflow_server.uri, "parameters": {**parameters, "endpoint": f"https://ada:{secret}@host"}}
    with (project.path / "sais_foundation.yaml").open("w") as stream:
        YAML(typ="safe").dump({"foundation": {"experiment_name": name}, "ml": ml}, stream)
    project.write("train.py", CHANGING)
    assert project.prism("run", "train.py:train", within=300).code == 7
    run_id = project.run().run_id
    again = project.prism("run", "train.py:train", "--resume", run_id, "ml.parameters.number=3e-5", within=300)
    assert again.code == 0, again.err
    project.until(lambda: project.state().pending == 0, within=120, what="the end of the delivery")
    client = MlflowClient(tracking_uri=mlflow_server.uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    for file, changed in (("config.yaml", {}), ("config-a2.yaml", {"number": 3e-5})):
        text = Path(client.download_artifacts(run.info.run_id, file, str(tmp_path))).read_text("utf-8")
        found = YAML(typ="safe").load(text)["ml"]["parameters"]
        assert secret not in text and "***" in found.pop("endpoint")
        assert found == parameters | changed
    assert run.data.params["number"] == "2e-05" and run.data.params["resume.2.number"] == "3e-05"
    prompt = client.download_artifacts(run.info.run_id, "params/prompt.txt", str(tmp_path))
    assert Path(prompt).read_text("utf-8") == parameters["prompt"]
    assert len([key for key in run.data.params if key.startswith("layer")]) == PARAMETERS
