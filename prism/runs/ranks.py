"""How the processes of one run agree when no trainer has told the run of its own way: alone, or by files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from attrs import define, frozen

from prism.errors import WorkFailed

_POLL_SECONDS = 0.005


@frozen
class Alone:
    """A run of one process."""

    rank: int = 0
    world_size: int = 1

    def any(self, flag: bool) -> bool:
        return flag

    def broadcast(self, value: Any) -> Any:
        return value

    def barrier(self) -> None:
        return None


@define
class ByFiles:
    """Ranks that share a folder: each collective call is a round of one small file per rank.

    Slow (milliseconds on a local disk), but needs nothing but the run directory. All ranks make
    the same calls in the same order; one that stays away for `patience` seconds is an error.
    """

    folder: Path
    rank: int
    world_size: int
    patience: float = 600.0
    _round: int = 0

    def any(self, flag: bool) -> bool:
        return any(self._gather(flag))

    def broadcast(self, value: Any) -> Any:
        return self._gather(value)[0]

    def barrier(self) -> None:
        self._gather(None)

    def _gather(self, value: Any) -> list[Any]:
        self._round += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = self._file(self._round, self.rank)
        unfinished = mine.with_suffix(".part")
        unfinished.write_text(json.dumps(value), encoding="utf-8")
        unfinished.replace(mine)
        values = [self._await(rank) for rank in range(self.world_size)]
        # Whoever is in this round has read all of the round before, so that one can go.
        self._file(self._round - 1, self.rank).unlink(missing_ok=True)
        return values

    def _await(self, rank: int) -> Any:
        deadline = time.monotonic() + self.patience
        path = self._file(self._round, rank)
        while time.monotonic() < deadline:
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                time.sleep(_POLL_SECONDS)
        raise WorkFailed(
            f"rank {self.rank} waited {self.patience:.0f} s for rank {rank}",
            hint="every rank must call run.checkpoint(), run.stopping and the like at the same places; nodes that share"
            " no folder cannot agree by files and need a `run.ranks` of their own",
        )

    def _file(self, round_number: int, rank: int) -> Path:
        return self.folder / f"{round_number}-{rank}.json"
