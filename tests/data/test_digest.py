"""Digests know names and content; what differs is named."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from prism.data.digest import digest_files, manifest_digest, sha256_of, verify_files
from prism.errors import DataError
from prism.protocols import DatasetFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "set"
    (top / "sub").mkdir(parents=True)
    (top / "b.bin").write_bytes(b"b" * 3_000_000)
    (top / "sub" / "a.txt").write_text("hello")
    (top / "empty").touch()
    return top


def test_files_are_sorted_with_size_and_sha256(folder: Path) -> None:
    files = digest_files(folder)
    assert [(file.path, file.size) for file in files] == [("b.bin", 3_000_000), ("empty", 0), ("sub/a.txt", 5)]
    assert files[2].sha256 == hashlib.sha256(b"hello").hexdigest()
    assert sha256_of(folder / "b.bin") == hashlib.sha256(b"b" * 3_000_000).hexdigest() == files[0].sha256


def test_the_digest_is_the_documented_manifest() -> None:
    file = DatasetFile(path="é", size=0, sha256="00")
    expected = hashlib.sha256(b'["\\u00e9",0,"00"]\n').hexdigest()
    assert manifest_digest([file]) == f"sha256:{expected}"


def test_the_digest_sees_names_and_content_only(folder: Path, tmp_path: Path) -> None:
    first = manifest_digest(digest_files(folder))
    os.utime(folder / "b.bin", (1, 1))
    folder.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    assert manifest_digest(digest_files(moved)) == first
    (moved / "empty").rename(moved / "void")
    renamed = manifest_digest(digest_files(moved))
    (moved / "void").write_text("x")
    assert len({first, renamed, manifest_digest(digest_files(moved))}) == 3


def test_many_files_give_the_same_as_one_by_one(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.txt").write_text(str(number))
    files = digest_files(tmp_path)
    assert [file.path for file in files] == sorted(f"{number}.txt" for number in range(300))
    assert all(file.sha256 == hashlib.sha256(file.path[:-4].encode()).hexdigest() for file in files)


def test_verify_names_every_difference(folder: Path) -> None:
    files = digest_files(folder)
    assert verify_files(folder, files) == []
    (folder / "empty").unlink()
    (folder / "sub" / "a.txt").write_text("hellO")
    (folder / "new").touch()
    with (folder / "b.bin").open("ab") as longer:
        longer.write(b"x")
    problems = verify_files(folder, files)
    assert [line.split(":")[0] for line in problems] == ["empty", "new", "b.bin", "sub/a.txt"]
    assert "missing" in problems[0] and "3000001 bytes" in problems[2] and "content changed" in problems[3]


def test_a_single_file_is_verified_by_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}")
    files = digest_files(path)
    assert files[0].path == "a.jsonl"
    assert verify_files(path, files) == []
    path.write_text("[]")
    assert verify_files(path, files)
    path.unlink()
    assert "missing" in verify_files(path, files)[0]


def test_files_can_be_left_out(folder: Path) -> None:
    files = digest_files(folder, without=("sub/a.txt",))
    assert [file.path for file in files] == ["b.bin", "empty"]
    assert verify_files(folder, files, without=("sub/a.txt",)) == []


def test_links_are_followed_unless_they_leave(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("outside")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    assert "link.txt" in [file.path for file in digest_files(folder)]
    with pytest.raises(DataError, match="leaves"):
        digest_files(folder, inside=folder)


def test_a_link_to_a_folder_above_is_refused(folder: Path) -> None:
    (folder / "sub" / "loop").symlink_to(folder)
    with pytest.raises(DataError, match="folder that it lies in"):
        digest_files(folder)


def test_two_folders_that_link_to_each_other_are_refused(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to(tmp_path / other)
    with pytest.raises(DataError, match="folder that it lies in"):
        digest_files(tmp_path)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        digest_files(folder)
    with pytest.raises(DataError, match="no such file"):
        digest_files(folder / "absent")
    (folder / "pipe").unlink()
    (folder / "broken").symlink_to("nowhere")
    with pytest.raises(DataError, match="link to nothing"):
        digest_files(folder)
