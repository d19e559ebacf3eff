"""`prism run`: begin the run, start its worker as a child, pass signals on, wait, and say what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from attrs import field, frozen

from prism.delivery.awaiting import await_delivery, is_over
from prism.delivery.node import start_node_process
from prism.delivery.system_metrics import Sampled
from prism.errors import EnvironmentUnfit, GateRefused, UsageError
from prism.journal.directory import RunDirectory, parse_journal_name, remove_run_directory
from prism.journal.ends import STOPPING
from prism.journal.opening import claim_journal, open_journal
from prism.journal.records import JournalWriter
from prism.journal.state import LiveState, RunState, read_state
from prism.launch.membership import membership
from prism.launch.topology import detect, first_rank, node_name
from prism.project import Project
from prism.protocols import Job, LaunchPlan, Topology
from prism.runs.beginning import begin_run, keep_origin
from prism.runs.foreign import Place, join_foreign_launch
from prism.runs.output import CapturedOutput, OutputLog
from prism.runs.preflight import check_before_run
from prism.runs.resuming import next_attempt
from prism.runs.signals import heeded
from prism.runs.worker import WorkerJob

SILENT_SECONDS = 8.5  # with the ends of the work and of this process less than 10 s
EMBEDDED_SECONDS = 60.0
GRACE_SECONDS = 5.0


@frozen
class RunRequest:
    """What the command line asked for."""

    target: str = ""
    arguments: tuple[str, ...] = ()
    name: str = ""
    note: str = ""
    tags: Mapping[str, str] = field(factory=dict)
    processes: int | None = None
    resume: RunDirectory | None = None
    off: tuple[str, ...] = ()
    debug: bool = False


@frozen
class Outcome:
    """How a run ended: the exit code, and its state once delivery was waited for."""

    exit_code: int
    state: RunState


def describe_topology(request: RunRequest, project: Project) -> Topology:
    """Where `execute` would run it, and why."""
    return detect(os.environ, processes=request.processes or project.config.launcher.processes)


def plan_run(request: RunRequest, project: Project, *, place: Place) -> LaunchPlan:
    """The command that does the run's work. Pure: starts and writes nothing."""
    job = WorkerJob(
        directory=place.directory.path,
        attempt=place.attempt,
        file=project.config.path,
        overrides=project.overrides,
        off=request.off,
        target=request.target,
        name=request.name,
        note=request.note,
        tags=request.tags,
        debug=request.debug,
        arguments=request.arguments,
    )
    topology = describe_topology(request, project)
    environment = {
        "PRISM_RUN_ID": place.directory.run_id,
        "PRISM_RUN_DIRECTORY": str(place.directory.path),
        "PRISM_ATTEMPT": str(place.attempt),
        "PRISM_PROCESSES": str(topology.processes * topology.nodes),
    }
    if topology.launched:
        return LaunchPlan((sys.executable, *job.words()), environment)
    plan: LaunchPlan = project.build("launcher", project.config.launcher).plan(Job(job.words(), environment), topology)
    return plan


def execute(request: RunRequest, project: Project, *, begun: Callable[[RunDirectory], None]) -> Outcome:
    """Run it, telling `begun` where. Raises `UsageError` and `EnvironmentUnfit` before anything was started.

    The exit code is the work's own; 3 when the work is done and its model was refused.
    """
    check_before_run(project, target=request.target)
    place = _place(request, project)
    plan = plan_run(request, project, place=place)
    topology, mine = describe_topology(request, project), membership(os.environ)
    first = first_rank(topology, os.environ)
    stem = f"a{place.attempt}-launch" + (f"-r{first}" if first else "")
    facts = {"argv": [project.config.redact(word) for word in plan.argv]}
    try:
        journal = _begin_attempt(request, project, place=place, stem=stem, facts=facts, topology=topology)
        log = OutputLog(place.directory.logs / f"{stem.replace('launch', 'output')}.log", project.config.redact)
    except EnvironmentUnfit:
        if request.resume is None and not _is_shared(topology):
            remove_run_directory(place.directory)
        raise
    if first == 0:
        begun(place.directory)
    if mine.local_rank == 0:
        sampled = Sampled(place.attempt, node_name(topology))
        start_node_process(place.directory, project, sampled=sampled)
    code = _run_child(plan, CapturedOutput(log))
    try:
        code = _first_failure(place) or code
        lost = _write_end(journal, code)
        state = read_state(place.directory)
        waits = first == 0 or (mine.local_rank == 0 and state.part)  # a node's own folder may be gone when we are
        if waits and not lost:
            state = _await_delivery(place.directory, project)
    except OSError as error:  # a disk that has failed: the work's exit code stands
        state, lost = RunState(place.directory), str(error.strerror)
    if lost:
        state.status, state.error = _status_of(code), f"not recorded: {lost}"
    refused = code == 0 and state.model is not None and state.model["state"] == "refused"
    return Outcome(GateRefused.exit_code if refused else code, state)


