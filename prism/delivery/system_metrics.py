"""Figures of the machine (CPU, memory, disk, network, GPU), sampled beside the run into its journal."""

from __future__ import annotations

import threading

from prism.delivery.channels import Delivery
from prism.journal.identity import now
from prism.journal.records import JournalWriter, number
from prism.journal.state import TERMINAL
from prism.protocols import Tracker

SAMPLE_SECONDS = 10.0


def sample_system_metrics(delivery: Delivery, journal: JournalWriter, *, stop: threading.Event) -> None:
    """Journal what the trackers can measure (`system_metrics() -> {name: value}`), every ten seconds of the run.

    Their step is the age of the run in seconds.
    """
    while not stop.wait(SAMPLE_SECONDS):
        for channel in delivery.channels:
            try:
                values = _measure(channel.tracker)
            except Exception as error:  # the plugin boundary: the figures are not worth the run
                journal.write("warning", {"message": f"no system metrics: {type(error).__name__}: {error}"})
                return
            if delivery.live.state.status in TERMINAL:  # asked after measuring: what comes later is not delivered
                return
            if values:
                seconds = (now() - delivery.live.state.started) // 1000  # later attempts go on from there
                journal.write("metrics", {"step": seconds, "metrics": values})
                break


def _measure(tracker: Tracker | None) -> dict[str, float | str]:
    measure = getattr(tracker, "system_metrics", None)  # an ability that not every tracker has
    return {name: number(value) for name, value in measure().items()} if measure else {}
