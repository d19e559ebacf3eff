"""From the journal to what a tracker is told: new records in order, one point per key and step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import define, field

from prism.journal.directory import LATER, RunDirectory, parse_journal_name
from prism.journal.points import ToldPoints
from prism.journal.records import Damage, parse_number, read_journal, torn_tail
from prism.protocols import Record

DELIVERABLE = frozenset({"params", "tags", "metrics", "dataset", "file", "checkpoint", "model", "evaluation", "call"})
STRETCH_BYTES = 1 << 20


@define
class Follower:
    """Reads what has come to a run's journal, or to other `files` of records, since the last look."""

    directory: RunDirectory
    files: Callable[[RunDirectory], list[Path]] = RunDirectory.journal_files
    damage: list[Damage] = field(factory=list)
    _offsets: dict[Path, int] = field(factory=dict)

    def poll(self) -> Iterator[Record]:
        """The new whole records, file by file in the order of `files`.

        Read while they are taken, a stretch at a time: a long journal is never in memory as a whole.
        """
        for path in self.files(self.directory):
            size = path.stat().st_size  # asked once: a writer may be quicker than we are
            while size > (offset := self._offsets.get(path, 0)):
                reading = read_journal(path, offset=offset, limit=STRETCH_BYTES)
                if reading.offset == offset:  # an unfinished line
                    break
                self._offsets[path] = reading.offset
                self.damage.extend(reading.damage)
                yield from reading.records

    def torn_tails(self) -> list[Damage]:
        """The last lines that are not finished: of a file whose writer is gone, its end was lost."""
        there = ((path, offset) for path, offset in self._offsets.items() if path.is_file())  # not deleted since
        longer = (path for path, offset in there if path.stat().st_size > offset)
        return [tail for path in longer if (tail := torn_tail(path)) is not None]


@define
class Projection:
    """Decides what of the journal a tracker sees, and under which names.

    Ranks above 0 stay in the journal, but for what was marked to be told: that is told under names that
    begin with `rank<r>/`. A point that another attempt has told under the same key and step is not told
    again, and a parameter that has changed is told as `resume.<attempt>.<key>` from then on, also when it
    has its first value again, because a tracker's points and parameters cannot be taken back. `delivered` is
    what the tracker has already (file → number of a record); it is set before the first record.
    """

    directory: RunDirectory
    delivered: Mapping[str, int] = field(factory=dict)
    _params: dict[str, Any] = field(factory=dict)
    _changed: set[str] = field(factory=set)
    _told: ToldPoints | None = None
    _looked: bool = False

    def project(self, record: Record) -> Record | None:
        """The record as a tracker is told it, or None."""
        if not is_told(record):
            return None
        if record.kind == "metrics":
            return self._project_metrics(record)
        if record.kind == "params":
            return self._project_params(record)
        rank = parse_journal_name(record.file).rank or 0
        if record.kind == "file":
            named = {"name": _prefix(rank) + record.data["name"], "path": str(kept_path(self.directory, record.data))}
            return attrs.evolve(record, data={**record.data, **named})
        if record.kind == "tags" and rank:
            return attrs.evolve(record, data={"tags": _named(record.data["tags"], rank)})
        return record

    def _project_metrics(self, record: Record) -> Record | None:
        name, data = parse_journal_name(record.file), record.data
        step, points = data["step"], data["metrics"]
        if name.rank:
            points = _named(points, name.rank)
        told = self._told_points(name.attempt) if step is not None and name.attempt < LATER else None
        if told is not None:
            points = {key: value for key, value in points.items() if told.admit(name.attempt, key, step, value)}
        if not points:
            return None
        metrics = {key: value if type(value) is float else parse_number(value) for key, value in points.items()}
        when = data.get("timestamp", record.time)
        return Record(record.file, record.seq, when, "metrics", {"step": step, "metrics": metrics})

    def _project_params(self, record: Record) -> Record | None:
        name = parse_journal_name(record.file)
        told: dict[str, Any] = {}
        for key, value in _named(record.data["params"], name.rank or 0).items():
            if self._params.setdefault(key, value) != value:
                self._changed.add(key)
            told[f"resume.{name.attempt}.{key}" if key in self._changed else key] = value
        return attrs.evolve(record, data={"params": told})

    def _told_points(self, attempt: int) -> ToldPoints | None:
        """What all attempts have told; None while there is only one, whose points need not be remembered."""
        if self._told is None and (attempt > 1 or not self._looked):
            self._looked = True
            attempts = {parse_journal_name(path.stem).attempt for path in self.directory.journal_files()} - {LATER}
            return self._recall() if attempts - {1} else None
        return self._told

    def _recall(self) -> ToldPoints:
        """All points of all attempts, read anew: those that the tracker has, then the others in their files' order."""
        self._told = told = ToldPoints()
        for wanted in ("delivered", "waiting") if self.delivered else ("waiting",):
            for record in Follower(self.directory).poll():
                name = parse_journal_name(record.file)
                if record.kind != "metrics" or name.attempt >= LATER or not is_told(record):
                    continue
                has = record.seq <= self.delivered.get(record.file, 0)
                if record.data["step"] is not None and has == (wanted == "delivered"):
                    for key, value in _named(record.data["metrics"], name.rank or 0).items():
                        told.admit(name.attempt, key, record.data["step"], value)
        return told


def kept_path(directory: RunDirectory, facts: Mapping[str, Any]) -> Path:
    """Where the content is that a record `file` is about."""
    return directory.path / facts["stored"] if facts["stored"] else Path(facts["original"])


def is_told(record: Record) -> bool:
    """Whether trackers are told of records like this one: of its kind, and from its process, or marked so."""
    if record.kind not in DELIVERABLE:
        return False
    return not parse_journal_name(record.file).rank or record.data.get("told") is True


def _prefix(rank: int) -> str:
    return f"rank{rank}/" if rank else ""


def _named(values: Mapping[str, Any], rank: int) -> Mapping[str, Any]:
    """The values under the names that a rank's are told under."""
    return {f"rank{rank}/{name}": value for name, value in values.items()} if rank else values
