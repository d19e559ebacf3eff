"""All campaigns, one after the other: `python -m campaigns --share 1 > results.jsonl`, hours on two cores.

Each line of stdout is a result with the command that gives it; `python -m campaigns.table results.jsonl` makes the
table of docs/explanation/faults.md of them. `--share 0.05` does a twentieth of the trials.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from campaigns.project import clean_environment
from campaigns.report import tell

COMMANDS = (
    ("kill", 1000, ()),
    ("kill", 100, ("--way", "mlflow-sync")),
    ("kill", 100, ("--way", "mlflow-async")),
    ("faults", 20, ()),
    ("faults", 2, ("--way", "mlflow-sync", "--patience", "120")),
    ("faults", 2, ("--way", "mlflow-async", "--patience", "120")),
    ("outage", 2, ("--seconds", "600")),
    ("outage", 1, ("--seconds", "600", "--way", "mlflow-sync")),
    ("outage", 1, ("--seconds", "600", "--way", "mlflow-async")),
    ("never_back", 20, ()),
    ("sync_kills", 200, ()),
    ("status", 100, ()),
    ("artifacts", 1, ("--megabytes", "5000", "--drops", "3")),
    ("store", 3, ()),
    ("store", 3, ("--way", "mlflow-sync")),
)
"""The module, its trials at `--share 1`, and its further options."""


def main() -> int:
    """The command; its exit code is 1 when Prism lost, doubled or misstated anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="only this campaign (may be repeated)")
    asked = parser.parse_args()
    worst = 0
    for module, trials, options in COMMANDS:
        if asked.only and module not in asked.only:
            continue
        words = [f"campaigns.{module}", "--trials", str(max(1, round(trials * asked.share))), *options]
        tell(" ".join(words))
        command = [sys.executable, "-m", *words, "--seed", str(asked.seed)]
        code = subprocess.run(command, env=clean_environment(), check=False).returncode
        if "--way" not in options:
            worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
