"""What processes and threads of a run's code log is in the run: forked, spawned, of a DataLoader; nobody hangs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

EVERYONE = """
import multiprocessing, os, threading

def say(run, name, count):
    for step in range(count):
        run.log_metrics({name: step / 7}, step=step)

def elsewhere(run, name):
    threads = [threading.Thread(target=say, args=(run, f"{name}/{index}", 40)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.log_text(name, name=f"{name}.txt")

def work(run):
    until = threading.Event()
    beside = threading.Thread(target=lambda: until.wait(60) and say(run, "late", 40))
    busy = threading.Thread(target=say, args=(run, "busy", 3000))  # while others are forked
    beside.start()
    busy.start()
    for method, count in (("fork", 6), ("spawn", 1)):
        context = multiprocessing.get_context(method)
        children = [context.Process(target=elsewhere, args=(run, f"{method}{index}")) for index in range(count)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
            assert child.exitcode == 0, (method, child.exitcode)
    until.set()
    busy.join()
    beside.join()
"""
SCRIPT = """
import prism, train

if __name__ == "__main__":  # a spawned process imports this file
    with prism.start_run() as run:
        train.work(run)
"""
LOADER = """
import torch
from torch.utils.data import DataLoader, Dataset

class Noted(Dataset):
    def __init__(self, run, name):
        self.run, self.name = run, name

    def __len__(self):
        return 30

    def __getitem__(self, index):
        self.run.log_metrics({self.name: float(index)}, step=index)
        return torch.tensor(float(index))

def work(run):
    torch.set_num_threads(1)
    for context, epochs, workers in (("fork", 2, 2), ("spawn", 1, 1)):
        for epoch in range(epochs):
            dataset = Noted(run, f"{context}{epoch}")
            loader = DataLoader(dataset, 5, num_workers=workers, multiprocessing_context=context, timeout=120)
            total = sum(batch.sum().item() for batch in loader)
            run.log_metrics({"total": total}, step=epoch)
"""


def points(project: Any) -> Counter[tuple[str, int]]:
    assert project.state().damage == []
    records = project.records("metrics")
    return Counter((name, record.data["step"]) for record in records for name in record.data["metrics"])


def expected(names: dict[str, int]) -> Counter[tuple[str, int]]:
    return Counter({(name, step): 1 for name, count in names.items() for step in range(count)})


@pytest.mark.parametrize("how", ["prism run", "start_run"])
def test_threads_and_processes_of_a_run(project: Any, how: str) -> None:
    project.write("train.py", EVERYONE)
    project.write("script.py", SCRIPT)
    done = project.prism("run", "train.py:work") if how == "prism run" else project.python("script.py")
    assert done.code == 0, done.err
    assert project.state().status == "FINISHED"
    children = [f"fork{index}" for index in range(6)] + ["spawn0"]
    assert points(project) == expected(
        {"busy": 3000, "late": 40} | {f"{child}/{index}": 40 for child in children for index in range(2)}
    )
    kept = {r.data["name"]: (project.run().path / r.data["stored"]).read_text() for r in project.records("file")}
    assert kept == {f"{child}.txt": child for child in children}


@pytest.mark.torch
def test_the_workers_of_a_data_loader(project: Any) -> None:
    project.write("train.py", LOADER)
    done = project.prism("run", "train.py:work", within=180)
    assert done.code == 0, done.err
    names = {f"fork{epoch}": 30 for epoch in range(2)} | {"spawn0": 30, "total": 2}
    wanted = expected(names)
    wanted[("total", 0)] = 2  # of fork and spawn
    assert points(project) == wanted


def test_a_forked_child_that_ends_as_python_ends_does_not_end_the_run(project: Any) -> None:
    """`os.fork` without `os._exit`: the child runs what its parent has registered for its own end."""
    project.write(
        "script.py",
        """
        import os, sys
        import prism
        run = prism.start_run()
        (run.scratch / "work").touch()
        child = os.fork()
        run.log_metrics({"child" if child == 0 else "parent": 1.0}, step=1)
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (run.scratch / "work").exists()
        run.log_metrics({"parent": 2.0}, step=2)
        """,
    )
    project.configure("foundation: {experiment_name: real}\nml: {enabled: false, artifacts: [script.py]}\n")
    done = project.python("script.py")
    assert done.code == 0, done.err
    assert project.state().status == "FINISHED"
    assert points(project) == {("child", 1): 1, ("parent", 1): 1, ("parent", 2): 1}
    assert len(project.records("file")) == 1 and len(project.records("end")) == 1


POOLS = """
import multiprocessing

def say(index):
    run.log_metrics({f"of{index}": index}, step=0)

def work(given):
    global run
    run = given
    for _ in range(20):
        with multiprocessing.get_context("fork").Pool(3) as pool:  # ends its workers with SIGTERM
            pool.map(say, range(3))
"""


def test_a_pool_ends_its_workers_without_a_word(project: Any) -> None:
    project.write("train.py", POOLS)
    done = project.prism("run", "train.py:work", within=180)
    assert done.code == 0, done.err
    assert "Traceback" not in done.out + done.err
    assert project.state().status == "FINISHED"
    assert points(project) == {(f"of{index}", 0): 20 for index in range(3)}
