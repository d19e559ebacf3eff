"""Finding non-finite numbers in safetensors files, without numpy or torch and at memory speed.

A float is infinite or NaN exactly when all its exponent bits are set. Those bits lie in the two
highest bytes of each little-endian number, so two strided slices, two byte translations and one
big-integer AND find them. Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 24  # a multiple of every width below

# dtype → bytes per number, mask of exponent bits in the highest byte, and in the one below
_FLOATS = {"F64": (8, 0x7F, 0xF0), "F32": (4, 0x7F, 0x80), "BF16": (2, 0x7F, 0x80), "F16": (2, 0x7C, 0x00)}


def non_finite_tensors(folder: Path) -> list[str]:
    """The tensors ("file: tensor") under `folder` that hold a NaN or an infinity.

    Looks into `*.safetensors` only; other weight formats cannot be read without their framework.
    """
    return [f"{path.name}: {name}" for path in sorted(folder.rglob("*.safetensors")) for name in _search(path)]


def _search(path: Path) -> Iterator[str]:
    with path.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(header_size))
        for name, tensor in header.items():
            if name != "__metadata__" and tensor["dtype"] in _FLOATS:
                begin, end = tensor["data_offsets"]
                stream.seek(8 + header_size + begin)
                if _holds_non_finite(stream, end - begin, *_FLOATS[tensor["dtype"]]):
                    yield name


def _holds_non_finite(stream: BinaryIO, size: int, width: int, high: int, low: int) -> bool:
    full_high = bytes(b & high == high for b in range(256))
    full_low = bytes(b & low == low for b in range(256))
    while size > 0:
        chunk = stream.read(min(size, _CHUNK))
        if not chunk:
            raise ValueError("the file ends before its tensors do")
        size -= len(chunk)
        tops = int.from_bytes(chunk[width - 1 :: width].translate(full_high), "little")
        nexts = int.from_bytes(chunk[width - 2 :: width].translate(full_low), "little")
        if tops & nexts:
            return True
    return False
