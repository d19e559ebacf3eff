"""The journal: what was acknowledged is there, and what is damaged is named, not fatal."""

from __future__ import annotations

import json
import math
import os
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prism.journal.directory import create_run_directory, parse_journal_name
from prism.journal.opening import open_journal
from prism.journal.records import JournalWriter, number, parse_number, read_journal, torn_tail


def write_some(path: Path, count: int = 5) -> None:
    writer = JournalWriter(path)
    for step in range(count):
        writer.write("metrics", {"step": step, "metrics": {"loss": 1.0 / (step + 1)}})
    writer.close()


def test_records_come_back_in_order_with_numbers_and_times(tmp_path: Path) -> None:
    write_some(tmp_path / "a1-rank0.jsonl")
    reading = read_journal(tmp_path / "a1-rank0.jsonl")
    assert [record.seq for record in reading.records] == [1, 2, 3, 4, 5]
    assert [record.data["metrics"]["loss"] for record in reading.records] == [1.0, 0.5, 1 / 3, 0.25, 0.2]
    assert all(record.file == "a1-rank0" and record.time > 1_600_000_000_000 for record in reading.records)
    assert reading.damage == ()


def test_each_line_is_json_of_its_own(tmp_path: Path) -> None:
    write_some(tmp_path / "j.jsonl", 2)
    lines = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["metrics", "metrics"]


@given(value=st.floats(allow_nan=True, allow_infinity=True))
@settings(max_examples=300, derandomize=True)
def test_every_float_comes_back_bit_for_bit(value: float) -> None:
    back = parse_number(json.loads(json.dumps(number(value), allow_nan=False)))
    if math.isnan(value):
        assert math.isnan(back)
    else:
        assert struct.pack("<d", back) == struct.pack("<d", value)


def test_what_is_no_number_is_refused() -> None:
    for value in ("fast", None, [1.0], {}):
        with pytest.raises((TypeError, ValueError)):
            number(value)


def test_cut_at_every_byte_every_whole_record_is_read(tmp_path: Path) -> None:
    path = tmp_path / "whole.jsonl"
    write_some(path, 4)
    content = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content) + 1):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(content[:size])
        reading = read_journal(cut)
        assert len(reading.records) == sum(end <= size for end in ends)
        assert reading.damage == ()
        assert (torn_tail(cut) is None) == (size == 0 or size in ends)


def test_a_flipped_bit_costs_one_record_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    write_some(path, 5)
    content = bytearray(path.read_bytes())
    newline = ord("\n")
    for position in range(0, len(content), 7):
        for bit in (0, 6):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            if content[position] == newline or flipped[position] == newline:
                continue  # joins or splits lines: two records, tested by the count below being a floor
            (tmp_path / "flipped.jsonl").write_bytes(flipped)
            reading = read_journal(tmp_path / "flipped.jsonl")
            assert len(reading.records) == 4
            assert len(reading.damage) == 1
            assert reading.damage[0].offset <= position < reading.damage[0].offset + reading.damage[0].size


def test_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    writer = JournalWriter(path)
    writer.write("tags", {"tags": {"a": "1"}})
    first = read_journal(path)
    writer.write("tags", {"tags": {"b": "2"}})
    second = read_journal(path, offset=first.offset)
    writer.close()
    assert [record.seq for record in second.records] == [2]


def test_nobody_continues_another_processes_file(tmp_path: Path) -> None:
    write_some(tmp_path / "j.jsonl")
    with pytest.raises(FileExistsError):
        JournalWriter(tmp_path / "j.jsonl")


def test_threads_tear_nothing(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j.jsonl")
    writer.keep_alive()

    def say(name: str) -> None:
        for step in range(500):
            writer.write("metrics", {"step": step, "metrics": {name: 1.0}})

    threads = [threading.Thread(target=say, args=(f"t{index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    writer.close()
    reading = read_journal(tmp_path / "j.jsonl")
    assert [record.seq for record in reading.records] == list(range(1, 4001))


def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a1-rank0.jsonl")
    writer.keep_alive()
    writer.write("tags", {"tags": {"who": "parent"}})
    child = os.fork()
    if child == 0:
        writer.write("tags", {"tags": {"who": "child"}})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    writer.write("tags", {"tags": {"who": "parent again"}})
    writer.close()
    assert [record.data["tags"]["who"] for record in read_journal(tmp_path / "a1-rank0.jsonl").records] == [
        "parent",
        "parent again",
    ]
    records = read_journal(tmp_path / f"a1-rank0-p{child}.jsonl").records
    assert [record.kind for record in records] == ["start", "tags"]
    assert records[0].data["role"] == "fork"


def test_user_code_that_closes_what_it_finds_open_loses_nothing(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j.jsonl")
    for step in range(3):
        assert writer._fd is not None
        os.close(writer._fd)
        writer.write("metrics", {"step": step, "metrics": {}})
    assert writer.unrecorded == 0
    os.close(writer._fd)
    writer.close()
    assert [record.seq for record in read_journal(tmp_path / "j.jsonl").records] == [1, 2, 3]


def test_one_process_may_begin_several_files_of_one_rank(tmp_path: Path) -> None:
    directory = create_run_directory(tmp_path, "20260101-000000-aaaaaa")
    names = []
    for _ in range(4):
        journal = open_journal(directory, "a2-rank1", role="helper")
        journal.close()
        names.append(parse_journal_name(journal.path.stem))
    assert [(name.attempt, name.rank, name.is_worker) for name in names] == [(2, 1, True), *[(2, 1, False)] * 3]
    assert len(directory.journal_files()) == 4


def test_a_full_disk_is_said_once_and_counted(tmp_path: Path) -> None:
    said: list[str] = []
    writer = JournalWriter(tmp_path / "j.jsonl", warn=said.append)
    writer.write("tags", {"tags": {"a": "1"}})
    full = os.open("/dev/full", os.O_WRONLY)
    good, writer._fd = writer._fd, full
    for _ in range(3):
        writer.write("tags", {"tags": {"lost": "yes"}})
    writer._fd = good
    os.close(full)
    writer.write("tags", {"tags": {"b": "2"}})
    writer.close()
    assert writer.unrecorded == 3
    assert len(said) == 1 and "j.jsonl" in said[0]
    assert [record.data["tags"] for record in read_journal(tmp_path / "j.jsonl").records] == [{"a": "1"}, {"b": "2"}]
