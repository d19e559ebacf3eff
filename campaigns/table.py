"""The fault table of the documentation, out of campaigns' results: `python -m campaigns.table results.jsonl …`.

Below it a second table has the figures that some campaigns measure beside, and the commands of all rows follow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HEAD = (
    "| fault | logged with | trials | points acknowledged | lost | doubled | runs too many or missing "
    "| left RUNNING | trainings broken |\n|---|---|--:|--:|--:|--:|--:|--:|--:|"
)
FAULTS = {
    "429": "reply 429",
    "500": "reply 500",
    "503": "reply 503",
    "504": "reply 504",
    "reset": "connection reset within a request",
    "stall": "60-s stall, then carried out",
    "truncated": "truncated reply",
    "duplicated": "duplicated reply",
    "drip": "reply of five bytes a second",
    "half_open": "half-open connection",
    "reply_lost": "reply lost after commit",
    "dns": "name that comes and goes",
    "create_reply_lost": "reply to `create_run` lost",
    "mixed": "all of these mixed",
}
CAMPAIGNS = {
    "kill": "`kill -9` at random moments",
    "outage": "outage in mid-run",
    "never_back": "server that never comes back",
    "artifacts": "artifact of 5 GB, the connection dropped three times",
    "sync_kills": "`prism sync` killed, and four at once",
}
FIGURES_HEAD = "| fault | figure, with Prism | measured | must be |\n|---|---|--:|---|"
FIGURES = {
    "log_call_p99_ms": ("log call, 99th percentile, ms", "below 1"),
    "delivery_cores": ("processor cores that the delivery takes", ""),
    "p999_ms": ("log call, 99.9th percentile, ms", "at most twice the next"),
    "p999_journal_alone_ms": ("the same with the journal alone, ms", ""),
    "slowest_end_s": ("slowest end of the job after its work's, s", "at most 10"),
    "slowest_s": ("slowest FAILED after the kill, s", "at most 2"),
    "delivery_growth_mb": ("growth of the process that delivers, MB", "below 64"),
    "kills_midway": ("kills that left a part of the points stored", "more than 0"),
}
"""Results' figures by name: in words, and what is demanded of Prism."""
MEASURED_ONLY = ("outage", "delivery_growth_mb")
"""A figure of a campaign that is not held against anything."""
WAYS = {"prism": "Prism", "mlflow-sync": "MLflow sync", "mlflow-async": "MLflow async"}


def rows(results: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """A line of the table for each result, in their order."""
    for found in results:
        cells = [_fault(found), WAYS[found.get("way", "prism")], found["trials"], found["acknowledged"]]
        cells += [found["lost"], found["doubled"], found["extra_runs"] + found["missing_runs"]]
        cells += [found["open_runs"], found["broken"]]
        yield f"| {' | '.join(str(cell) for cell in cells)} |"


def figures(results: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """A line of the table of figures for each that a result of Prism's has; single faults have none worth a line."""
    for found in results:
        if found.get("way", "prism") != "prism" or found["campaign"] == "faults":
            continue
        for name, (words, limit) in FIGURES.items():
            if name in found:
                demanded = "" if (found["campaign"], name) == MEASURED_ONLY else limit
                missed = " (missed)" if any(one.startswith(f"{name} ") for one in found.get("missed", ())) else ""
                yield f"| {_fault(found)} | {words} | {found[name]} | {demanded}{missed} |"


def _fault(found: Mapping[str, Any]) -> str:
    """What was done to the training, in words."""
    if "kind" in found:
        return FAULTS[found["kind"]]
    if "what" in found:
        return str(found["what"])
    seconds = f" of {found['seconds']:.0f} s" if "seconds" in found else ""
    return CAMPAIGNS[found["campaign"]] + seconds


def main() -> int:
    """The command."""
    lines = [line for name in sys.argv[1:] for line in Path(name).read_text().splitlines() if line.startswith("{")]
    found = [json.loads(line) for line in lines]
    sys.stdout.write("\n".join([HEAD, *rows(found)]) + "\n\n")
    if measured := list(figures(found)):
        sys.stdout.write("\n".join([FIGURES_HEAD, *measured]) + "\n\n")
    commands = dict.fromkeys(str(one["command"]) for one in found)
    sys.stdout.write("\n".join(f"- `{command}`" for command in commands) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
