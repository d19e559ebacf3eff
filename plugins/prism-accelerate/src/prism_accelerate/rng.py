"""The random numbers of torch, numpy and `random`: seeding them together, keeping and restoring their states."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from attrs import frozen
from safetensors import safe_open
from safetensors.numpy import save_file


@frozen
class RandomState:
    """The states of all generators of this process: arrays by name, and what is left as JSON values."""

    arrays: dict[str, np.ndarray]
    rest: dict[str, float | int | None]


def seed_everything(*parts: int) -> None:
    """Seed torch (all devices), numpy and `random` with one seed made of `parts`."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    seed = int.from_bytes(digest[:4], "little")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def take() -> RandomState:
    """The states as they are now; nothing is drawn."""
    _, numbers, gauss_next = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    arrays = {
        "torch": torch.get_rng_state().numpy(),
        "python": np.asarray(numbers, dtype=np.uint32),
        "numpy": np.asarray(numpy_state["state"]["key"], dtype=np.uint32),
    }
    if torch.cuda.is_available():
        arrays["cuda"] = torch.cuda.get_rng_state().numpy()
    if torch.backends.mps.is_available():
        arrays["mps"] = torch.mps.get_rng_state().numpy()
    rest = {
        "python_gauss": gauss_next,
        "numpy_pos": int(numpy_state["state"]["pos"]),
        "numpy_has_gauss": int(numpy_state["has_gauss"]),
        "numpy_gauss": float(numpy_state["gauss"]),
    }
    return RandomState(arrays, rest)


def restore(state: RandomState) -> None:
    """Make every generator go on from `state`."""
    arrays, rest = state.arrays, state.rest
    random.setstate((3, tuple(int(n) for n in arrays["python"]), rest["python_gauss"]))
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": arrays["numpy"], "pos": rest["numpy_pos"]},
            "has_gauss": rest["numpy_has_gauss"],
            "gauss": rest["numpy_gauss"],
        }
    )
    torch.set_rng_state(torch.from_numpy(arrays["torch"].copy()))
    if "cuda" in arrays and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.from_numpy(arrays["cuda"].copy()))
    if "mps" in arrays and torch.backends.mps.is_available():
        torch.mps.set_rng_state(torch.from_numpy(arrays["mps"].copy()))


@contextmanager
def untouched() -> Iterator[None]:
    """Leave the generators afterwards as they were before, whatever is drawn in between."""
    before = take()
    try:
        yield
    finally:
        restore(before)


def save(state: RandomState, path: Path) -> None:
    """Write `state` as safetensors, the single numbers in its metadata."""
    save_file(state.arrays, path, metadata={"rest": json.dumps(state.rest)})


def load(path: Path) -> RandomState:
    """Read what `save` wrote."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return RandomState(arrays, json.loads(file.metadata()["rest"]))
