"""What the trainer reads from `ml.parameters`, and what it says about what it cannot read."""

from __future__ import annotations

import math

import pytest

from prism.errors import UsageError
from prism_accelerate.schedules import Schedule, warmup_steps
from prism_accelerate.settings import read_settings


def test_the_seeds_parameters_are_understood():
    settings, unused = read_settings(
        {
            "output_dir": "artifacts/runtime",
            "device": "mps",
            "dataset_names": ["/cpfs01/ENS"],
            "base_model": "meta-llama/Llama-3.2-1B",
            "num_train_epochs": 3,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 8,
            "learning_rate": 0.00002,
            "weight_decay": 0.01,
            "warmup_steps": 200,
            "save_total_limit": 1,
            "logging_dir": "./logs",
            "logging_steps": 10,
            "save_strategy": "epoch",
            "evaluation_strategy": "no",
            "report_to": ["mlflow"],
            "optim": "adamw_torch",
            "gradient_checkpointing": True,
        }
    )
    assert unused == ()
    assert (settings.device, settings.warmup_steps, settings.eval_strategy) == ("mps", 200, "no")
    assert settings.learning_rate == 2e-5 and settings.gradient_checkpointing


def test_names_that_are_not_used_come_back_in_their_order():
    settings, unused = read_settings({"lora_r": 8, "seed": 7, "neftune_noise_alpha": 5})
    assert unused == ("lora_r", "neftune_noise_alpha")
    assert settings.seed == 7


def test_a_value_that_is_none_is_said_with_its_key_and_all_at_once():
    bad = {"learning_rate": "fast", "num_train_epochs": 0, "save_strategy": "always", "bf16": "yes", "max_steps": 1.5}
    with pytest.raises(UsageError) as caught:
        read_settings(bad, where=lambda key: f"job.yaml:1:1  {key}")
    lines = caught.value.message.splitlines()
    assert len(lines) == 5
    assert "job.yaml:1:1  ml.parameters.learning_rate: 'fast' is not a number" in lines
    assert any("save_strategy: 'always' is none of no, epoch, steps" in line for line in lines)


@pytest.mark.parametrize(
    "values",
    [
        {"per_device_train_batch_size": 0},
        {"per_device_train_batch_size": True},
        {"learning_rate": -1e-5},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"warmup_ratio": 1.5},
        {"device": "tpu"},
        {"optim": "adamw_8bit"},
        {"max_length": 1},
        {"bf16": True, "fp16": True},
        {"bf16": True, "mixed_precision": "fp16"},
    ],
)
def test_what_cannot_be_meant_is_refused(values):
    with pytest.raises(UsageError, match=f"ml.parameters.({'|'.join(values)}|mixed_precision)"):
        read_settings(values)


def test_a_parameter_without_a_value_is_absent():
    settings, unused = read_settings({"max_length": None, "save_total_limit": None, "lora_r": None})
    assert settings.max_length is None and unused == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [({}, None), ({"bf16": True}, "bf16"), ({"fp16": True}, "fp16"), ({"mixed_precision": "bf16"}, "bf16")],
)
def test_mixed_precision_under_each_of_its_names(values, expected):
    assert read_settings(values)[0].precision == expected


def test_linear_warms_up_and_falls_to_nothing():
    schedule = Schedule("linear", warmup=4, total=12)
    factors = [schedule.factor(step) for step in range(13)]
    assert factors[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert factors[8] == 0.5 and factors[12] == 0.0


def test_cosine_is_half_way_down_at_half_time():
    schedule = Schedule("cosine", warmup=0, total=10)
    assert schedule.factor(0) == 1.0 and schedule.factor(10) == 0.0
    assert schedule.factor(5) == pytest.approx(0.5)


def test_constant_has_no_warm_up_and_its_sister_has():
    assert Schedule("constant", warmup=5, total=10).factor(0) == 1.0
    sister = Schedule("constant_with_warmup", warmup=5, total=10)
    assert (sister.factor(0), sister.factor(5), sister.factor(9)) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("steps", "ratio", "expected"), [(0, 0, 0), (7, 0.5, 7), (0.1, 0, 10), (0, 0.05, 5), (0, 0.001, 1)]
)
def test_warm_up_as_steps_or_as_a_share(steps, ratio, expected):
    assert warmup_steps(100, steps=steps, ratio=ratio) == expected
