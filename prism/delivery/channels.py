"""Delivery: from the journal to the trackers, and a finished model to its registry.

Reads, sends, keeps its position, and begins again where it was: a server that is slow, down or
absent costs waiting here and nothing in the training.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field

from prism.delivery.claim import still_mine
from prism.errors import EnvironmentUnfit, GateRefused, PrismError, WorkFailed
from prism.journal.directory import RunDirectory
from prism.journal.live import LiveState
from prism.journal.projection import Follower, Projection, is_told
from prism.journal.records import JournalWriter
from prism.journal.state import TERMINAL
from prism.project import Project
from prism.protocols import ModelRegistry, Record, RunRef, TrackedRun, Tracker

if TYPE_CHECKING:
    from prism.config import Named

BATCH_RECORDS = 2000
IDLE_SECONDS = 1.0
LONGEST_PAUSE = 30.0


@define
class Channel:
    """One tracker's share of the delivery: what it has, what waits, and what is wrong."""

    named: Named
    delivery: Delivery
    tracker: Tracker | None = None
    is_open: bool = False
    closed: str = ""
    _position: dict[str, int] = field(factory=dict)
    _read: dict[str, int] = field(factory=dict)
    _waiting: deque[Record] = field(factory=deque)
    _follower: Follower = field(init=False)
    _projection: Projection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._follower = Follower(self.delivery.directory)
        self._projection = Projection(self.delivery.directory)

    def deliver(self) -> bool:
        """Bring over what there is; returns whether anything was. Raises `Unreachable`."""
        tracker = self.tracker if self.tracker and self.is_open else self._open()
        if not self._waiting:
            self._waiting.extend(self._new_records())
        moved = bool(self._waiting)
        while self._waiting:
            batch = tuple(itertools.islice(self._waiting, BATCH_RECORDS))
            self._send(tracker, batch)
            for _ in batch:
                self._waiting.popleft()
        self._pass_over()
        return moved

    def settle(self, status: str, ended: int) -> None:
        """Tell the tracker that the run has ended, or that it goes on after an end."""
        if status in TERMINAL:
            self.close(status, ended)
        elif self.closed:
            self.close("RUNNING", 0)

    def close(self, status: str, ended: int) -> None:
        """Tell the tracker the run's status when it has changed."""
        if self.tracker is not None and self.is_open and status != (self.closed or "RUNNING"):
            self.tracker.close(status, ended)
            self.closed = status
            self.delivery.say("tracker", {"tracker": self.named.name, "closed": status})

    def _open(self) -> Tracker:
        tracker: Tracker = self.tracker or self.delivery.project.build("tracker", self.named)
        self.tracker = tracker
        found = tracker.open(self.delivery.tracked_run())
        self._position = self._projection.delivered = dict(tracker.position())
        facts = {"tracker": self.named.name, "run_id": found.id, "url": found.url, "problem": ""}
        self.delivery.say("tracker", {**facts, "position": self._position})
        self.is_open = True
        return tracker

    def _new_records(self) -> list[Record]:
        found = list(self._follower.poll())
        self._read.update({record.file: record.seq for record in found if is_told(record)})
        projected = map(self._projection.project, found)
        return [record for record in projected if record and record.seq > self._position.get(record.file, 0)]

    def _pass_over(self) -> None:
        """Count as delivered what there was nothing to tell of: points that an earlier attempt has told already."""
        passed = {file: seq for file, seq in self._read.items() if seq > self._position.get(file, 0)}
        if passed:
            self._position = self._position | passed
            self.delivery.say("tracker", {"tracker": self.named.name, "position": self._position, "problem": ""})

    def _send(self, tracker: Tracker, batch: tuple[Record, ...]) -> None:
        position = self._position | {record.file: record.seq for record in batch}
        try:
            tracker.deliver(batch, position)
        except EnvironmentUnfit:  # out of reach, or refusing us: nothing is wrong with the records
            raise
        except Exception as error:  # the plugin boundary: one bad record must not hold up all others
            if len(batch) > 1:
                for record in batch:
                    self._send(tracker, (record,))
                return
            self._refuse(batch[0], error)
        self._position = position
        self.delivery.say("tracker", {"tracker": self.named.name, "position": position, "problem": ""})

    def _refuse(self, record: Record, error: Exception) -> None:
        what = f"{self.named.name} refused {record.kind} record {record.file}:{record.seq}: {error}"
        self.delivery.say("warning", {"message": self.delivery.project.config.redact(what)})


