"""Writing the journal in the midst of threads, forks, signals and failing disks: nothing lost, doubled or hung."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from prism.journal import writer as writing
from prism.journal.records import JournalWriter, read_journal
from prism.protocols import Record

WITHIN = 120  # seconds until what hangs is said to hang


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalWriter]:
    writer = JournalWriter(tmp_path / "a1-rank0.jsonl")
    writer.keep_alive()
    yield writer
    writer.close()


@pytest.fixture(autouse=True)
def no_thread_fails(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An exception in a thread of the journal's would be nobody's; here it fails the test."""
    failed: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda what: failed.append(repr(what.exc_value)))
    yield
    assert not failed


def say(writer: JournalWriter, name: str, step: int) -> None:
    writer.write("metrics", {"step": step, "metrics": {name: 1.0}})


def said(folder: Path) -> list[Record]:
    """The records of all files, every file whole and numbered without a gap."""
    found: list[Record] = []
    for path in sorted(folder.glob("*.jsonl")):
        reading = read_journal(path)
        assert reading.damage == () and reading.offset == path.stat().st_size
        assert [record.seq for record in reading.records] == list(range(1, len(reading.records) + 1))
        found.extend(reading.records)
    return found


def points(folder: Path) -> Counter[tuple[str, int]]:
    return Counter(
        (name, record.data["step"])
        for record in said(folder)
        if record.kind == "metrics"
        for name in record.data["metrics"]
    )


def reap(children: list[int]) -> None:
    """Wait for children to end well; one that hangs is killed, and the test fails."""
    until = time.monotonic() + WITHIN
    for child in children:
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                pytest.fail(f"the child {child} hangs")
            time.sleep(0.01)
        assert ended[1] == 0, f"the child {child} ended with {ended[1]}"


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


# ---------------------------------------------------------------- threads and processes