def _place(request: RunRequest, project: Project) -> Place:
    topology = describe_topology(request, project)
    joined = join_foreign_launch(project, os.environ, topology=topology, resume=request.resume)
    if joined is not None:
        return joined
    if request.resume is not None:
        return Place(request.resume, next_attempt(request.resume))
    return Place(begin_run(project))


def _is_shared(topology: Topology) -> bool:
    """Whether this command is one of several of a launch that begin the same attempt."""
    return topology.launched or topology.nodes > 1


def _begin_attempt(
    request: RunRequest, project: Project, *, place: Place, stem: str, facts: Mapping[str, Any], topology: Topology
) -> JournalWriter:
    """This process's journal as a launcher; of several that resume a run at once, one gets it."""
    if request.resume is None or _is_shared(topology):
        return open_journal(place.directory, stem, role="launcher", facts=facts)
    try:
        journal = claim_journal(place.directory, stem, role="launcher", facts=facts)
    except FileExistsError:
        run_id = place.directory.run_id
        raise UsageError(f"another process resumes the run {run_id}", hint=f"prism runs show {run_id}") from None
    try:
        keep_origin(request.resume, project, attempt=place.attempt)
    except EnvironmentUnfit:
        journal.close()
        journal.path.unlink(missing_ok=True)  # nothing was started
        raise
    return journal


def _run_child(plan: LaunchPlan, output: CapturedOutput) -> int:
    """Start the command, forward signals, and return its exit code as a shell would give it."""
    for name, text in plan.files.items():
        Path(name).write_text(text, encoding="utf-8")
    try:
        child = subprocess.Popen(
            plan.argv, env={**os.environ, **plan.env}, stdout=output.stdout.child, stderr=output.stderr.child
        )
    except OSError as error:
        raise EnvironmentUnfit(f"cannot start {plan.argv[0]}: {error.strerror}") from error

    def forward(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in heeded()}
    output.start()
    code = child.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    output.finish()
    return 128 - code if code < 0 else code


def _write_end(journal: JournalWriter, code: int) -> str:
    """Say how the work has ended; why nobody will read it, "" when it is there."""
    journal.write("end", {"status": _status_of(code), "exit_code": code, "error": f"exit code {code}" if code else ""})
    journal.close()
    if journal.unrecorded:
        return "the journal could not be written"
    return "" if journal.path.exists() else f"the journal was deleted from {journal.path.parent}"


def _first_failure(place: Place) -> int:
    """The exit code of this attempt's rank that failed first: a launcher of several processes gives its own."""
    processes = read_state(place.directory).processes.items()
    mine = [process for file, process in processes if parse_journal_name(file).attempt == place.attempt]
    ends = sorted((process.end for process in mine if process.end), key=lambda end: end["time"])
    return next((int(end["exit_code"]) for end in ends if end["exit_code"]), 0)


def _status_of(code: int) -> str:
    if code == 0:
        return "FINISHED"
    return "KILLED" if code in [128 + number for number in STOPPING] else "FAILED"


def _await_delivery(directory: RunDirectory, project: Project) -> RunState:
    """Wait while delivery gets on: for a registration as long as the configuration says, for a silent server 8.5 s."""
    address = project.config.ml.tracking_uri or ""
    embedded = not address or address.startswith("sqlite:")  # made and opened here, slowly at worst, but never away
    silence = EMBEDDED_SECONDS if embedded else SILENT_SECONDS
    longest = project.config.ml.model_repo.await_registration_for
    return await_delivery(LiveState(directory), silence=silence, longest=longest, grace=GRACE_SECONDS, until=is_over)
