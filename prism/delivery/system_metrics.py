"""Figures of the machine (CPU, memory, disk, network, GPU), sampled on every node of a run into its journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from attrs import frozen

from prism.errors import explain
from prism.journal.identity import now
from prism.journal.records import JournalWriter, number
from prism.journal.state import TERMINAL, RunState
from prism.project import Project
from prism.protocols import SystemMonitor

SAMPLE_SECONDS = 10.0


@frozen
class Sampled:
    """What a process beside a run samples: the machine of the workers of one attempt.

    `node` names the machine among the run's, "" when there is one only.
    """

    attempt: int
    node: str = ""


def sample_system_metrics(
    look: Callable[[], RunState],
    project: Project,
    journal: JournalWriter,
    *,
    sampled: Sampled,
    stop: threading.Event,
) -> None:
    """Journal what a tracker can measure here (`SystemMonitor`), every ten seconds of the attempt.

    `look` gives the run's state as it is now. The step of the figures is the age of the run in seconds.
    Returns when the run has ended or its next attempt has begun: that has a process of its own here.
    """
    try:
        monitor = _find_monitor(project)
        while monitor is not None and not stop.wait(SAMPLE_SECONDS):
            values = {name: number(value) for name, value in monitor.system_metrics().items()}
            state = look()  # asked after measuring: what comes later than the end is not delivered
            if state.status in TERMINAL or state.attempts > sampled.attempt:
                return
            if values:
                seconds = max(0, (now() - state.started) // 1000)  # later attempts go on from there
                journal.write("metrics", {"step": seconds, "metrics": _of_node(values, sampled.node)})
    except Exception as error:  # the plugin boundary: the figures are not worth the run
        journal.write("warning", {"message": project.config.redact(f"no system metrics: {explain(error)}")})


def _find_monitor(project: Project) -> SystemMonitor | None:
    """The first tracker that can measure the machine; one of its own, that is never opened."""
    for named in project.config.trackers:
        tracker = project.build("tracker", named)
        if isinstance(tracker, SystemMonitor):
            return tracker
    return None


def _of_node(values: Mapping[str, float | str], node: str) -> dict[str, float | str]:
    """The figures under names with the node's after their first part: `system/node1/cpu…`."""
    if not node:
        return dict(values)
    parts = {name: name.partition("/") for name in values}
    return {f"{head}/{node}/{rest}" if rest else f"{node}/{head}": values[n] for n, (head, _, rest) in parts.items()}
