"""`ml.parameters`: the user's own values, read-only, by key or by attribute, under old and new names."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from prism.config.secrets import Redactor

# Old name in Transformers' `TrainingArguments` → its name today.
RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "torch_dtype": "dtype",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "no_cuda": "use_cpu",
    "include_inputs_for_metrics": "include_for_metrics",
    "include_tokens_per_second": "include_num_input_tokens_seen",
    "push_to_hub_model_id": "hub_model_id",
    "push_to_hub_token": "hub_token",
}
# Old names that have no successor, and what to know about each.
GONE = {
    "logging_dir": "Transformers 5 has no `logging_dir`; Prism's journal has what is logged",
    "overwrite_output_dir": "Transformers 5 has no `overwrite_output_dir`; every run has a directory of its own",
    "use_mps_device": "Transformers 5 has no `use_mps_device`; write `device: mps`",
    "save_safetensors": "Transformers 5 has no `save_safetensors`; it always writes safetensors, and so does Prism",
    "group_by_length": "Transformers 5 has no `group_by_length`; write `train_sampling_strategy: group_by_length`",
    "half_precision_backend": "Transformers 5 has no `half_precision_backend`; `bf16: true` or `fp16: true` is enough",
    "fp16_backend": "Transformers 5 has no `fp16_backend`; `bf16: true` or `fp16: true` is enough",
}
_OTHER_NAME = {**RENAMED, **{new: old for old, new in RENAMED.items()}}


class Parameters(Mapping[str, Any]):
    """Read-only values: `p["lr"]`, `p.lr`, `p.optim.betas`, `dict(p)`, `**p`.

    Keys give plain data (dicts, lists, scalars), always a copy; attributes give nested `Parameters`.
    Transformers' old names and their new ones mean the same value: iterating gives the one written.
    """

    __slots__ = ("_redactor", "_values")

    def __init__(self, values: Mapping[str, Any], *, redactor: Redactor | None = None) -> None:
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_redactor", redactor or Redactor())

    def _find(self, name: str) -> Any:
        if name not in self._values and _OTHER_NAME.get(name) in self._values:
            name = _OTHER_NAME[name]
        return self._values[name]

    def __getitem__(self, name: str) -> Any:
        return copy.deepcopy(self._find(name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._wrapped(self._find(name))
        except KeyError:
            known = ", ".join(self._values) or "none"
            raise AttributeError(f"there is no parameter {name!r} (known: {known})") from None

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, dict):
            return Parameters(value, redactor=self._redactor)
        return [self._wrapped(entry) for entry in value] if isinstance(value, list) else value

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"parameters are read-only: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"parameters are read-only: {name} cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values or _OTHER_NAME.get(str(name)) in self._values

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    def __repr__(self) -> str:
        return f"Parameters({self._redactor.redact_values(self._values)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._values, self._redactor)


def _rebuild(values: Mapping[str, Any], redactor: Redactor) -> Parameters:
    return Parameters(values, redactor=redactor)
