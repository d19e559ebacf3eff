"""A worker is known by what its launcher alone says, not by names that clusters use for nodes."""

from __future__ import annotations

import pytest

from prism.launch.membership import Membership, membership


@pytest.mark.parametrize(
    ("environ", "mine"),
    [
        ({}, Membership()),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Membership()),  # PAI-DLC: the second of two nodes
        ({"LOCAL_RANK": "0"}, Membership()),
        ({"LOCAL_RANK": "1", "RANK": "5", "WORLD_SIZE": "8"}, Membership(5, 8, 1)),
    ],
)
def test_membership(environ: dict[str, str], mine: Membership) -> None:
    assert membership(environ) == mine
