"""Artifacts under `cpfs://`: whole files under known roots, and nothing anywhere else."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from prism_mlflow.plain.cpfs import CpfsArtifactRepository
from prism_mlflow.plain.cpfs_roots import folder_of

ODD = ["größe.txt", "a b?#%.bin", "zeile\nzwei", "x" * 200]
_renamed: list[tuple[str, bool]] = []
_LISTENING = {"now": False}


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _LISTENING["now"] and event == "os.rename":
        _renamed.append((str(arguments[0]), Path(arguments[0]).is_dir()))


sys.addaudithook(_listen)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the mount point of a parallel file system."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cpfs01").mkdir()
    monkeypatch.setenv("PRISM_CPFS_ROOTS", str(tmp_path / "cpfs01"))
    return tmp_path / "cpfs01"


@pytest.fixture
def repository(root: Path) -> CpfsArtifactRepository:
    found = get_artifact_repository(f"cpfs://{root}/team/run 1/artifacts")
    assert isinstance(found, CpfsArtifactRepository)
    return found


@pytest.fixture
def renames() -> Iterator[list[tuple[str, bool]]]:
    """Every path that is renamed, and whether it is a folder."""
    _renamed.clear()
    _LISTENING["now"] = True
    yield _renamed
    _LISTENING["now"] = False


def names(repository: CpfsArtifactRepository, path: str | None = None) -> list[tuple[str, bool, int | None]]:
    return [(info.path, info.is_dir, info.file_size) for info in repository.list_artifacts(path)]


@pytest.mark.parametrize("name", ODD)
def test_a_file_comes_back_as_it_went(repository: CpfsArtifactRepository, tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.write_bytes(bytes(range(256)) * 9000)
    repository.log_artifact(str(source), "deep/er")
    source.unlink()
    assert names(repository, "deep/er") == [(f"deep/er/{name}", False, 256 * 9000)]
    (tmp_path / "copies").mkdir()
    copy = Path(repository.download_artifacts(f"deep/er/{name}", str(tmp_path / "copies")))
    assert (
        copy.read_bytes() == bytes(range(256)) * 9000 == Path(repository.get_local_path(f"deep/er/{name}")).read_bytes()
    )
    assert repository.download_artifacts(f"deep/er/{name}") == repository.get_local_path(f"deep/er/{name}")


def test_a_folder_goes_file_by_file_and_no_folder_is_renamed(
    repository: CpfsArtifactRepository, tmp_path: Path, renames: list[tuple[str, bool]]
) -> None:
    folder = tmp_path / "model"
    (folder / "empty").mkdir(parents=True)
    (folder / "parts").mkdir()
    (folder / "parts" / "one").write_text("1")
    (folder / "config.json").write_text("{}")
    for _ in range(2):  # again, over what is there
        repository.log_artifacts(str(folder), "model")
    assert names(repository) == [("model", True, None)]
    assert names(repository, "model") == [
        ("model/config.json", False, 2),
        ("model/empty", True, None),
        ("model/parts", True, None),
    ]
    assert names(repository, "model/config.json") == [] == names(repository, "nowhere")
    repository.delete_artifacts("model/parts")
    assert names(repository, "model/parts") == []
    repository.delete_artifacts("model/config.json")
    repository.delete_artifacts("model/config.json")
    assert names(repository, "model") == [("model/empty", True, None)]
    repository.delete_artifacts()
    assert names(repository) == []
    assert len(renames) == 4 and not [path for path, is_folder in renames if is_folder]


def test_an_upload_that_breaks_off_leaves_what_was_there(repository: CpfsArtifactRepository) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= 3 << 20:
                raise ConnectionResetError("the client is gone")
            return super().read(size)

    repository.log_artifact_from_stream(io.BytesIO(b"whole"), "weights")
    with pytest.raises(ConnectionResetError):
        repository.log_artifact_from_stream(Broken(bytes(5 << 20)), "weights")
    assert names(repository) == [("weights", False, 5)]
    assert os.listdir(Path(repository.get_local_path("weights")).parent) == ["weights"]


@pytest.mark.parametrize("path", ["../other", "a/../../other", "/etc", "a\0b", ".."])
def test_no_artifact_leaves_its_repository(repository: CpfsArtifactRepository, tmp_path: Path, path: str) -> None:
    (tmp_path / "mine").write_text("mine")
    for call in (
        lambda: repository.log_artifact(str(tmp_path / "mine"), path),
        lambda: repository.log_artifacts(str(tmp_path), path),
        lambda: repository.list_artifacts(path),
        lambda: repository.download_artifacts(path),
        lambda: repository.delete_artifacts(path),
    ):
        with pytest.raises(MlflowException, match="no artifact path"):
            call()


def test_no_symbolic_link_leads_out(repository: CpfsArtifactRepository, tmp_path: Path) -> None:
    repository.log_artifact_from_stream(io.BytesIO(b"whole"), "weights")
    (tmp_path / "secret").write_text("secret")
    link = Path(repository.get_local_path("weights")).parent / "out"
    link.symlink_to(tmp_path)
    for path in ("out/secret", "out"):
        with pytest.raises(MlflowException, match="leaves the artifacts"):
            repository.download_artifacts(path)
    with pytest.raises(MlflowException, match="leaves the artifacts"):
        repository.delete_artifacts("out")
    assert (tmp_path / "secret").exists()


def test_an_address_is_absolute_or_under_the_first_root(root: Path) -> None:
    assert folder_of(f"cpfs://{root}/a%20b") == root / "a b"
    assert folder_of("cpfs://team/x/") == root / "team" / "x"


@pytest.mark.parametrize(
    "address", ["cpfs:///etc", "cpfs://../etc", "cpfs://a/../../etc", "cpfs://%2e%2e/etc", "cpfs://"]
)
def test_an_address_outside_the_roots_is_refused(root: Path, address: str) -> None:
    with pytest.raises(MlflowException):
        folder_of(address)


def test_a_root_that_is_not_mounted_is_not_made(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root)
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(MlflowException, match="is the file system mounted"):
        get_artifact_repository("cpfs://team/x").log_artifact(str(tmp_path / "mine"))
    assert not root.exists()


def test_without_roots_only_a_shared_file_system_is_meant(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRISM_CPFS_ROOTS")
    with pytest.raises(MlflowException, match="no parallel file system") as refused:
        folder_of(f"cpfs://{root}/x")
    assert "PRISM_CPFS_ROOTS" in str(refused.value)
    with pytest.raises(MlflowException, match="no root is known"):
        folder_of("cpfs://team/x")


def test_the_roots_of_the_projects_data_client_count(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PRISM_CPFS_ROOTS")
    client = "unified_data_access: {client: {name: cpfs, roots: [./cpfs01]}}\n"
    (tmp_path / "sais_foundation.yaml").write_text(client)
    assert folder_of("cpfs://team/x") == root / "team" / "x"
    (tmp_path / "sais_foundation.yaml").write_text("unified_data_acces: {}\n")
    with pytest.raises(MlflowException, match="no root is known"):
        folder_of("cpfs://team/x")
