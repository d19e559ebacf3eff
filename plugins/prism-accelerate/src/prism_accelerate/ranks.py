"""How the processes of a torch process group agree: the trainer's `Ranks`, over gloo on the CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from prism.errors import EnvironmentUnfit


class TorchRanks:
    """Role `Ranks` on a group of its own, so that asking never waits for an accelerator."""

    def __init__(self) -> None:
        self.rank: int = dist.get_rank()
        self.world_size: int = dist.get_world_size()
        self._group = dist.new_group(backend="gloo")
        self._flag = torch.zeros(1, dtype=torch.int32)

    def any(self, flag: bool) -> bool:
        self._flag[0] = int(flag)
        dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, group=self._group)
        return bool(self._flag.item())

    def broadcast(self, value: Any) -> Any:
        content = json.dumps(value).encode() if self.rank == 0 else b""
        size = torch.tensor([len(content)])
        dist.broadcast(size, src=0, group=self._group)
        data = torch.tensor(list(content), dtype=torch.uint8)
        if self.rank != 0:
            data = torch.empty(int(size.item()), dtype=torch.uint8)
        dist.broadcast(data, src=0, group=self._group)
        return json.loads(bytes(data.tolist()))

    def barrier(self) -> None:
        dist.barrier(group=self._group)

    def total(self, values: list[float]) -> list[float]:
        """The sums of each of `values` over all ranks, in double precision."""
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums, group=self._group)
        return sums.tolist()


class OneRank:
    """Role `Ranks` for a single process."""

    rank: int = 0
    world_size: int = 1

    def any(self, flag: bool) -> bool:
        return flag

    def broadcast(self, value: Any) -> Any:
        return value

    def barrier(self) -> None:
        return None

    def total(self, values: list[float]) -> list[float]:
        return values


def open_ranks() -> OneRank | TorchRanks:
    """The ranks of the process group that exists now; a single process has none."""
    return TorchRanks() if dist.is_initialized() and dist.get_world_size() > 1 else OneRank()


def check_world_size(world_size: int, *, environ: Mapping[str, str]) -> None:
    """Raise `EnvironmentUnfit` when fewer (or more) processes came to be than were asked for."""
    asked = environ.get("PRISM_PROCESSES", "")
    if asked and int(asked) != world_size:
        raise EnvironmentUnfit(
            f"{asked} processes were asked for, but training has {world_size}",
            hint="start them with `prism run -n N`, torchrun or `accelerate launch --multi_gpu` "
            "(on CPUs with ACCELERATE_USE_CPU=true)",
        )
