"""What a run's journal says about the run: status, attempts, parameters, metrics, model, what is pending."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from attrs import define, field

from prism.journal.directory import FORMAT, RunDirectory, parse_journal_name, read_summary
from prism.journal.ends import ProcessState, notice_deaths, worst
from prism.journal.folding import BEGINNER, apply_records
from prism.journal.identity import ProcessIdentity
from prism.journal.looks import Looks, lease_seconds
from prism.journal.projection import Follower
from prism.journal.records import Damage, number
from prism.journal.stretches import Stretches
from prism.journal.trackers import TrackerState
from prism.writing import write_whole

TERMINAL = ("FINISHED", "KILLED", "FAILED")


@define
class RunState:
    """A run as its journal tells it. Times are milliseconds since the epoch."""

    directory: RunDirectory
    experiment: str = ""
    name: str = ""
    started: int = 0
    ended: int = 0
    attempts: int = 0
    status: str = "RUNNING"
    error: str = ""
    params: dict[str, Any] = field(factory=dict)
    tags: dict[str, str] = field(factory=dict)
    metrics: dict[str, float] = field(factory=dict)
    datasets: list[dict[str, Any]] = field(factory=list)
    checkpoints: list[dict[str, Any]] = field(factory=list)
    evaluations: list[dict[str, Any]] = field(factory=list)
    model: dict[str, Any] | None = None
    model_tags: dict[str, str] = field(factory=dict)
    trackers: dict[str, TrackerState] = field(factory=dict)
    warnings: list[str] = field(factory=list)
    damage: list[Damage] = field(factory=list)
    processes: dict[str, ProcessState] = field(factory=dict)
    launchers: dict[str, ProcessState] = field(factory=dict)
    beginner: ProcessState | None = None
    had_attempts: bool = False
    configuration: Mapping[str, Any] = field(factory=dict)
    deliverable: dict[str, Stretches] = field(factory=dict)
    began: dict[bool, dict[int, tuple[int, str]]] = field(factory=lambda: {True: {}, False: {}})
    metric_steps: dict[str, float] = field(factory=dict)
    sizes: dict[str, int] = field(factory=dict)

    @property
    def run_id(self) -> str:
        return self.directory.run_id

    def deciding(self) -> dict[str, ProcessState]:
        """The processes that the status follows from, by file: the workers of the latest attempt.

        Before there are any, who has launched them; before any record, who made the directory.
        """
        for known in (self.processes, self.launchers):
            latest = {file: one for file, one in known.items() if parse_journal_name(file).attempt == self.attempts}
            if latest:
                return latest
        return {BEGINNER: self.beginner} if self.beginner else {}

    def everybody(self) -> list[ProcessState]:
        """All processes that are known."""
        beginner = [self.beginner] if self.beginner else []
        return [*self.processes.values(), *self.launchers.values(), *beginner]

    @property
    def journal_is_gone(self) -> bool:
        """Whether the files of the processes that the status follows from were deleted."""
        files = [f"{file}.jsonl" for file in self.deciding() if file != BEGINNER]
        if files:
            missing = (file for file in files if f"journal/{file}" not in self.sizes)
            return any(not (self.directory.journal / file).exists() for file in missing)
        return self.had_attempts or not self.directory.journal.is_dir()

    @property
    def pending(self) -> int:
        """Records that no tracker of some name has yet, at most over the trackers."""
        return max((tracker.pending for tracker in tuple(self.trackers.values())), default=0)  # asked by other threads

    @property
    def part(self) -> str:
        """The key of this run directory when rank 0 speaks in another one, "" when it speaks here."""
        began = self.began[True] or self.began[False]  # of ranks, and before there is one, of launchers
        return "" if 0 in began else min(began.values(), default=(0, ""))[1]

    @property
    def awaits_registration(self) -> bool:
        """Whether the run has succeeded with a model that is to be registered and is not yet."""
        return self.status == "FINISHED" and self.model is not None and self.model["state"] == "pending"

    def as_json(self) -> dict[str, Any]:
        """The stable keys of `prism runs show --json`, and some more."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "error": self.error,
            "attempts": self.attempts,
            "experiment": self.experiment,
            "name": self.name,
            "description": self.configuration.get("description", ""),
            "started": self.started,
            "ended": self.ended,
            "directory": str(self.directory.path),
            "params": self.params,
            "metrics": {name: number(value) for name, value in self.metrics.items()},
            "tags": self.tags,
            "datasets": self.datasets,
            "checkpoints": [one for one in self.checkpoints if (self.directory.checkpoints / one["folder"]).exists()],
            "evaluations": self.evaluations,
            "model": self.model,
            "trackers": {
                name: {"run_id": t.run_id, "url": t.url, "pending": t.pending, "problem": t.problem}
                for name, t in self.trackers.items()
            },
            "pending": self.pending,
            "warnings": self.warnings,
            "damage": [
                *(f"{d.file}, byte {d.offset}: {d.reason} ({d.size} bytes)" for d in self.damage),
                *(f"{path.parent.name}/{path.name} is no file" for path in self.directory.strange_entries()),
            ],
        }


