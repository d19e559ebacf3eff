"""A project to train in: its configuration, its trainings as processes, and the `prism` commands on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
from attrs import field, frozen

from campaigns.ledger import Acknowledged, read_acknowledged

LOOP = Path(__file__).with_name("loop.py")
TRACKER_TIMEOUT = 8  # seconds; the plugin's own default


def new_project(folder: Path, *, uri: str | None, timeout: float = TRACKER_TIMEOUT, **ml: Any) -> Path:
    """Make a project whose runs go to the MLflow at `uri` (`None`: the default store); returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "foundation": {"experiment_name": folder.name},
        "ml": {"tracking_uri": uri, "auto_log": False, "system_tracing": False, **ml},
        "trackers": [{"name": "mlflow", "timeout": timeout}],
    }
    (folder / "sais_foundation.yaml").write_text(json.dumps(config))
    return folder


@frozen
class Training:
    """One training loop as a process in a session of its own, with the files that it keeps."""

    way: str
    seed: int
    acknowledged: Path
    timing: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def noted(self) -> Acknowledged:
        """What it has acknowledged until now."""
        return read_acknowledged(self.acknowledged)

    def timings(self) -> dict[str, Any]:
        """`log_seconds` of each call, `loop_seconds`, `cpu_seconds`; of a training that came to its end."""
        found: dict[str, Any] = json.loads(self.timing.read_text())
        return found

    def went_wrong(self, steps: int) -> bool:
        """Whether it has ended otherwise than with 0, without some of its steps, or has said an exception."""
        log = self.acknowledged.with_suffix(".log").read_bytes()
        return self.process.returncode != 0 or len(self.noted().steps) != steps or b"Traceback" in log

    def beside(self) -> list[psutil.Process]:
        """The processes that it has started and that live: for Prism, the one that delivers."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """`kill -9` of its whole process group, and wait for its end."""
        with suppress(ProcessLookupError):  # it has ended and was waited for
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


@frozen
class Asked:
    """What a training loop is to do: see campaigns/loop.py for `way` and `options`; `label` names its files."""

    way: str
    seed: int
    label: str
    options: Sequence[str] = ()


def train(
    project: Path,
    asked: Asked,
    *,
    environment: Mapping[str, str] = MappingProxyType({}),
    before: Sequence[str] = (),
) -> Training:
    """Start a training loop in a project; `before` is a command that runs it, such as `unshare`."""
    notes = project / "notes"
    notes.mkdir(exist_ok=True)
    acknowledged, timing = notes / f"{asked.label}.acknowledged", notes / f"{asked.label}.timing"
    command = [*before, sys.executable, "-P", str(LOOP), asked.way, "--acknowledged", str(acknowledged)]
    command += ["--timing", str(timing), "--seed", str(asked.seed), *asked.options]
    with (notes / f"{asked.label}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=project,
            env={**clean_environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return Training(asked.way, asked.seed, acknowledged, timing, process)


def prism(
    project: Path,
    *words: str,
    seconds: float = 600,
    environment: Mapping[str, str] = MappingProxyType({}),
    before: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a `prism` command on a project and return what it said; `before` is as for `train`."""
    command = [*before, sys.executable, "-m", "prism", "--project", str(project), *words]
    variables = {**clean_environment(), **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=variables)


def clean_environment() -> dict[str, str]:
    """This process's variables, less what would lead Prism or MLflow elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PRISM_"))}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def kill_processes(processes: Sequence[psutil.Process]) -> None:
    """`kill -9` of each, and wait until they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=60)
