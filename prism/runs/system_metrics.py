"""Figures of the machine (CPU, memory, disk, network, GPU), sampled beside the run into its journal."""

from __future__ import annotations

import threading

from prism.runs.delivery import Delivery
from prism.runs.identity import now
from prism.runs.journal import JournalWriter, number
from prism.runs.state import TERMINAL

SAMPLE_SECONDS = 10.0


def sample_system_metrics(delivery: Delivery, journal: JournalWriter, *, stop: threading.Event) -> None:
    """Journal what the trackers can measure (`system_metrics() -> {name: value}`), every ten seconds of the run.

    Their step is the age of the run in seconds.
    """
    while not stop.wait(SAMPLE_SECONDS):
        for channel in delivery.channels:
            measure = getattr(channel.tracker, "system_metrics", None)  # an ability that not every tracker has
            values = {name: number(value) for name, value in measure().items()} if measure else {}
            if delivery.live.state.status in TERMINAL:  # asked after measuring: what comes later is not delivered
                return
            if values:
                seconds = (now() - delivery.live.state.started) // 1000  # later attempts go on from there
                journal.write("metrics", {"step": seconds, "metrics": values})
                break