@define
class LiveState:
    """The state of a run that goes on: `poll` folds in what has come, instead of reading all anew.

    Raises `UsageError` for a run that a newer Prism wrote.
    """

    directory: RunDirectory
    state: RunState = field(init=False)
    looks: Looks = field(init=False)
    _journal: Follower = field(init=False)
    _deliveries: Follower = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.state = _begin_state(self.directory)
        self.looks = Looks(self.directory)
        self._journal = Follower(self.directory)
        self._deliveries = Follower(self.directory, RunDirectory.delivery_files)
        self.poll()

    def poll(self) -> RunState:
        """The state as it is now."""
        self.state.sizes = measure(self.directory)  # before reading: what comes after it makes the summary out of date
        apply_records(self.state, self._journal.poll())
        apply_records(self.state, self._deliveries.poll())
        if notice_deaths(self.state.everybody()):
            apply_records(self.state, self._journal.poll())
        for file, process in self.state.deciding().items():
            process.silent = self.looks.note(file, process.records) if process.is_away else 0.0
        _settle(self.state, self._journal)
        return self.state


def read_state(directory: RunDirectory) -> RunState:
    """Derive the state of a run from its journal and from what was delivered. Raises `UsageError`."""
    return LiveState(directory).state


def _begin_state(directory: RunDirectory) -> RunState:
    """A state before any record."""
    state = RunState(directory)
    summary = read_summary(directory)
    begun_by, state.had_attempts = summary.get(BEGINNER), bool(summary.get("attempts"))
    with suppress(KeyError, TypeError, ValueError):  # a damaged cache: its journal says whose it is
        state.beginner = ProcessState(ProcessIdentity.load(begun_by)) if begun_by else None
    return state


def _settle(state: RunState, follower: Follower) -> None:
    """Work out the status, what is pending and what is damaged from what was folded in."""
    end = worst(state.deciding().values(), lease=lease_seconds())
    state.status, state.error, state.ended = end["status"], end.get("error") or "", end.get("time", 0)
    if state.journal_is_gone:
        state.status = state.status if state.deciding() else "FAILED"
        state.error = f"its journal is gone from {state.directory.journal}: put the files back, or delete the run"
    if state.status == "FINISHED" and state.model and state.model["state"] == "intended":
        state.model["state"] = "pending"
    for tracker in state.trackers.values():
        tracker.pending = tracker.count_pending(state.deliverable)
        told = state.status if state.status in TERMINAL else "RUNNING"
        tracker.pending += told != (tracker.closed or "RUNNING") and not state.part
    state.damage = [*follower.damage, *(follower.torn_tails() if state.status in TERMINAL else ())]


def write_run_summary(state: RunState) -> None:
    """Refresh the cache `run.json`, with the sizes of the files it was derived from."""
    begun_by = state.beginner.process if state.beginner else None
    summary = {"format": FORMAT, **state.as_json(), "derived_from": state.sizes}
    summary |= {BEGINNER: begun_by.dump()} if begun_by else {}
    with suppress(OSError):  # a disk that is full or read-only, a run just deleted: who reads next derives it anew
        write_whole(state.directory.summary, json.dumps(summary, ensure_ascii=False) + "\n")


def read_cached(directory: RunDirectory) -> dict[str, Any] | None:
    """`RunState.as_json` of a run that has ended, from `run.json`; None when the journal has more to say."""
    summary = read_summary(directory)
    if summary.get("status") in TERMINAL and summary.get("derived_from") == measure(directory):
        return summary
    return None


def refresh_summary(state: RunState) -> None:
    """Write `run.json` anew where the run has ended and the cache is out of date."""
    if state.status in TERMINAL and read_cached(state.directory) is None:
        write_run_summary(state)


def measure(directory: RunDirectory) -> dict[str, int]:
    """Bytes of each file that a run's state is derived from."""
    sizes = {}
    for path in (*directory.journal_files(), *directory.delivery_files()):
        with suppress(FileNotFoundError):  # a run that is being deleted
            sizes[f"{path.parent.name}/{path.name}"] = path.stat().st_size
    return sizes
