"""The status of a run follows from its journal, whoever wrote which part of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prism.errors import UsageError
from prism.journal.directory import RunDirectory, create_run_directory, find_run, list_runs
from prism.journal.identity import ProcessIdentity
from prism.journal.looks import Looks, clock
from prism.journal.records import JournalWriter
from prism.journal.state import LiveState, read_cached, read_state, write_run_summary

ELSEWHERE = ProcessIdentity("node7", "another-boot/pid:[1]", 12, 99)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return create_run_directory(tmp_path, "20260101-000000-aaaaaa")


@pytest.fixture
def dead() -> ProcessIdentity:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    identity = ProcessIdentity.of(child.pid)
    child.kill()
    child.wait(10)
    assert identity is not None
    return identity


def worker(directory: RunDirectory, stem: str, process: ProcessIdentity) -> JournalWriter:
    writer = JournalWriter(directory.journal / f"{stem}.jsonl")
    writer.write("start", {"role": "worker", "process": process.dump()})
    return writer


def overview(directory: RunDirectory) -> dict[str, Any]:
    """As commands have it: from the cache, where that is up to date."""
    return read_cached(directory) or read_state(directory).as_json()


def end(status: str, **more: Any) -> dict[str, Any]:
    return {"status": status, "exit_code": 0, "error": "", **more}


def test_alive_is_running_and_dead_without_a_word_is_failed(directory: RunDirectory, dead: ProcessIdentity) -> None:
    worker(directory, "a1-rank0", ProcessIdentity.mine())
    assert read_state(directory).status == "RUNNING"
    worker(directory, "a2-rank0", dead)
    state = read_state(directory)
    assert (state.status, state.attempts) == ("FAILED", 2)


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        (("FINISHED", "FINISHED"), "FINISHED"),
        (("FINISHED", "FAILED"), "FAILED"),
        (("KILLED", "FAILED"), "FAILED"),
        (("KILLED", "KILLED"), "KILLED"),
        (("FINISHED", None), "RUNNING"),
        (("FAILED", None), "FAILED"),
    ],
)
def test_the_worst_rank_decides(directory: RunDirectory, ends: tuple[str | None, ...], status: str) -> None:
    for rank, said in enumerate(ends):
        writer = worker(directory, f"a1-rank{rank}", ProcessIdentity.mine())
        if said:
            writer.write("end", end(said))
    assert read_state(directory).status == status


def test_only_the_latest_attempt_counts(directory: RunDirectory) -> None:
    worker(directory, "a1-rank0", ProcessIdentity.mine()).write("end", end("FAILED"))
    worker(directory, "a2-rank0", ProcessIdentity.mine()).write("end", end("FINISHED"))
    assert read_state(directory).status == "FINISHED"


def test_a_node_out_of_sight_is_running_and_then_lost(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = worker(directory, "a1-rank0", ELSEWHERE)
    looks = Looks(directory)
    assert looks.note("a1-rank0", 1) == 0.0
    looks.keep()
    passed = clock()
    for seconds, status in ((29, "RUNNING"), (31, "LOST"), (1000, "LOST")):
        monkeypatch.setattr("prism.journal.looks.clock", lambda now=passed + seconds: now)
        assert read_state(directory).status == status
        assert ("node7" in read_state(directory).error) == (status == "LOST")
    writer.write("heartbeat", {"count": 1})
    assert read_state(directory).status == "RUNNING"
    (remembered,) = directory.delivery.glob("look-*.json")
    for damaged in ("", "[]", '{"seen": 5}', '{"seen": {"a1-rank0": {}}}'):
        remembered.write_text(damaged)
        assert read_state(directory).status == "RUNNING"


def test_a_run_closed_by_lease_opens_again_when_it_speaks(directory: RunDirectory) -> None:
    node = worker(directory, "a1-rank0", ELSEWHERE)
    node.write("heartbeat", {"count": 3})
    observer = JournalWriter(directory.journal / "node-x.jsonl")
    observer.write("end", end("FAILED", of="a1-rank0", heartbeats=3))
    assert read_state(directory).status == "FAILED"
    node.write("heartbeat", {"count": 4})
    assert read_state(directory).status == "RUNNING"


def test_its_own_word_outweighs_an_observers(directory: RunDirectory) -> None:
    node = worker(directory, "a1-rank0", ELSEWHERE)
    node.write("end", end("FINISHED"))
    JournalWriter(directory.journal / "node-x.jsonl").write("end", end("FAILED", of="a1-rank0"))
    assert read_state(directory).status == "FINISHED"


def test_metrics_are_the_last_by_step_and_of_rank_0(directory: RunDirectory) -> None:
    rank0 = worker(directory, "a1-rank0", ProcessIdentity.mine())
    for step, value in ((2, 0.2), (3, 0.3), (1, 0.1)):
        rank0.write("metrics", {"step": step, "metrics": {"loss": value}})
    worker(directory, "a1-rank1", ProcessIdentity.mine()).write("metrics", {"step": 9, "metrics": {"loss": 9.0}})
    assert read_state(directory).metrics == {"loss": 0.3}


def test_the_summary_is_a_cache_that_is_dropped_when_the_journal_grows(directory: RunDirectory) -> None:
    rank0 = worker(directory, "a1-rank0", ProcessIdentity.mine())
    rank0.write("end", end("FINISHED"))
    write_run_summary(read_state(directory))
    assert overview(directory)["derived_from"]
    worker(directory, "a2-rank0", ProcessIdentity.mine())
    assert overview(directory)["status"] == "RUNNING"


def test_a_run_that_died_before_its_first_record_has_failed(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from prism.journal.directory import create_run_directory
create_run_directory(Path({str(tmp_path)!r}), "20260101-000000-aaaaaa")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    (directory,) = list_runs(tmp_path)
    assert read_state(directory).status == "FAILED"
    assert overview(directory)["status"] == "FAILED"


@pytest.mark.parametrize("text", ["", "[]", "null", "5", "{}", '{"format":1,', "\xff", "[" * 100_000])
def test_a_damaged_summary_is_derived_anew(directory: RunDirectory, text: str) -> None:
    directory.summary.write_text(text, encoding="latin-1")
    assert overview(directory)["run_id"] == directory.run_id


def test_a_format_from_the_future_is_refused(directory: RunDirectory) -> None:
    directory.summary.write_text('{"format": 2}')
    with pytest.raises(UsageError, match="format 2"):
        read_state(directory)


def test_runs_are_found_by_a_unique_beginning(tmp_path: Path) -> None:
    for run_id in ("20260101-000000-aaaaaa", "20260102-000000-bbbbbb"):
        create_run_directory(tmp_path, run_id)
    assert [run.run_id for run in list_runs(tmp_path)] == ["20260102-000000-bbbbbb", "20260101-000000-aaaaaa"]
    assert find_run(tmp_path, "20260102").run_id == "20260102-000000-bbbbbb"
    for unfit in ("2026", "x", ""):
        with pytest.raises(UsageError):
            find_run(tmp_path, unfit)


def test_a_last_line_that_a_dead_process_did_not_finish_is_reported(
    directory: RunDirectory, dead: ProcessIdentity
) -> None:
    writer = worker(directory, "a1-rank0", dead)
    with writer.path.open("ab") as stream:
        stream.write(b'{"seq":2,"time":1,"kind":"metr')
    state = read_state(directory)
    assert (state.status, [one.reason for one in state.damage]) == ("FAILED", ["the last line is not finished"])
    assert LiveState(directory).state.damage == state.damage
    assert "a1-rank0.jsonl" in state.as_json()["damage"][0]
    worker(directory, "a2-rank0", ProcessIdentity.mine())
    assert not read_state(directory).damage  # a process that is alive may be in the middle of one


def test_last_words_that_come_while_a_death_is_noticed_are_read(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = worker(directory, "a1-rank0", ProcessIdentity.mine())

    def dies_after_a_word(_: ProcessIdentity) -> bool:
        if writer.path.read_bytes().count(b"\n") == 1:
            writer.write("end", end("FINISHED"))
        return False

    monkeypatch.setattr(ProcessIdentity, "is_alive", dies_after_a_word)
    assert read_state(directory).status == "FINISHED"
    writer = worker(directory, "a2-rank0", ProcessIdentity.mine())
    assert LiveState(directory).state.status == "FINISHED"


WORDS = {
    "own": end("FINISHED"),
    "leaving": end("FINISHED", exit_code=None),
    "seen": {"status": "FAILED", "exit_code": 3, "error": "exit code 3", "of": "a1-rank0"},
    "dead": {"status": "FAILED", "exit_code": None, "error": "died", "of": "a1-rank0"},
    "lease": {"status": "FAILED", "exit_code": None, "error": "lost", "of": "a1-rank0", "heartbeats": 0, "records": 1},
}
ORDER = ("own", "seen", "leaving", "dead", "lease")


@pytest.mark.parametrize("first", ORDER)
@pytest.mark.parametrize("second", ORDER)
def test_of_two_ends_the_one_that_knows_most_counts(
    directory: RunDirectory, dead: ProcessIdentity, first: str, second: str
) -> None:
    writer = worker(directory, "a1-rank0", dead)
    observer = JournalWriter(directory.journal / "node-x.jsonl")
    for word in (first, second):
        if word in ("own", "leaving"):
            writer.write("end", WORDS[word])
        else:
            observer.write("end", WORDS[word])
    state = read_state(directory)
    best = min((first, second), key=ORDER.index)
    assert (state.status, state.error) == (WORDS[best]["status"], WORDS[best]["error"])
    assert LiveState(directory).state.status == state.status


def test_who_leaves_without_an_error_is_running_until_it_is_gone(
    directory: RunDirectory, dead: ProcessIdentity
) -> None:
    worker(directory, "a1-rank0", ProcessIdentity.mine()).write("end", WORDS["leaving"])
    assert read_state(directory).status == "RUNNING"
    worker(directory, "a2-rank0", dead).write("end", WORDS["leaving"])
    assert read_state(directory).status == "FINISHED"
    worker(directory, "a3-rank0", ELSEWHERE).write("end", WORDS["leaving"])
    assert read_state(directory).status == "FINISHED"


def test_any_record_after_an_end_by_lease_makes_it_void(directory: RunDirectory) -> None:
    node = worker(directory, "a1-rank0", ELSEWHERE)
    live = LiveState(directory)
    JournalWriter(directory.journal / "node-x.jsonl").write("end", WORDS["lease"])
    assert live.poll().status == read_state(directory).status == "FAILED"
    node.write("metrics", {"step": 1, "metrics": {"loss": 1.0}})
    assert live.poll().status == read_state(directory).status == "RUNNING"


def test_the_summary_of_what_has_grown_since_it_was_read_is_out_of_date(directory: RunDirectory) -> None:
    node = worker(directory, "a1-rank0", ELSEWHERE)
    JournalWriter(directory.journal / "node-x.jsonl").write("end", WORDS["lease"])
    state = read_state(directory)
    node.write("end", end("FINISHED"))
    write_run_summary(state)
    assert overview(directory)["status"] == "FINISHED"
    write_run_summary(read_state(directory))
    assert overview(directory)["derived_from"]


def test_two_processes_of_a_machine_add_to_its_looks(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Looks(directory), Looks(directory)
    one.note("a1-rank0", 5)
    other.note("a1-rank1", 7)
    one.keep()
    other.keep()
    later = clock() + 50
    monkeypatch.setattr("prism.journal.looks.clock", lambda: later)
    again = Looks(directory)
    assert 49 < again.note("a1-rank0", 5) < 51 and 49 < again.note("a1-rank1", 7) < 51
    assert again.note("a1-rank0", 6) == again.note("a1-rank1", 8) == 0.0
    monkeypatch.setattr("prism.journal.looks.clock", lambda: 1.0)  # the machine was started anew
    assert again.note("a1-rank0", 5) == 0.0


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon"])
def test_a_lease_that_is_none_is_refused(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PRISM_LEASE_SECONDS", text)
    with pytest.raises(UsageError, match="PRISM_LEASE_SECONDS"):
        read_state(directory)
