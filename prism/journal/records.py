"""The journal: one append-only file per process, one line per record, each written by one `write(2)`.

A line is a JSON object `{"seq":…,"time":…,"kind":…,…,"crc":"…"}`; `crc` is the CRC-32 of the bytes
before `,"crc"`. There is no lock, no rename and no shared file, so it is safe on a parallel file
system; what a dead process acknowledged is in the kernel already, and `fsync` follows on a timer.
The kinds of records are in `docs/reference/journal.md`.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

from attrs import frozen

from prism.journal.kinds import NON_FINITE, misfit
from prism.journal.writer import FORMAT, JournalWriter
from prism.protocols import Record

__all__ = ["FORMAT", "Damage", "JournalWriter", "Reading", "number", "parse_number", "read_journal", "torn_tail"]

_CRC_TAIL = re.compile(rb',"crc":"([0-9a-f]{8})"}')


def number(value: Any) -> float | str:
    """A metric's value as the journal stores it: a finite float, or "NaN", "Infinity", "-Infinity".

    Takes Python, numpy and torch scalars. Raises `TypeError` for anything that is not one number.
    """
    if type(value) is not float:
        try:
            value = float(value.item() if hasattr(value, "item") else value)
        except (ValueError, OverflowError, RuntimeError) as error:  # torch raises the last for several elements
            raise TypeError(f"{value!r:.60} is not one number: {error}") from None
    if value - value == 0.0:
        return float(value)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def parse_number(value: float | str) -> float:
    """The float that `number` stored."""
    return NON_FINITE[value] if isinstance(value, str) else float(value)


@frozen
class Damage:
    """A stretch of a journal file that is not a whole record: where it begins, how long, and why."""

    file: str
    offset: int
    size: int
    reason: str


@frozen
class Reading:
    """What was read from one file: whole records, damage, and the offset to go on from."""

    records: tuple[Record, ...]
    damage: tuple[Damage, ...]
    offset: int


def read_journal(path: Path, *, offset: int = 0, limit: int = -1) -> Reading:
    """Read the whole records from `offset` (bytes) on, about `limit` bytes of them, all when it is negative.

    An unfinished last line is left for the next reading: its writer may be in the middle of it.
    """
    with path.open("rb") as stream:
        stream.seek(offset)
        content = stream.read(limit)
        if limit >= 0 and len(content) == limit:
            content += stream.readline()
    records: list[Record] = []
    damage: list[Damage] = []
    end = content.rfind(b"\n") + 1
    position = offset
    for line in content[:end].split(b"\n")[:-1]:
        if line:
            try:
                records.append(_parse(path.stem, line))
            except ValueError as error:
                damage.append(Damage(path.name, position, len(line), str(error)))
        position += len(line) + 1
    return Reading(tuple(records), tuple(damage), offset + end)


def torn_tail(path: Path) -> Damage | None:
    """The unfinished last line of a file whose writer is gone, if there is one."""
    reading = read_journal(path)
    rest = path.stat().st_size - reading.offset
    return Damage(path.name, reading.offset, rest, "the last line is not finished") if rest else None


def _parse(file: str, line: bytes) -> Record:
    tail = _CRC_TAIL.fullmatch(line[-18:])
    if tail is None:
        raise ValueError("not a record")
    if int(tail[1], 16) != zlib.crc32(line[:-18]):
        raise ValueError("its checksum does not match")
    try:
        data = json.loads(line)
        del data["crc"]
        record = Record(file, data.pop("seq"), data.pop("time"), data.pop("kind"), data)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no record of ours: {type(error).__name__}") from None
    if problem := misfit(record.kind, record.data):
        raise ValueError(problem)
    return record
