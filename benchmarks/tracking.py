"""What tracking costs: Prism beside MLflow's synchronous and asynchronous logging, and beside a loop that logs nothing.

    OMP_NUM_THREADS=1 python benchmarks/tracking.py [--steps 20000] [--ways nothing prism async sync]

Each way runs the same loop of one-millisecond steps in a process of its own and logs five values a
step, into a SQLite store of its own; every store's points are counted at the end. The second part
records a run while its server is away, starts the server, and compares the delivery of all points
with bare calls of `log_batch` with 1,000 of the same points each, to the same server.

Goals: log call p50 at most 20 µs; loop at most 1.05 of the one that logs nothing; loop and delivery
to the last point at most 2 of it; final flush at most 1.3 of the bare calls.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

VALUES = {"loss": 2.31, "lr": 3e-4, "grad_norm": 0.91, "tokens_per_second": 1834.2, "epoch": 0.4}
WAYS = ("nothing", "prism", "async", "sync")
BATCH = 1000
Log = Callable[[Mapping[str, float], int], object]


def work(count: int) -> None:
    """A step: arithmetic in Python, which holds the interpreter as training code does."""
    total = 0.0
    for number in range(count):
        total += number * 0.5


def count_for_a_millisecond() -> int:
    """How much of it takes a millisecond: measured once, so that all ways have the same steps."""
    count = 20_000
    return int(count * 1e-3 / min(_seconds(lambda: work(count)) for _ in range(200)))


def run_loop(steps: int, count: int, log: Log) -> tuple[float, list[int]]:
    """Seconds that the loop took, and nanoseconds of each log call."""
    calls = []
    began = time.perf_counter()
    for number in range(steps):
        work(count)
        called = time.perf_counter_ns()
        log({name: value + number for name, value in VALUES.items()}, number)
        calls.append(time.perf_counter_ns() - called)
    return time.perf_counter() - began, calls


def log_nothing(steps: int, count: int) -> dict[str, Any]:
    loop, calls = run_loop(steps, count, lambda values, number: None)
    return _figures(loop, loop, calls)


def log_with_prism(steps: int, count: int) -> dict[str, Any]:
    import prism
    from prism.journal.directory import RunDirectory
    from prism.journal.state import LiveState

    Path("sais_foundation.yaml").write_text("foundation: {experiment_name: benchmark}\n", encoding="utf-8")
    with prism.start_run() as run:
        first = time.perf_counter()
        live = LiveState(RunDirectory(run.directory))
        while not live.poll().trackers["mlflow"].run_id:  # what the delivery takes to import MLflow and open its store
            time.sleep(0.05)
        start = time.perf_counter() - first
        began = time.perf_counter()
        loop, calls = run_loop(steps, count, lambda values, number: run.log_metrics(values, step=number))
    while live.poll().pending:
        time.sleep(0.05)
    size = (run.directory / "journal" / "a1-rank0.jsonl").stat().st_size
    return _figures(loop, time.perf_counter() - began, calls) | {"start": start, "bytes": size / steps / len(VALUES)}


def log_with_mlflow(steps: int, count: int, *, way: str) -> dict[str, Any]:
    import mlflow

    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.config.enable_async_logging(way == "async")
    with mlflow.start_run():
        began = time.perf_counter()
        loop, calls = run_loop(steps, count, lambda values, number: mlflow.log_metrics(dict(values), step=number))
    mlflow.flush_async_logging()
    return _figures(loop, time.perf_counter() - began, calls)


def measure_way(way: str, steps: int, count: int) -> dict[str, Any]:
    """One way, in this process and in the current folder, with the points that its store has in the end."""
    if way == "nothing":
        return log_nothing(steps, count)
    figures = log_with_prism(steps, count) if way == "prism" else log_with_mlflow(steps, count, way=way)
    with closing(sqlite3.connect("mlflow.db")) as database:
        keys = ",".join(f"'{name}'" for name in VALUES)
        (stored,) = database.execute(f"select count(*) from metrics where key in ({keys})").fetchone()
    return figures | {"stored": stored}


def in_own_process(*arguments: str, folder: str) -> dict[str, Any]:
    """What this script says when it is called with these arguments in that folder."""
    command = [sys.executable, os.path.abspath(__file__), *arguments]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    output = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def measure_flush(points: int) -> dict[str, Any]:
    """Seconds of delivering a recorded run, and of bare `log_batch` calls with the same points, to one server."""
    import prism
    from prism.delivery.claim import Claim
    from prism.delivery.syncing import sync_run
    from prism.journal.directory import RunDirectory

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {"foundation": {"experiment_name": "flush"}, "ml": {"tracking_uri": f"http://127.0.0.1:{port}"}}
    Path("sais_foundation.yaml").write_text(json.dumps(config), encoding="utf-8")
    steps = points // len(VALUES)
    with prism.start_run() as run:
        for number in range(steps):
            run.log_metrics({name: value + number for name, value in VALUES.items()}, step=number)
    directory = RunDirectory(run.directory)
    while (owner := Claim(directory).owner()) is None:
        time.sleep(0.1)
    os.kill(owner.pid, signal.SIGKILL)  # it would deliver as soon as the server is there
    with mlflow_server(port):
        import mlflow.entities

        client = mlflow.MlflowClient(f"http://127.0.0.1:{port}")
        experiment = client.create_experiment("bare")
        times: dict[str, list[float]] = {"bare": [], "prism": []}
        times["bare"].append(_seconds(lambda: _bare(client, experiment, steps)))
        times["prism"].append(_seconds(lambda: sync_run(directory)))
        times["bare"].append(_seconds(lambda: _bare(client, experiment, steps)))
        runs = client.search_runs(
            [client.get_experiment_by_name("flush").experiment_id], f"tags.`prism.run_id` = '{run.run_id}'"
        )
        stored = sum(len(client.get_metric_history(runs[0].info.run_id, name)) for name in VALUES)
    return {"points": points, "stored": stored, "bare": sum(times["bare"]) / 2, "prism": times["prism"][0]}


def _bare(client: Any, experiment: str, steps: int) -> None:
    from mlflow.entities import Metric

    run_id = client.create_run(experiment).info.run_id
    now = int(time.time() * 1000)
    batch = []
    for number in range(steps):
        batch += [Metric(name, value + number, now, number) for name, value in VALUES.items()]
        if len(batch) == BATCH:
            client.log_batch(run_id, metrics=batch)
            batch = []
    client.log_batch(run_id, metrics=batch)


@contextmanager
def mlflow_server(port: int) -> Iterator[None]:
    """A real server on SQLite in the current folder, stopped with its whole group."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "./server-artifacts"]
    with Path("server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > until:
                sys.exit(f"mlflow server did not start:\n{Path('server.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return True
    except OSError:
        return False


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _figures(loop: float, whole: float, calls: list[int]) -> dict[str, Any]:
    ordered = sorted(calls)
    at = {f"p{100 * share:g}": ordered[int(share * (len(ordered) - 1))] / 1000 for share in (0.5, 0.99, 0.999)}
    return {"loop": loop, "whole": whole, "rate": len(calls) / sum(calls) * 1e9, **at}


def report(found: Mapping[str, Mapping[str, Any]], *, steps: int) -> None:
    base = found["nothing"]["loop"] if "nothing" in found else float("nan")
    print(f"{steps} steps of 1 ms, {len(VALUES)} values each; µs of a log call, seconds, and ratios to logging nothing")
    print(f"{'':<10}{'p50':>9}{'p99':>9}{'p99.9':>10}{'loop':>9}{'×':>7}{'to the last point':>20}{'×':>7}{'points':>9}")
    for way, one in found.items():
        calls = f"{one['p50']:>9.1f}{one['p99']:>9.1f}{one['p99.9']:>10.1f}"
        loops = f"{one['loop']:>9.2f}{one['loop'] / base:>7.3f}{one['whole']:>20.2f}{one['whole'] / base:>7.2f}"
        print(f"{way:<10}{calls}{loops}{one.get('stored', 0):>9}")
    if "prism" in found:
        one = found["prism"]
        print(f"delivery's fixed start (imports, store): {one['start']:.2f} s; {one['bytes']:.0f} bytes a point")
        print(f"{one['rate']:,.0f} records/s in the log calls")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--points", type=int, default=100_000, help="points of the final flush; 0 leaves it out")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        flush = options.one == "flush"
        one = measure_flush(options.points) if flush else measure_way(options.one, options.steps, options.count)
        print(json.dumps(one))
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        found, count = {}, str(count_for_a_millisecond())
        for way in options.ways:
            folder = Path(scratch) / way
            folder.mkdir()
            found[way] = in_own_process(
                "--one", way, "--steps", str(options.steps), "--count", count, folder=str(folder)
            )
        if found:
            report(found, steps=options.steps)
        if options.points:
            folder = Path(scratch) / "flush"
            folder.mkdir()
            one = in_own_process("--one", "flush", "--points", str(options.points), folder=str(folder))
            ratio = one["prism"] / one["bare"]
            print(f"final flush of {one['points']} points: {one['prism']:.2f} s; {one['stored']} stored")
            print(f"the same by bare log_batch({BATCH}): {one['bare']:.2f} s; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
