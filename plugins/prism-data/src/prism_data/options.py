"""The options of the data clients."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen, validators


@frozen
class LocalOptions:
    """`roots`: the folders that dataset names are looked up in, in this order."""

    roots: tuple[Path, ...] = field(default=(Path("."),), validator=validators.min_len(1))


@frozen
class CpfsOptions:
    """`roots`: mounted folders, looked up in this order. `cached`: copy a dataset to `cache` before it is used.

    `cache` is the user's own cache folder when it is not given; choose one on a local disk.
    """

    roots: tuple[Path, ...] = field(validator=validators.min_len(1))
    cache: Path | None = None
    cached: bool = True
