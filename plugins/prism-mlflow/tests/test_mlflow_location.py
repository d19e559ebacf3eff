from __future__ import annotations

from pathlib import Path

import pytest

from prism.data.mounts import file_system, is_shared
from prism.errors import Unreachable, UsageError
from prism_mlflow.access.filesystem import refuse_shared
from prism_mlflow.access.location import locate


def test_the_configuration_decides_and_the_environment_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:5000")
    assert locate(tmp_path, settings={"tracking_uri": "http://file:5000/"}).uri == "http://file:5000"
    embedded = locate(tmp_path, settings={"tracking_uri": None})
    assert embedded.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert embedded.artifacts == (tmp_path / "artifacts" / "mlflow").as_uri()


@pytest.mark.parametrize(
    ("uri", "database"),
    [
        ("sqlite:///a/b.db", "{}/a/b.db"),
        ("sqlite:////x/b.db?timeout=3", "/x/b.db"),
        ("sqlite+pysqlite:///b.db", "{}/b.db"),
    ],
)
def test_a_relative_sqlite_address_is_relative_to_the_project(tmp_path: Path, uri: str, database: str) -> None:
    found = locate(tmp_path, settings={"tracking_uri": uri})
    assert found.database == Path(database.format(tmp_path))


def test_credentials_are_taken_out_of_the_address() -> None:
    found = locate(Path("/p"), settings={"tracking_uri": "https://ada:p%40ss@host:5000/mlflow"})
    assert (found.uri, found.username, found.password) == ("https://host:5000/mlflow", "ada", "p@ss")
    assert "p@ss" not in repr(found) and "p%40ss" not in repr(found)


def test_a_database_password_is_not_shown() -> None:
    found = locate(Path("/p"), settings={"tracking_uri": "postgresql+psycopg2://ada:secret@host/db"})
    assert found.shown == "postgresql+psycopg2://host/db"
    assert "secret" in found.uri and "secret" not in repr(found)


def test_security_needs_user_and_password() -> None:
    security = {"enabled": True, "username": "ada", "password": ""}
    with pytest.raises(UsageError, match=r"ml\.security\.password is empty"):
        locate(Path("/p"), settings={"security": security})
    assert locate(Path("/p"), settings={"security": security | {"enabled": False}}).username == ""


MOUNTS = """\
/dev/vda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/local tmpfs rw 0 0
cpfs:/share /mnt/with\\040space fuse.aliyun-alinas-efc rw 0 0
overlay /mnt/box fuse.fuse-overlayfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/x/mlflow.db", "ext4"),
        ("/home/ada/mlflow.db", "nfs4"),
        ("/home/local/a/mlflow.db", "tmpfs"),
        ("/homes/a", "ext4"),
        ("/mnt/with space/a", "fuse.aliyun-alinas-efc"),
        ("/mnt/box/a", "fuse.fuse-overlayfs"),
    ],
)
def test_the_file_system_of_a_path_that_is_not_there_yet(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert file_system(Path(path), mounts=mounts) == kind


def test_sqlite_is_refused_on_a_network_file_system_only(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    with pytest.raises(Unreachable, match=r"not safe on a network file system \(nfs4\)"):
        refuse_shared(Path("/home/ada/mlflow.db"), mounts=mounts)
    with pytest.raises(Unreachable, match="alinas"):
        refuse_shared(Path("/mnt/with space/mlflow.db"), mounts=mounts)
    refuse_shared(Path("/home/local/mlflow.db"), mounts=mounts)
    refuse_shared(Path("/mnt/box/mlflow.db"), mounts=mounts)


def test_shared_types() -> None:
    shared = {"nfs", "nfs4", "lustre", "gpfs", "cpfs", "beegfs", "ceph", "cifs", "fuse.sshfs", "fuse.s3fs", "wekafs"}
    assert all(is_shared(kind) for kind in shared)
    assert not any(is_shared(kind) for kind in ("ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "9p", ""))
