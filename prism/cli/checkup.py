"""What `prism doctor` looks at: each check looks at one thing and says in one line what it found."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import frozen

from prism.config.secrets import mask_urls
from prism.data.mounts import MOUNTS, file_system, is_shared
from prism.errors import PrismError
from prism.plugins import EXTRAS, PluginRecord
from prism.version import VERSION

if TYPE_CHECKING:
    from prism.config import Problem
    from prism.project import Project

GIB = 1 << 30
LEAST_FREE = 1 * GIB
TORCH_SECONDS = 120
SERVER_SECONDS = 5
DATABASE_PORTS: Mapping[str, int] = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
LOOK_AT_TORCH = """
import json, torch
cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"version": torch.__version__, "built_for": torch.version.cuda or getattr(torch.version, "hip", None),
                  "cuda": cuda, "mps": torch.backends.mps.is_available(), "threads": torch.get_num_threads()}))
"""


@frozen
class Finding:
    """What one check found. `state`: "ok", "failed" (something to mend) or "unreachable" (a server out of reach)."""

    check: str
    state: str
    text: str
    hint: str = ""


def look_at_python() -> Finding:
    """The interpreter, where it is, and the machine."""
    version = f"{platform.python_version()} at {sys.executable}, {platform.system()} {platform.machine()}"
    return Finding("python", "ok", f"{version}, {os.cpu_count()} cores, prism {VERSION}")


def look_at_torch() -> Finding:
    """The torch build and its devices, from a process of its own: importing it here would cost seconds and memory."""
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", "ok", "not installed; training with the trainer 'accelerate' needs it")
    try:
        process = subprocess.run(
            [sys.executable, "-c", LOOK_AT_TORCH], capture_output=True, text=True, timeout=TORCH_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Finding("torch", "failed", f"importing it took longer than {TORCH_SECONDS} s", hint="a slow disk?")
    if process.returncode:
        last = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        return Finding("torch", "failed", f"it cannot be imported: {last}", hint="reinstall torch")
    return Finding("torch", "ok", _torch_in_words(json.loads(process.stdout.splitlines()[-1])))


def look_at_plugins(records: Iterable[PluginRecord]) -> Iterator[Finding]:
    """One line for those that register, one for each that does not."""
    records = tuple(records)
    names = {state: [one.name for one in records if one.state == state] for state in ("ok", "disabled")}
    off = f"; switched off: {', '.join(names['disabled'])}" if names["disabled"] else ""
    yield Finding("plugins", "ok", f"{', '.join(names['ok']) or 'none'}{off}")
    for one in records:
        if one.state == "failed":
            hint = f"mend or uninstall it, or switch it off: --no-plugin {one.name}"
            yield Finding("plugins", "failed", f"{one.name} ({one.origin}) cannot load: {one.error}", hint=hint)


def look_at_layers(project: Project, named: Iterable[Problem]) -> Iterator[Finding]:
    """What the configuration asks for and this environment lacks, with the line that installs it.

    `named` is what was found while the configuration was read: providers that it names itself and that are not here.
    """
    from prism.runs.preflight import absent_modules, lack_of, needed

    wanted = list(needed(project.config, target=""))
    said = {one.message for one in named}
    missing = [Finding("layers", "failed", f"{one.message}, as {_place(one)} asks", hint=one.hint) for one in named]
    for kind, name in wanted:
        try:
            absent = absent_modules(project.plugins.find(kind, name))
        except PrismError as error:
            if error.message not in said:
                missing.append(Finding("layers", "failed", error.message, hint=error.hint))
            continue
        if absent:
            extra = EXTRAS.get((kind, name))
            line = f"pip install 'sais-prism-core[{extra}]'" if extra else f"pip install {' '.join(absent)}"
            missing.append(Finding("layers", "failed", lack_of(kind, name, absent), hint=line))
    yield from missing
    if not missing:
        yield Finding("layers", "ok", f"all that is asked for is here: {', '.join(sorted({n for _, n in wanted}))}")


def look_at_disk(folder: Path) -> Finding:
    """Free space where runs are written."""
    usage = shutil.disk_usage(folder)
    text = f"{usage.free / GIB:.1f} GiB of {usage.total / GIB:.1f} GiB free at {folder}"
    if usage.free < LEAST_FREE:
        return Finding("disk", "failed", text, hint=f"make room: a run wants at least {LEAST_FREE / GIB:.0f} GiB")
    if not os.access(folder, os.W_OK):
        return Finding("disk", "failed", f"{folder} is not writable", hint="runs are written under the project")
    return Finding("disk", "ok", text)


def look_at_file_system(folder: Path, *, tracking_uri: str, mounts: Path = MOUNTS) -> Finding:
    """The kind of file system of the project: SQLite is unsafe on one that several machines share."""
    kind = file_system(folder, mounts=mounts)
    if not kind:
        return Finding("file system", "ok", f"unknown at {folder}")
    if not is_shared(kind):
        return Finding("file system", "ok", f"{kind}, local to this machine")
    if tracking_uri.startswith("sqlite"):
        text = f"{kind} is a network file system, where SQLite ({tracking_uri}) is unsafe"
        return Finding("file system", "failed", text, hint="name an MLflow server in ml.tracking_uri")
    return Finding("file system", "ok", f"{kind}, a network file system; runs may be written there")


def look_at_mlflow(uri: str, *, folder: Path) -> Finding:
    """Whether the tracking server answers, or the SQLite file can be written; no credentials are sent."""
    parts = urlsplit(uri)
    shown = mask_urls(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme == "sqlite":
        file = folder / uri.partition(":///")[2]
        place = file if file.exists() else file.parent
        if os.access(place, os.W_OK):
            return Finding("mlflow", "ok", f"embedded, {shown} in {folder}")
        return Finding("mlflow", "failed", f"{place} is not writable", hint="set ml.tracking_uri to another place")
    if scheme in ("http", "https"):
        return _ask_server(f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health", shown)
    port = parts.port or DATABASE_PORTS.get(scheme)
    if parts.hostname and port:
        return _knock(parts.hostname, port, shown)
    return Finding("mlflow", "ok", f"{shown} was not looked at: prism doctor knows servers, databases and SQLite")


def _place(problem: Problem) -> str:
    return f"{problem.file}:{problem.line}" if problem.line else f"the {problem.file}"


def _torch_in_words(found: Mapping[str, Any]) -> str:
    devices = [f"cuda:{index} {name}" for index, name in enumerate(found["cuda"])]
    devices += ["mps"] * found["mps"]
    devices.append(f"cpu with {found['threads']} threads")
    build = f"built for {found['built_for']}" if found["built_for"] else "built for the CPU"
    return f"{found['version']}, {build}; devices: {', '.join(devices)}"


def _ask_server(url: str, shown: str) -> Finding:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    hint = "start it, or correct ml.tracking_uri; runs go on meanwhile and prism sync delivers later"
    try:
        with urlopen(url, timeout=SERVER_SECONDS) as answer:
            return Finding("mlflow", "ok", f"{shown} answers ({answer.status})")
    except HTTPError as error:
        if error.code < 500:  # wants credentials, or has no such page: it is there
            return Finding("mlflow", "ok", f"{shown} answers ({error.code})")
        return Finding("mlflow", "unreachable", f"{shown} answers {error.code} {error.reason}", hint=hint)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding("mlflow", "unreachable", f"{shown} does not answer: {reason}", hint=hint)


def _knock(host: str, port: int, shown: str) -> Finding:
    try:
        socket.create_connection((host, port), timeout=SERVER_SECONDS).close()
    except OSError as error:
        return Finding("mlflow", "unreachable", f"{shown} does not answer: {error}", hint="is the database up?")
    return Finding("mlflow", "ok", f"{shown} takes connections")
