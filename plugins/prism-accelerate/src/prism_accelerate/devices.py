"""Where training runs and in which number formats: the device, mixed precision, the Accelerator."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
from attrs import frozen

from prism_accelerate.settings import Settings

Warn = Callable[[str], None]


@frozen
class Numerics:
    """`device` is cpu, cuda or mps; `mixed_precision` no, fp16, bf16, or None (as the launcher says);
    `dtype` is that of the weights."""

    device: str
    mixed_precision: str | None
    dtype: torch.dtype | None


def devices_here(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The kinds of device this process may use, best first; `ACCELERATE_USE_CPU` leaves the CPU alone."""
    if environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on", "y", "t"):
        return ["cpu"]
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, is_here in here.items() if is_here]


def choose_device(wanted: str, *, here: list[str], warn: Warn) -> str:
    """`wanted` if it is here, else the best there is, and `warn` is told."""
    if wanted in here:
        return wanted
    if wanted != "auto":
        warn(f"device: {wanted} is not on this machine, {here[0]} is used")
    return here[0]


def choose_numerics(settings: Settings, *, device: str, warn: Warn) -> Numerics:
    """The number formats asked for, as far as `device` can train in them; `warn` is told of each change."""
    mixed, dtype = settings.precision, settings.dtype or "float32"
    if mixed == "fp16" and device == "cpu":
        warn("fp16: a CPU does not train in it, float32 is used")
        mixed = "no"
    if dtype == "float16":
        mixed = mixed or ("fp16" if device == "cuda" else "no")
        warn(f"dtype: weights in float16 turn NaN in training, float32 is used with mixed precision {mixed}")
        dtype = "float32"
    return Numerics(device, mixed, None if dtype == "auto" else getattr(torch, dtype))


def open_accelerator(numerics: Numerics) -> Accelerator:
    """Accelerate's handle on the device, with the process group in it when a launcher has started several."""
    if not torch.distributed.is_initialized():
        # Accelerate keeps its state for the process; a second training in a notebook may ask for another device.
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=numerics.device == "cpu", mixed_precision=numerics.mixed_precision)
