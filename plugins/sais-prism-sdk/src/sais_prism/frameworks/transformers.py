"""Scripts written for older versions of Transformers, under today's: what has another name, and what went wrong there.

Its classes are changed in place, when a script imports them: `from transformers import …` finds them however it looks.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import wrapt

from prism.config.parameters import GONE, RENAMED
from sais_prism.core.config import ConfigManager
from sais_prism.frameworks.devices import instead_of
from sais_prism.here import here
from sais_prism.hints import hint

_MODELS = {"transformers.modeling_utils": "PreTrainedModel", "peft.peft_model": "PeftModel"}
_TOKENIZERS = {"transformers.tokenization_utils_base": "PreTrainedTokenizerBase"}
_REWRITTEN: Mapping[str, tuple[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "adafactor": ("optim", lambda value: "adafactor" if value else None),
        "group_by_length": ("train_sampling_strategy", lambda value: "group_by_length" if value else None),
        "include_inputs_for_metrics": ("include_for_metrics", lambda value: ["inputs"] if value else None),
        "warmup_ratio": ("warmup_steps", lambda value: value or None),
    }
)
"""Old argument → today's, and its value there: None where it says what is so anyway."""
_SHOWN = 3


@functools.cache
def understand_old_scripts() -> None:
    """From now on, in this process."""
    _when_imported("transformers.training_args", _understand_arguments)
    for module, name in _MODELS.items():
        _when_imported(module, functools.partial(_wrap, name=f"{name}.save_pretrained", wrapper=_save))
    for module, name in _TOKENIZERS.items():
        _when_imported(module, functools.partial(_wrap, name=f"{name}.save_pretrained", wrapper=_save_tokenizer))
    load = functools.partial(_wrap, name="PreTrainedModel.from_pretrained", wrapper=_load)
    _when_imported("transformers.modeling_utils", load)


def _when_imported(module: str, change: Callable[[Any], None]) -> None:
    if module in sys.modules:
        change(sys.modules[module])
    else:
        wrapt.register_post_import_hook(change, module)


def _wrap(module: Any, *, name: str, wrapper: Callable[..., Any]) -> None:
    wrapt.wrap_function_wrapper(module, name, wrapper)


def _understand_arguments(module: Any) -> None:
    """Also for classes to come: each dataclass gets an `__init__` of its own after the class is made."""
    first = module.TrainingArguments

    def new(cls: type, *_: Any, **__: Any) -> Any:
        for kind in cls.__mro__[: cls.__mro__.index(first) + 1]:
            init = vars(kind).get("__init__")
            if init is not None and not isinstance(init, wrapt.FunctionWrapper):
                wrapt.wrap_function_wrapper(kind, "__init__", _arguments)
        return object.__new__(cls)

    first.__new__ = staticmethod(new)


def _arguments(init: Any, made: Any, arguments: Any, named: dict[str, Any]) -> None:
    """`TrainingArguments(…)`: old names are read as today's, what is gone is left out, one line for each."""
    known = inspect.signature(init).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in known.values()):  # such a one hands them on
        named = _as_today(type(made).__name__, named, known)
    init(*arguments, **named)
    here.saved.add_output(made.output_dir)
    if "mlflow" in made.report_to and not ConfigManager().project.config.ml.enabled:
        hint("report_to: nothing is sent to MLflow while `ml.enabled` is false; the run's journal has it")
        made.report_to = [name for name in made.report_to if name != "mlflow"]


def _as_today(kind: str, named: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under the names that are known; one that is given under both counts as it is under today's."""
    given = {name: value for name, value in named.items() if name in known}
    for name, value in named.items():
        new, read = _REWRITTEN.get(name, (RENAMED.get(name, ""), lambda value: value))
        if name in known:
            continue
        if new in known:
            today = read(value)
            written = f"{new}={today!r}" if name in _REWRITTEN and today is not None else f"{new}=…"
            hint(f"{kind}({name}=…): Transformers calls it `{new}` today; write `{written}`")
            if today is not None or name not in _REWRITTEN:
                given.setdefault(new, today)
        elif name in GONE:
            hint(f"{kind}({name}=…): {GONE[name]}; leave it out")
        else:
            given[name] = value  # for its TypeError
    return given


def _load(from_pretrained: Any, cls: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """`from_pretrained(…)`: another device and precision where those asked for cannot work on this machine."""
    device = named.get("device_map")
    parts = device if isinstance(device, Mapping) else {"": device}
    chosen = {part: _device_here(place) for part, place in parts.items()}
    given = {**named, "device_map": chosen if isinstance(device, Mapping) else chosen[""]}
    end_on_cpu = all(map(_ends_on_cpu, chosen.values()))
    for name in ("dtype", "torch_dtype"):
        if str(given.get(name)).removeprefix("torch.") in ("float16", "half") and end_on_cpu:
            _say_float32()
            given[name] = sys.modules["torch"].float32
    loaded = from_pretrained(*arguments, **given)
    return _in_float32(loaded) if end_on_cpu else loaded


def _device_here(device: Any) -> Any:
    best = instead_of(str(device))
    if best:
        hint(f"from_pretrained(device_map={str(device)!r}): this machine has no {device}; {best} is used")
    return best or device


def _in_float32(loaded: Any) -> Any:
    """A model whose checkpoint says float16, as `dtype="auto"` takes it, which is the default today."""
    torch: Any = sys.modules["torch"]
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    if getattr(model, "dtype", None) is torch.float16 and not getattr(model, "is_quantized", False):
        _say_float32()
        model.float()
        model.config.dtype = torch.float32
    return loaded


def _say_float32() -> None:
    hint("weights in pure float16 go NaN on a CPU: they are float32. Write `dtype=torch.float32` there")


def _ends_on_cpu(device: Any) -> bool:
    """Whether a model for this device will be on the CPU: without one a trainer chooses the best there is."""
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


def _save_tokenizer(save_pretrained: Any, _: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """`save_pretrained(…)` beside a model: of several ranks the first writes, as Transformers does with the model.

    The others would write its files anew while they are copied.
    """
    folder = arguments[0] if arguments else named.get("save_directory")
    if here.saved.is_last(folder) and _rank() > 0:
        return ()
    return save_pretrained(*arguments, **named)


def _rank() -> int:
    """This process's rank as Transformers sees it."""
    spread: Any = sys.modules["torch"].distributed
    return int(spread.get_rank()) if spread.is_available() and spread.is_initialized() else 0


def _not_finite(model: Any) -> list[str]:
    """Names of weights that are not finite; of those that are spread over ranks, this rank's part is looked at."""
    torch: Any = sys.modules["torch"]
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # smaller ones have no such test
    own = ((name, getattr(tensor, "to_local", lambda t=tensor: t)()) for name, tensor in model.named_parameters())
    return [
        name
        for name, tensor in own
        if tensor.dtype in kinds and not tensor.is_meta and not torch.isfinite(tensor).all()
    ]
