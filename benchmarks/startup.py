"""Start-up cost of the `prism` command beside what it leans on and beside others, in CPU seconds of child processes.

    python benchmarks/startup.py [--rounds N]

The programs run in turn, round after round, so that a busy machine troubles all alike; the figure of
each is its median. `libraries` is what the budget is measured against: importing click, pluggy, attrs
and importlib_metadata, nothing else. A program that is not installed is left out, and named.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = "import click, pluggy, attrs, importlib_metadata"
BUDGETS = {  # program → (measured against, at most this often)
    "prism --help": (("libraries", 1.5), ("mlflow --version", 1 / 20)),
    "prism plugins list": (("libraries", 1.5), ("mlflow --version", 1 / 20)),
}


def programs() -> dict[str, list[str]]:
    """What is measured, by name: the libraries, prism, and mlflow where it is installed."""
    scripts = Path(sys.executable).parent
    wanted = {
        "libraries": [sys.executable, "-c", LIBRARIES],
        "prism --help": [str(scripts / "prism"), "--help"],
        "prism plugins list": [str(scripts / "prism"), "plugins", "list"],
        "prism --version": [str(scripts / "prism"), "--version"],
        "mlflow --version": [str(scripts / "mlflow"), "--version"],
    }
    absent = [name for name, argv in wanted.items() if not Path(argv[0]).exists()]
    for name in absent:
        print(f"left out, not installed: {name}", file=sys.stderr)
    return {name: argv for name, argv in wanted.items() if name not in absent}


def cpu_seconds(argv: list[str], *, folder: str) -> float:
    """User and system time of one run of `argv` in `folder`, its children included."""
    process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def measure(rounds: int) -> dict[str, float]:
    """Program → median CPU seconds over `rounds`, after one round that warms the file cache."""
    wanted = programs()
    seconds: dict[str, list[float]] = {name: [] for name in wanted}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):
            for name, argv in wanted.items():
                if turn and argv[0].endswith("mlflow") and turn > max(3, rounds // 5):
                    continue  # seconds each: a few are enough
                spent = cpu_seconds(argv, folder=folder)
                if turn:
                    seconds[name].append(spent)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> int:
    """Print the figures and the ratios; 1 when a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    medians = measure(parser.parse_args().rounds)
    for name, value in medians.items():
        print(f"{name:<20} {value:7.3f} CPU s   {value / medians['libraries']:6.2f} x libraries")
    exceeded = 0
    for name, budgets in BUDGETS.items():
        for other, most in budgets:
            if other in medians:
                ratio = medians[name] / medians[other]
                exceeded += ratio > most
                verdict = "within" if ratio <= most else "EXCEEDS"
                print(f"{name}: {ratio:.3f} x {other}, {verdict} the budget of {most:.3f}")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
