"""Each point once, whoever reports it: the manager as a callback, Transformers' own callback, the script itself."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from prism.journal.state import read_state

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

TRAINING = """
import sys
from sais_prism import config, sais_foundation  # before Transformers, which `run` imports
from sais_prism.core.service_locator import ServiceLocator

def trainer(callbacks, *, labels=(1, 2, 3, 4), collator=None, **given):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, default_data_collator
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=16, num_key_value_heads=1, **sizes))
    data = [{"input_ids": [1, 2, 3, 4], "labels": list(labels)}] * 8
    usual = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "logging_steps": 1, "max_steps": 4}
    usual |= {"learning_rate": 0.01, "save_strategy": "no"}
    args = TrainingArguments("out", **usual | given)
    given = {"data_collator": collator or default_data_collator, "callbacks": callbacks}
    return Trainer(model=model, args=args, train_dataset=data, eval_dataset=data, **given)
"""
TRACKED = (
    TRAINING
    + """
@sais_foundation
class Everything:
    def run(self):
        ml = ServiceLocator.get_ml_manager()
        training = trainer([ml], report_to=["mlflow"], max_steps=20, eval_strategy="steps", eval_steps=10)
        training.train()
        training.evaluate()
        ml.log_metrics({"after": 1.0}, step=20)
        training.model.save_pretrained("everything")

Everything().run()
ServiceLocator.get_ml_manager().log_metrics({"in_main": 2.0}, step=21)

@sais_foundation
class Without:
    def run(self):
        training = trainer([], report_to="mlflow")
        training.train()
        training.model.save_pretrained("without")

Without().run()
import mlflow
mlflow.log_metric("in_main", 3.0, step=22)
raise KeyError("in main")
"""
)


def test_all_that_report_together_and_one_alone(sft: Any) -> None:
    sft.configure(device="cpu", output_dir="out")
    sft.here.write("script.py", TRACKED)
    sft.python("script.py", code=1)
    everything, without = sft.runs()
    assert everything.state.status == "FINISHED", everything.state.error
    for points in (everything.points, everything.stored):
        assert [step for step, _ in points("loss")] == list(range(1, 21))
        assert [step for step, _ in points("eval_loss")] == [10, 20, 20]  # the script has asked for one itself
        assert [step for step, _ in points("train_loss")] == [20]
        assert points("after") == [(20, 1.0)]
        assert points("in_main") == [(21, 2.0)]
    assert without.state.status == "FAILED"
    assert "in main" in without.state.error
    for points in (without.points, without.stored):
        assert [step for step, _ in points("loss")] == [1, 2, 3, 4]
        assert points("in_main") == [(22, 3.0)]
    (version,) = sft.registered()  # of the run that has succeeded; the other has a model, too
    assert version[0] == everything.state.trackers["mlflow"].run_id
    assert without.state.model["state"] != "registered"


UNTRACKED = (
    TRAINING
    + """
import dataclasses
import transformers

def training_of(**given):
    @sais_foundation
    class Training:
        def run(self):
            training = trainer([ServiceLocator.get_ml_manager()], **given)
            training.train()
            return training
    return Training()

training_of(report_to=["mlflow"], eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2).run()
training_of(report_to=[]).run()
training_of(report_to="none").run()
training = training_of(adafactor=True, warmup_ratio=0.5, no_cuda=True, include_inputs_for_metrics=True).run()
arguments = training.args
assert (arguments.optim, arguments.warmup_steps, arguments.use_cpu) == ("adafactor", 0.5, True), arguments
assert arguments.include_for_metrics == ["inputs"]

@dataclasses.dataclass
class Mine(transformers.TrainingArguments):
    more: int = 3

class Handing(transformers.TrainingArguments):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)

old = {"evaluation_strategy": "steps", "logging_dir": "logs", "overwrite_output_dir": True, "group_by_length": True}
for kind in (Mine, Handing, transformers.Seq2SeqTrainingArguments, transformers.TrainingArguments):
    made = kind("out", eval_steps=7, **old)
    assert (made.output_dir, made.eval_strategy.value) == ("out", "steps"), kind
    assert made.train_sampling_strategy == "group_by_length"
    assert getattr(made, "more", 3) == 3
assert transformers.TrainingArguments("out", evaluation_strategy="no", eval_strategy="epoch").eval_strategy == "epoch"
for misspelt in ({"evaluation_strateggy": "no"}, {"learning_rat": 1.0, "logging_dir": "logs"}):
    for kind in (Mine, transformers.TrainingArguments):
        try:
            kind("out", **misspelt)
        except TypeError as error:
            assert next(iter(misspelt)) in str(error), error
        else:
            raise AssertionError(misspelt)

@sais_foundation
class NotFinite:
    def run(self):
        training = trainer([])
        training.model.lm_head.weight.data[0, 0] = float("nan")
        training.model.save_pretrained("not_finite")

NotFinite().run()

def load(where, **given):
    return transformers.AutoModelForCausalLM.from_pretrained(where, **given).dtype

