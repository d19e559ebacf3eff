"""What user code may log, brought into the journal's form: flat names, JSON values, safe paths."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prism.errors import UsageError
from prism.journal.records import number

_LARGEST = 1 << 63
_DECIMAL_BITS = 14_000  # Python writes no integer of more than 4,300 decimal digits


def flatten(params: Mapping[Any, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and JSON scalars of nested parameters; lists stay JSON values, other objects become text."""
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, prefix=f"{name}.")
        else:
            yield name, _plain(value)


def whole_step(step: Any) -> int | None:
    """A step as the journal stores it. Takes Python, numpy and torch integers; raises `TypeError` for others."""
    if step is None:
        return None
    step = _scalar(step)
    if isinstance(step, float) and step.is_integer():
        step = int(step)
    try:
        whole = operator.index(step)
    except TypeError:
        raise TypeError(f"a step is a whole number, not {step!r:.60}") from None
    if not -_LARGEST <= whole < _LARGEST:
        raise TypeError(f"the step {whole} does not fit in 64 bits")
    return whole


def artifact_name(name: str) -> str:
    """`name` if it is a relative path that stays inside; raises `UsageError` otherwise."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
        raise UsageError(f"{name!r} is no name for an artifact", hint="a relative path without '..'")
    return Path(*parts).as_posix()


def _plain(value: Any) -> Any:
    value = _scalar(value)
    if isinstance(value, bool | str | None):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < _DECIMAL_BITS else hex(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _text(value)


def _scalar(value: Any) -> Any:
    """The Python number that a scalar of numpy or torch holds; any other value as it is."""
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    return value.item()


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # user code: an object that cannot say what it is must not end the training
        return f"<{type(value).__name__}: {type(error).__name__}>"
