"""What made a run besides its configuration: code, environment, hardware, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMAND_SECONDS = 10
DIFF_LIMIT = 10 << 20
"""Bytes of uncommitted changes that are kept; a larger diff is named, not kept."""


def collect_provenance(project: Path) -> dict[str, Any]:
    """Facts as JSON values; what cannot be found out is null."""
    return {
        "format": 1,
        "command": sys.argv,
        "code": code_version(project),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "memory_bytes": _memory(),
        "gpus": _gpus(),
        "packages": installed_packages(),
    }


def code_version(folder: Path) -> dict[str, Any] | None:
    """The git commit of `folder`, and what was changed since; None outside a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain") or ""
    diff = _git(folder, "diff", "HEAD") or ""
    return {
        "commit": commit.strip(),
        "branch": (_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "changed": [line[3:] for line in changed.splitlines()],
        "diff": diff if len(diff) <= DIFF_LIMIT else None,
    }


def installed_packages() -> dict[str, str]:
    """Distribution name → version, for every distribution on the path."""
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return {name: found[name] for name in sorted(found, key=str)}


def _git(folder: Path, *arguments: str) -> str | None:
    return _output(["git", "-C", str(folder), *arguments])


def _output(command: Sequence[str]) -> str | None:
    """What a command prints; None when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _gpus() -> list[str]:
    """One line a GPU, as the driver's own tool lists them."""
    listed = _output(["nvidia-smi", "-L"])
    return listed.splitlines() if listed else []


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
