"""What a run's journal says about the run: status, attempts, parameters, metrics, model, what is pending."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from attrs import define, field

from prism.journal.directory import FORMAT, LATER, RunDirectory, parse_journal_name, read_summary, write_whole
from prism.journal.identity import ProcessIdentity, now
from prism.journal.projection import Follower, is_told
from prism.journal.records import Damage, number, parse_number, read_journal
from prism.protocols import Record

TERMINAL = ("FINISHED", "KILLED", "FAILED")  # the worst of several processes' ends is the run's
LEASE_MS = 90_000


@define
class ProcessState:
    """One process of an attempt: who it is, how it ended (by its own word or an observer's)."""

    process: ProcessIdentity | None = None
    end: Mapping[str, Any] | None = None
    heartbeats: int = 0
    last_time: int = 0


@define
class TrackerState:
    """Where the run stands at one tracker: its id there, and how many records are not delivered yet."""

    run_id: str = ""
    url: str = ""
    pending: int = 0
    problem: str = ""
    problem_time: int = 0
    closed: str = ""
    position: dict[str, int] = field(factory=dict)
    held: dict[str, list[int]] = field(factory=dict)
    _held_by: str = ""


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
    trackers: dict[str, TrackerState] = field(factory=dict)
    warnings: list[str] = field(factory=list)
    damage: list[Damage] = field(factory=list)
    processes: dict[str, ProcessState] = field(factory=dict)
    launch: ProcessState | None = None
    configuration: Mapping[str, Any] = field(factory=dict)
    _deliverable: dict[str, list[int]] = field(factory=dict)
    _began: dict[bool, dict[int, tuple[int, str]]] = field(factory=lambda: {True: {}, False: {}})
    _steps: dict[str, float] = field(factory=dict)

    @property
    def run_id(self) -> str:
        return self.directory.run_id

    @property
    def pending(self) -> int:
        """Records that no tracker of some name has yet, at most over the trackers."""
        return max((tracker.pending for tracker in self.trackers.values()), default=0)

    @property
    def part(self) -> str:
        """The key of this run directory when rank 0 speaks in another one, "" when it speaks here."""
        began = self._began[True] or self._began[False]  # of ranks, and before there is one, of launchers
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
            "checkpoints": [one for one in self.checkpoints if (self.directory.checkpoints / one["folder"]).is_dir()],
            "evaluations": self.evaluations,
            "model": self.model,
            "trackers": {
                name: {"run_id": t.run_id, "url": t.url, "pending": t.pending, "problem": t.problem}
                for name, t in self.trackers.items()
            },
            "pending": self.pending,
            "warnings": self.warnings,
            "damage": [f"{d.file}, byte {d.offset}: {d.reason} ({d.size} bytes)" for d in self.damage],
        }


def read_state(directory: RunDirectory) -> RunState:
    """Derive the state of a run from its journal and from what was delivered."""
    read_summary(directory)  # refuses a format from the future
    state = RunState(directory)
    follower = Follower(directory)
    apply_records(state, follower.poll())
    for path in directory.delivery_files():
        apply_records(state, read_journal(path).records)
    settle(state, follower)
    return state


def apply_records(state: RunState, records: Iterable[Record]) -> None:
    """Fold records into the state; `settle` afterwards."""
    for record in records:
        handler = _HANDLERS.get(record.kind)
        if handler is not None:
            handler(state, record)
        process = state.processes.get(record.file)
        if process is not None:
            process.last_time = record.time
        if is_told(record):
            state._deliverable.setdefault(record.file, []).append(record.seq)


def settle(state: RunState, follower: Follower) -> None:
    """Work out the status, what is pending and what is damaged from what was folded in."""
    ended = _ends(state)
    state.status, state.error, state.ended = ended["status"], ended.get("error") or "", ended.get("time", 0)
    if state.status == "FINISHED" and state.model and state.model["state"] == "intended":
        state.model["state"] = "pending"
    for tracker in state.trackers.values():
        tracker.pending = sum(
            len(seqs) - bisect_right(seqs, tracker.position.get(file, 0)) for file, seqs in state._deliverable.items()
        )
        tracker.pending += sum(map(len, tracker.held.values()))  # within the position, and not there all the same
        tracker.pending += state.status in TERMINAL and tracker.closed != state.status and not state.part
    state.damage = [*follower.damage, *(follower.torn_tails() if state.status in TERMINAL else ())]


def write_run_summary(state: RunState) -> None:
    """Refresh the cache `run.json`, with the sizes of the files it was derived from."""
    with suppress(OSError):  # a disk that is full or read-only, a run just deleted: who reads next derives it anew
        summary = {"format": FORMAT, **state.as_json(), "derived_from": _sizes(state.directory)}
        write_whole(state.directory.summary, json.dumps(summary, ensure_ascii=False) + "\n")


def read_overview(directory: RunDirectory) -> dict[str, Any]:
    """`RunState.as_json`, from the cache when a terminal run's journal has not changed since."""
    summary = read_summary(directory)
    if summary.get("status") in TERMINAL and summary.get("derived_from") == _sizes(directory):
        return summary
    return read_state(directory).as_json()


def _sizes(directory: RunDirectory) -> dict[str, int]:
    """Bytes of each file that a run's state is derived from."""
    files = [*directory.journal_files(), *directory.delivery_files()]
    return {f"{path.parent.name}/{path.name}": path.stat().st_size for path in files}


