"""The device that a configuration asks for, where this machine does not have it."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sais_prism.hints import hint

if TYPE_CHECKING:
    from sais_prism.core.config import ConfigManager

KEY = "ml.parameters.device"


def choose_device(manager: ConfigManager) -> None:
    """Let `ml.parameters.device` be the best device of this machine where the one it names is not here."""
    asked = manager.get(KEY)
    if isinstance(asked, str) and (best := instead_of(asked)):
        manager.replace(KEY, best)
        hint(f"{KEY}: this machine has no {asked}; {best} is used. Write `device: auto` for the best there is")


def instead_of(device: str) -> str:
    """The best device here, when `device` ("mps", "cuda:1") is an accelerator that is not; else ""."""
    kind, _, index = device.partition(":")
    if kind not in ("mps", "cuda") or find_spec("torch") is None:
        return ""
    torch: Any = importlib.import_module("torch")
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if kind == "cuda" and has_cuda and (not index or (index.isdigit() and int(index) < torch.cuda.device_count())):
        return ""
    if kind == "mps" and has_mps:
        return ""
    return "cuda" if has_cuda else "mps" if has_mps else "cpu"
