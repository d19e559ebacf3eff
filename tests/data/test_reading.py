"""Records are read whole, or every problem is named at its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from prism.data.reading import read_records
from prism.errors import DataError


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


RECORDS = [{"instruction": "一", "output": "二"}, {"instruction": "b\u2028c", "output": "d"}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.json.gz", "A.JSONL"])
def test_both_formats_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    if "jsonl" in name.lower():
        text = "\r\n\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS) + "\n"
    else:
        text = "\ufeff" + json.dumps(RECORDS, ensure_ascii=False, indent=1)
    assert read_records(write(tmp_path, name, text), fields=("instruction", "output")) == RECORDS


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    text = b'{"output": "x"}\n{"output": \n\n[1]\n{"output": null}\n{"output": "\xff"}\n{"output": NaN}\n'
    with pytest.raises(DataError) as caught:
        read_records(write(tmp_path, "a.jsonl", text), fields=("output",))
    message = caught.value.message
    for expected in ("a.jsonl:2: not JSON", ":4: a record is a JSON object, here it is a list",
                     ":5: the record has no 'output'", ":6: not UTF-8: byte 0xff", ":7: not JSON: NaN"):  # fmt: skip
        assert expected in message
    assert "a.jsonl:1:" not in message


def test_problems_beyond_five_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="and 7 problems more"):
        read_records(write(tmp_path, "a.jsonl", "{}\n" * 12), fields=("output",))


def test_problems_in_a_list_have_their_line(tmp_path: Path) -> None:
    text = '\n[\n {"output":\n "a"},\n 3, {"output": "x"},\n {"in": 1}]'
    with pytest.raises(DataError) as caught:
        read_records(write(tmp_path, "a.json", text), fields=("output",))
    assert "a.json:5: a record is a JSON object, here it is a number" in caught.value.message
    assert "a.json:6: the record has no 'output'" in caught.value.message
    with pytest.raises(DataError, match=r"a\.json:2: not JSON"):
        read_records(write(tmp_path, "a.json", "[\n{]"))
    with pytest.raises(DataError, match=r"a\.json:2: not UTF-8"):
        read_records(write(tmp_path, "a.json", b"[\n\xff]"))
    with pytest.raises(DataError, match="a list of records is wanted"):
        read_records(write(tmp_path, "a.json", "{}"))


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", ""), ("a.jsonl", " \n\n"), ("a.json", "[]"), ("a.json", "")])
def test_an_empty_dataset_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(DataError, match="the dataset is empty"):
        read_records(write(tmp_path, name, content))


def test_deep_nesting_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1"):
        read_records(write(tmp_path, "a.jsonl", '{"a":' + "[" * 200_000 + "]" * 200_000 + "}"))


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_records(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="neither"):
        read_records(write(tmp_path, "a.csv", "x"))
    with pytest.raises(DataError, match="a folder"):
        read_records(tmp_path)
    damaged = write(tmp_path, "a.jsonl.gz", "{}")
    damaged.write_bytes(damaged.read_bytes()[:-4])
    with pytest.raises(DataError, match="damaged gzip"):
        read_records(damaged)
