"""Runs that user code opens itself: `start_run` in a script or a notebook, and `@experiment`."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import define

from prism.config.credentials import take_credentials
from prism.delivery.node import start_node_process
from prism.delivery.system_metrics import Sampled
from prism.errors import UsageError, WorkFailed
from prism.journal.directory import RunDirectory
from prism.launch.membership import membership
from prism.launch.topology import node_of_worker
from prism.project import Project, as_overrides, open_project
from prism.runs.beginning import (
    begin_run,
    describe_run,
    enter_attempt,
    enter_trackers,
    keep_configuration,
    shown_parameters,
)
from prism.runs.ending import ending_of
from prism.runs.foreign import Place, join_foreign_launch
from prism.runs.handle import Run, runs_of_this_process
from prism.runs.inside import join_run
from prism.runs.leaving import watch_the_end
from prism.runs.termination import put_back, say_end_of, stand_in
from prism.runs.usercode import EXPERIMENT_MARK
from prism.stderr import tell

F = TypeVar("F", bound=Callable[..., Any])


@define
class OpenRuns:
    """The runs that this process has open, and how the process is about to end.

    `worker` is the run that `prism run` has begun for this process, which `start_run` joins. `own`
    are those that user code began, by configuration file, so that a notebook cell that is run again
    ends the run before; `begun` counts them. `done` are those whose work is done. `credentials` is what
    was taken out of the environment meanwhile.
    """

    worker: Run | None = None
    own: dict[Path, Run] = attrs.field(factory=dict)
    begun: int = 0
    done: set[str] = attrs.field(factory=set)
    credentials: dict[str, str] = attrs.field(factory=dict, repr=False)


_here = OpenRuns()
os.register_at_fork(after_in_child=_here.own.clear)  # they are the parent's, and go on when a child ends


def host(run: Run, *, credentials: Mapping[str, str]) -> None:
    """Let `start_run` in this process join `run`: said once, by the worker of `prism run`.

    `credentials` is what the worker took out of the environment.
    """
    _here.worker = run
    _here.begun += 1
    _here.credentials.update(credentials)


def hosted_run() -> Run | None:
    """The run that `prism run` has begun for this process, which `start_run` joins; None where it begins its own."""
    if _here.worker is None and "PRISM_RUN_DIRECTORY" in os.environ:  # a process that a worker has started
        directory = os.environ["PRISM_RUN_DIRECTORY"]
        held = runs_of_this_process.get(directory)
        return held if held is not None and held.status == "RUNNING" else join_run(Path(directory))
    return _here.worker


def start_run(
    file: str | Path | None = None,
    *,
    name: str = "",
    tags: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Run:
    """Begin a run in this process, or join the one that `prism run` has begun for it.

    `file` is the configuration (default: `sais_foundation.yaml`, searched upwards from here);
    `overrides` are "a.b.c": value pairs for this run only. End it with `run.finish()`, or use it as
    a context manager. A script that ends without an error has FINISHED; a notebook cell that is run
    again finishes the run before; a kernel that ends with its run open has FAILED. A run that is
    joined takes the tags; another file, a name or overrides do nothing then, and it warns.
    """
    hosted = hosted_run()
    if hosted is not None:
        elsewhere = file is not None and not _is_of(Path(file), hosted)
        return _joined(hosted, file=elsewhere, name=name, tags=tags, overrides=overrides)
    path = Path(file) if file is not None else None
    return start_in(
        open_project(path, overrides=as_overrides(overrides or {}), environ=outer_environment()),
        name=name,
        tags=tags,
    )


def hosted_project() -> Project | None:
    """The project of the run that `prism run` has begun for this process; None in any other, also one it started."""
    return _here.worker._project if _here.worker is not None else None


def reconfigure(project: Project) -> None:
    """Let the run that `prism run` has begun for this process have the values of `project`, and its record too.

    For packages that take overrides from user code. What has acted already (the trackers, the launcher) is as it
    was. Does nothing where there is no such run.
    """
    run = _here.worker
    if run is None or run.status != "RUNNING":
        return
    before, run._project = shown_parameters(run.config), project
    if run.rank == 0:
        keep_configuration(RunDirectory(run.directory), project, attempt=run.attempt)
        now = shown_parameters(project.config)
        changed = {key: value for key, value in now.items() if before.get(key, ...) != value}
        if changed and project.config.ml.auto_log:
            run.log_params(changed)


def outer_environment() -> dict[str, str]:
    """This process's environment, with the credentials that were taken out of it for the runs that are open."""
    return {**os.environ, **_here.credentials}


def start_in(project: Project, *, name: str = "", tags: Mapping[str, str] | None = None) -> Run:
    """Begin a run of this process's own in a project that is open already; otherwise as `start_run`.

    For packages that run user code; see `hosted_run` first.
    """
    before = _here.own.pop(project.config.path, None)
    if before is not None:
        before.finish()
    run = _begin(project, name=name, tags=tags or {})
    _here.own[project.config.path] = run
    _watch_the_end()
    stand_in(lambda number: say_end_of(list(_here.own.values()), number))
    return run


