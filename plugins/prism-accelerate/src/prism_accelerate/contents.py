"""What a training checkpoint holds: safetensors and JSON, nothing that must be unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from attrs import asdict, define
from safetensors.torch import load_file, load_model, save_file, save_model

from prism.errors import UsageError, WorkFailed
from prism_accelerate import rng

FORMAT = 1

_MODEL = "model.safetensors"
_OPTIMIZER = "optimizer.safetensors"


@define
class Position:
    """How far training has got: optimizer steps, the epoch, its micro-batches taken, tokens seen."""

    step: int = 0
    epoch: int = 0
    taken: int = 0
    tokens: float = 0.0


@define
class TrainerState:
    """The small rest of a checkpoint, as JSON.

    `batch_size` is a rank's; `window` the sums since metrics were last logged; `scaler` that of
    fp16's loss scaling.
    """

    position: Position
    world_size: int
    batch_size: int
    window: dict[str, float]
    scaler: dict[str, float]


def save_weights(folder: Path, model: torch.nn.Module) -> None:
    """Write the model's weights; ones that share memory are written once."""
    save_model(model, str(folder / _MODEL))


def load_weights(folder: Path, model: torch.nn.Module) -> None:
    """Read what `save_weights` wrote into `model`. Raises `UsageError` when it is another model's."""
    try:
        load_model(model, folder / _MODEL, strict=True)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise UsageError(
            f"the checkpoint {folder} is of another model: {first}",
            hint="start a new run, or restore the model's settings",
        ) from error


def check_finite(model: torch.nn.Module, *, step: int) -> None:
    """Raise `WorkFailed` naming the step and the tensors when a weight is NaN or infinite."""
    broken = [name for name, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]
    if broken:
        shown = ", ".join(broken[:3]) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
        raise WorkFailed(
            f"step {step}: the weights are not finite ({shown}); nothing was saved",
            hint="a lower learning_rate, warm-up, or bf16 instead of fp16",
        )


def save_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Write the optimizer's state: tensors as `<parameter>.<name>`, other values in the metadata."""
    tensors: dict[str, torch.Tensor] = {}
    rest: dict[str, Any] = {}
    for parameter, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{parameter}.{name}"] = value.contiguous()
            else:
                rest[f"{parameter}.{name}"] = value
    save_file(tensors, folder / _OPTIMIZER)
    (folder / "optimizer.json").write_text(json.dumps(rest), encoding="utf-8")


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Give `optimizer` the state in `folder`; its own learning rate and other settings stay."""
    state: dict[int, dict[str, Any]] = {}
    rest = json.loads((folder / "optimizer.json").read_text(encoding="utf-8"))
    for key, value in {**load_file(folder / _OPTIMIZER), **rest}.items():
        parameter, _, name = key.partition(".")
        state.setdefault(int(parameter), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_state(folder: Path, state: TrainerState, *, rank: int) -> None:
    """Write a rank's counters."""
    text = json.dumps({"format": FORMAT, **asdict(state)}, indent=1) + "\n"
    (folder / f"trainer-rank{rank}.json").write_text(text, encoding="utf-8")


def load_state(folder: Path, *, rank: int, world_size: int) -> TrainerState:
    """Read them. Raises `UsageError` for an unknown format, or another number of processes."""
    path = folder / f"trainer-rank{rank}.json"
    if not path.exists():
        path = folder / "trainer-rank0.json"  # there were fewer processes: say so below
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.pop("format") != FORMAT:
        raise UsageError(f"the checkpoint {folder} was written by a newer Prism", hint="upgrade sais-prism-accelerate")
    state = TrainerState(**{**values, "position": Position(**values["position"])})
    if state.world_size != world_size:
        raise UsageError(
            f"the checkpoint {folder} was written by {state.world_size} processes, and there are {world_size} now",
            hint=f"resume with -n {state.world_size}",
        )
    return state


def save_random(folder: Path, *, rank: int, generators: tuple[torch.Generator, ...], epoch_start: list[bytes]) -> None:
    """Write a rank's random states, and those that the user's own `generators` had when the epoch began."""
    rng.save(rng.take(), folder / f"rng-rank{rank}.safetensors")
    if generators:
        began = {str(at): torch.frombuffer(bytearray(state), dtype=torch.uint8) for at, state in enumerate(epoch_start)}
        save_file(began, folder / f"generators-rank{rank}.safetensors")


def load_random(folder: Path, *, rank: int) -> rng.RandomState:
    """A rank's random states at the checkpoint."""
    return rng.load(folder / f"rng-rank{rank}.safetensors")


def rewind_generators(folder: Path, generators: tuple[torch.Generator, ...], *, rank: int) -> None:
    """Put the user's own generators back to where the epoch began; reading the epoch again moves them on."""
    path = folder / f"generators-rank{rank}.safetensors"
    states = load_file(path) if path.exists() else {}
    for at, generator in enumerate(generators):
        if str(at) in states:
            generator.set_state(states[str(at)])
