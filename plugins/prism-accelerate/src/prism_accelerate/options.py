"""The options of the trainer, the predictor and the launcher. Light: no torch here."""

from __future__ import annotations

from attrs import field, frozen, validators

_TASKS = ("sft",)
_DEVICES = ("auto", "cpu", "cuda", "mps")
_DTYPES = ("auto", "float32", "bfloat16", "float16")


@frozen
class TrainerOptions:
    """`trainer: {name: accelerate, …}`. `task` is what is trained when the run brings no task of its own."""

    task: str = field(default="sft", validator=validators.in_(_TASKS))


@frozen
class GenerateOptions:
    """`evaluation: {predictor: {name: generate, …}}`.

    `batch_size` questions are answered at a time, each with at most `max_new_tokens` tokens;
    `dtype` auto is float32 on a CPU and the model's own elsewhere.
    """

    batch_size: int = field(default=32, validator=validators.ge(1))
    max_new_tokens: int = field(default=200, validator=validators.ge(1))
    device: str = field(default="auto", validator=validators.in_(_DEVICES))
    dtype: str = field(default="auto", validator=validators.in_(_DTYPES))


@frozen
class LauncherOptions:
    """`launcher: {name: accelerate, …}`; how many processes is the section's own key.

    `device: cpu` keeps the workers off an accelerator that is there.
    """

    device: str = field(default="auto", validator=validators.in_(_DEVICES))
