"""Which of a launch's workers this process is."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen


@frozen
class Membership:
    """A process among the `world_size` workers of its launch; `local_rank` counts those of its node."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0


def membership(environ: Mapping[str, str]) -> Membership:
    """What torchrun, accelerate launch and their like have told this process; alone when they have told nothing.

    Only they set LOCAL_RANK: without it RANK and WORLD_SIZE are a cluster's, and count its nodes.
    """
    if "LOCAL_RANK" not in environ:
        return Membership()
    rank, world_size = int(environ.get("RANK", 0)), int(environ.get("WORLD_SIZE", 1))
    return Membership(rank, world_size, int(environ["LOCAL_RANK"]))