def test_threads_and_forks_at_any_moment_lose_and_hang_nothing(journal: JournalWriter) -> None:
    seed = 20261123
    print(f"seed {seed}")
    random_ = random.Random(seed)
    until = threading.Event()
    counts: list[int] = []

    def go_on(name: str) -> None:
        step = 0
        while not until.is_set() or step < 200:
            say(journal, name, step)
            step += 1
        counts.append(step)

    def in_the_child(number: int, depth: int) -> None:
        threads = [
            threading.Thread(target=lambda n=index: [say(journal, f"c{number}.{depth}.{n}", s) for s in range(50)])
            for index in range(2)
        ]
        for thread in threads:
            thread.start()
        grandchildren = [forked(lambda: in_the_child(number, depth + 1))] if depth < number % 3 else []
        for thread in threads:
            thread.join(WITHIN)
            assert not thread.is_alive()
        reap(grandchildren)

    threads = [threading.Thread(target=go_on, args=(f"t{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    children = []
    for number in range(24):
        time.sleep(random_.random() * 0.01)
        children.append(forked(lambda n=number: in_the_child(n, 0)))  # type: ignore[misc]
    reap(children)
    until.set()
    for thread in threads:
        thread.join(WITHIN)
    found = points(journal.path.parent)
    of_children = sum((1 + number % 3) * 2 * 50 for number in range(24))
    assert sum(found.values()) == sum(counts) + of_children and set(found.values()) == {1}


def test_a_child_with_the_pid_of_an_earlier_one_writes_a_file_of_its_own(journal: JournalWriter) -> None:
    def work() -> None:
        for name in (f"a1-rank0-p{os.getpid()}", f"a1-rank0-p{os.getpid()}-p2"):
            JournalWriter(journal.path.with_name(f"{name}.jsonl")).write("tags", {"tags": {"of": "an earlier one"}})
        say(journal, "mine", 1)
        assert journal.path.stem == f"a1-rank0-p{os.getpid()}-p3"

    reap([forked(work)])
    assert points(journal.path.parent) == {("mine", 1): 1}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing(tmp_path: Path, method: str) -> None:
    """A spawned one has no handle of its parent's: it begins a file itself."""
    script = tmp_path / "script.py"
    script.write_text(
        dedent(
            """
            import multiprocessing, os, sys
            from pathlib import Path
            from prism.journal.records import JournalWriter

            writer = None
            folder = Path(sys.argv[2])

            def work(number):
                global writer
                if writer is None:
                    writer = JournalWriter(folder / f"a1-rank0-p{os.getpid()}.jsonl")
                    writer.write("start", {"role": "helper", "process": {}})
                for step in range(200):
                    writer.write("metrics", {"step": step, "metrics": {f"w{number}": 1.0}})
                return number

            if __name__ == "__main__":
                context = multiprocessing.get_context(sys.argv[1])
                if sys.argv[1] == "fork":
                    writer = JournalWriter(folder / "a1-rank0.jsonl")
                with context.Pool(3) as pool:
                    print(sorted(pool.imap_unordered(work, range(6))))
            """
        )
    )
    folder = tmp_path / "journal"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, script, method, folder], capture_output=True, text=True, timeout=WITHIN, check=False
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert points(folder) == {(f"w{number}", step): 1 for number in range(6) for step in range(200)}


def test_a_child_imports_nothing_to_write_its_first_record(tmp_path: Path) -> None:
    """Another thread of the parent's may have been importing it at the fork: the child would wait for ever."""
    script = """
    import os, sys
    from pathlib import Path
    from prism.journal.writer import JournalWriter
    journal = JournalWriter(Path(sys.argv[1]))
    journal.keep_alive()
    child = os.fork()
    if child == 0:
        imported = []
        sys.addaudithook(lambda event, arguments: imported.append(arguments[0]) if event == "import" else None)
        journal.write("tags", {"tags": {"größe": "\\udce9"}})
        journal.sync()
        os._exit(bool(imported))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run([sys.executable, "-c", dedent(script), tmp_path / "j.jsonl"], timeout=WITHIN, check=False)
    assert done.returncode == 0
    assert [record.kind for record in said(tmp_path)] == ["start", "tags"]


def test_a_child_is_synced_as_its_parent_is(journal: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SYNC_SECONDS", 0.01)

    def work() -> None:
        synced = threading.Event()
        monkeypatch.setattr(os, "fsync", lambda _: synced.set())
        say(journal, "mine", 1)
        assert synced.wait(WITHIN)

    reap([forked(work)])


# ---------------------------------------------------------------- what interrupts a thread's own writing


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Calls what it is given from a signal handler, at every other moment of the main thread."""

    def start(call: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: call())
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)

    before = signal.getsignal(signal.SIGALRM)
    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_may_log_at_any_moment(
    journal: JournalWriter, alarm: Callable[[Callable[[], None]], None]
) -> None:
    steps = iter(range(1 << 30))
    told: list[int] = []

    def handler() -> None:
        step = next(steps)
        say(journal, "handler", step)
        told.append(step)

    alarm(handler)
    until = time.monotonic() + WITHIN
    count = 0
    while len(told) < 300 and time.monotonic() < until:
        say(journal, "main", count)
        count += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    found = points(journal.path.parent)
    assert len(told) >= 300
    assert found == {("handler", step): 1 for step in told} | {("main", step): 1 for step in range(count)}


def test_a_finalizer_may_log_in_the_midst_of_logging(journal: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaving:
        def __init__(self, step: int) -> None:
            self.step, self.me = step, self

        def __del__(self) -> None:
            say(journal, "finalizer", self.step)

    real, count = os.write, 0

    def write(descriptor: int, line: bytes) -> int:
        nonlocal count
        count += 1
        if count < 100:
            Leaving(count)
            gc.collect(0)
        return real(descriptor, line)

    monkeypatch.setattr(os, "write", write)
    for step in range(50):
        say(journal, "main", step)
    monkeypatch.undo()
    found = points(journal.path.parent)
    assert sum(found[("main", step)] for step in range(50)) == 50
    assert sum(found.values()) == 50 + 99 and set(found.values()) == {1}


def test_a_handler_that_ends_the_run_and_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM in the midst of a record: the handler says the end, closes, and exits."""
    journal = JournalWriter(tmp_path / "a1-rank0.jsonl")
    real = os.write

    def interrupted(descriptor: int, line: bytes) -> int:
        monkeypatch.setattr(os, "write", real)
        real(descriptor, line)
        journal.write("end", {"status": "KILLED"})
        journal.close()
        raise SystemExit(143)

    say(journal, "before", 1)
    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(SystemExit):
        say(journal, "now", 2)
    assert [record.kind for record in said(tmp_path)] == ["metrics", "metrics", "end"]
    with pytest.raises(ValueError, match="closed"):
        say(journal, "after", 3)
    assert list(tmp_path.iterdir()) == [tmp_path / "a1-rank0.jsonl"]


# ---------------------------------------------------------------- descriptors and disks


def test_descriptors_that_user_code_closes_and_takes_for_itself_get_nothing(
    tmp_path: Path, journal: JournalWriter
) -> None:
    def work() -> None:
        say(journal, "child", 1)
        os.closerange(3, 2048)  # as daemons do
        own = [os.open(tmp_path / f"own-{index}", os.O_CREAT | os.O_RDWR) for index in range(40)]
        for step in range(2, 20):
            say(journal, "child", step)
        assert all(os.fstat(descriptor).st_size == 0 for descriptor in own)

    reap([forked(work)])
    assert points(tmp_path) == {("child", step): 1 for step in range(1, 20)}


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EROFS, errno.ESTALE])
def test_a_disk_that_fails_is_said_once_and_what_is_lost_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    said_: list[str] = []
    journal = JournalWriter(tmp_path / "j.jsonl", warn=said_.append)
    say(journal, "before", 1)
    real = os.write

    def failing(descriptor: int, line: bytes) -> int:
        if number == errno.ENOSPC:  # a part may still fit
            return real(descriptor, line[:20])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", failing)
    for step in range(10):
        journal.write("metrics", {"step": step, "metrics": {"a": 1.0, "b": 2.0, "c": 3.0}})
    journal.write("tags", {"tags": {"a": "b"}})
    monkeypatch.setattr(os, "write", real)
    say(journal, "after", 2)
    assert journal.shortfall() == f"11 records with 30 points could not be written to {journal.path}"
    assert journal.shortfall() == ""
    journal.close()
    assert len(said_) == 1 and os.strerror(number) in said_[0] and "j.jsonl" in said_[0]
    reading = read_journal(journal.path)
    assert [(record.seq, *record.data["metrics"]) for record in reading.records] == [(1, "before"), (2, "after")]


def test_a_limit_of_size_like_a_quota(tmp_path: Path) -> None:
    """RLIMIT_FSIZE is the kernel's own: the write that would go beyond it is cut, the next ones fail."""
    script = """
    import sys
    from pathlib import Path
    from prism.journal.records import JournalWriter
    said = []
    journal = JournalWriter(Path(sys.argv[1]), warn=said.append)
    for step in range(200):
        journal.write("metrics", {"step": step, "metrics": {"loss": 1.0 / (step + 1)}})
    print(journal.shortfall().split(" could")[0], len(said))
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(script), tmp_path / "j.jsonl"],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        check=True,
    )
    kept = len(read_journal(tmp_path / "j.jsonl").records)
    assert 50 < kept < 150
    assert done.stdout == f"{200 - kept} records with {200 - kept} points 1\n"


def test_a_child_without_a_disk_goes_on_and_says_how_much_was_lost(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    journal = JournalWriter(
        tmp_path / "journal" / "a1-rank0.jsonl", warn=lambda line: os.write(2, f"{line}\n".encode())
    )

    def work() -> None:
        for step in range(5):
            say(journal, "child", step)

    (tmp_path / "journal").rename(tmp_path / "away")
    with (tmp_path / "stderr").open("wb") as stderr:
        kept = os.dup(2)
        os.dup2(stderr.fileno(), 2)
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        os.dup2(kept, 2)
    child.join(WITHIN)
    assert child.exitcode == 0
    first, last = (tmp_path / "stderr").read_text().splitlines()
    assert "cannot be written (No such file or directory)" in first
    assert last.startswith("5 records with 5 points could not be written")
    assert [path.name for path in (tmp_path / "away").iterdir()] == ["a1-rank0.jsonl"]


def test_a_disk_that_is_slow_to_sync_holds_up_neither_logging_nor_heartbeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, go_on = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        syncing.set()
        assert go_on.wait(WITHIN)

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(writing, "SYNC_SECONDS", 0.01)
    monkeypatch.setattr(writing, "HEARTBEAT_SECONDS", 0.01)
    journal = JournalWriter(tmp_path / "j.jsonl")
    journal.keep_alive()
    say(journal, "first", 1)
    assert syncing.wait(WITHIN)
    say(journal, "second", 2)
    until = time.monotonic() + WITHIN
    while sum(record.kind == "heartbeat" for record in said(tmp_path)) < 3:
        assert time.monotonic() < until, "no heartbeats while the disk syncs"
        time.sleep(0.01)
    go_on.set()
    journal.close()
    assert points(tmp_path) == {("first", 1): 1, ("second", 2): 1}


def test_a_sync_that_fails_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said_: list[str] = []
    journal = JournalWriter(tmp_path / "j.jsonl", warn=said_.append)

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    for step in range(3):
        say(journal, "loss", step)
        journal.sync()
    assert len(said_) == 1 and "Input/output error" in said_[0]


def test_a_journal_that_was_deleted_meanwhile_is_said_once(tmp_path: Path) -> None:
    said_: list[str] = []
    journal = JournalWriter(tmp_path / "j.jsonl", warn=said_.append)
    say(journal, "loss", 0)
    journal.path.unlink()  # writing on gives no error
    for step in range(1, 3):
        say(journal, "loss", step)
        journal.sync()
    assert len(said_) == 1 and "j.jsonl cannot be written (it was deleted)" in said_[0]


def test_closing_while_others_write_and_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SYNC_SECONDS", 0.0001)
    monkeypatch.setattr(writing, "HEARTBEAT_SECONDS", 0.0001)
    acknowledged: list[tuple[str, int]] = []

    def go_on(writer: JournalWriter, name: str) -> None:
        for step in range(1 << 30):
            try:
                say(writer, name, step)
            except ValueError:  # closed
                return
            acknowledged.append((name, step))

    complaints: list[str] = []
    for round_ in range(20):
        journal = JournalWriter(tmp_path / f"{round_}.jsonl", warn=complaints.append)
        journal.keep_alive()
        threads = [threading.Thread(target=go_on, args=(journal, f"{round_}.{index}")) for index in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.005)
        journal.close()
        for thread in threads:
            thread.join(WITHIN)
            assert not thread.is_alive()
    assert complaints == []
    assert points(tmp_path) == Counter(acknowledged)


def test_what_nobody_can_read_back_is_refused_before_anything_is_written(journal: JournalWriter) -> None:
    unfit: list[dict[str, Any]] = [{"x": float("nan")}, {"x": object()}, {"x": {1, 2}}]
    for data in unfit:
        with pytest.raises((TypeError, ValueError)):
            journal.write("mine", data)
    say(journal, "loss", 1)
    assert points(journal.path.parent) == {("loss", 1): 1}
