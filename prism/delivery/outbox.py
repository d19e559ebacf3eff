"""What one tracker has not got yet: read from the journal a stretch at a time, in order, and what is set aside."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import attrs
from attrs import define, field

from prism.journal.directory import RunDirectory
from prism.journal.projection import Follower, Projection, is_told
from prism.protocols import Record

Key = tuple[str, int]
"""A record's journal file and number."""


@define
class Outbox:
    """The records of one run for one tracker.

    `position` is journal file → number of the last record that was dealt with, `held` the records within
    it that were set aside because the tracker does not take them now. No more is read ahead than is asked
    for, however much has gathered while a server was away.
    """

    directory: RunDirectory
    position: dict[str, int] = field(factory=dict)
    held: dict[Key, Record] = field(factory=dict)
    _earlier: set[Key] = field(factory=set)
    _read: dict[str, int] = field(factory=dict)
    _waiting: deque[Record] = field(factory=deque)
    _reading: Iterator[Record] = field(factory=lambda: iter(()))
    _follower: Follower = field(init=False)
    _projection: Projection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._follower = Follower(self.directory)
        self._projection = Projection(self.directory)

    def begin(self, position: Mapping[str, int], *, held: Mapping[str, Sequence[int]]) -> None:
        """Begin behind what the tracker has, with what an earlier deliverer has set aside. Before any reading."""
        self.position = self._projection.delivered = dict(position)
        self._earlier = {(file, seq) for file, seqs in held.items() for seq in seqs}

    def next(self, size: int) -> tuple[Record, ...]:
        """The next records, at most `size`; none when all that was said until now has been dealt with."""
        fresh = False
        while len(self._waiting) < size:
            record = next(self._reading, None)
            if record is not None:
                self._take(record)
            elif fresh:
                break
            else:
                self._reading, fresh = self._follower.poll(), True
        return tuple(itertools.islice(self._waiting, size))

    def position_after(self, batch: Sequence[Record]) -> dict[str, int]:
        """The position once these records of `next` have been dealt with."""
        return self.position | {record.file: record.seq for record in batch}

    def done(self, batch: Sequence[Record]) -> None:
        """These records of `next` have been dealt with."""
        self.position = self.position_after(batch)
        for _ in batch:
            self._waiting.popleft()

    def pass_over(self) -> bool:
        """Count what there was nothing to tell of as dealt with, once nothing waits; whether there was any."""
        passed = {file: seq for file, seq in self._read.items() if seq > self.position.get(file, 0)}
        if self._waiting or not passed:
            return False
        self.position = self.position | passed
        return True

    def hold(self, record: Record) -> None:
        """Set the first of the waiting records aside; calls stay in order, so those behind a call wait with it."""
        self.held[record.file, record.seq] = record
        self.done((record,))
        for later in self._waiting:
            self._replace_held(later)
        if record.kind == "call":
            self.held.update({(one.file, one.seq): one for one in self._waiting if one.kind == "call"})
            self._waiting = deque(one for one in self._waiting if one.kind != "call")

    def put_last(self, record: Record) -> None:
        """Let the other records that are set aside have their turn first."""
        if record.kind != "call":
            self.held[record.file, record.seq] = self.held.pop((record.file, record.seq))

    def held_numbers(self) -> dict[str, list[int]]:
        """Journal file → numbers of its records that are set aside, also those not read again yet."""
        found: dict[str, list[int]] = {}
        for file, seq in sorted({*self.held, *self._earlier}):
            found.setdefault(file, []).append(seq)
        return found

    def _take(self, record: Record) -> None:
        if not is_told(record):
            return
        self._read[record.file] = record.seq
        told = self._projection.project(record)
        key = (record.file, record.seq)
        set_aside = key in self._earlier
        self._earlier.discard(key)
        if told is None:
            return
        self._replace_held(told)
        if set_aside or (told.kind == "call" and self._holds_a_call() and not self._is_behind(key)):
            self.held[key] = told
        elif not self._is_behind(key):
            self._waiting.append(told)

    def _is_behind(self, key: Key) -> bool:
        return key[1] <= self.position.get(key[0], 0)

    def _holds_a_call(self) -> bool:
        return any(record.kind == "call" for record in self.held.values())

    def _replace_held(self, record: Record) -> None:
        """What is said anew must not be overwritten later by what was set aside: the last word counts."""
        if not self.held or record.kind not in ("file", "tags"):
            return
        for key, held in tuple(self.held.items()):
            if held.kind == record.kind == "file" and held.data["name"] == record.data["name"]:
                del self.held[key]
            elif held.kind == record.kind == "tags":
                left = {name: value for name, value in held.data["tags"].items() if name not in record.data["tags"]}
                self.held[key] = attrs.evolve(held, data={"tags": left})
                if not left:
                    del self.held[key]
