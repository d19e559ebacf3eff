"""Plain YAML 1.2 scalars (core schema): which text is null, a truth value, a number, and which is text."""

from __future__ import annotations

import math
import re

Scalar = None | bool | int | float | str

_WORDS: dict[str, Scalar] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".nan": math.nan, ".NaN": math.nan, ".NAN": math.nan,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_LONGEST_INTEGER = 4000  # digits; Python refuses to convert longer ones


def plain_scalar(text: str) -> Scalar:
    """The value that `text` has when it stands unquoted in a YAML file.

    `no`, `on` and dates are text; `2e-5` is a number; a number too long for Python stays text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > _LONGEST_INTEGER:
            return text
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    infinite = _INFINITE.fullmatch(text)
    return float(f"{infinite[1]}inf") if infinite else text


def kind_of(value: object) -> str:
    """What a value is called in a message: "text", "a number", "a mapping", …"""
    if value is None:
        return "nothing"
    kinds = ((bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "text"), (dict, "a mapping"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a list")
