"""What every data client must do, and what `local` and `cpfs` do beyond it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prism.data.digest import digest_files, manifest_digest
from prism.data.reading import read_records
from prism.errors import DataError, EnvironmentUnfit, UsageError
from prism.project import open_project
from prism.protocols import DataClient, DatasetVersion
from prism_data import plugin
from prism_data.cpfs import CpfsClient
from prism_data.local import LocalClient
from prism_data.options import CpfsOptions, LocalOptions

Make = Callable[..., DataClient]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    top = tmp_path / "mount"
    (top / "era5" / "2017").mkdir(parents=True)
    (top / "qa.jsonl").write_text('{"instruction": "q", "output": "a"}\n')
    (top / "era5" / "2017" / "t.bin").write_bytes(bytes(range(256)) * 9000)
    (top / "era5" / "readme.txt").write_text("levels")
    (top / "empty.jsonl").touch()
    return top


@pytest.fixture(params=["local", "cpfs", "cpfs uncached"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Builds a client of each kind over some roots."""
    cached = request.param == "cpfs"

    def build(*roots: Path) -> DataClient:
        if request.param == "local":
            return LocalClient(LocalOptions(roots=roots))
        return CpfsClient(CpfsOptions(roots=roots, cache=tmp_path / "cache", cached=cached))

    return build


# ------------------------------------------------------------ the role


def test_a_file_is_resolved_and_fetched(make: Make, root: Path) -> None:
    client = make(root)
    version = client.resolve("qa.jsonl")
    assert version.name == "qa.jsonl" and version.uri == (root / "qa.jsonl").as_uri()
    assert version.digest == manifest_digest(digest_files(root / "qa.jsonl"))
    assert version.version == version.digest.removeprefix("sha256:")[:12]
    path = client.fetch(version)
    assert path.is_file() and path.name == "qa.jsonl"
    assert read_records(path) == [{"instruction": "q", "output": "a"}]


def test_a_folder_is_resolved_and_fetched_whole(make: Make, root: Path) -> None:
    client = make(root)
    version = client.resolve("era5")
    assert [file.path for file in version.files] == ["2017/t.bin", "readme.txt"]
    path = client.fetch(version)
    assert digest_files(path) == version.files
    assert client.fetch(version) == path


def test_a_folder_of_one_file_stays_a_folder(make: Make, root: Path) -> None:
    client = make(root)
    assert client.fetch(client.resolve("era5/2017")).is_dir()


def test_a_version_can_be_asked_for(make: Make, root: Path) -> None:
    client = make(root)
    version = client.resolve("era5")
    assert client.resolve(f"era5@{version.version}") == version
    assert client.resolve(f"era5@{version.digest}") == version
    with pytest.raises(DataError, match=f"that is version {version.version}"):
        client.resolve("era5@1.0.0")


@pytest.mark.parametrize("name", ["../mount/qa.jsonl", "/etc/passwd", "era5/../../x", "", "a\x00b", "."])
def test_names_that_are_refused(make: Make, root: Path, name: str) -> None:
    with pytest.raises(DataError):
        make(root).resolve(name)


