"""From the journal to what a tracker is told: new records in order, one point per key and step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import define, field

from prism.journal.directory import LATER, RunDirectory, parse_journal_name
from prism.journal.records import Damage, parse_number, read_journal, torn_tail
from prism.protocols import Record

DELIVERABLE = frozenset({"params", "tags", "metrics", "dataset", "file", "checkpoint", "model", "evaluation", "call"})
STRETCH_BYTES = 1 << 20


@define
class Follower:
    """Reads what has come to a run's journal since the last look."""

    directory: RunDirectory
    damage: list[Damage] = field(factory=list)
    _offsets: dict[Path, int] = field(factory=dict)

    def poll(self) -> Iterator[Record]:
        """The new whole records, file by file in the order of `RunDirectory.journal_files`.

        Read while they are taken, a stretch at a time: a long journal is never in memory as a whole.
        """
        for path in self.directory.journal_files():
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
        longer = (path for path, offset in self._offsets.items() if path.stat().st_size > offset)
        return [tail for path in longer if (tail := torn_tail(path)) is not None]


@define
class Projection:
    """Decides what of the journal a tracker sees, and under which names.

    Ranks above 0 stay in the journal. A point that an earlier attempt has logged under the same key
    and step is not told again, and a parameter that an attempt changed is told as
    `resume.<attempt>.<key>`, because a tracker's points and parameters cannot be taken back.
    """

    directory: RunDirectory
    _params: dict[str, Any] = field(factory=dict)
    _earlier: dict[int, set[tuple[str, int]]] = field(factory=dict)

    def project(self, record: Record) -> Record | None:
        """The record as a tracker is told it, or None."""
        if not is_told(record):
            return None
        if record.kind == "metrics":
            return self._project_metrics(record)
        if record.kind == "params":
            return self._project_params(record)
        if record.kind == "file":
            return attrs.evolve(record, data={**record.data, "path": self._kept_path(record.data)})
        return record

    def _project_metrics(self, record: Record) -> Record | None:
        step = record.data["step"]
        metrics = {name: parse_number(value) for name, value in record.data["metrics"].items()}
        attempt = parse_journal_name(record.file).attempt
        if step is not None and 1 < attempt < LATER:
            logged = self._logged_before(attempt)
            metrics = {name: value for name, value in metrics.items() if (name, step) not in logged}
        when = record.data.get("timestamp", record.time)
        return attrs.evolve(record, time=when, data={"step": step, "metrics": metrics}) if metrics else None

    def _project_params(self, record: Record) -> Record | None:
        attempt = parse_journal_name(record.file).attempt
        told: dict[str, Any] = {}
        for name, value in record.data["params"].items():
            if self._params.setdefault(name, value) == value:
                told[name] = value
            else:
                told[f"resume.{attempt}.{name}"] = value
        return attrs.evolve(record, data={"params": told})

    def _logged_before(self, attempt: int) -> set[tuple[str, int]]:
        if attempt not in self._earlier:
            files = [path for path in self.directory.journal_files() if _is_projected_before(path.stem, attempt)]
            records = (record for path in files for record in read_journal(path).records)
            self._earlier = {attempt: set(_keys_and_steps(records))}
        return self._earlier[attempt]

    def _kept_path(self, data: Mapping[str, Any]) -> str:
        return str(self.directory.path / data["stored"]) if data["stored"] else str(data["original"])


def is_told(record: Record) -> bool:
    """Whether trackers are told of records like this one: of its kind, and from its process."""
    return record.kind in DELIVERABLE and (parse_journal_name(record.file).rank or 0) == 0


def _is_projected_before(stem: str, attempt: int) -> bool:
    name = parse_journal_name(stem)
    return name.rank == 0 and name.attempt < attempt


def _keys_and_steps(records: Iterable[Record]) -> Iterator[tuple[str, int]]:
    for record in records:
        if record.kind == "metrics" and record.data["step"] is not None:
            for name in record.data["metrics"]:
                yield name, record.data["step"]
