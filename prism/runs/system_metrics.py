"""Figures of the machine (CPU, memory, disk, network, GPU), sampled beside the run into its journal."""

from __future__ import annotations

import threading

from prism.runs.delivery import Delivery
from prism.runs.journal import JournalWriter, number

SAMPLE_SECONDS = 10.0


def sample_system_metrics(delivery: Delivery, journal: JournalWriter, *, stop: threading.Event) -> None:
    """Journal what the trackers can measure (`system_metrics() -> {name: value}`), every ten seconds until `stop`."""
    step = 0
    while not stop.wait(SAMPLE_SECONDS):
        for channel in delivery.channels:
            measure = getattr(channel.tracker, "system_metrics", None)  # an ability that not every tracker has
            if measure is not None:
                values = {f"system/{name}": number(value) for name, value in measure().items()}
                journal.write("metrics", {"step": step, "metrics": values})
                step += 1
                break
