"""Files are kept as they were when they were logged, whatever they are called and whatever happens to them."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prism.errors import DataError
from prism.journal.records import read_journal
from prism.project import open_project
from prism.protocols import Record
from prism.runs.beginning import begin_run, enter_attempt
from prism.runs.files import KeptFiles, keep_folder, place_of
from prism.runs.handle import Run

ODD = [
    "größe 数据 🌡.txt",
    "zeile\nzwei\ttab.txt",
    "a[0]@k=1%?#.txt",
    "n" * 300 + ".json",
    "é" * 200,
    "deep/" * 300 + "file.bin",
    "half \udce9.txt",
    "no byte \ud800.txt",
    " .hidden ",
]
WITHIN = 60


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    settings = {"foundation": {"experiment_name": "any"}, "ml": {"enabled": False}}
    (tmp_path / "sais_foundation.yaml").write_text(json.dumps(settings), encoding="utf-8")
    project = open_project(tmp_path / "sais_foundation.yaml")
    with enter_attempt(begin_run(project), project=project, attempt=1) as run:
        yield run


def records(run: Run, kind: str) -> list[Record]:
    files = sorted((run.directory / "journal").glob("*.jsonl"))
    return [record for path in files for record in read_journal(path).records if record.kind == kind]


def kept(run: Run) -> dict[str, bytes]:
    """Content of every kept file by its name; each must be what its record says."""
    found: dict[str, bytes] = {}
    for record in records(run, "file"):
        data = record.data
        content = (run.directory / data["stored"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (data["size"], data["sha256"])
        found[data["name"]] = content
    return found


def warnings(run: Run) -> list[str]:
    return [str(record.data["message"]) for record in records(run, "warning")]


def test_what_is_overwritten_or_deleted_afterwards_stays_as_it_was(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    for step in range(3):
        path.write_bytes(b"%d" % step)
        run.log_artifact(path, name=f"figures/{step}.png")
    path.unlink()
    folder = tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_bytes(b"a")
    run.log_artifact(folder)
    (folder / "deep" / "a").write_bytes(b"b")
    assert kept(run) == {"figures/0.png": b"0", "figures/1.png": b"1", "figures/2.png": b"2", "out/deep/a": b"a"}


@pytest.mark.parametrize("name", ODD)
def test_any_name_is_kept_and_recorded_as_it_was_given(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_bytes(b"content")
    run.log_artifact(tmp_path / "source", name=name)
    run.log_text("text", name=f"texts/{name}")
    assert kept(run) == {name: b"content", f"texts/{name}": b"text"} and warnings(run) == []


def test_names_that_differ_are_kept_in_different_places() -> None:
    long = "n" * 300
    assert place_of("a/b.txt") == "a/b.txt" and place_of("x" * 255) == "x" * 255
    places = [place_of(name) for name in (long, long + "m", f"a/{long}", f"b/{long}", f"{long}.json", "d/" * 600 + "f")]
    assert len({*places}) == len(places) and places[4].endswith(".json") and places[2].startswith("a/nnn")
    assert all(len(part.encode()) <= 255 for place in places for part in place.split("/"))


def test_a_large_file_is_kept_by_a_hard_link(tmp_path: Path) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(b"w" * 1000)
    facts = KeptFiles(tmp_path, "a1-rank0", limit=999).keep(source, name="weights.bin")
    link = tmp_path / facts["stored"]
    assert facts["original"] == str(source) and link.samefile(source)
    assert (facts["size"], facts["sha256"]) == (1000, hashlib.sha256(b"w" * 1000).hexdigest())
    (tmp_path / "new").write_bytes(b"n" * 1000)
    (tmp_path / "new").replace(source)  # replaced, then deleted: what was logged is still there
    source.unlink()
    assert link.read_bytes() == b"w" * 1000
    again = KeptFiles(tmp_path, "a2-rank0", limit=999).keep(link, name="weights.bin")
    with link.open("r+b") as stream:  # written into: seen by the digest
        stream.write(b"x")
    assert hashlib.sha256((tmp_path / again["stored"]).read_bytes()).hexdigest() != again["sha256"]


def test_a_large_file_of_another_file_system_is_kept_by_reference(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    source = elsewhere / f"prism-test-{os.getpid()}"
    try:
        source.write_bytes(b"w" * 1000)
        facts = KeptFiles(tmp_path, "a1-rank0", limit=999).keep(source, name="weights.bin")
        assert (facts["stored"], facts["original"], facts["size"]) == ("", str(source), 1000)
        small = KeptFiles(tmp_path, "a1-rank0", limit=1000).keep(source, name="weights.bin")
        assert (tmp_path / small["stored"]).read_bytes() == b"w" * 1000 and small["original"] == ""
    finally:
        source.unlink(missing_ok=True)


def test_a_file_that_grows_all_the_time_is_kept_as_it_was_at_some_moment(run: Run, tmp_path: Path) -> None:
    path, grown = tmp_path / "train.log", threading.Event()
    path.write_bytes(b"line\n" * 1000)

    def grow() -> None:
        with path.open("ab", buffering=0) as stream:
            while not grown.wait(0.0002):
                stream.write(b"line\n" * 100)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for count in range(5):
            before = path.stat().st_size
            run.log_artifact(path, name=f"{count}.log")
            content = kept(run)[f"{count}.log"]  # size and digest of the record are those of the copy
            assert len(content) >= before and content == b"line\n" * (len(content) // 5) + b"line\n"[: len(content) % 5]
    finally:
        grown.set()
        writer.join(WITHIN)


def test_links_are_followed_and_what_is_no_file_is_said(run: Run, tmp_path: Path) -> None:
    folder, other = tmp_path / "out", tmp_path / "other"
    for place in (folder, other):
        place.mkdir()
    (other / "real").write_bytes(b"real")
    (folder / "link").symlink_to(other / "real")
    (folder / "linked").symlink_to(other)
    (folder / "again").symlink_to(other)
    (folder / "circle").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        run.log_artifact(folder, name="o")
    assert kept(run) == {"o/again/real": b"real", "o/link": b"real", "o/linked/real": b"real"}
    (warning,) = warnings(run)
    assert warning.startswith("4 entries of") and "pipe" in warning and "nowhere" in warning


@pytest.mark.parametrize("kind", ["pipe", "nothing", "circle", "socket", "device"])
def test_what_is_no_file_is_refused_at_once(run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    listening = socket.socket(socket.AF_UNIX)
    if kind == "pipe":
        os.mkfifo(path)  # which a reader would wait for
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "socket":
        listening.bind(str(path))
    elif kind == "device":
        path = Path("/dev/zero")
    began = time.monotonic()
    with listening, pytest.raises(DataError, match="is not a file"):
        run.log_artifact(path)
    assert time.monotonic() - began < WITHIN
    assert kept(run) == {} and list((run.directory / "files").iterdir()) == []


def test_a_file_that_cannot_be_read_is_said_and_the_work_goes_on(run: Run, tmp_path: Path) -> None:
    """Reading the memory at address 0 fails with EIO for everybody, root too."""
    run.log_artifact("/proc/self/mem", name="memory")
    run.log_artifact("/proc/self/stat", name="stat")  # a file of the kernel's, which says that it has 0 bytes
    assert kept(run).keys() == {"stat"} and kept(run)["stat"].startswith(b"%d (" % os.getpid())
    (warning,) = warnings(run)
    assert "the artifact memory could not be kept" in warning and "Input/output error" in warning
    assert len(list((run.directory / "files").iterdir())) == 1


def test_of_a_folder_that_changes_what_is_there_is_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode())
    keep = KeptFiles.keep

    def removing(self: KeptFiles, source: Path, *, name: str) -> dict[str, Any]:
        (folder / "b").unlink(missing_ok=True)
        return keep(self, source, name=name)

    monkeypatch.setattr(KeptFiles, "keep", removing)
    run.log_artifact(folder)
    assert kept(run) == {"out/a": b"a", "out/c": b"c"}
    (warning,) = warnings(run)
    assert str(folder / "b") in warning


def test_a_child_with_the_pid_of_an_earlier_one_overwrites_nothing(tmp_path: Path) -> None:
    files = KeptFiles(tmp_path, "a1-rank0")
    (tmp_path / "source").write_bytes(b"new")
    for number in (1, 2):
        (tmp_path / "files" / f"a1-rank0-{number}").mkdir(parents=True)
        (tmp_path / "files" / f"a1-rank0-{number}" / "name").write_bytes(b"old")
    assert files.keep(tmp_path / "source", name="name")["stored"] == "files/a1-rank0-3/name"
    assert (tmp_path / "files" / "a1-rank0-1" / "name").read_bytes() == b"old"


def test_a_folder_of_links_is_kept_as_files(tmp_path: Path) -> None:
    """As a hub's cache keeps a model: names that are links into another folder."""
    (tmp_path / "blobs" / "parts").mkdir(parents=True)
    (tmp_path / "blobs" / "1").write_bytes(b"weights")
    (tmp_path / "blobs" / "parts" / "2").write_bytes(b"more")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").symlink_to(tmp_path / "blobs" / "1")
    (tmp_path / "model" / "parts").symlink_to(tmp_path / "blobs" / "parts")
    keep_folder(tmp_path / "model", tmp_path / "kept")
    assert (tmp_path / "kept" / "weights").read_bytes() == b"weights"
    assert (tmp_path / "kept" / "parts" / "2").read_bytes() == b"more"
    assert not any(path.is_symlink() for path in (tmp_path / "kept").rglob("*"))
