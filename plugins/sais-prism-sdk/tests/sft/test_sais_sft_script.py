"""The seed's SFT script, letter for letter: as a program, under `prism run`, under launchers, more than once."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

SMALL = {"base_model": '"./model"', "gradient_accumulation_steps": 2, "num_train_epochs": 5}
QUICK = {"learning_rate": 0.01, "warmup_steps": 0, "logging_steps": 1}
"""The model here is untrained and has 20 steps: at the seed's rate nothing could be seen."""
HINTS = (
    "this machine has no mps; cpu is used",
    "weights in pure float16 go NaN on a CPU",
    "TrainingArguments(logging_dir=…)",
    "TrainingArguments(evaluation_strategy=…)",
    "this trains on the prompts alone",
    "the dataset 'mars' is not recorded as used",
)
TWICE = ("    sft = SFTTraining()\n    sft.run()", "    SFTTraining().run()\n    SFTTraining().run()")
ENDS = range(4, 21, 4)


def is_whole(run: Any, steps: int) -> None:
    """Success, each step's loss once, finite and falling, the data known by its digest, the model with a tokenizer."""
    assert run.state.status == "FINISHED", run.state.error
    assert [step for step, _ in run.points("loss")] == list(range(1, steps + 1))
    losses = [value for _, value in run.points("loss")]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0] - 0.1
    (dataset,) = run.state.datasets
    assert dataset["name"] == "alpaca_sft_dataset.jsonl"
    assert dataset["digest"].startswith("sha256:")
    kept = {path.name for path in run.state.directory.model.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= kept
    json.loads((run.state.directory.model / "tokenizer.json").read_text(encoding="utf-8"))


def test_as_a_program(sft: Any) -> None:
    sft.configure(**SMALL, **QUICK)  # and `device: mps` as it stands there
    done = sft.python("script.py")
    (run,) = sft.runs()
    is_whole(run, 20)
    assert "Done" in done.stdout
    assert sft.count(done.stderr, *HINTS) == dict.fromkeys(HINTS, 1)
    assert all(run.warned(hint) for hint in HINTS)
    assert run.stored("loss") == run.points("loss")
    assert [step for step, _ in run.stored("train_loss")] == [20]
    assert [one["step"] for one in run.records("checkpoint")] == list(ENDS)
    assert all(one["digest"].startswith("sha256:") for one in run.records("checkpoint"))
    (version,) = sft.registered()
    assert version[0] == run.state.trackers["mlflow"].run_id
    assert len(run.records("model")) == 1
    assert run.state.model["state"] == "registered"
    assert (run.state.model["name"], run.state.model["version"]) == ("llama_models", "1.0.1")
    weights = "model.safetensors"
    assert (run.state.directory.model / weights).read_bytes() == (sft.path / "fine_tuned_model" / weights).read_bytes()
    assert run.state.params["device"] == "cpu"
    assert run.state.params["learning_rate"] == 0.01


def test_under_prism_run_without_a_server(sft: Any, free_port: int) -> None:
    sft.configure(**SMALL, **QUICK, tracking_uri=f"http://127.0.0.1:{free_port}")
    sft.path.joinpath("script.py").write_text(sft.seed[0].replace(*TWICE), encoding="utf-8")
    done = sft.python("-m", "prism", "run", "script.py", PRISM__TRACKERS='[{"name": "mlflow", "timeout": 1}]')
    assert sft.count(done.stderr, *HINTS) == dict.fromkeys(HINTS, 1)
    assert "the run has begun with another" not in done.stderr
    first, second = sft.states()
    is_whole(first, 20)
    is_whole(second, 20)
    assert {run.state.model["state"] for run in (first, second)} == {"pending"}
    assert {run.state.params["device"] for run in (first, second)} == {"cpu"}


def test_two_ranks_and_two_runs(sft: Any) -> None:
    sft.configure(**SMALL, **QUICK, device="cpu")
    saving = 'tokenizer.save_pretrained("./fine_tuned_model")'
    counted = f"sys.stdout.write(str(len({saving})) + ' files' + chr(10))"
    script = "import sys\n" + sft.seed[0].replace(*TWICE).replace(saving, counted)
    sft.path.joinpath("script.py").write_text(script, encoding="utf-8")
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "script.py")
    done = sft.python(*launch, ACCELERATE_USE_CPU="true")
    written = [line for line in done.stdout.splitlines() if line.endswith(" files")]
    assert sorted(line == "0 files" for line in written) == [False, False, True, True]
    first, second = sft.runs()
    for run in (first, second):
        is_whole(run, 10)  # 16 examples, 4 of them at a step on each of the ranks
        assert run.stored("loss") == run.points("loss")
        assert len(run.state.processes) == 2
    assert [one["step"] for one in first.records("checkpoint")] == [2, 4, 6, 8, 10]
    # the YAML names one version: the second run's model is the same to the last bit, or it is refused
    same = first.state.model["digest"] == second.state.model["digest"]
    states = (first.state.model["state"], second.state.model["state"])
    assert states == ("registered", "registered" if same else "refused")


FAILS_AFTER_SAVING = """
    SFTTraining().run()

    @sais_foundation
    class Second(SFTTraining):
        def run(self):
            super().run()
            raise OSError("after saving")

    Second().run()
"""


def test_two_classes_under_accelerate_and_the_second_fails(sft: Any) -> None:
    sft.configure(**SMALL, **QUICK, device="cpu")
    script = sft.seed[0].replace(TWICE[0], FAILS_AFTER_SAVING)
    sft.path.joinpath("script.py").write_text(script, encoding="utf-8")
    done = sft.python("-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu", "script.py", code=1)
    first, second = sft.runs()
    is_whole(first, 20)
    assert (first.state.name, second.state.name) == ("SFTTraining", "Second")
    assert second.state.status == "FAILED"
    assert "after saving" in second.state.error
    (log,) = second.state.directory.logs.glob("*-error.log")
    assert 'raise OSError("after saving")' in log.read_text(encoding="utf-8")
    assert "OSError: after saving" in done.stderr
    assert second.state.model is None
    (version,) = sft.registered()
    assert version[0] == first.state.trackers["mlflow"].run_id
    assert len(second.stored("loss")) == 20
