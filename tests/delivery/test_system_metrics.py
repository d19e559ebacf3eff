"""Figures of the machine: sampled by a tracker that can, named after the node, and no longer than the attempt."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from prism.delivery import system_metrics
from prism.delivery.system_metrics import Sampled, sample_system_metrics
from prism.journal.directory import RunDirectory, create_run_directory
from prism.journal.records import read_journal
from prism.journal.state import RunState
from prism.journal.writer import JournalWriter

PLUGIN = """
from prism.hookspecs import hookimpl
from prism.providers import Provider

class Silent:
    pass

class Measuring:
    def system_metrics(self):
        return {"system/cpu": 0.5, "load": float("inf")}

class Broken:
    def system_metrics(self):
        raise OSError("no sensors")

@hookimpl
def prism_trackers():
    return [Provider(name.lower(), target=f"meters:{name}") for name in ("Silent", "Measuring", "Broken")]
"""


@define
class Sampling:
    """A sampler at work on a run whose state the test sets."""

    directory: RunDirectory
    state: RunState
    thread: threading.Thread

    def records(self, kind: str) -> list[Mapping[str, Any]]:
        return [r.data for r in read_journal(self.directory.journal / "node-x.jsonl").records if r.kind == kind]

    def ends(self) -> bool:
        self.thread.join(30)
        return not self.thread.is_alive()


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts a sampler for the trackers named; it is stopped with the test."""
    from prism.project import open_project

    monkeypatch.setattr(system_metrics, "SAMPLE_SECONDS", 0.02)
    (tmp_path / "meters.py").write_text(PLUGIN)
    stop = threading.Event()

    def start(trackers: str, *, sampled: Sampled) -> Sampling:
        file = tmp_path / "sais_foundation.yaml"
        file.write_text(f"trackers: {trackers}\nplugins: {{local: [meters.py]}}\n")
        directory = create_run_directory(tmp_path, "20260101-000000-aaaaaa")
        journal, state = JournalWriter(directory.journal / "node-x.jsonl"), RunState(directory)
        state.started, state.attempts = 1, sampled.attempt
        arguments = (lambda: state, open_project(file), journal)
        work = threading.Thread(target=sample_system_metrics, args=arguments, kwargs={"sampled": sampled, "stop": stop})
        work.start()
        return Sampling(directory, state, work)

    yield start
    stop.set()


def await_records(sampling: Sampling, count: int) -> list[Mapping[str, Any]]:
    while len(found := sampling.records("metrics")) < count and sampling.thread.is_alive():
        sampling.thread.join(0.02)
    return found


@pytest.mark.parametrize(
    ("node", "names"), [("", {"system/cpu", "load"}), ("node1", {"system/node1/cpu", "node1/load"})]
)
def test_the_first_tracker_that_can_measures_the_node(sample: Any, node: str, names: set[str]) -> None:
    sampling = sample("[silent, measuring]", sampled=Sampled(1, node))
    found = await_records(sampling, 2)
    assert set(found[0]["metrics"]) == names and set(found[0]["metrics"].values()) == {0.5, "Infinity"}
    assert found[0]["step"] > 1e9  # the age of a run that began in 1970
    sampling.state.status = "FINISHED"
    assert sampling.ends()


def test_the_next_attempt_has_a_sampler_of_its_own(sample: Any) -> None:
    sampling = sample("[measuring]", sampled=Sampled(1))
    await_records(sampling, 1)
    sampling.state.attempts = 2
    assert sampling.ends()


@pytest.mark.parametrize(("trackers", "warnings"), [("[broken, measuring]", 1), ("[silent]", 0), ("[]", 0)])
def test_figures_that_cannot_be_had_are_not_worth_the_run(sample: Any, trackers: str, warnings: int) -> None:
    sampling = sample(trackers, sampled=Sampled(1))
    assert sampling.ends() and sampling.records("metrics") == []
    told = sampling.records("warning")
    assert len(told) == warnings and all("no system metrics: OSError" in one["message"] for one in told)
