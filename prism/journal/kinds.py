"""The fields that the records of each kind must have, so that no reader meets one that it cannot read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

OWN_FIELDS = frozenset({"seq", "time", "kind", "crc"})
NON_FINITE: Mapping[str, float] = MappingProxyType(
    {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
)
_KIND = re.compile(r"[\w.-]+")
_Types = tuple[type, ...]
_OPTIONAL = (int, type(None))
_FIELDS: Mapping[str, Mapping[str, _Types]] = {
    "start": {"role": (str,), "process": (dict,)},
    "run": {"experiment": (str,), "name": (str,), "trackers": (list,)},
    "params": {"params": (dict,)},
    "tags": {"tags": (dict,)},
    "metrics": {"step": _OPTIONAL, "metrics": (dict,)},
    "call": {"tracker": (str,), "method": (str,), "arguments": (dict,)},
    "dataset": {"name": (str,), "version": (str,), "digest": (str,), "uri": (str,), "use": (str,)},
    "file": {"name": (str,), "stored": (str,), "original": (str,), "size": (int,), "sha256": (str,)},
    "checkpoint": {"step": (int,), "folder": (str,), "size": (int,)},
    "model": {"digest": (str,), "size": (int,), "register": (dict, type(None))},
    "warning": {"message": (str,)},
    "heartbeat": {"count": (int,)},
    "end": {"status": (str,)},
    "tracker": {"tracker": (str,)},
    "registration": {"digest": (str,), "state": (str,), "version": (str,), "reason": (str,)},
}
_LARGEST = 1 << 1023  # a whole number below it is a float, rounded
_INTENT: Mapping[str, _Types] = {"name": (str,), "version": (str,), "tags": (dict,)}


def misfit(kind: str, data: Mapping[str, Any]) -> str:
    """What makes a record unfit to be read, "" when nothing does. Kinds that are not ours may hold anything."""
    wrong = _wrong_field(data, _FIELDS.get(kind, {}))
    if not wrong and kind == "metrics":
        wrong = next((repr(name) for name, value in data["metrics"].items() if not _is_number(value)), "")
        if "timestamp" in data and not isinstance(data["timestamp"], int):
            wrong = "'timestamp'"
    if not wrong and kind == "model" and data["register"] is not None:
        wrong = _wrong_field(data["register"], _INTENT)
    return f"no record {kind!r}: {wrong} is missing or of a wrong type" if wrong else ""


def clash(kind: str, data: Mapping[str, Any]) -> str:
    """What would tear the line that such a record becomes, "" when nothing would."""
    if not _KIND.fullmatch(kind):
        return f"{kind!r} is no kind of record: letters, digits, '.', '-' and '_'"
    taken = sorted(OWN_FIELDS & data.keys())
    return f"every record has fields {', '.join(taken)} of its own" if taken else ""


def _wrong_field(data: Mapping[str, Any], fields: Mapping[str, _Types]) -> str:
    return next((repr(name) for name, types in fields.items() if not isinstance(data.get(name, ...), types)), "")


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return True
    return -_LARGEST < value < _LARGEST if isinstance(value, int) else isinstance(value, str) and value in NON_FINITE
