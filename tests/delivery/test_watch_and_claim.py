"""Deaths are seen at once, lost nodes by lease, and of many deliverers one wins."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prism.delivery.claim import Claim, still_mine
from prism.delivery.watch import Watch
from prism.journal.directory import RunDirectory, create_run_directory
from prism.journal.identity import ProcessIdentity
from prism.journal.records import JournalWriter, read_journal
from prism.journal.state import read_state

ELSEWHERE = ProcessIdentity("node7", "another-boot/pid:[1]", 12, 99)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return create_run_directory(tmp_path, "20260101-000000-aaaaaa")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait(10)


@pytest.fixture
def dead(sleeper: subprocess.Popen[bytes]) -> ProcessIdentity:
    identity = identity_of(sleeper)
    sleeper.kill()
    sleeper.wait(10)
    return identity


def begin(directory: RunDirectory, process: ProcessIdentity) -> JournalWriter:
    writer = JournalWriter(directory.journal / "a1-rank0.jsonl")
    writer.write("start", {"role": "worker", "process": process.dump()})
    return writer


def watching(directory: RunDirectory, *, lease: float = 90.0) -> Watch:
    return Watch(directory, JournalWriter(directory.journal / "node-test.jsonl"), lease)


def identity_of(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    return identity


def test_a_run_without_its_delivery_folder_is_delivered_anew(directory: RunDirectory) -> None:
    directory.delivery.rmdir()
    journal = Claim(directory).take()
    assert journal is not None
    journal.close()


@pytest.mark.parametrize("noticed", ["while it is waited for", "before"])
def test_a_death_is_written_down_at_once(
    directory: RunDirectory, sleeper: subprocess.Popen[bytes], noticed: str
) -> None:
    begin(directory, identity_of(sleeper))
    watch = watching(directory)
    watch.look(seconds=0.1)
    assert read_state(directory).status == "RUNNING" and not watch.local_work_is_over
    sleeper.kill()
    if noticed == "before":
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    began = time.monotonic()
    watch.look(seconds=20)
    assert time.monotonic() - began < 2
    assert read_state(directory).status == "FAILED" and watch.local_work_is_over
    (end,) = [r for r in read_journal(directory.journal / "node-test.jsonl").records if r.kind == "end"]
    assert (end.data["of"], end.data["status"]) == ("a1-rank0", "FAILED")


def test_last_words_are_heard(directory: RunDirectory, sleeper: subprocess.Popen[bytes]) -> None:
    writer = begin(directory, identity_of(sleeper))
    watch = watching(directory)
    watch.look(seconds=0.0)
    writer.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
    sleeper.kill()
    sleeper.wait(10)
    watch.look(seconds=0.0)
    assert read_state(directory).status == "FINISHED"
    assert [r.kind for r in read_journal(directory.journal / "node-test.jsonl").records] == []


def test_a_later_process_with_the_same_pid_is_another(directory: RunDirectory) -> None:
    mine = ProcessIdentity.mine()
    begin(directory, ProcessIdentity(mine.host, mine.machine, mine.pid, mine.started - 1))
    watching(directory).look(seconds=0.0)
    assert read_state(directory).status == "FAILED"


def test_a_lost_node_is_closed_after_the_lease_and_opened_when_it_speaks(directory: RunDirectory) -> None:
    node = begin(directory, ELSEWHERE)
    node.write("heartbeat", {"count": 1})
    watch = watching(directory, lease=0.6)
    for count in range(2, 5):  # as long as it speaks it is not closed
        watch.look(seconds=0.3)
        node.write("heartbeat", {"count": count})
    watch.look(seconds=0.0)
    assert read_state(directory).status == "RUNNING"
    for _ in range(4):
        watch.look(seconds=0.0)
        time.sleep(0.3)
    state = read_state(directory)
    assert state.status == "FAILED" and "node7" in state.error
    node.write("heartbeat", {"count": 5})
    assert read_state(directory).status == "RUNNING"


def take(path: Path, gate: Any, answers: Any) -> None:
    gate.wait(30)
    taken = Claim(RunDirectory(path)).take()
    answers.put(taken is not None)
    gate.wait(30)


def test_of_eight_processes_one_delivers(directory: RunDirectory) -> None:
    context = multiprocessing.get_context("spawn")
    gate, answers = context.Barrier(8), context.Queue()
    processes = [context.Process(target=take, args=(directory.path, gate, answers)) for _ in range(8)]
    for process in processes:
        process.start()
    assert sum(answers.get(timeout=60) for _ in processes) == 1
    for process in processes:
        process.join(30)
    assert len(directory.delivery_files()) == 1


def test_a_claim_passes_on_when_its_owner_has_ended_or_died(directory: RunDirectory, dead: ProcessIdentity) -> None:
    first = Claim(directory).take()
    assert first is not None and Claim(directory).take() is None
    first.write("end", {"status": "FINISHED"})
    second = Claim(directory).take()
    assert second is not None and not still_mine(directory, first) and still_mine(directory, second)
    writer = JournalWriter(directory.delivery / "000003.jsonl")
    writer.write("start", {"role": "delivery", "process": dead.dump()})
    assert Claim(directory).take() is not None


def test_a_folder_called_like_the_next_claim_keeps_nobody_from_it(directory: RunDirectory) -> None:
    first = Claim(directory).take()
    assert first is not None
    first.write("end", {"status": "FINISHED"})
    first.close()
    for strange in ("000002.jsonl", "000003.jsonl"):
        (directory.delivery / strange).mkdir()
    second = Claim(directory).take()
    assert second is not None and second.path.name == "000004.jsonl"
    assert still_mine(directory, second) and Claim(directory).take() is None


def test_who_stands_back_does_so_until_another_has_delivered(directory: RunDirectory) -> None:
    claim = Claim(directory)
    mine = claim.take()
    assert mine is not None and not claim.stands_back()
    mine.write("end", {"status": "FINISHED"})
    claim.stand_back()
    assert claim.stands_back()
    other = JournalWriter(directory.delivery / "000002.jsonl")
    other.write("start", {"role": "delivery", "process": ELSEWHERE.dump()})
    assert not claim.stands_back()


def test_an_owner_elsewhere_has_a_lease(directory: RunDirectory) -> None:
    owner = JournalWriter(directory.delivery / "000001.jsonl")
    owner.write("start", {"role": "delivery", "process": ELSEWHERE.dump()})
    claim = Claim(directory, lease=0.5)
    assert claim.take() is None
    time.sleep(0.3)
    owner.write("heartbeat", {"count": 1})
    assert claim.take() is None
    time.sleep(0.3)
    assert claim.take() is None
    time.sleep(0.3)
    assert claim.take() is not None


def test_looks_of_several_commands_at_an_owner_elsewhere_add_up(directory: RunDirectory) -> None:
    owner = JournalWriter(directory.delivery / "000001.jsonl")
    owner.write("start", {"role": "delivery", "process": ELSEWHERE.dump()})
    assert Claim(directory, lease=0.5).take() is None
    time.sleep(0.6)
    assert Claim(directory, lease=60).take() is None
    assert Claim(directory, lease=0.5).take() is not None
