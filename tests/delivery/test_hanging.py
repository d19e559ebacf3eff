"""A tracker that never returns from a call holds up neither the others nor the registration, unless it is the first."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from prism.delivery.channels import Delivery
from prism.delivery.claim import Claim, wish
from prism.journal.directory import RunDirectory
from prism.journal.opening import open_journal
from prism.journal.records import JournalWriter
from prism.journal.state import read_state
from prism.project import Project, open_project
from prism.runs.beginning import begin_run, describe_run

PLUGINS = """
import threading

from prism.hookspecs import hookimpl
from prism.protocols import ModelVersion, TrackerRun
from prism.providers import Provider


class Taker:
    def open(self, run):
        return TrackerRun(id="taker", url="")

    def position(self):
        return {}

    def deliver(self, records, position):
        pass

    def close(self, status, ended):
        pass


class Hanger(Taker):
    def deliver(self, records, position):
        threading.Event().wait()


class Registry:
    def open(self, project, settings):
        pass

    def register(self, files, *, name, version, digest, tags, run):
        return ModelVersion(name, "1.0.0", digest)


@hookimpl
def prism_trackers():
    return [Provider(name, target=f"strange:{name.title()}") for name in ("taker", "hanger")]


@hookimpl
def prism_model_registries():
    return [Provider(name, target="strange:Registry") for name in ("taker", "hanger")]
"""


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    (tmp_path / "strange.py").write_text(dedent(PLUGINS), encoding="utf-8")
    settings = {"trackers": request.param, "plugins": {"local": ["strange.py"]}, "foundation": {"experiment_name": "x"}}
    (tmp_path / "sais_foundation.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return open_project(tmp_path / "sais_foundation.yaml")


@pytest.fixture
def directory(project: Project) -> RunDirectory:
    """A run that has succeeded with a model to register."""
    directory = begin_run(project)
    journal = open_journal(directory, "a1-rank0", role="worker")
    describe_run(journal.write, project)
    journal.write("metrics", {"step": 1, "metrics": {"loss": 0.5}})
    intent = {"name": "small", "version": "", "tags": {}}
    journal.write("model", {"path": "model", "digest": "sha256:0", "size": 1, "register": intent})
    journal.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
    journal.close()
    return directory


@pytest.fixture
def delivery(project: Project, directory: RunDirectory) -> Iterator[Delivery]:
    """A delivery at work in a thread of its own."""
    delivery = Delivery(directory, project, claimed(directory))
    stop = threading.Event()
    thread = threading.Thread(target=lambda: delivery.run(stop=stop))
    thread.start()
    yield delivery
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def claimed(directory: RunDirectory) -> JournalWriter:
    journal = Claim(directory).take()
    assert journal is not None
    return journal


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def model_state(directory: RunDirectory) -> str:
    return str((read_state(directory).model or {})["state"])


@pytest.mark.parametrize("project", [["taker", "hanger"]], indirect=True)
def test_a_hanging_tracker_holds_up_nobody_else(directory: RunDirectory, delivery: Delivery) -> None:
    wait_for(lambda: model_state(directory) == "registered" and read_state(directory).trackers["taker"].pending == 0)
    assert read_state(directory).trackers["taker"].closed == "FINISHED"
    assert read_state(directory).trackers["hanger"].pending > 0


@pytest.mark.parametrize("project", [["hanger", "taker"]], indirect=True)
def test_the_registration_waits_for_the_first_tracker(directory: RunDirectory, delivery: Delivery) -> None:
    wait_for(lambda: read_state(directory).trackers["taker"].closed == "FINISHED")
    time.sleep(1.5)
    assert model_state(directory) == "pending"


@pytest.mark.parametrize("project", [["taker", "hanger"]], indirect=True)
def test_a_call_that_does_not_return_is_said_and_the_claim_can_be_asked_for(
    directory: RunDirectory, delivery: Delivery
) -> None:
    hanging = delivery.channels[1]
    wait_for(lambda: hanging.settled == "" and read_state(directory).trackers["hanger"].run_id == "taker")
    wait_for(lambda: model_state(directory) == "registered")
    time.sleep(0.5)
    hanging.loop.allowed = 0.1
    wait_for(lambda: "has not returned" in read_state(directory).trackers["hanger"].problem)
    assert Claim(directory).take() is None
    wish(directory)
    wait_for(delivery.over.is_set)
    other = claimed(directory)
    delivery.say("tracker", {"tracker": "hanger", "problem": "said too late"})
    assert "said too late" not in read_state(directory).trackers["hanger"].problem
    other.close()
