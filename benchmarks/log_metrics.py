"""What `run.log_metrics` of five values costs the training thread, beside a loop that logs nothing.

    python benchmarks/log_metrics.py [--calls 20000]

The run is a real one with delivery to the embedded MLflow beside it. Goal: p50 at most 20 µs, p99 at
most 0.5 ms.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import prism

CONFIG = """
foundation: {experiment_name: benchmark}
ml: {tracking_uri: null}
"""


def percentile(times: list[int], share: float) -> float:
    """Microseconds below which `share` of the calls stayed."""
    return sorted(times)[int(share * (len(times) - 1))] / 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=20_000)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        Path("sais_foundation.yaml").write_text(CONFIG, encoding="utf-8")
        values = {"loss": 2.31, "lr": 3e-4, "grad_norm": 0.91, "tokens_per_second": 1834.2, "epoch": 0.4}
        with prism.start_run() as run:
            logged, idle = [], []
            for step in range(calls):
                began = time.perf_counter_ns()
                run.log_metrics(values, step=step)
                logged.append(time.perf_counter_ns() - began)
                began = time.perf_counter_ns()
                dict(values)
                idle.append(time.perf_counter_ns() - began)
            size = (run.directory / "journal" / "a1-rank0.jsonl").stat().st_size
    print(f"{calls} calls of 5 values, delivery to MLflow beside it")
    for name, times in (("log_metrics", logged), ("copying the 5 values", idle)):
        shares = ", ".join(f"p{100 * share:g} {percentile(times, share):.1f} µs" for share in (0.5, 0.99, 0.999))
        print(f"{name:<22}{shares}")
    print(f"journal: {size / calls / 5:.0f} bytes a point, {1e9 * calls / sum(logged):,.0f} records/s")


if __name__ == "__main__":
    main()