def _ends(state: RunState) -> dict[str, Any]:
    """The end of the latest attempt: the worst of its processes' ends, or RUNNING, or LOST."""
    workers = {
        file: process
        for file, process in state.processes.items()
        if parse_journal_name(file).attempt == state.attempts and parse_journal_name(file).is_worker
    }
    judged = [_judge(process) for process in workers.values() or _beginners(state)]
    statuses = [end["status"] for end in judged]
    for status in ("FAILED", "KILLED", "LOST", "RUNNING"):
        if status in statuses:
            return judged[statuses.index(status)]
    return judged[0] if judged else {"status": "RUNNING"}


def _beginners(state: RunState) -> list[ProcessState]:
    """Who began a run that has no worker yet: its launcher, or, before any record, whoever made its directory."""
    if state.launch is not None:
        return [state.launch]
    begun_by = read_summary(state.directory).get("begun_by") if not state.started else None
    return [ProcessState(ProcessIdentity.load(begun_by))] if begun_by else []


def _judge(process: ProcessState) -> dict[str, Any]:
    if process.end is not None:
        return dict(process.end)
    if process.process is not None and process.process.is_here():
        if process.process.is_alive():
            return {"status": "RUNNING"}
        return {"status": "FAILED", "error": "the process died without a word", "time": process.last_time}
    return {"status": "RUNNING" if now() - process.last_time < LEASE_MS else "LOST"}


def _on_start(state: RunState, record: Record) -> None:
    process = ProcessState(ProcessIdentity.load(record.data["process"]), last_time=record.time)
    name = parse_journal_name(record.file)
    if record.data["role"] == "launcher":
        state.launch = process
        state.attempts = max(state.attempts, name.attempt)
    elif name.is_worker:
        state.processes[record.file] = process
        state.attempts = max(state.attempts, name.attempt)
    state.started = min(state.started or record.time, record.time)
    if name.attempt < LATER:
        rank = name.rank if name.rank is not None else int("-launch-r" in record.file)
        first = record.time, ProcessIdentity.load(record.data["process"]).key()
        began = state._began[name.rank is not None]
        began[rank] = min(began.get(rank, first), first)


def _on_run(state: RunState, record: Record) -> None:
    state.experiment = record.data["experiment"]
    state.name = record.data["name"]
    state.configuration = record.data
    for tracker in record.data["trackers"]:
        state.trackers.setdefault(tracker, TrackerState())


def _on_end(state: RunState, record: Record) -> None:
    observed = record.data.get("of")
    end = {**record.data, "time": record.time}
    if observed is None:
        process = state.launch if record.file.endswith("-launch") else state.processes.get(record.file)
        if process is not None:
            process.end = end
        return
    process = state.processes.get(observed)
    if process is not None and process.end is None and process.heartbeats <= record.data.get("heartbeats", 1 << 60):
        process.end = end


def _on_heartbeat(state: RunState, record: Record) -> None:
    process = state.processes.get(record.file)
    if process is None:
        return
    process.heartbeats = record.data["count"]
    if process.end is not None and process.end.get("heartbeats", 1 << 60) < process.heartbeats:
        process.end = None  # closed by lease, and it came back


def _on_metrics(state: RunState, record: Record) -> None:
    if (parse_journal_name(record.file).rank or 0) > 0:
        return
    step = record.data["step"]
    order = float("-inf") if step is None else step
    for name, value in record.data["metrics"].items():
        if step is None or order >= state._steps.get(name, float("-inf")):
            state._steps[name] = order
            state.metrics[name] = parse_number(value)


def _on_dataset(state: RunState, record: Record) -> None:
    used = {key: record.data[key] for key in ("name", "version", "digest", "uri", "use")}
    if used not in state.datasets:
        state.datasets.append(used)


def _on_model(state: RunState, record: Record) -> None:
    intent = record.data["register"]
    state.model = {
        "name": intent["name"] if intent else "",
        "version": intent["version"] if intent else "",
        "digest": record.data["digest"],
        "size": record.data["size"],
        "state": "intended" if intent else "kept",
        "reason": "",
    }


def _on_registration(state: RunState, record: Record) -> None:
    if state.model is not None and record.data["digest"] == state.model["digest"]:
        state.model.update({key: record.data[key] for key in ("version", "state", "reason")})


def _on_tracker(state: RunState, record: Record) -> None:
    tracker = state.trackers.setdefault(record.data["tracker"], TrackerState())
    said = record.data
    tracker.run_id, tracker.url = said.get("run_id", tracker.run_id), said.get("url", tracker.url)
    tracker.problem, tracker.closed = said.get("problem", tracker.problem), said.get("closed", tracker.closed)
    if said.get("problem"):
        tracker.problem_time = record.time
    for file, seq in said.get("position", {}).items():
        tracker.position[file] = max(seq, tracker.position.get(file, 0))
    if "held" in said and record.file >= tracker._held_by:  # not by a deliverer that was taken over from
        tracker.held, tracker._held_by = dict(said["held"]), record.file


_HANDLERS: Mapping[str, Callable[[RunState, Record], None]] = {
    "start": _on_start,
    "run": _on_run,
    "end": _on_end,
    "heartbeat": _on_heartbeat,
    "params": lambda state, record: state.params.update(record.data["params"]),
    "tags": lambda state, record: state.tags.update(record.data["tags"]),
    "metrics": _on_metrics,
    "dataset": _on_dataset,
    "checkpoint": lambda state, record: state.checkpoints.append(dict(record.data)),
    "evaluation": lambda state, record: state.evaluations.append(dict(record.data)),
    "model": _on_model,
    "registration": _on_registration,
    "tracker": _on_tracker,
    "warning": lambda state, record: state.warnings.append(record.data["message"]),
}
