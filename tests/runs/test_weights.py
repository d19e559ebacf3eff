"""Non-finite weights are found in every float format, wherever they stand."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest

from prism.runs.weights import non_finite_tensors

PACK = {"F64": "<d", "F32": "<f", "F16": "<e"}


def bits(dtype: str, value: float) -> bytes:
    if dtype == "BF16":
        return struct.pack("<f", value)[2:]
    return struct.pack(PACK[dtype], value)


def write(path: Path, tensors: dict[str, tuple[str, bytes]]) -> None:
    header, body = {}, b""
    for name, (dtype, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [1], "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 499, 999])
def test_one_bad_number_among_a_thousand(tmp_path: Path, dtype: str, value: float, place: int) -> None:
    numbers = [bits(dtype, 1.5)] * 1000
    numbers[place] = bits(dtype, value)
    good = b"".join([bits(dtype, -2.0)] * 7)
    write(tmp_path / "model.safetensors", {"good": (dtype, good), "bad": (dtype, b"".join(numbers))})
    assert non_finite_tensors(tmp_path) == ["model.safetensors: bad"]


LARGEST = {"F64": 1.7976931348623157e308, "F32": 3.4028234663852886e38, "F16": 65504.0, "BF16": 3.3895313892515355e38}


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_the_largest_and_smallest_finite_numbers_are_finite(tmp_path: Path, dtype: str) -> None:
    extremes = [0.0, -0.0, LARGEST[dtype], -LARGEST[dtype], 6e-8 if dtype == "F16" else 1e-38]
    write(tmp_path / "model.safetensors", {"w": (dtype, b"".join(bits(dtype, value) for value in extremes))})
    assert non_finite_tensors(tmp_path) == []


def test_integers_are_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"ids": ("I64", b"\xff" * 80)})
    assert non_finite_tensors(tmp_path) == []
