"""Project folders in which real processes run: the command line, launchers, scripts; all ended with their test."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from attrs import define, field, frozen

from prism.journal.directory import RunDirectory, list_runs
from prism.journal.records import read_journal
from prism.journal.state import RunState, read_state
from prism.protocols import Record

UNTRACKED = "foundation: {experiment_name: real}\nml: {enabled: false}\n"
OTHERS = ("PRISM", "MLFLOW", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC", "PET_", "SLURM_", "OMPI_")


@frozen
class Done:
    """A process that has ended: its exit code as a shell gives it, and what it wrote."""

    code: int
    out: str
    err: str


@define
class Started:
    """A process in a group of its own."""

    process: subprocess.Popen[str]

    def finish(self, *, within: float = 90) -> Done:
        """Wait for the end; a process that does not come to one is killed, and the test fails."""
        try:
            out, err = self.process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self.signal_group(signal.SIGKILL)
            out, err = self.process.communicate(timeout=10)
            pytest.fail(f"{self.process.args} did not end within {within} s:\n{out}\n{err}")
        code = self.process.returncode
        return Done(128 - code if code < 0 else code, out, err)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@define
class ProjectFolder:
    """A folder with a `sais_foundation.yaml`, and everything that was started in it."""

    path: Path
    _mark: str = field(factory=lambda: secrets.token_hex(8))
    _started: list[Started] = field(factory=list)

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def configure(self, text: str) -> Path:
        return self.write("sais_foundation.yaml", text)

    def start(self, argv: Sequence[str | Path], **environ: str) -> Started:
        """Start `argv` here; it has no other surroundings than those given."""
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=self.path,
            env={**self.surroundings(), **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(Started(process))
        return self._started[-1]

    def prism(self, *arguments: str | Path, within: float = 90, **environ: str) -> Done:
        """`prism ARGUMENTS` to its end."""
        return self.start_prism(*arguments, **environ).finish(within=within)

    def start_prism(self, *arguments: str | Path, **environ: str) -> Started:
        return self.start([sys.executable, "-m", "prism", *arguments], **environ)

    def python(self, *arguments: str | Path, within: float = 90, **environ: str) -> Done:
        """A plain Python to its end."""
        return self.start([sys.executable, *arguments], **environ).finish(within=within)

    def surroundings(self) -> dict[str, str]:
        """The environment of what is started here, with the mark by which it is found again."""
        return {**_surroundings(), "PRISM_TESTS_MARK": self._mark}

    # ------------------------------------------------------------ what came of it

    def runs(self) -> list[RunDirectory]:
        return list(list_runs(self.path))

    def run(self) -> RunDirectory:
        """The one run that there is."""
        found = self.runs()
        assert len(found) == 1, found
        return found[0]

    def state(self) -> RunState:
        return read_state(self.run())

    def records(self, kind: str) -> list[Record]:
        """The records of that kind in the run's journal."""
        readings = [read_journal(path) for path in self.run().journal_files()]
        return [record for reading in readings for record in reading.records if record.kind == kind]

    def log(self) -> str:
        """All that the run's `logs/` hold."""
        return "".join(path.read_text(encoding="utf-8") for path in sorted(self.run().logs.iterdir()))

    def await_file(self, name: str, *, within: float = 60) -> Path:
        path = self.path / name
        self.until(path.exists, within=within, what=f"{name} to be written")
        return path

    def await_watcher(self, *, within: float = 30) -> None:
        """Wait until the process beside the run is there: it has a second's start-up behind it in any real run."""
        self.until(
            lambda: [record for record in self.records("start") if record.data["role"] == "node"],
            within=within,
            what="the process beside the run",
        )
        time.sleep(0.5)  # it loads the project after its first record

    def await_status(self, status: str, *, within: float) -> RunState:
        self.until(lambda: self.state().status == status, within=within, what=f"{status} (is {self.state().status})")
        return self.state()

    def until(self, true: Callable[[], Any], *, within: float, what: str) -> None:
        deadline = time.monotonic() + within
        while not true():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {within} s for {what}")
            time.sleep(0.02)

    def end(self) -> None:
        """Kill what is left of what was started here, by the mark in its environment."""
        for started in self._started:
            if started.process.poll() is None:
                started.signal_group(signal.SIGKILL)
            started.process.communicate(timeout=10)
        mark = f"PRISM_TESTS_MARK={self._mark}".encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and mark in _environment_of(folder):
                with suppress(ProcessLookupError):
                    os.kill(int(folder.name), signal.SIGKILL)


@pytest.fixture
def new_project() -> Iterator[Callable[[Path], ProjectFolder]]:
    """Makes a project without trackers in a folder; whatever was started in it ends with the test."""
    made: list[ProjectFolder] = []

    def make(path: Path) -> ProjectFolder:
        project = ProjectFolder(path)
        made.append(project)
        project.configure(UNTRACKED)
        return project

    yield make
    for project in made:
        project.end()


@pytest.fixture
def project(tmp_path: Path, new_project: Callable[[Path], ProjectFolder]) -> ProjectFolder:
    """A project without trackers, in a folder of its own."""
    return new_project(tmp_path / "project")


def _surroundings() -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    bin_folder = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", os.defpath)]),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TQDM_DISABLE": "1",
    }


def _environment_of(folder: Path) -> list[bytes]:
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return []