import torch
model = trainer([]).model
model.half().save_pretrained("half")
for given in ({}, {"device_map": {"": "cpu"}}, {"device_map": {"": "mps"}}, {"dtype": "auto"}, {"device_map": "auto"}):
    assert load("half", **given) is torch.float32, given
for dtype in (torch.float16, "float16"):
    assert load("half", torch_dtype=dtype) is torch.float32
assert load("half", dtype=torch.bfloat16) is torch.bfloat16
torch.cuda.is_available = lambda: True  # then the trainer takes it there
assert load("half", dtype=torch.float16) is torch.float16
assert load("half", dtype=torch.float16, device_map="cpu") is torch.float32
torch.cuda.is_available = lambda: False

collator = transformers.DataCollatorForLanguageModeling(transformers.AutoTokenizer.from_pretrained("model"), mlm=False)
for labels in ((1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 6)):
    sys.stderr.write(f"with labels {labels}\\n")
    trainer([ServiceLocator.get_ml_manager()], collator=collator, labels=labels, max_steps=1).train()
"""
)


def test_without_mlflow_and_with_old_arguments(sft: Any) -> None:
    sft.configure(device="cpu", output_dir="out")
    text = (sft.path / "sais_foundation.yaml").read_text()
    sft.here.configure(text.replace("  enabled: true # Enable MLflow", "  enabled: false # Enable MLflow"))
    sft.here.write("script.py", UNTRACKED)
    elsewhere = sft.path / "elsewhere.db"
    done = sft.python("script.py", MLFLOW_TRACKING_URI=f"sqlite:///{elsewhere}")
    told, empty, none, _, not_finite = sft.states()
    for run in (told, empty, none):
        assert run.state.status == "FINISHED", run.state.error
        assert [step for step, _ in run.points("loss")] == [1, 2, 3, 4]
        assert all(math.isfinite(value) for _, value in run.points("loss"))
    assert [step for step, _ in told.points("eval_loss")] == [2, 4]
    assert [one["step"] for one in told.records("checkpoint")] == [2, 4]
    assert told.warned("nothing is sent to MLflow")
    assert not elsewhere.exists()
    silent, said, again = done.stderr.split("with labels")[1:]
    assert [part.count("trains on the prompts alone") for part in (silent, said, again)] == [0, 1, 0]
    for kind in ("Mine", "Handing", "Seq2SeqTrainingArguments", "TrainingArguments"):
        lines = {f" {kind}({name}=…)": 1 for name in ("evaluation_strategy", "logging_dir", "overwrite_output_dir")}
        assert sft.count(done.stderr, *lines) == lines
        assert f" {kind}(group_by_length=…): Transformers calls it `train_sampling_strategy` today" in done.stderr
    assert not_finite.warned("THE WEIGHTS ARE NOT FINITE (NaN or infinite): lm_head.weight")
    assert not_finite.warned("will not be registered")
    assert not_finite.records("model")[0]["register"] is None
    assert sft.count(done.stderr, "weights in pure float16 go NaN") == {"weights in pure float16 go NaN": 1}


CONFIG = """
foundation: {experiment_name: seeds}
unified_data_access: {enabled: false}
ml: {system_tracing: false, parameters: {output_dir: out}, model_repo: {name: mine}}
trackers: []
"""


def test_which_folder_is_the_model(here: Any) -> None:
    from sais_prism.core.service_locator import ServiceLocator
    from sais_prism.here import here as held
    from sais_prism.running import running

    here.configure(CONFIG)
    for name in ("out/checkpoint-1", "first", "last"):
        here.write(f"{name}/config.json", name)
    with running("One"):
        held.saved.note("out/checkpoint-1")
    with running("Two"):  # of the first it is known now that nothing follows
        for folder in ("first", "last", "out/checkpoint-1"):
            held.saved.note(folder)
    with running("Three"):
        held.saved.note("last")
        ServiceLocator.get_ml_manager().log_model("out/checkpoint-1")
    here.write("out/checkpoint-1/tokenizer.json", "comes later")
    ServiceLocator.get_ml_manager().run.finish()
    one, two, three = sorted((read_state(run) for run in here.runs()), key=lambda state: state.started)
    assert one.model is None
    assert [message for message in one.warnings if "no model is registered" in message]
    assert (two.directory.model / "config.json").read_text() == "last"
    assert not two.warnings
    assert {path.name for path in three.directory.model.iterdir()} == {"config.json", "tokenizer.json"}


def test_where_mlflow_is_no_tracker_the_manager_reports(here: Any) -> None:
    from sais_prism.core.service_locator import ServiceLocator

    here.configure(CONFIG)
    args = SimpleNamespace(report_to=["mlflow"], output_dir="out")
    state = SimpleNamespace(is_world_process_zero=True, global_step=3)
    ServiceLocator.get_ml_manager().on_log(args, state, None, logs={"loss": 0.5, "note": "no number"})
    other = SimpleNamespace(is_world_process_zero=False, global_step=4)
    ServiceLocator.get_ml_manager().on_log(args, other, None, logs={"loss": 0.4})
    assert here.points("loss") == [(3, 0.5)]
    assert here.points("note") == []
