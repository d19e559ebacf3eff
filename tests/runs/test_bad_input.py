"""Bad input through the real command line: what went wrong, where, what to do, the exit code, and nothing half-done."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

UNTRACKED = "foundation: {experiment_name: real}\nml: {enabled: false}\n"
TRAIN = "def train(run):\n    run.log_metrics({'loss': 0.5}, step=1)\n    open('trained', 'w').close()\n"


def files(project: Any) -> list[str]:
    return sorted(str(path.relative_to(project.path)) for path in project.path.rglob("*"))


def refused(project: Any, *arguments: str, code: int, told: list[str], **environ: str) -> None:
    """`prism run ARGUMENTS` is refused before anything was started, and leaves the folder as it was."""
    before = files(project)
    done = project.prism("run", *arguments, **environ)
    assert done.code == code, done.err
    for text in told:
        assert text in done.err
    assert "Traceback" not in done.err and done.out == ""
    assert [name for name in files(project) if "__pycache__" not in name] == before


def failed(project: Any, *arguments: str, code: int, told: list[str]) -> None:
    """The run begins and fails with that message before any training; it is whole, and says why."""
    done = project.prism("run", *arguments)
    state = project.state()
    assert (done.code, state.status) == (code, "FAILED"), done.err
    for text in told:
        assert text in done.err
    assert "Traceback" not in done.err and done.err.count("error: ") == 1
    assert state.error in done.err and state.error and not state.damage
    assert not (project.path / "trained").exists() and not (project.run().path / "model").exists()
    assert json.loads(project.prism("runs", "list", "--json").out)[0]["status"] == "FAILED"


# ---------------------------------------------------------------- configuration: refused, 2


def test_no_configuration(project: Any) -> None:
    (project.path / "sais_foundation.yaml").unlink()
    project.write("train.py", TRAIN)
    told = [f"there is no sais_foundation.yaml in {project.path}", "prism init"]
    refused(project, code=2, told=told)
    refused(project, "train.py:train", code=2, told=told)
    refused(project, "other.yaml", code=2, told=["there is no configuration other.yaml"])


def test_every_wrong_key_and_value_is_told_at_once_with_its_place(project: Any) -> None:
    file = project.configure(
        """\
        foundation:
          experiment_nam: toy
        ml:
          enabled: "yes please"
          trackin_uri: x
        trainer: {name: accelerate, tsk: sft}
        launcher: {processes: two}
        """
    )
    told = [
        f"{file}:2:3  foundation.experiment_nam: unknown key",
        "did you mean 'experiment_name'?",
        f"{file}:4:12  ml.enabled: expected true or false",
        f"{file}:5:3  ml.trackin_uri: unknown key",
        f"{file}:6:29  trainer.tsk: unknown key",
        "did you mean 'task'?",
        f"{file}:7:23  launcher.processes: expected a whole number",
    ]
    refused(project, code=2, told=told)


def test_unknown_plugin_names(project: Any) -> None:
    file = project.configure(UNTRACKED + "trainer: accelerat\nevaluation: {evaluators: [rogue]}\ntrackers: [mflow]\n")
    told = [
        f"{file}:3:10  trainer:",
        "did you mean 'accelerate'?",
        f"{file}:4:27  evaluation.evaluators[0]:",
        "did you mean 'rouge'?",
        f"{file}:5:12  trackers[0]:",
        "did you mean 'mlflow'?",
    ]
    refused(project, code=2, told=told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tran.py"], ["there is no script tran.py"]),
        (["train"], ["'train' is neither a YAML file, nor SCRIPT.py, SCRIPT.py:NAME or MODULE:NAME"]),
        (["train.py:two words"], ["'two words'", "is no Python name"]),
        (["train.py", "other.py"], ["there are two things to run: train.py and other.py"]),
        (["train.py:train", "ml.parameterz.lr=1"], ["command line  ml.parameterz: unknown key", "did you mean"]),
        (["train.py:train", "--tag", "x"], ["--tag 'x' is not of the form K=V"]),
        (["train.py:train", "--launcher", "acclerate"], ["launcher.name", "did you mean 'accelerate'?"]),
        (["train.py:train", "--resume", "2020"], ["no run '2020'", "prism runs list"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_words_on_the_command_line(project: Any, arguments: list[str], told: list[str]) -> None:
    project.write("train.py", TRAIN)
    refused(project, *arguments, code=2, told=told)


# ---------------------------------------------------------------- code that is not there: 2, when it is looked for


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("train.py:trian", ["train.py has no 'trian'", "it defines train"]),
        ("trainn:train", ["there is no module 'trainn'", "searched from"]),
        ("package.missing:train", ["there is no module 'package.missing'"]),
    ],
)
def test_a_name_that_is_not_in_the_code(project: Any, target: str, told: list[str]) -> None:
    project.write("train.py", TRAIN)
    project.write("package/__init__.py", "")
    failed(project, target, code=2, told=told)


# ---------------------------------------------------------------- plugins that cannot load: refused, 4


GHOST = """
from prism.hookspecs import hookimpl
from prism.providers import Provider

@hookimpl
def prism_trainers():
    return [Provider("gone", target="no_such_trainer:Gone")]

@hookimpl
def prism_trackers():
    return [Provider("lost", target="json:dumps", requires=("no_such_client",))]
