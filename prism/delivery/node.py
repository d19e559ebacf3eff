"""The process beside a run, one per node: it watches the workers and delivers their journal.

Started by exec in a session of its own, so that what kills the run does not kill it. It ends when
the run has ended and all is delivered, or when nothing has moved for ten minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from attrs import asdict, define, field

from prism.config.credentials import credential_variables
from prism.delivery.awaiting import is_over
from prism.delivery.channels import Delivery
from prism.delivery.claim import Claim, wake
from prism.delivery.reopening import reopen_project
from prism.delivery.system_metrics import Sampled, sample_system_metrics
from prism.delivery.watch import Watch
from prism.journal.directory import RunDirectory
from prism.journal.identity import ProcessIdentity
from prism.journal.opening import open_journal
from prism.journal.records import JournalWriter
from prism.journal.state import TERMINAL, RunState, write_run_summary
from prism.project import Project
from prism.stderr import tell

LOOK_SECONDS = 0.2
GIVE_UP_SECONDS = 600.0
SUMMARY_SECONDS = 5.0
CLAIM_SECONDS = 1.0
GIVE_BACK_SECONDS = 2.0


def start_node_process(directory: RunDirectory, project: Project, *, sampled: Sampled | None = None) -> None:
    """Start the process beside the run. Secrets go through its standard input, which nobody else can read.

    `sampled` says whose machine's figures it journals; None where no worker of the run is.
    """
    withheld = credential_variables(project.config, os.environ)
    try:
        with (directory.logs / f"node-{ProcessIdentity.mine().key()}.log").open("ab") as log:
            process = subprocess.Popen(
                # -P: a module of the project called like one of ours or of Python's is not meant
                [sys.executable, "-P", "-m", "prism.delivery.node", str(directory.path)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=project.config.project,
                env={name: value for name, value in os.environ.items() if name not in withheld},
            )
    except OSError as error:
        tell(f"warning: the process beside the run did not start ({error.strerror}); later: prism sync\n")
        return
    hello = {"secrets": project.config.secrets(), "sampled": asdict(sampled) if sampled else None}
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(hello).encode())
        process.stdin.close()
    except BrokenPipeError:
        tell(f"warning: the process beside the run did not start; see {directory.logs}, later: prism sync\n")
    process.returncode = 0  # it outlives us, and nobody waits for it


@define
class NodeProcess:
    """Watches, and is never held up: threads of their own talk to servers. `given_back`: it has no claim now."""

    directory: RunDirectory
    project: Project
    journal: JournalWriter
    sampled: Sampled | None = None
    stop: threading.Event = field(factory=threading.Event)
    last_move: float = field(factory=time.monotonic)
    delivered: threading.Event = field(factory=threading.Event)
    given_back: threading.Event = field(factory=threading.Event)

    def run(self) -> None:
        """Watch and deliver until the work here is over and delivered, or nothing moves any more."""
        watch = Watch(self.directory, self.journal)
        self.given_back.set()
        threading.Thread(target=self._deliver, args=(watch,), daemon=True).start()
        if self.sampled is not None and self.project.config.ml.system_tracing:
            sample = partial(sample_system_metrics, lambda: watch.live.state, self.project, self.journal)
            threading.Thread(target=partial(sample, sampled=self.sampled, stop=self.stop), daemon=True).start()
        written, status = 0.0, ""
        while self.directory.path.is_dir():  # somebody may delete it
            state = watch.look(seconds=LOOK_SECONDS)
            if state.status != status or time.monotonic() - written > SUMMARY_SECONDS:
                write_run_summary(state)
                written = time.monotonic()
            if state.status != status:
                wake(self.directory)
                status = state.status
            if _work_is_over(watch, state):
                delivered = self.delivered.is_set() or (self.given_back.is_set() and is_over(state))
                if delivered or time.monotonic() - self.last_move > GIVE_UP_SECONDS:
                    break
            else:
                self.last_move = time.monotonic()
        self.stop.set()
        self.given_back.wait(GIVE_BACK_SECONDS)
        watch.close()
        self.journal.close()
        write_run_summary(watch.live.poll())

    def _deliver(self, watch: Watch) -> None:
        """Deliver whenever nobody else does, until all is delivered."""
        claim = Claim(self.directory)
        while not (self.stop.is_set() or self.delivered.is_set()):
            journal = _claimed(claim, watch.live.state)
            if journal is None:
                self.stop.wait(CLAIM_SECONDS)
                continue
            self.given_back.clear()
            delivery = Delivery(self.directory, self.project, journal, on_move=self._moved)
            delivery.run(stop=self.stop)
            if delivery.is_done:
                self.delivered.set()
            self.given_back.set()
            if not self.delivered.is_set():
                claim.stand_back()

    def _moved(self) -> None:
        self.last_move = time.monotonic()


def _claimed(claim: Claim, state: RunState) -> JournalWriter | None:
    """The journal of a delivery by this process; None while nothing is to be delivered, or not by this process."""
    if not (is_over(state) or claim.stands_back()):
        with suppress(OSError):  # a disk that is full or read-only now: it may be better later
            return claim.take()
    return None


def _work_is_over(watch: Watch, state: RunState) -> bool:
    """Whether no process of the run is at work on this machine, nor will be."""
    if watch.local_work_is_over:
        return True
    processes = [*state.processes.values(), *state.launchers.values()]
    return state.status in TERMINAL and not any(process.is_here for process in processes)


def main() -> None:
    """`python -m prism.delivery.node RUN_DIRECTORY`, with `{"secrets":…, "sampled":…}` on standard input."""
    os.nice(5)  # the training comes first
    directory = RunDirectory(Path(sys.argv[1]))
    hello = json.loads(sys.stdin.buffer.read())
    journal = open_journal(directory, f"node-{ProcessIdentity.mine().key()}", role="node")
    project = reopen_project(directory, secrets=hello["secrets"])
    sampled = Sampled(**hello["sampled"]) if hello["sampled"] else None
    NodeProcess(directory, project, journal, sampled).run()
    os._exit(0)  # a thread may hang in a call to a server that never answers


if __name__ == "__main__":
    main()
