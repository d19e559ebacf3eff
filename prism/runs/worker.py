"""The process that does a run's work, one per rank: `python -m prism.runs.worker RUN_DIRECTORY …`."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from attrs import field, frozen

from prism.config.credentials import take_credentials
from prism.errors import EnvironmentUnfit, PrismError, Stopped, WorkFailed
from prism.journal.directory import RunDirectory
from prism.launch.membership import membership
from prism.project import Project, open_project
from prism.runs.beginning import describe_run, enter_attempt, enter_trackers
from prism.runs.ending import ending_of, speaks_for_itself
from prism.runs.evaluating import evaluate_run, load_questions
from prism.runs.handle import Run
from prism.runs.orphans import die_with_launcher
from prism.runs.signals import StopRequest
from prism.runs.start import host
from prism.runs.threads import ThreadFailures, others_are_alive, watch_threads
from prism.runs.usercode import call_experiment, is_task, load_object, make, parse_target, run_script
from prism.stderr import tell


@frozen
class WorkerJob:
    """What a worker is told: the run, the configuration with its overrides, and the user's code."""

    directory: Path
    attempt: int
    file: Path
    overrides: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    target: str = ""
    name: str = ""
    note: str = ""
    tags: Mapping[str, str] = field(factory=dict)
    debug: bool = False
    arguments: tuple[str, ...] = ()

    def words(self) -> tuple[str, ...]:
        """Python's arguments that start this job."""
        options = ["--attempt", str(self.attempt), "--file", str(self.file)]
        for flag, values in (("--set", self.overrides), ("--off", self.off)):
            options += [word for value in values for word in (flag, value)]
        options += [word for key, value in self.tags.items() for word in ("--tag", f"{key}={value}")]
        for flag, text in (("--target", self.target), ("--name", self.name), ("--note", self.note)):
            options += [flag, text] if text else []
        options += ["--debug"] if self.debug else []
        return ("-m", "prism.runs.worker", str(self.directory), *options, "--", *self.arguments)


def parse_words(words: Sequence[str]) -> WorkerJob:
    """The inverse of `WorkerJob.words`, without `-m prism.runs.worker`."""
    split = words.index("--")
    parser = argparse.ArgumentParser("python -m prism.runs.worker")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--off", action="append", default=[])
    parser.add_argument("--tag", action="append", default=[])
    parser.add_argument("--target", default="")
    parser.add_argument("--name", default="")
    parser.add_argument("--note", default="")
    parser.add_argument("--debug", action="store_true")
    given = parser.parse_args(list(words[:split]))
    return WorkerJob(
        directory=given.directory,
        attempt=given.attempt,
        file=given.file,
        overrides=tuple(given.set),
        off=tuple(given.off),
        target=given.target,
        name=given.name,
        note=given.note,
        tags=dict(tag.split("=", 1) for tag in given.tag),
        debug=given.debug,
        arguments=tuple(words[split + 1 :]),
    )


def work(job: WorkerJob, run: Run, *, project: Project) -> None:
    """Do what the run is for: train, or the user's code; then evaluate the model that came of it."""
    target = parse_target(job.target) if job.target else None
    questions = load_questions(run) if run.rank == 0 else []
    if target is None:
        _train(None, run, project=project)
    elif not target.name:
        run_script(target, job.arguments, run=run)
    else:
        found = load_object(target, job.arguments)
        if is_task(found):
            _train(make(found, run), run, project=project)
        else:
            call_experiment(found, run)
    run.stop_if_told()
    if run.rank == 0:
        evaluate_run(run, questions, project=project)


def _train(task: object | None, run: Run, *, project: Project) -> None:
    trainer = project.build("trainer", project.config.trainer)
    run.log_model(trainer.train(task, run))


def _check_world_size(environ: Mapping[str, str]) -> None:
    wanted, found = int(environ.get("PRISM_PROCESSES", 1)), membership(environ).world_size
    if found < wanted:
        raise EnvironmentUnfit(
            f"{wanted} processes were asked for and the launcher made {found}",
            hint="two processes on CPU need torchrun, or accelerate launch --multi_gpu with ACCELERATE_USE_CPU=true",
        )


def _report(error: BaseException, run: Run, *, debug: bool) -> None:
    """What went wrong, on stderr: a message for errors that explain themselves, a traceback for others."""
    if isinstance(error, SystemExit) and isinstance(error.code, str):
        tell(run.config.redact(f"{error.code}\n"))  # as Python itself would say it
    if speaks_for_itself(error) or (debug and isinstance(error, PrismError)):
        tell(run.config.redact("".join(traceback.format_exception(error))))
    elif isinstance(error, PrismError):
        tell(run.config.redact(f"error: {error}\n"))


def _enter(job: WorkerJob, stop: StopRequest) -> tuple[Run, Project]:
    project = open_project(job.file, overrides=job.overrides, off=job.off)
    credentials = take_credentials(project.config, os.environ)  # nothing that the work starts needs them
    directory = RunDirectory(job.directory)
    run = enter_attempt(directory, project=project, attempt=job.attempt, owner="prism", stop=stop)
    if run.rank == 0:
        describe_run(run.say, project, name=job.name, note=job.note, tags=job.tags, target=job.target)
    host(run, credentials=credentials)
    enter_trackers(run, project)
    return run, project


def main() -> None:
    job = parse_words(sys.argv[1:])
    stop = StopRequest()
    stop.install()
    try:
        run, project = _enter(job, stop)
    except (PrismError, Stopped, KeyboardInterrupt) as error:
        if isinstance(error, PrismError):
            tell(f"error: {error}\n")
        sys.exit(ending_of(error)[1])
    threads = watch_threads()
    killed = WorkFailed("the command that had started this process was killed")
    last_words = partial(run.end, "FAILED", error=killed, exit_code=128 + signal.SIGKILL)
    die_with_launcher(RunDirectory(job.directory), attempt=job.attempt, rank=run.rank, last_words=last_words)
    failure: BaseException | None = None
    try:
        _check_world_size(os.environ)
        work(job, run, project=project)
    except BaseException as error:  # whatever user code raises decides the status; it is reported, never swallowed
        failure = error
        _report(error, run, debug=job.debug)
    end = partial(_end, run, failure, threads=threads, stop=stop, asked=stop.signal_number)
    if others_are_alive() and ending_of(failure)[0] != "KILLED":
        atexit.register(end)  # comes when Python has waited for the other threads: they may have more to say
    else:
        end()
    sys.exit(ending_of(failure or threads.first)[1])


def _end(run: Run, failure: BaseException | None, *, threads: ThreadFailures, stop: StopRequest, asked: int) -> None:
    """End the run as its work ended. `asked`: the signal by which the work had been asked to stop when it ended."""
    if failure is None and stop.signal_number != asked:  # while Python waited for threads
        failure = Stopped(stop.signal_number)
    failure = failure or threads.first
    status, code = ending_of(failure)
    run.end(status, error=failure if status == "FAILED" else None, exit_code=code)
    with suppress(OSError, ValueError, AttributeError):  # user code may have closed it
        sys.stdout.flush()


if __name__ == "__main__":
    main()
