"""The state of a run that goes on: folded forward record by record instead of read anew."""

from __future__ import annotations

from pathlib import Path

from attrs import define, field

from prism.journal.directory import RunDirectory
from prism.journal.ends import notice_deaths
from prism.journal.folding import apply_records
from prism.journal.looks import Looks
from prism.journal.projection import Follower
from prism.journal.records import read_journal
from prism.journal.state import RunState, begin_state, measure, settle


@define
class LiveState:
    """A `RunState` that `poll` brings up to date."""

    directory: RunDirectory
    state: RunState = field(init=False)
    looks: Looks = field(init=False)
    model_tags: dict[str, str] = field(factory=dict)
    _follower: Follower = field(init=False)
    _offsets: dict[Path, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.state = begin_state(self.directory)
        self._follower = Follower(self.directory)
        self.looks = Looks(self.directory)
        self.poll()

    def poll(self) -> RunState:
        """Fold in what has come since."""
        self.state.sizes = measure(self.directory)
        self._read()
        for path in self.directory.delivery_files():
            offset = self._offsets.get(path, 0)
            if path.stat().st_size > offset:
                reading = read_journal(path, offset=offset)
                self._offsets[path] = reading.offset
                apply_records(self.state, reading.records)
        if notice_deaths(self.state.everybody()):
            self._read()
        for file, process in self.state.deciding().items():
            if process.is_away:
                self.looks.note(file, process.records)
        settle(self.state, self._follower, self.looks)
        return self.state

    def _read(self) -> None:
        for record in self._follower.poll():
            apply_records(self.state, (record,))
            if record.kind == "model" and record.data["register"]:
                self.model_tags = record.data["register"]["tags"]
