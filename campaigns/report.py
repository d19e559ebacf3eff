"""What a campaign says: its seed before it begins, progress on stderr, and one JSON line of results on stdout."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from campaigns.ledger import Tally, as_result


def campaign_arguments(purpose: str, *, trials: int) -> argparse.ArgumentParser:
    """The options that every campaign has: `--trials`, `--seed`, `--at-once`."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--trials", type=int, default=trials)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 2, help="trials that run side by side")
    return parser


def tell(line: str) -> None:
    """A line of progress, on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def publish(campaign: str, tally: Tally, *, missed: Sequence[str] = (), **more: Any) -> int:
    """Print the result as one JSON line; `missed` says in words which figures are not what they must be.

    Returns the exit code: 1 when anything was lost, doubled or untrue, or a figure was missed.
    """
    counts = {**as_result(tally), **more, "missed": list(missed)}
    found: Mapping[str, Any] = {"campaign": campaign, **counts, **_circumstances()}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    for one in missed:
        tell(f"missed: {one}")
    return 0 if tally.is_clean and not missed else 1


def _circumstances() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "mlflow": importlib.metadata.version("mlflow"),
        "command": " ".join(["python", "-m", f"campaigns.{_module()}", *sys.argv[1:]]),
    }


def _module() -> str:
    return os.path.splitext(os.path.basename(sys.argv[0]))[0]
