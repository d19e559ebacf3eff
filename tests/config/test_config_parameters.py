"""`ml.parameters`: by key, by attribute, read-only, under old and new names."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from prism.config import Parameters

VALUES = {"lr": 2e-5, "optim": {"betas": [0.9, {"x": 1}]}, "evaluation_strategy": "no", "dtype": "float16"}


def test_keys_give_plain_data_and_attributes_give_parameters() -> None:
    parameters = Parameters(VALUES)
    assert parameters.lr == parameters["lr"] == 2e-5
    assert parameters.optim.betas[1].x == 1
    assert type(parameters["optim"]) is dict
    assert dict(parameters) == VALUES
    assert {**parameters} == VALUES
    assert type(dict(parameters)["optim"]["betas"]) is list
    assert parameters == VALUES
    assert (len(parameters), list(parameters)) == (4, list(VALUES))
    assert parameters.get("none", 3) == 3


def test_old_and_new_names_are_one() -> None:
    parameters = Parameters(VALUES)
    assert parameters.eval_strategy == parameters["evaluation_strategy"] == "no"
    assert parameters.torch_dtype == parameters.dtype == "float16"
    assert "eval_strategy" in parameters
    assert "eval_strategy" not in list(parameters)
    both = Parameters({"eval_strategy": "epoch", "evaluation_strategy": "no"})
    assert (both.eval_strategy, both.evaluation_strategy) == ("epoch", "no")


def test_parameters_are_read_only() -> None:
    parameters = Parameters(VALUES)
    with pytest.raises(AttributeError, match="read-only"):
        parameters.lr = 1
    with pytest.raises(AttributeError, match="read-only"):
        del parameters.lr
    with pytest.raises(TypeError):
        parameters["lr"] = 1  # type: ignore[index]
    parameters["optim"]["betas"].append(5)
    parameters.optim.betas.append(5)
    assert len(parameters["optim"]["betas"]) == 2


def test_a_missing_parameter_names_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no parameter 'lrr'.*lr, optim"):
        Parameters(VALUES).lrr  # noqa: B018
    with pytest.raises(KeyError):
        Parameters(VALUES)["lrr"]
    assert not hasattr(Parameters(VALUES), "lrr")


def test_parameters_travel_to_other_processes() -> None:
    for copied in (pickle.loads(pickle.dumps(Parameters(VALUES))), copy.deepcopy(Parameters(VALUES))):
        assert copied == Parameters(VALUES)
        assert copied.optim.betas[1].x == 1


def test_the_configuration_hands_them_out(configs: Any) -> None:
    config = configs.load("ml:\n  parameters:\n    a: {b: 1}\n    torch_dtype: bfloat16\n")
    assert config.ml.parameters.a.b == 1
    assert config.ml.parameters.dtype == "bfloat16"
    assert config.section("ml")["parameters"] == {"a": {"b": 1}, "torch_dtype": "bfloat16"}
