"""The loop over a real run: what it logs, evaluates, saves and refuses."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from prism.errors import DataError, EnvironmentUnfit, UsageError, WorkFailed
from prism_accelerate.devices import choose_device, choose_numerics
from prism_accelerate.language_models import find_model
from prism_accelerate.options import TrainerOptions
from prism_accelerate.settings import Settings
from prism_accelerate.trainer import AccelerateTrainer

TRAIN = {"num_train_epochs": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "logging_steps": 1}


def metrics(said, run, name):
    return {data["step"]: data["metrics"][name] for data in said(run, "metrics") if name in data["metrics"]}


def warnings(said, run):
    return [data["message"] for data in said(run, "warning")]


def test_accumulated_micro_batches_are_one_large_batch(start_run, said, still_model, project_folder, records):
    """Exact although the micro-batches have unequal numbers of answer tokens."""
    text = "".join(json.dumps(record) + "\n" for record in records[:8])  # as many as the large batch holds
    (project_folder / "train8.jsonl").write_text(text, encoding="utf-8")
    plain = {"base_model": str(still_model), "max_steps": 1, "optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0}
    trained = []
    for size, accumulation in ((8, 1), (2, 4)):
        sizes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
        run = start_run({**TRAIN, **plain, **sizes}, data={"train": "train8.jsonl"})
        folder = AccelerateTrainer().train(None, run)
        trained.append((load_file(folder / "model.safetensors"), metrics(said, run, "loss")))
    (one, one_loss), (many, many_loss) = trained
    assert one_loss == pytest.approx(many_loss, rel=1e-5)
    assert all(torch.allclose(one[name], many[name], atol=1e-6) for name in one)


def test_the_logged_loss_is_the_mean_over_answer_tokens(start_run, said, still_model, records):
    run = start_run({**TRAIN, "base_model": str(still_model), "learning_rate": 0.0, "logging_steps": 100})
    AccelerateTrainer().train(None, run)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(still_model), AutoTokenizer.from_pretrained(still_model)
    total, count = 0.0, 0
    with torch.no_grad():
        for record in records:
            prompt = tokenizer(record["instruction"] + "\n")["input_ids"]
            answer = [*tokenizer(record["output"])["input_ids"], tokenizer.eos_token_id]
            logits = model.eval()(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
            count += len(answer)
    (logged,) = metrics(said, run, "loss").values()
    assert logged == pytest.approx(total / count, rel=1e-5)


def test_without_auto_log_only_user_code_logs(start_run, said, small_model):
    parameters = {**TRAIN, "base_model": str(small_model), "device": "cpu"}
    run = start_run({}, ml={"enabled": False, "auto_log": False, "parameters": parameters})
    AccelerateTrainer().train(None, run)
    assert said(run, "metrics") == [] and said(run, "params") == []


def test_what_is_logged(start_run, said):
    run = start_run({**TRAIN, "warmup_steps": 2, "neftune_noise_alpha": 5, "peft": {"r": 8}})
    AccelerateTrainer().train(None, run)
    points = [data["metrics"] for data in said(run, "metrics")]
    expected = {"loss", "learning_rate", "epoch", "grad_norm", "tokens_per_second", "steps_per_second"}
    assert all(set(point) == expected for point in points) and len(points) == 3
    assert list(metrics(said, run, "learning_rate").values()) == [0.0, 0.0005, 0.001]
    assert metrics(said, run, "epoch")[3] == 1.0
    (warning,) = warnings(said, run)
    assert "neftune_noise_alpha" in warning and "peft" in warning
    params = {name: value for data in said(run, "params") for name, value in data["params"].items()}
    assert params["trainer.unused"] == "neftune_noise_alpha, peft"
    assert params["trainer.weight_decay"] == 0.0 and "trainer.learning_rate" not in params


def test_names_that_act_elsewhere_are_said(start_run, said):
    run = start_run({**TRAIN, "output_dir": "out", "report_to": ["mlflow", "wandb"], "logging_dir": "./logs"})
    AccelerateTrainer().train(None, run)
    (warning,) = warnings(said, run)
    assert "output_dir" in warning and "not in out" in warning


def test_validation_data_is_evaluated_every_epoch_and_leaves_training_as_it_was(start_run, said):
    parameters = {**TRAIN, "num_train_epochs": 2}
    plain = start_run(parameters)
    without = load_file(AccelerateTrainer().train(None, plain) / "model.safetensors")
    run = start_run(parameters, data={"validation": "validation.jsonl"})
    evaluated = load_file(AccelerateTrainer().train(None, run) / "model.safetensors")
    losses = metrics(said, run, "eval_loss")
    assert list(losses) == [3, 6] and losses[6] < losses[3]
    assert all(torch.equal(without[name], evaluated[name]) for name in without)


def test_evaluation_in_steps(start_run, said):
    parameters = {**TRAIN, "evaluation_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 3}
    run = start_run(parameters, data={"validation": "validation.jsonl"})
    AccelerateTrainer().train(None, run)
    assert list(metrics(said, run, "eval_loss")) == [2]


def test_evaluation_without_validation_data_is_refused(start_run):
    with pytest.raises(UsageError, match=r"data\.validation names no dataset"):
        AccelerateTrainer().train(None, start_run({**TRAIN, "eval_strategy": "epoch"}))


def test_the_saved_folder_is_what_transformers_reads(start_run):
    folder = AccelerateTrainer().train(None, start_run(TRAIN))
    assert not list(folder.glob("*.bin"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.use_cache and model.dtype == torch.float32
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)


@pytest.mark.parametrize(
    "more",
    [
        {"gradient_checkpointing": True},
        {"optim": "adafactor", "learning_rate": 0.05},
        {"optim": "adamw_torch"},
        {"bf16": True},
        {"dtype": "bfloat16"},
        {"dataloader_num_workers": 2},
        {"lr_scheduler_type": "cosine", "warmup_ratio": 0.1},
    ],
    ids=str,
)
def test_other_ways_to_train_also_learn(start_run, said, more):
    run = start_run({**TRAIN, "num_train_epochs": 6, "learning_rate": 5e-3, **more})
    AccelerateTrainer().train(None, run)
    losses = list(metrics(said, run, "loss").values())
    assert losses[-1] < 0.75 * losses[0]


def test_workers_make_the_same_batches(start_run):
    one, two = (
        load_file(
            AccelerateTrainer().train(None, start_run({**TRAIN, "dataloader_num_workers": n})) / "model.safetensors"
        )
        for n in (0, 2)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_records_that_are_too_long_are_counted_aloud(start_run, said):
    run = start_run({**TRAIN, "max_length": 14})
    AccelerateTrainer().train(None, run)
    (warning,) = warnings(said, run)
    assert "of 11 records" in warning and "were cut to 14 tokens" in warning


# ---------------------------------------------------------------- devices and number formats


def test_an_absent_device_is_a_hint_and_the_best_there_is():
    told = []
    assert choose_device("cuda", here=["mps", "cpu"], warn=told.append) == "mps"
    assert told == ["device: cuda is not on this machine, mps is used"]
    assert choose_device("auto", here=["cpu"], warn=told.append) == "cpu"
    assert choose_device("cpu", here=["cuda", "cpu"], warn=told.append) == "cpu"
    assert len(told) == 1


@pytest.mark.parametrize(
    ("settings", "device", "mixed", "dtype", "hints"),
    [
        (Settings(), "cpu", None, torch.float32, 0),
        (Settings(dtype="float16"), "cpu", "no", torch.float32, 1),
        (Settings(dtype="float16"), "cuda", "fp16", torch.float32, 1),
        (Settings(fp16=True), "cpu", "no", torch.float32, 1),
        (Settings(bf16=True), "cpu", "bf16", torch.float32, 0),
        (Settings(dtype="bfloat16"), "cpu", None, torch.bfloat16, 0),
        (Settings(dtype="auto"), "cuda", None, None, 0),
    ],
)
def test_number_formats(settings, device, mixed, dtype, hints):
    told = []
    numerics = choose_numerics(settings, device=device, warn=told.append)
    assert (numerics.mixed_precision, numerics.dtype, len(told)) == (mixed, dtype, hints)


# ---------------------------------------------------------------- what is wrong


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "there is no folder"),
        ("/no/such/model", "there is no folder"),
        ("models/llama/1b", "there is no folder"),
        (".", "has no config.json"),
    ],
)
def test_a_missing_base_model_is_said_at_once(start_run, name, message):
    with pytest.raises(UsageError, match=message):
        AccelerateTrainer().train(None, start_run({**TRAIN, "base_model": name}))


def test_a_name_that_the_hub_does_not_give_is_said_without_retries(start_run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="the hub does not give it"):
        AccelerateTrainer().train(None, start_run({**TRAIN, "base_model": "prism-test/no-such-model"}))


def test_a_cached_hub_model_is_used_when_the_hub_is_out_of_reach(small_model, monkeypatch, tmp_path):
    kept = tmp_path / "models--prism-test--tiny"
    shutil.copytree(small_model, kept / "snapshots" / "0123")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_model("prism-test/tiny", project=tmp_path) == str(kept / "snapshots" / "0123")


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n', r"train\.jsonl:2.*'output'"), ("", "empty")],
)
def test_unfit_data_is_said_with_its_line(start_run, project_folder, content, message):
    (project_folder / "train.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        AccelerateTrainer().train(None, start_run(TRAIN))


def test_a_wrong_parameter_is_said_with_its_line(start_run):
    with pytest.raises(UsageError, match=r"sais_foundation\.yaml:1:\d+  ml\.parameters\.logging_steps: 0 is less"):
        AccelerateTrainer().train(None, start_run({**TRAIN, "logging_steps": 0}))


def test_an_unknown_task_is_refused_by_the_options():
    with pytest.raises(ValueError, match="'task' must be in"):
        TrainerOptions(task="dpo")


class Line:
    """A task whose loss turns NaN at its fourth batch."""

    loss_at = 3

    def model(self):
        self.seen = 0
        return torch.nn.Linear(1, 1)

    def batches(self, split):
        return [torch.full((2, 1), float(at)) for at in range(6)]

    def loss(self, model, batch):
        self.seen += 1
        return model(batch).square().mean() * (math.nan if self.seen > self.loss_at else 1.0)


def test_a_loss_that_is_not_finite_stops_training_at_its_step(start_run):
    run = start_run({"save_strategy": "steps", "save_steps": 1})
    with pytest.raises(WorkFailed, match="step 4: the loss is nan"):
        AccelerateTrainer().train(Line(), run)
    assert run.latest_checkpoint().name == "step-00000003-a1"


def test_weights_that_are_not_finite_are_never_saved(start_run):
    class Exploding(Line):
        loss_at = 99

        def loss(self, model, batch):
            loss = super().loss(model, batch)
            if self.seen == 3:
                with torch.no_grad():
                    model.bias += math.inf
            return loss

    run = start_run({"save_strategy": "steps", "save_steps": 1, "learning_rate": 0.0})
    with pytest.raises(WorkFailed, match=r"step 3: the weights are not finite \(bias\)"):
        AccelerateTrainer().train(Exploding(), run)
    assert run.latest_checkpoint().name == "step-00000002-a1"


def test_parameters_of_a_task_are_not_called_unused(start_run, said):
    class Short(Line):
        loss_at = 99

    run = start_run({"max_steps": 1, "hidden": 8})
    AccelerateTrainer().train(Short(), run)
    params = {name: value for data in said(run, "params") for name, value in data["params"].items()}
    assert (params["trainer.unused"], warnings(said, run)) == ("", [])


def test_an_endless_loader_needs_max_steps(start_run):
    class Endless(Line):
        loss_at = 99

        def batches(self, split):
            return (torch.ones(2, 1) for _ in iter(int, 1))

    with pytest.raises(UsageError, match="max_steps"):
        AccelerateTrainer().train(Endless(), start_run({}))
    folder = AccelerateTrainer().train(Endless(), start_run({"max_steps": 4}))
    assert set(load_file(folder / "model.safetensors")) == {"weight", "bias"}


def test_fewer_processes_than_asked_for_is_an_error(start_run, monkeypatch):
    monkeypatch.setenv("PRISM_PROCESSES", "2")
    with pytest.raises(EnvironmentUnfit, match="2 processes were asked for, but training has 1"):
        AccelerateTrainer().train(Line(), start_run({}))


def test_a_task_of_the_users_own_imports_no_transformers():
    code = (
        "import sys, prism_accelerate.trainer, prism_accelerate.loop, prism_accelerate.plugin\n"
        "from prism_accelerate.devices import Numerics, open_accelerator\n"
        "import torch\n"
        "model = torch.nn.Linear(1, 1)\n"
        "open_accelerator(Numerics('cpu', None, None)).prepare(model, torch.optim.SGD(model.parameters()))\n"
        "heavy = {'transformers', 'datasets', 'mlflow', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_plugin_and_its_options_are_light():
    code = (
        "import sys, prism_accelerate.plugin, prism_accelerate.options, prism_accelerate.launcher, "
        "prism_accelerate.settings\n"
        "sys.exit(', '.join({'torch', 'transformers', 'accelerate', 'numpy'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