"""


def test_a_plugin_that_is_named_and_cannot_load(project: Any) -> None:
    project.write("train.py", TRAIN)
    project.write("broken.py", "import no_such_thing\n")
    project.configure(UNTRACKED + "plugins: {local: [broken.py]}\n")
    told = [str(project.path / "broken.py"), "No module named 'no_such_thing'", "plugins.local"]
    refused(project, "train.py:train", code=4, told=told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (UNTRACKED + "trainer: gone\n", ["the trainer 'gone' needs no_such_trainer, not installed here"]),
        (
            "foundation: {experiment_name: real}\ntrackers: [lost]\n",
            ["the tracker 'lost' needs no_such_client, not installed here", "prism doctor"],
        ),
    ],
    ids=["trainer", "tracker"],
)
def test_a_provider_whose_module_is_missing(project: Any, text: str, told: list[str]) -> None:
    project.write("ghost.py", GHOST)
    project.write("train.py", TRAIN)
    project.configure(text + "plugins: {local: [ghost.py]}\n")
    arguments = ["train.py:train"] if "lost" in text else []
    refused(project, *arguments, code=4, told=told)


def test_a_plugin_that_is_switched_off(project: Any) -> None:
    project.write("train.py", TRAIN)
    told = ["the launcher 'accelerate' is not here: the plugin 'accelerate' is switched off"]
    refused(project, "train.py:train", code=4, told=told, PRISM_PLUGINS_OFF="accelerate")
    project.configure(UNTRACKED + "data: {train: x.jsonl}\n")
    told = ["data client", "'local'"]
    refused(project, "train.py:train", code=4, told=told, PRISM_PLUGINS_OFF="data")


# ---------------------------------------------------------------- data and models: the run fails before any training


@pytest.mark.torch  # the predictor of the configuration must be here before anything begins
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../outside.jsonl", ["'../outside.jsonl' leaves the data root", "roots"]),
        ("missing.jsonl", ["there is no dataset 'missing.jsonl' in"]),
        ("empty.jsonl", ["empty.jsonl: the dataset is empty", "at least one record"]),
        ("unanswered.jsonl", ["unanswered.jsonl:2: the record has no 'output'"]),
        ("torn.jsonl", ["torn.jsonl:2: not JSON"]),
    ],
)
def test_unfit_evaluation_data_costs_no_training(project: Any, name: str, told: list[str]) -> None:
    project.write("train.py", TRAIN)
    project.write("../outside.jsonl", '{"instruction": "a", "output": "b"}\n')
    project.write("empty.jsonl", "")
    project.write("unanswered.jsonl", '{"instruction": "a", "output": "b"}\n{"instruction": "c"}\n')
    project.write("torn.jsonl", '{"instruction": "a", "output": "b"}\n{"instruction": \n')
    project.configure(UNTRACKED + f"evaluation: {{data: [{name}]}}\n")
    failed(project, "train.py:train", code=1, told=told)


@pytest.mark.torch
def test_a_base_model_that_is_not_there(project: Any) -> None:
    project.write("data.jsonl", '{"instruction": "a", "output": "b"}\n')
    project.configure(
        "foundation: {experiment_name: real}\nml: {enabled: false, parameters: {base_model: ./no-model}}\n"
        "data: {train: data.jsonl}\n"
    )
    failed(project, code=2, told=["base_model './no-model'", f"{project.path / 'no-model'}", "relative to the folder"])
    assert project.state().params == {"base_model": "./no-model"}  # what was logged is kept


# ---------------------------------------------------------------- a server that is not there: the run's own code


@contextmanager
def forwarding(port: int, *, to: int) -> Iterator[None]:
    """Whatever connects to `port` talks to the server at `to`, as if that had come up there."""
    with socket.create_server(("127.0.0.1", port)) as door:
        over = threading.Event()

        def carry(near: socket.socket) -> None:
            with near, socket.create_connection(("127.0.0.1", to)) as far:
                other = {near: far, far: near}
                while not over.is_set():
                    for ready in select.select(list(other), [], [], 0.2)[0]:
                        content = ready.recv(1 << 16)
                        if not content:
                            return
                        other[ready].sendall(content)

        def accept() -> None:
            while not over.is_set():
                if select.select([door], [], [], 0.2)[0]:
                    threading.Thread(target=carry, args=(door.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(5)


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed here")
def test_mlflow_out_of_reach_and_delivered_later(project: Any, free_port: int, mlflow_server: Any) -> None:
    project.configure(
        f"foundation: {{experiment_name: later-{free_port}}}\n"
        f"ml: {{tracking_uri: 'http://127.0.0.1:{free_port}', system_tracing: false, parameters: {{lr: 0.1}}}}\n"
    )
    project.write("train.py", TRAIN + "    raise SystemExit(5)\n")
    done = project.prism("run", "train.py:train")
    assert done.code == 5, done.err  # the script's own, not the server's
    state = project.state()
    assert state.status == "FAILED" and state.pending > 0
    assert f"pending    {state.pending} records" in done.out and f"prism sync {state.run_id}" in done.out
    reason = f"http://127.0.0.1:{free_port}", "not reached yet"  # where nine seconds are not enough to try
    assert any(words in done.out for words in reason)
    listed = json.loads(project.prism("runs", "list", "--json").out)
    assert listed[0]["pending"] == state.pending
    early = project.prism("sync")
    assert early.code == 4 and f"127.0.0.1:{free_port}" in early.err

    with forwarding(free_port, to=mlflow_server.port):
        late = project.prism("sync")
        assert late.code == 0, late.err
        assert f"{state.run_id}  FAILED  0 records pending" in late.out
        assert project.prism("sync").code == 0  # again: nothing to do, nothing twice
    shown = json.loads(project.prism("runs", "show", state.run_id, "--json").out)

    from mlflow import MlflowClient

    run = MlflowClient(mlflow_server.uri).get_run(shown["trackers"]["mlflow"]["run_id"])
    assert (run.info.status, run.data.metrics, run.data.params) == ("FAILED", {"loss": 0.5}, {"lr": "0.1"})