@define
class Delivery:
    """All trackers and the registry of one run, by the process that holds the claim `journal`."""

    directory: RunDirectory
    project: Project
    journal: JournalWriter
    on_move: Callable[[], None] = lambda: None
    live: LiveState = field(init=False)
    channels: list[Channel] = field(factory=list)
    registered: bool = False

    def __attrs_post_init__(self) -> None:
        config = self.project.config
        self.live = LiveState(self.directory)
        if config.ml.enabled:
            self.channels = [Channel(named, self) for named in config.trackers]

    @property
    def is_done(self) -> bool:
        """Everything is where it belongs, and nothing more will come."""
        state = self.live.state
        return state.status in TERMINAL and state.pending == 0 and (self.registered or not self._has_model())

    def step(self) -> bool:
        """Deliver what there is now; returns whether anything moved.

        Raises `Unreachable`, or what else held a tracker up, when all others have been served.
        """
        moved, failed = self._round()
        for error in failed.values():
            raise error
        return moved

    def _round(self) -> tuple[bool, dict[str, PrismError]]:
        """Serve every tracker once: whether anything moved, and by name what holds up which."""
        if not still_mine(self.directory, self.journal):
            raise PrismError("another process has taken over the delivery")
        # The status first: everything that was said before it is then in what is delivered below.
        self.live.poll()
        status, ended = self.live.state.status, self.live.state.ended
        moved = False
        failed: dict[str, PrismError] = {}
        for channel in self.channels:
            try:
                moved = channel.deliver() or moved
                channel.settle(status, ended)
            except (Exception, SystemExit) as error:  # the plugin boundary: one tracker must not hold up the others
                failed[channel.named.name] = explained = _explained(error, channel.named.name)
                self._report(explained, (channel,))
        register = status == "FINISHED" and self._has_model() and not self.registered
        if register and not (self.channels and self.channels[0].named.name in failed):  # the registry is the first's
            self._register()
            moved = True
        if moved:
            self.on_move()
        return moved, failed

    def run(self, *, wake: Path, stop: threading.Event) -> None:
        """Deliver until done or `stop`; pauses grow while a server is out of reach, `wake` ends one early."""
        pause = IDLE_SECONDS
        while not stop.is_set() and not self.is_done:
            woken = _touched(wake)
            try:
                moved, failed = self._round()
                held_up = bool(failed)
            except Exception as error:  # the plugin boundary: whatever it is, try again later and say so
                self._report(error, self.channels)
                moved, held_up = False, True
            if held_up:
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                pause = 0.0 if moved and self.live.poll().status in TERMINAL else IDLE_SECONDS
            _pause(pause, wake=wake, woken=woken, stop=stop)
            pause = max(pause, IDLE_SECONDS)

    def tracked_run(self) -> TrackedRun:
        """The run as trackers and registries are told it."""
        state, config = self.live.state, self.project.config
        ids = {name: tracker.run_id for name, tracker in state.trackers.items() if tracker.run_id}
        return TrackedRun(
            ref=RunRef(self.directory.run_id, self.directory.path, ids),
            project=config.project,
            experiment=config.foundation.experiment_name,
            name=state.name,
            started=state.started,
            description=state.configuration.get("description", ""),
            settings=config.section("ml"),
        )

    def say(self, kind: str, data: Mapping[str, Any]) -> None:
        self.journal.write(kind, data)

    def _report(self, error: Exception, channels: Iterable[Channel]) -> None:
        text = error.message if isinstance(error, PrismError) else f"{type(error).__name__}: {error}"
        problem = self.project.config.redact(text)
        for channel in channels:
            self.say("tracker", {"tracker": channel.named.name, "problem": problem})

    def _has_model(self) -> bool:
        model = self.live.state.model
        return model is not None and model["state"] in ("intended", "pending")

    def _register(self) -> None:
        model = self.live.state.model or {}
        try:
            version = open_registry(self.project).register(
                self.directory.model,
                name=model["name"],
                version=model["version"],
                digest=model["digest"],
                tags=self.live.model_tags,
                run=self.tracked_run(),
            )
            told = _registration("registered", version=version.version, url=version.url)
        except EnvironmentUnfit:
            raise
        except GateRefused as error:
            told = _registration("refused", version=model["version"], reason=error.message)
        except Exception as error:  # the plugin boundary
            told = _registration("refused", version=model["version"], reason=f"{type(error).__name__}: {error}")
        told["reason"] = self.project.config.redact(told["reason"])
        self.say("registration", {"digest": model["digest"], "name": model["name"], **told})
        self.registered = True


def open_registry(project: Project) -> ModelRegistry:
    """The registry that goes with the first tracker: the one of the same name. Raises `EnvironmentUnfit`."""
    name = project.config.trackers[0].name if project.config.trackers else "mlflow"
    registry: ModelRegistry = project.plugins.build("model_registry", name, None)
    registry.open(project.config.project, project.config.section("ml"))
    return registry


def _explained(error: BaseException, name: str) -> PrismError:
    """What a tracker raised, as an error that says whose it is."""
    if isinstance(error, PrismError):
        return error
    return WorkFailed(f"the tracker {name!r} failed: {type(error).__name__}: {error}")


def _registration(state: str, *, version: str, reason: str = "", url: str = "") -> dict[str, str]:
    return {"state": state, "version": version, "reason": reason, "url": url}


def _touched(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _pause(seconds: float, *, wake: Path, woken: float, stop: threading.Event) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and _touched(wake) == woken and not stop.wait(0.1):
        pass
