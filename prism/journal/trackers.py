"""Where a run stands at its trackers, from what the deliverers said, and how much of it is pending there."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field

from prism.journal.stretches import Stretches
from prism.protocols import Record


@define
class TrackerState:
    """Where the run stands at one tracker: its id there, and how many records are not delivered yet."""

    run_id: str = ""
    url: str = ""
    pending: int = 0
    problem: str = ""
    problem_time: int = 0
    closed: str = ""
    unanswered: bool = False
    position: dict[str, int] = field(factory=dict)
    held: dict[str, list[int]] = field(factory=dict)
    _held_by: str = ""

    def hear(self, record: Record) -> None:
        """Fold in a record `tracker`: what it does not say is as before."""
        said = record.data
        self.run_id, self.url = said.get("run_id", self.run_id), said.get("url", self.url)
        self.problem, self.closed = said.get("problem", self.problem), said.get("closed", self.closed)
        self.unanswered = said.get("unanswered", self.unanswered)
        if said.get("problem"):
            self.problem_time = record.time
        for file, seq in said.get("position", {}).items():
            self.position[file] = max(seq, self.position.get(file, 0))
        if "held" in said and record.file >= self._held_by:  # not by a deliverer that was taken over from
            self.held, self._held_by = dict(said["held"]), record.file

    def count_pending(self, deliverable: Mapping[str, Stretches]) -> int:
        """How many of the records to deliver (journal file → their numbers) are past its position."""
        past = sum(seqs.count_after(self.position.get(file, 0)) for file, seqs in deliverable.items())
        held = sum(map(len, self.held.values()))  # within the position, and not there all the same
        return past + held + self.unanswered
