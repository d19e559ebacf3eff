"""Scripts written for older versions of Transformers, under today's: what has another name, and what went wrong there.

Its classes are changed in place, when a script imports them: `from transformers import …` finds them however it looks.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import wrapt

from prism.config.parameters import GONE, RENAMED
from sais_prism.core.config import ConfigManager
from sais_prism.frameworks.devices import instead_of
from sais_prism.here import here
from sais_prism.hints import hint

_ARGUMENTS = {"transformers.training_args": "TrainingArguments"}
_ARGUMENTS["transformers.training_args_seq2seq"] = "Seq2SeqTrainingArguments"
_MODELS = {"transformers.modeling_utils": "PreTrainedModel", "peft.peft_model": "PeftModel"}
_SHOWN = 3


@functools.cache
def understand_old_scripts() -> None:
    """From now on, in this process."""
    for module, name in _ARGUMENTS.items():
        _when_imported(module, f"{name}.__init__", _arguments)
    for module, name in _MODELS.items():
        _when_imported(module, f"{name}.save_pretrained", _save)
    _when_imported("transformers.modeling_utils", "PreTrainedModel.from_pretrained", _load)


def _when_imported(module: str, name: str, wrapper: Callable[..., Any]) -> None:
    def wrap(found: Any) -> None:
        wrapt.wrap_function_wrapper(found, name, wrapper)

    if module in sys.modules:
        wrap(sys.modules[module])
    else:
        wrapt.register_post_import_hook(wrap, module)


def _arguments(init: Any, made: Any, arguments: Any, named: dict[str, Any]) -> None:
    """`TrainingArguments(…)`: old names are read as today's, what is gone is left out, one line for each."""
    known = inspect.signature(init).parameters
    given = dict(named)
    kind = type(made).__name__
    for name in [name for name in given if name not in known]:
        if RENAMED.get(name) in known:
            hint(f"{kind}({name}=…): Transformers calls it `{RENAMED[name]}` today; write `{RENAMED[name]}=…`")
            given.setdefault(RENAMED[name], given.pop(name))
        elif name in GONE:
            hint(f"{kind}({name}=…): {GONE[name]}; leave it out")
            del given[name]
    if not ConfigManager().project.config.ml.enabled:
        given["report_to"] = _without_mlflow(given.get("report_to"))
    init(*arguments, **given)
    here.saved.add_output(made.output_dir)


def _without_mlflow(report_to: Any) -> list[str]:
    """Nothing goes to MLflow while `ml.enabled` is false: the run's journal has it all the same."""
    names = [report_to] if isinstance(report_to, str) else list(report_to or ())
    if {"mlflow", "all"} & set(names):
        hint("report_to: nothing is sent to MLflow while `ml.enabled` is false; the run's journal has it")
    return [name for name in names if name not in ("mlflow", "all", "none")] or ["none"]


def _load(from_pretrained: Any, cls: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """`from_pretrained(…)`: another device and precision where those asked for cannot work on this machine."""
    given = dict(named)
    device = given.get("device_map")
    if device is not None and (best := instead_of(str(device))):
        hint(f"from_pretrained(device_map={str(device)!r}): this machine has no {device}; {best} is used")
        given["device_map"] = device = best
    for name in ("dtype", "torch_dtype"):
        if str(given.get(name)).removeprefix("torch.") in ("float16", "half") and _ends_on_cpu(device):
            hint("weights in pure float16 go NaN on a CPU: they are float32. Write `dtype=torch.float32` there")
            given[name] = sys.modules["torch"].float32
    return from_pretrained(*arguments, **given)


def _ends_on_cpu(device: Any) -> bool:
    """Whether a model for this `device_map` will be on the CPU: without one a trainer chooses the best device."""
    if device is None or str(device) == "auto":
        torch: Any = sys.modules["torch"]
        return not (torch.cuda.is_available() or torch.backends.mps.is_available())
    return str(device) == "cpu"


def _save(save_pretrained: Any, model: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """`save_pretrained(…)`: the model that is registered, and a loud word when its weights are not finite."""
    bad = _not_finite(model)
    folder = arguments[0] if arguments else named.get("save_directory")
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        hint(
            f"THE WEIGHTS ARE NOT FINITE (NaN or infinite): {', '.join(bad[:_SHOWN])}{more}. They are saved to {folder}"
            " as they are, and never registered; lower the learning rate, or train in float32 or bfloat16"
        )
    saved = save_pretrained(*arguments, **named)
    here.saved.note(folder)
    return saved


def _not_finite(model: Any) -> list[str]:
    torch: Any = sys.modules["torch"]
    return [
        name
        for name, tensor in model.named_parameters()
        if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all()
    ]
