"""MLflow's own samples of this machine: CPU, memory, disk, network, and GPUs where their library is installed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

# MLflow's monitors are not typed
_MONITORS: tuple[Callable[[], Any], ...] = (CPUMonitor, DiskMonitor, NetworkMonitor)
_GPU_MONITOR: Callable[[], Any] = GPUMonitor
_logger = logging.getLogger(__name__)


class SystemMetrics:
    """Samples named as MLflow names them, under `system/`, so that its page of system metrics shows them."""

    def __init__(self) -> None:
        self._monitors = [make() for make in _MONITORS] + _gpu()

    def sample(self) -> dict[str, float]:
        """One sample now; network figures count from the first one."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found.update({f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()})
            monitor.clear_metrics()
        return found


def _gpu() -> list[Any]:
    try:
        return [_GPU_MONITOR()]
    except (ImportError, RuntimeError) as error:  # its library is not installed, or there is no GPU
        _logger.debug("no GPU is sampled: %s", error)
        return []
