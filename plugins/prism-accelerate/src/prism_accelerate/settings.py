"""What the trainer reads from `ml.parameters`: one value class, checked key by key. Light: no torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import field, frozen

from prism.errors import UsageError

Check = Callable[[Any], Any]


def _whole(*, at_least: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("is not a whole number")
        if value < at_least:
            raise ValueError(f"is less than {at_least}")
        return value

    return check


def _number(*, at_least: float = 0.0, below: float = float("inf")) -> Check:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("is not a number")
        if not at_least <= value < below:
            raise ValueError(f"is not a number from {at_least:g}" + (f" to below {below:g}" if below < 1e300 else ""))
        return float(value)

    return check


def _choice(*names: str, **other_names: str) -> Check:
    def check(value: Any) -> str:
        if value is False and "no" in names:  # `no` in a file read as YAML 1.1
            return "no"
        name = other_names.get(str(value), value)
        if name not in names:
            raise ValueError(f"is none of {', '.join(names)}")
        return str(name)

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is not a text")
    return value


def _anything(value: Any) -> Any:
    return value


def _epochs(value: Any) -> float:
    epochs: float = _number()(value)
    if epochs == 0:
        raise ValueError("is not above 0")
    return epochs


def _read(default: Any, check: Check, **names: str) -> Any:
    return field(default=default, metadata={"check": check, **names})


_STRATEGY = _choice("no", "epoch", "steps")
_DTYPE = _choice("auto", "float32", "bfloat16", "float16", fp32="float32", bf16="bfloat16", fp16="float16")


@frozen
class Settings:
    """The parameters the trainer acts on, under the names of the seed and of `TrainingArguments`.

    Batch sizes count records on one device; `max_steps` ≤ 0 means: as many as `num_train_epochs`
    give; `warmup_steps` below 1 is a share of all steps; `max_grad_norm` 0 turns clipping off.
    """

    base_model: str = _read("", _text)
    device: str = _read("auto", _choice("auto", "cpu", "cuda", "mps", gpu="cuda"))
    num_train_epochs: float = _read(3.0, _epochs)
    max_steps: int = _read(-1, _whole(at_least=-1))
    per_device_train_batch_size: int = _read(8, _whole(at_least=1))
    per_device_eval_batch_size: int = _read(8, _whole(at_least=1))
    gradient_accumulation_steps: int = _read(1, _whole(at_least=1))
    learning_rate: float = _read(5e-5, _number())
    weight_decay: float = _read(0.0, _number())
    warmup_steps: float = _read(0.0, _number())
    warmup_ratio: float = _read(0.0, _number(below=1.0))
    lr_scheduler_type: str = _read("linear", _choice("linear", "cosine", "constant", "constant_with_warmup"))
    adam_beta1: float = _read(0.9, _number(below=1.0))
    adam_beta2: float = _read(0.999, _number(below=1.0))
    adam_epsilon: float = _read(1e-8, _number())
    max_grad_norm: float = _read(1.0, _number())
    optim: str = _read("adamw_torch_fused", _choice("adamw_torch", "adamw_torch_fused", "sgd", "adafactor"))
    save_strategy: str = _read("epoch", _STRATEGY)
    save_steps: int = _read(500, _whole(at_least=1))
    save_total_limit: int | None = _read(None, _whole(at_least=1))
    eval_strategy: str | None = _read(None, _STRATEGY, old="evaluation_strategy")
    eval_steps: int | None = _read(None, _whole(at_least=1))
    logging_steps: int = _read(10, _whole(at_least=1))
    gradient_checkpointing: bool = _read(False, _flag)
    bf16: bool = _read(False, _flag)
    fp16: bool = _read(False, _flag)
    mixed_precision: str | None = _read(None, _choice("no", "fp16", "bf16"))
    dtype: str | None = _read(None, _DTYPE, old="torch_dtype")
    seed: int = _read(42, _whole(at_least=0))
    dataloader_num_workers: int = _read(0, _whole(at_least=0))
    max_length: int | None = _read(None, _whole(at_least=2))
    output_dir: str | None = _read(None, _text)
    logging_dir: str | None = _read(None, _text)
    report_to: object = _read(None, _anything)
    dataset_names: object = _read(None, _anything)

    @property
    def precision(self) -> str | None:
        """The mixed precision asked for, under whichever of its three names; None if none was."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else self.mixed_precision


def read_settings(
    parameters: Mapping[str, Any], *, where: Callable[[str], str] = lambda key: key
) -> tuple[Settings, tuple[str, ...]]:
    """The settings in `ml.parameters`, and the names there that are none of ours, in their order.

    A parameter without a value (null) counts as absent. `where` turns "ml.parameters.seed" into
    what an error says about it, its file and line for instance. Raises `UsageError` with every
    problem at once.
    """
    given = {key: value for key, value in parameters.items() if value is not None}
    values: dict[str, Any] = {}
    problems: list[str] = []
    for attribute in attrs.fields(Settings):
        for key in (attribute.metadata.get("old", ""), attribute.name):
            if key not in given:
                continue
            value = given.pop(key)
            try:
                values[attribute.name] = attribute.metadata["check"](value)
            except ValueError as error:
                problems.append(f"{where(f'ml.parameters.{key}')}: {value!r} {error}")
    problems += _contradictions(values, where=where)
    if problems:
        raise UsageError("\n".join(problems))
    return Settings(**values), tuple(given)


def _contradictions(values: Mapping[str, Any], *, where: Callable[[str], str]) -> list[str]:
    asked = {name for name in ("bf16", "fp16") if values.get(name)}
    asked |= {str(values["mixed_precision"])} if "mixed_precision" in values else set()
    if len(asked) < 2:
        return []
    return [f"{where('ml.parameters.mixed_precision')}: {' and '.join(sorted(asked))} exclude each other"]