def test_links_out_of_the_root_are_refused(make: Make, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.jsonl").symlink_to(tmp_path / "secret.txt")
    (root / "era5" / "inner").symlink_to(tmp_path / "secret.txt")
    for name in ("link.jsonl", "era5"):
        with pytest.raises(DataError, match="leaves"):
            make(root).resolve(name)


def test_what_is_absent_or_empty_is_said_with_a_hint(make: Make, root: Path) -> None:
    with pytest.raises(DataError, match=r"did you mean qa\.jsonl"):
        make(root).resolve("qa.json")
    with pytest.raises(DataError, match="the dataset is empty"):
        make(root).resolve("empty.jsonl")


def test_an_absent_root_is_named(make: Make, root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone is not there[\s\S]*mounted"):
        make(tmp_path / "gone", root).resolve("qa.jsonl")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="bare is empty: is the file system mounted"):
        make(tmp_path / "bare").resolve("qa.jsonl")


def test_what_changed_since_it_was_resolved_is_not_fetched(make: Make, root: Path) -> None:
    client = make(root)
    version = client.resolve("era5")
    (root / "era5" / "readme.txt").write_text("Levels")
    with pytest.raises(DataError, match=r"readme\.txt"):
        client.fetch(version)


def test_the_first_root_wins_and_that_is_said(
    make: Make, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "qa.jsonl").write_text("{}\n")
    (other / "own.jsonl").write_text("{}\n")
    client = make(root, other)
    with caplog.at_level(logging.WARNING):
        assert client.resolve("own.jsonl").uri == (other / "own.jsonl").as_uri()
        assert not caplog.records
        assert client.resolve("qa.jsonl").uri == (root / "qa.jsonl").as_uri()
    assert str(other) in caplog.text and "the first is used" in caplog.text


def test_an_absolute_name_is_taken_in_whichever_root_holds_it(make: Make, root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    client = make(tmp_path / "other", root)
    assert client.fetch(client.resolve(str(root / "qa.jsonl"))).read_text().startswith("{")


# ------------------------------------------------------------ registration


def test_options_are_light_and_targets_exist() -> None:
    for provider in plugin.prism_data_clients():
        assert provider.load_options() is not None and provider.load_target() is not None
    code = "import sys, prism_data.plugin, prism_data.options; print([m for m in sys.modules if m == 'platformdirs'])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip() == "[]"
    )


def test_roots_cannot_be_none() -> None:
    with pytest.raises(ValueError, match="roots"):
        LocalOptions(roots=())


# ------------------------------------------------------------ the cache of `cpfs`


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cpfs(root: Path, cache: Path) -> CpfsClient:
    return CpfsClient(CpfsOptions(roots=(root,), cache=cache))


def test_the_cached_copy_is_used_without_the_mount(cpfs: CpfsClient, root: Path, cache: Path) -> None:
    version = cpfs.resolve("era5")
    path = cpfs.fetch(version)
    root.rename(root.with_name("unmounted"))
    assert cpfs.fetch(version) == path and path.is_relative_to(cache)
    with pytest.raises(DataError, match="mount is not there"):
        cpfs.resolve("era5")
    manifest = json.loads((path.parent / "manifest.json").read_text())
    assert manifest["digest"] == version.digest and manifest["format"] == 1
    assert not list((path.parent / "incoming").iterdir())


def test_a_damaged_copy_is_replaced_and_that_is_said(
    cpfs: CpfsClient, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = cpfs.resolve("era5")
    path = cpfs.fetch(version)
    damaged = path / "2017" / "t.bin"
    damaged.chmod(0o644)
    with damaged.open("r+b") as stream:  # same size, one byte
        stream.seek(100_000)
        stream.write(b"!")
    (path / "readme.txt").unlink()
    (path / "foreign").touch()
    with caplog.at_level(logging.WARNING):
        assert digest_files(cpfs.fetch(version)) == version.files
    assert "damaged" in caplog.text


def test_a_damaged_copy_without_the_mount_is_an_error(cpfs: CpfsClient, root: Path) -> None:
    version = cpfs.resolve("era5")
    (cpfs.fetch(version) / "readme.txt").unlink()
    root.rename(root.with_name("unmounted"))
    with pytest.raises(DataError, match="mount is not there"):
        cpfs.fetch(version)


def test_a_copy_cut_off_by_a_kill_is_completed(cpfs: CpfsClient, cache: Path) -> None:
    version = cpfs.resolve("era5")
    place = cache / version.digest.removeprefix("sha256:")
    (place / "incoming").mkdir(parents=True)
    (place / "files").mkdir()
    (place / "files" / "readme.txt").write_text("levels")
    (place / "incoming" / "left-behind").write_text("half")
    os.utime(place / "incoming" / "left-behind", (1, 1))
    assert digest_files(cpfs.fetch(version)) == version.files
    assert not list((place / "incoming").iterdir())


def test_a_manifest_that_leaves_the_cache_is_refused(cpfs: CpfsClient, root: Path) -> None:
    version = cpfs.resolve("qa.jsonl")
    file = version.files[0]
    forged = DatasetVersion(
        name=version.name, version="1", uri=version.uri, digest="sha256:00", files=(type(file)("../../x", 1, "00"),)
    )
    with pytest.raises(DataError, match="leaves the dataset"):
        cpfs.fetch(forged)


def test_a_cache_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    client = CpfsClient(CpfsOptions(roots=(root,), cache=tmp_path / "file" / "cache"))
    with pytest.raises(EnvironmentUnfit, match="cannot be written"):
        client.fetch(client.resolve("qa.jsonl"))


def test_the_default_cache_is_the_users(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    client = CpfsClient(CpfsOptions(roots=(root,)))
    assert client.fetch(client.resolve("qa.jsonl")).is_relative_to(tmp_path)


WORKER = """
import sys
from pathlib import Path
from prism.data.digest import digest_files
from prism_data.cpfs import CpfsClient
from prism_data.options import CpfsOptions
client = CpfsClient(CpfsOptions(roots=(Path(sys.argv[1]),), cache=Path(sys.argv[2])))
version = client.resolve("many")
sys.stdin.readline()
for _ in range(3):
    assert digest_files(client.fetch(version)) == version.files
"""


@pytest.mark.parametrize("state", ["absent", "damaged"])
def test_eight_processes_fetch_the_same_dataset_at_once(root: Path, cache: Path, cpfs: CpfsClient, state: str) -> None:
    (root / "many").mkdir()
    for number in range(40):
        (root / "many" / f"{number}.bin").write_bytes(os.urandom(50_000))
    if state == "damaged":
        path = cpfs.fetch(cpfs.resolve("many"))
        for number in range(0, 40, 3):
            (path / f"{number}.bin").unlink()
            (path / f"foreign-{number}").touch()
    argv = [sys.executable, "-c", WORKER, str(root), str(cache)]
    workers = [subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    failures = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8, "\n".join(failures)
    (place,) = cache.iterdir()
    assert not list((place / "incoming").iterdir())


# ------------------------------------------------------------ in a configuration


@pytest.mark.parametrize(
    ("access", "client", "cached"),
    [
        ("{}", "LocalClient", None),
        ("{client: local}", "LocalClient", None),
        ("{client: {name: cpfs, roots: [.], cache: cache}}", "CpfsClient", True),
        ("{cached: false, client: {name: cpfs, roots: [.], cache: cache}}", "CpfsClient", False),
        ("{cached: false, client: {name: cpfs, roots: [.], cache: cache, cached: true}}", "CpfsClient", True),
    ],
)
def test_the_configuration_picks_a_client_by_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, access: str, client: str, cached: bool | None
) -> None:
    (root / "sais_foundation.yaml").write_text(f"unified_data_access: {access}\n")
    monkeypatch.chdir(tmp_path)  # names are looked up in the project, not where one stands
    project = open_project(root / "sais_foundation.yaml")
    made = project.build("data_client", project.config.unified_data_access.client)
    assert type(made).__name__ == client
    path = made.fetch(made.resolve("qa.jsonl"))
    assert path.is_relative_to(root / "cache" if cached else root)
    assert cached or path == root / "qa.jsonl"


def test_cpfs_without_roots_is_refused_where_it_stands(root: Path) -> None:
    (root / "sais_foundation.yaml").write_text("unified_data_access:\n  client: cpfs\n")
    with pytest.raises(UsageError, match="roots"):
        open_project(root / "sais_foundation.yaml")
