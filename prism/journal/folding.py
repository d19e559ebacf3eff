"""From records to the state of a run: what each kind of record changes in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prism.journal.directory import LATER, parse_journal_name
from prism.journal.ends import ProcessState
from prism.journal.identity import ProcessIdentity
from prism.journal.projection import is_told
from prism.journal.records import parse_number
from prism.journal.stretches import Stretches
from prism.journal.trackers import TrackerState
from prism.protocols import Record

if TYPE_CHECKING:
    from prism.journal.state import RunState

BEGINNER = "begun_by"
"""Stands for a file in ends of whoever made the run directory and died before the first record."""


def apply_records(state: RunState, records: Iterable[Record]) -> None:
    """Fold records into the state, but for what follows only from all of them: status, what is pending."""
    for record in records:
        handler = _HANDLERS.get(record.kind)
        if handler is not None:
            handler(state, record)
        process = state.processes.get(record.file) or state.launchers.get(record.file)
        if process is not None:
            process.hear(record)
        if is_told(record):
            state.deliverable.setdefault(record.file, Stretches()).add(record.seq)


def _on_start(state: RunState, record: Record) -> None:
    process = ProcessState(ProcessIdentity.load(record.data["process"]))
    name = parse_journal_name(record.file)
    if record.data["role"] == "launcher":
        state.launchers[record.file] = process
        state.attempts = max(state.attempts, name.attempt)
    elif name.is_worker:
        state.processes[record.file] = process
        state.attempts = max(state.attempts, name.attempt)
    state.started = min(state.started or record.time, record.time)
    for tracker in record.data.get("trackers", ()):
        state.trackers.setdefault(tracker, TrackerState())
    if name.attempt < LATER:
        rank = name.rank if name.rank is not None else int("-launch-r" in record.file)
        first = record.time, ProcessIdentity.load(record.data["process"]).key()
        began = state.began[name.rank is not None]
        began[rank] = min(began.get(rank, first), first)


def _on_run(state: RunState, record: Record) -> None:
    state.experiment = record.data["experiment"]
    state.name = record.data["name"]
    state.configuration = record.data
    for tracker in record.data["trackers"]:
        state.trackers.setdefault(tracker, TrackerState())


def _on_end(state: RunState, record: Record) -> None:
    file = record.data.get("of", record.file)
    process = state.processes.get(file) or state.launchers.get(file)
    if file == BEGINNER:
        process = state.beginner
    if process is not None:
        process.hear_end({**record.data, "time": record.time})


def _on_metrics(state: RunState, record: Record) -> None:
    if (parse_journal_name(record.file).rank or 0) > 0:
        return
    step = record.data["step"]
    order = float("-inf") if step is None else step
    for name, value in record.data["metrics"].items():
        if step is None or order >= state.metric_steps.get(name, float("-inf")):
            state.metric_steps[name] = order
            state.metrics[name] = parse_number(value)


def _on_dataset(state: RunState, record: Record) -> None:
    used = {key: record.data[key] for key in ("name", "version", "digest", "uri", "use")}
    if used not in state.datasets:
        state.datasets.append(used)


def _on_model(state: RunState, record: Record) -> None:
    intent = record.data["register"]
    state.model_tags = intent["tags"] if intent else {}
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


_HANDLERS: Mapping[str, Callable[[RunState, Record], None]] = {
    "start": _on_start,
    "run": _on_run,
    "end": _on_end,
    "params": lambda state, record: state.params.update(record.data["params"]),
    "tags": lambda state, record: state.tags.update(record.data["tags"]),
    "metrics": _on_metrics,
    "dataset": _on_dataset,
    "checkpoint": lambda state, record: state.checkpoints.append(dict(record.data)),
    "evaluation": lambda state, record: state.evaluations.append(dict(record.data)),
    "model": _on_model,
    "registration": _on_registration,
    "tracker": lambda state, record: state.trackers.setdefault(record.data["tracker"], TrackerState()).hear(record),
    "warning": lambda state, record: state.warnings.append(record.data["message"]),
}
