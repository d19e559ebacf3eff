"""References are parsed, and none leaves its root."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism.data.references import DatasetReference, locate, parse_reference
from prism.errors import DataError


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("drug_qa.jsonl", "drug_qa.jsonl", ""),
        ("era5@2.1.0", "era5", "2.1.0"),
        ("team/era5@3f2a", "team/era5", "3f2a"),
        ("a@b/c.jsonl", "a@b/c.jsonl", ""),
        ("a@b@1", "a@b", "1"),
        ("中文.jsonl@sha256:0f", "中文.jsonl", "sha256:0f"),
    ],
)
def test_parsing(text: str, name: str, version: str) -> None:
    assert parse_reference(text) == DatasetReference(name=name, version=version)


@pytest.mark.parametrize("text", ["", "  ", "@1.0", "era5@", "era5@-x", "a\x00b", "a\nb"])
def test_refused_references(text: str) -> None:
    with pytest.raises(DataError):
        parse_reference(text)


@pytest.mark.parametrize("name", ["../x", "../root/x", "a/../../x", "/elsewhere/x", ".", "a/.."])
def test_names_that_leave_the_root(tmp_path: Path, name: str) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(DataError, match="root"):
        locate(name, root=tmp_path / "root")


def test_a_symbolic_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="leaves the data root"):
        locate("link/file.jsonl", root=tmp_path / "root")


def test_what_lies_under_the_root_is_found(tmp_path: Path) -> None:
    assert locate("a/b.jsonl", root=tmp_path) == tmp_path.resolve() / "a/b.jsonl"
    assert locate(str(tmp_path / "b"), root=tmp_path) == tmp_path.resolve() / "b"
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert locate("link/x", root=tmp_path) == tmp_path.resolve() / "real/x"