def say_done(run: Run) -> None:
    """Say that the work of `run` is done and the run is open only for what may be said of it yet.

    It has FINISHED when the process ends, a notebook's kernel too.
    """
    _here.done.add(run.run_id)


def _begin(project: Project, *, name: str, tags: Mapping[str, str]) -> Run:
    """A run of this process's own, or this process's part of its foreign launch's run."""
    _here.begun += 1
    place = join_foreign_launch(project, os.environ, ordinal=_here.begun) or Place(begin_run(project))
    leaving = ExitStack()
    run = enter_attempt(place.directory, project=project, attempt=place.attempt, on_finish=leaving.close)
    leaving.callback(_forget, project.config.path)
    credentials = take_credentials(project.config, os.environ)
    _here.credentials.update(credentials)
    leaving.callback(os.environ.update, credentials)
    if run.rank == 0:
        describe_run(run.say, project, name=name, tags=tags)
        tell(f"run {run.run_id} in {run.directory}\n")
    if membership(os.environ).local_rank == 0:
        sampled = Sampled(place.attempt, node_of_worker(os.environ))
        start_node_process(place.directory, project, sampled=sampled)
    try:
        leaving.callback(enter_trackers(run, project))
    except BaseException as error:
        run.end("FAILED", error=error, exit_code=None)
        raise
    return run


def _forget(file: Path) -> None:
    """The run of that configuration has ended."""
    _here.own.pop(file, None)
    if not _here.own:
        put_back()


def _joined(
    run: Run,
    *,
    file: bool,
    name: str,
    tags: Mapping[str, str] | None,
    overrides: Mapping[str, Any] | None,
) -> Run:
    """The run that `prism run` has begun; what only its beginning can set is said to do nothing."""
    if tags:
        run.set_tags(tags)
    ignored = [word for word, given in (("file", file), ("name", name), ("overrides", overrides)) if given]
    if ignored:
        run.warn(f"start_run joins the run that `prism run` has begun, without its {', '.join(ignored)}")
    return run


def _is_of(file: Path, run: Run) -> bool:
    """Whether a configuration file is that of the run; of a run that a process has joined only the folder is known."""
    if run is _here.worker:
        return file.resolve() == run.config.path.resolve()
    return file.resolve().parent == run.project.resolve()


def experiment(work: F) -> F:
    """Mark a function, or a class with `run(self, run)`, as an experiment.

    Called without a run it begins one, passes it on, and ends it with the right status.
    """
    mark = ExperimentMark()
    if inspect.isclass(work):
        if not callable(getattr(work, "run", None)):
            raise UsageError(f"the experiment {work.__name__!r} has no method run(self, run)")
        work.run = _opening(work.run, mark)  # type: ignore[attr-defined]
        setattr(work, EXPERIMENT_MARK, mark)
        return work
    opening = _opening(work, mark)
    setattr(opening, EXPERIMENT_MARK, mark)
    return opening  # type: ignore[return-value]


def mark_experiment(cls: type, work: Callable[..., Any]) -> Callable[..., Any]:
    """Let `prism run` know that `cls` is an experiment whose `run` is `work`, which begins or joins the run itself.

    For packages that run user code. Returns what is to stand at `cls.run`.
    """
    mark = ExperimentMark()

    @functools.wraps(work)
    def call(*arguments: Any, **named: Any) -> Any:
        mark.called = True
        return work(*arguments, **named)

    setattr(cls, EXPERIMENT_MARK, mark)
    return call


@define
class ExperimentMark:
    """Whether the experiment that carries this mark has been called in this process."""

    called: bool = False


def _opening(function: Callable[..., Any], mark: ExperimentMark) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        mark.called = True
        if any(isinstance(value, Run) for value in (*arguments, *named.values())):
            return function(*arguments, **named)
        with start_run() as run:
            if _accepts(function, (*arguments, run), named):
                return function(*arguments, run, **named)
            return function(*arguments, **named)

    return call


def _accepts(function: Callable[..., Any], arguments: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    return True


@functools.cache
def _watch_the_end() -> None:
    """Once per process: end what is still open when the interpreter exits."""
    watch_the_end(_end_open_runs)


def _end_open_runs(failure: BaseException | None) -> None:
    for run in list(_here.own.values()):
        if "ipykernel" in sys.modules and run.run_id not in _here.done:
            run.finish("FAILED", error=WorkFailed("the notebook's kernel ended before the run was finished"))
        else:
            status, code = ending_of(failure)
            known = None if failure is None else code  # of a process that leaves without an error it shows later
            run.end(status, error=failure if status == "FAILED" else None, exit_code=known)
