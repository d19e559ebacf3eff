"""`Run`: what user code and trainers get to say and ask about the run they are in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from attrs import evolve

from prism.errors import Stopped, UsageError
from prism.journal.directory import RunDirectory, parse_journal_name
from prism.journal.kinds import clash, misfit
from prism.journal.records import JournalWriter, number
from prism.protocols import DataClient, DatasetVersion, Ranks
from prism.runs.checkpoints import (
    foreign_checkpoint,
    latest_checkpoint,
    prune_checkpoints,
    published_checkpoints,
    write_checkpoint,
)
from prism.runs.closing import conclude
from prism.runs.custom_metrics import custom_metrics_of
from prism.runs.datasets import Dataset, find_dataset, keep_version
from prism.runs.ending import ending_of, speaks_for_itself, summary_of, write_traceback
from prism.runs.files import KeptFiles, log_folder
from prism.runs.models import keep_model, registration_intent, taken_by_earlier
from prism.runs.ranks import Alone
from prism.runs.signals import StopRequest
from prism.runs.threads import watch_threads
from prism.runs.values import artifact_name, flatten, whole_step
from prism.stderr import tell

if TYPE_CHECKING:
    from prism.config import Configuration
    from prism.config.parameters import Parameters
    from prism.config.sections import ModelRepo
    from prism.project import Project

_EXACT = ("metrics", "file", "checkpoint", "model", "dataset", "start", "end", "heartbeat")
"""Kinds whose names and digests must stay as they are; in all others a secret may stand."""
_TOLD_OF_RANKS = ("metrics", "params", "tags", "file")
"""Kinds that trackers are told of ranks above 0, where `ml.ranks` asks for it."""

runs_of_this_process: WeakValueDictionary[str, Run] = WeakValueDictionary()  # by their directories


class Run:
    """One process's hold on a run. Passed to user code, never looked up.

    Everything said is in the journal when the call returns; delivery to trackers is another
    process's work, so nothing here waits for a server or fails because of one.
    """

    def __init__(
        self,
        directory: RunDirectory,
        *,
        project: Project,
        journal: JournalWriter,
        attempt: int = 1,
        ranks: Ranks | None = None,
        stop: StopRequest | None = None,
        owner: str = "user",
        on_finish: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._project = project
        self._journal = journal
        self._stop = stop or StopRequest()
        self._owner = owner
        self._on_finish = on_finish
        runs_of_this_process[str(directory.path)] = self
        self._pid = os.getpid()
        self.journal_file = journal.path.stem
        self._kept = KeptFiles(directory.path, self.journal_file)
        self._threads = watch_threads()
        self._data_client: DataClient | None = None
        self._before_success: list[Callable[[], None]] = []
        self.attempt = attempt
        self.ranks: Ranks = ranks or Alone()
        self.status = "RUNNING"
        self._marks = _marks_of(self.journal_file, project.config.ml.ranks)
        self._custom = custom_metrics_of(self, directory)

    @property
    def run_id(self) -> str:
        return self._directory.run_id

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self._directory.path

    @property
    def project(self) -> Path:
        """The folder of the YAML."""
        return self.config.project

    @property
    def scratch(self) -> Path:
        """A folder for work in progress inside the run directory, removed when the run has finished."""
        self._directory.scratch.mkdir(exist_ok=True)
        return self._directory.scratch

    @property
    def config(self) -> Configuration:
        return self._project.config

    @property
    def params(self) -> Parameters:
        """`ml.parameters`, resolved: a read-only mapping with attribute access."""
        return self.config.ml.parameters

    @property
    def rank(self) -> int:
        return self.ranks.rank

    @property
    def world_size(self) -> int:
        return self.ranks.world_size

    def log_metrics(self, metrics: Mapping[str, Any], *, step: int | None = None, timestamp: int | None = None) -> None:
        """Log numbers (Python, numpy or torch scalars) at an optimizer `step`.

        `timestamp`, in milliseconds since the epoch, is given where the points are not of now.
        """
        points = {str(name): number(value) for name, value in metrics.items()}
        step = whole_step(step)
        if self._custom is not None:
            points.update(self._custom.observe(step, points))
        when = {} if timestamp is None else {"timestamp": timestamp}
        self.say("metrics", {"step": step, "metrics": points, **when})

    def log_metric(self, name: str, value: Any, *, step: int | None = None) -> None:
        self.log_metrics({name: value}, step=step)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; nested mappings become dotted names, other values their JSON or text."""
        self.say("params", {"params": dict(flatten(params))})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        self.say("tags", {"tags": {str(name): str(value) for name, value in tags.items()}})

    def log_artifact(self, path: str | Path, *, name: str | None = None) -> None:
        """Keep a file, or every file of a folder, as it is now; `name` is its path among the artifacts."""
        source = Path(path)
        if source.is_dir():
            log_folder(source, name or source.absolute().name, log=self.log_artifact, warn=self.warn)
            return
        name = artifact_name(name or source.name)
        self._keep(name, lambda: self._kept.keep(source, name=name))

    def log_text(self, text: str, *, name: str) -> None:
        """Keep a text as an artifact of that name."""
        name = artifact_name(name)
        self._keep(name, lambda: self._kept.keep_text(self.config.redact(text), name=name))

    def log_model(self, folder: str | Path, *, repo: ModelRepo | None = None) -> None:
        """Keep a finished model folder whole; it is registered once the run has succeeded.

        `repo` says under which name, version and tags, in place of `ml.model_repo`. Rank 0's call counts, and the
        last one. A model with non-finite weights is kept and never registered.
        """
        if self.rank > 0:
            return
        kept = keep_model(Path(folder), self._directory.model)
        if kept.non_finite:
            self.warn(f"the model has non-finite weights and will not be registered: {', '.join(kept.non_finite[:5])}")
        intent = None if kept.non_finite else registration_intent(self.config, repo=repo)
        if taken := intent and taken_by_earlier(self._directory, intent, digest=kept.digest):
            self.warn(taken)
        self.say("model", {"path": "model", "digest": kept.digest, "size": kept.size, "register": intent})
        self._journal.sync()

    def log_evaluation(
        self, data: str, *, metrics: Mapping[str, Any], signatures: Mapping[str, str], samples_file: str
    ) -> None:
        """Record scores of the dataset `data`: the metrics, and where and how they were computed."""
        self.log_metrics(metrics)
        self.say("evaluation", {"data": data, "signatures": dict(signatures), "samples_file": samples_file})

    def warn(self, message: str) -> None:
        """Say one line on stderr (rank 0), and keep it in the journal."""
        message = self.config.redact(message)
        if self.rank == 0:
            tell(f"warning: {message}\n")
        self.say("warning", {"message": message})

    def dataset(self, name: str, *, use: str = "train") -> Dataset:
        """The dataset by its name: resolved by the data client, fetched, verified, recorded as used for `use`.

        Raises `prism.errors.DataError`.
        """
        found = find_dataset(self._project, name, client=self._data_client)
        self.record_dataset(found.as_version(), use=use)
        return found

    def use_data_client(self, client: DataClient | None) -> None:
        """Resolve this run's datasets with `client` from now on; None: with the one that the configuration names."""
        self._data_client = client

    def record_dataset(self, version: DatasetVersion, *, use: str) -> None:
        """Record that this run uses a dataset version."""
        version = evolve(version, uri=self.config.redact(version.uri))
        keys = {"name": version.name, "version": version.version, "digest": version.digest, "uri": version.uri}
        self.say("dataset", {**keys, "use": use})
        if self.rank == 0:
            with suppress(OSError, ValueError):  # the journal has the digest; a full disk ends no training
                keep_version(self._directory.datasets, version)

    @contextmanager
    def checkpoint(self, *, step: int, keep: int | None = None) -> Iterator[Path]:
        """A folder to write a checkpoint to, published whole when the block ends without an error.

        All ranks call it. Afterwards the newest `keep` checkpoints remain (None: all).
        """
        folder = self._directory.checkpoints
        with write_checkpoint(folder, step=step, attempt=self.attempt, ranks=self.ranks) as target:
            yield target
        self._stop.saved = self._stop.told
        self._journal.sync()
        if self.rank == 0:
            newest = published_checkpoints(folder)[0]
            facts = {"step": step, "folder": newest.folder.name, "digest": newest.digest, "size": newest.size}
            self.say("checkpoint", facts)
            if keep is not None:
                prune_checkpoints(folder, keep=keep)

    def record_checkpoint(self, path: str | Path, *, step: int) -> None:
        """Record a checkpoint, a folder or a file, that other code has written and keeps: where, and its digest.

        It is read whole for that. `latest_checkpoint()` knows nothing of it. Rank 0's call counts. Raises `DataError`
        for one that changes meanwhile, `OSError` for one that cannot be read.
        """
        if self.rank == 0:
            self.say("checkpoint", {"step": step, **foreign_checkpoint(Path(path))})

    def latest_checkpoint(self) -> Path | None:
        """The newest whole checkpoint of this run, verified by its digests, or None."""
        name = None
        if self.rank == 0:
            found = latest_checkpoint(self._directory.checkpoints, report=self.warn)
            name = found.folder.name if found else None
        name = self.ranks.broadcast(name)
        return self._directory.checkpoints / name if name else None

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop (SIGTERM, Ctrl-C): save, then call `stop()` or return.

        Code that goes on all the same is stopped when it asks again after a checkpoint. With several
        ranks this is a collective call: all ask at the same place, and all get the same answer.
        """
        asked = self.ranks.any(self._stop.look())
        if asked and self._stop.saved:
            self.stop()
        self._stop.told = asked
        return asked

    def stop_if_told(self) -> None:
        """`stop()`, if `stopping` has been true: for what would follow the work."""
        if self._stop.told:
            self.stop()

    def stop(self) -> None:
        """End the work now, as the signal asked: raises `prism.errors.Stopped`."""
        raise Stopped(self._stop.signal_number or 15)

    def finish(self, status: str = "FINISHED", *, error: BaseException | None = None) -> None:
        """Say that the run has ended: FINISHED, FAILED or KILLED. Saying it again changes nothing.

        Under `prism run` it is Prism that ends the run, when the work and what follows it are done.
        """
        if self._owner == "user":
            self.end(status, error=error)

    def before_success(self, act: Callable[[], None]) -> None:
        """Call `act` when the run is about to be FINISHED, for what has to see the last state of the work.

        An exception that it raises fails the run.
        """
        self._before_success.append(act)

    def end(self, status: str, *, error: BaseException | None = None, exit_code: int | None = 0) -> None:
        """Write the end, sync the journal and close it; for whoever owns the run.

        A run of user code in which an exception has ended a thread is not FINISHED but FAILED. `exit_code`
        is None where the process does not know it yet.
        """
        if status not in ("FINISHED", "FAILED", "KILLED"):
            raise UsageError(f"{status!r} is no status a run can end with", hint="FINISHED, FAILED or KILLED")
        if self.status != "RUNNING" or os.getpid() != self._pid:  # a forked child's end is not the run's
            return
        if status == "FINISHED" and self._owner == "user" and self._threads.first is not None:
            status, error = "FAILED", self._threads.first
        elif status == "FINISHED" and (error := conclude(self, self._project, acts=self._before_success)) is not None:
            status, exit_code = "FAILED", exit_code or 1
        message = self.config.redact(summary_of(error)) if error else ""
        if error is not None and not (self._owner == "prism" and speaks_for_itself(error)):
            write_traceback(error, self._directory.logs / f"{self.journal_file}-error.log", redact=self.config.redact)
        self._journal.use_room()
        if shortfall := self._journal.shortfall():
            self.warn(shortfall)
        self.status = status
        self.say("end", {"status": status, "exit_code": exit_code, "error": message})
        self._journal.close()
        self._on_finish()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        status, exit_code = ending_of(error)
        if self._owner == "user":
            self.end(status, error=error if status == "FAILED" else None, exit_code=exit_code)

    def _repr_html_(self) -> str:
        from prism.runs.notebook import render_run  # only a notebook asks

        return render_run(self._directory)

    def __reduce__(self) -> tuple[Callable[[str], Run], tuple[str]]:
        """For a process that is given this run (spawned by `multiprocessing`, say): it joins the run."""
        from prism.runs.inside import run_of_this_process  # which imports this module

        return run_of_this_process, (str(self.directory),)

    def __repr__(self) -> str:
        return f"<Run {self.run_id} {self.status}>"

    def say(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append a record of any kind (see `docs/reference/journal.md`) to this process's journal."""
        if self.status != "RUNNING" and kind != "end":
            raise UsageError(f"the run {self.run_id} has ended ({self.status}); nothing more can be logged to it")
        if problem := clash(kind, data) or misfit(kind, data):
            raise UsageError(problem, hint="docs/reference/journal.md has the fields of each kind")
        data = self.config.redactor.redact_values(data) if kind not in _EXACT else data
        self._journal.write(kind, {**data, **self._marks} if self._marks and kind in _TOLD_OF_RANKS else data)

    def _keep(self, name: str, keep: Callable[[], Mapping[str, Any]]) -> None:
        """Record a kept file; one that the disk has no room for is said and not kept, and the work goes on."""
        try:
            facts = keep()
        except OSError as error:
            self.warn(f"the artifact {name} could not be kept in {self.directory}: {error.strerror or error}")
        else:
            self.say("file", facts)


def _marks_of(stem: str, asked: str | Sequence[int]) -> Mapping[str, Any]:
    """What is added to records of a rank above 0 so that trackers are told of them."""
    rank = parse_journal_name(stem).rank or 0
    return {"told": True} if rank > 0 and (asked == "all" or rank in asked) else {}
