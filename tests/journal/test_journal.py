"""The journal: what was acknowledged is there, and what is damaged is named, not fatal."""

from __future__ import annotations

import json
import math
import os
import struct
import threading
import zlib
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
    path, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    write_many_kinds(path)
    content, whole = path.read_bytes(), read_journal(path).records
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content) + 1):
        cut.write_bytes(content[:size])
        reading = read_journal(cut)
        kept = sum(end <= size for end in ends)
        assert [record.data for record in reading.records] == [record.data for record in whole[:kept]]
        assert reading.damage == ()
        tail, begins = torn_tail(cut), max((end for end in ends if end <= size), default=0)
        if size in (0, *ends):
            assert tail is None
        else:
            assert tail is not None
            assert (tail.file, tail.offset, tail.size) == ("cut.jsonl", begins, size - begins) and tail.reason


@pytest.mark.parametrize("hole", [b"", b"\0" * 40, b"\n\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b'{"seq":2}'])
def test_whatever_stands_between_records_is_named_and_passed_over(tmp_path: Path, hole: bytes) -> None:
    """As a crash leaves a file: zeroes, another line, half of a character."""
    path = tmp_path / "j.jsonl"
    write_many_kinds(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], hole, *lines[3:]]))
    reading = read_journal(path)
    beside = 0 if hole.strip(b"\n") == b"" or hole.endswith(b"\n") else 1  # what has no end takes the next line along
    assert [record.seq for record in reading.records] == [1, 2, *[4, 5][beside:]]
    assert bool(reading.damage) == bool(hole.strip(b"\n"))
    assert all(one.offset == len(b"".join(lines[:2])) for one in reading.damage)


def test_a_record_with_a_right_checksum_and_an_odd_content_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    odd = [b'{"kind":"tags"', b'{"seq":1,"time":1', b"[1", b'{"seq":1,"time":1,"kind":"tags","tags":' + b"[" * 5000]
    path.write_bytes(b"".join(b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body)) for body in odd))
    reading = read_journal(path)
    assert reading.records == () and len(reading.damage) == len(odd)


def write_many_kinds(path: Path) -> None:
    writer = JournalWriter(path)
    writer.write("start", {"format": 1, "role": "worker", "process": {"host": "größe", "pid": 1}})
    writer.write("params", {"params": {"lr": 2e-5, "name": "a \\ b \n c"}})
    writer.write("metrics", {"step": 1, "metrics": {"loss": 0.5, "bad": "NaN"}, "timestamp": 5})
    writer.write("heartbeat", {"count": 1})
    writer.write("end", {"status": "FINISHED", "exit_code": 0, "error": ""})
    writer.close()


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """Each single bit of a file: the records that it does not touch are read, and nothing else is; damage is named."""
    path, flipped = tmp_path / "j.jsonl", tmp_path / "flipped.jsonl"
    write_many_kinds(path)
    content, whole = path.read_bytes(), [(record.seq, record.data) for record in read_journal(path).records]
    lines = [index for index, byte in enumerate(content) if byte == ord("\n")]
    for position, byte in enumerate(content):
        hit = sum(end < position for end in lines)  # the record that the bit belongs to
        for bit in range(8):
            flipped.write_bytes(content[:position] + bytes([byte ^ 1 << bit]) + content[position + 1 :])
            reading = read_journal(flipped)
            untouched = {hit, hit + 1} if position in lines else {hit}  # the end of a line joins it to the next
            wanted = [record for index, record in enumerate(whole) if index not in untouched]
            assert [(record.seq, record.data) for record in reading.records] == wanted
            tail = torn_tail(flipped)
            damaged = [*reading.damage, *([tail] if tail else [])]
            assert damaged and any(one.offset <= position <= one.offset + one.size for one in damaged), (position, bit)
            assert all(one.file == "flipped.jsonl" and one.reason for one in damaged)


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
