"""The data client `http` against real servers: what it finds and brings, and what it says when it cannot."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from prism.data.digest import digest_files, manifest_digest
from prism.errors import DataError, EnvironmentUnfit, Unreachable, UsageError
from prism.project import open_project
from prism.protocols import DataClient
from prism_data import transport
from prism_data.http import HttpClient
from prism_data.options import HttpOptions

RECORDS = b'{"instruction": "q", "output": "a"}\n'
LARGE = bytes(range(256)) * 20_000  # five of the pieces that it is read in
Make = Callable[..., DataClient]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def make(site: Any, tmp_path: Path) -> Make:
    return lambda **options: HttpClient(
        HttpOptions(**{"url": f"{site.url}/api", "cache": tmp_path / "cache", **options})
    )


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    top = tmp_path / "mount"
    (top / "era5").mkdir(parents=True)
    (top / "era5" / "t.bin").write_bytes(bytes(256))
    (top / "qa.jsonl").write_bytes(RECORDS)
    return top


# ------------------------------------------------------------ what lies on a mounted file system


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("form", ["path", "uri"])
def test_a_path_of_a_mounted_file_system(site: Any, make: Make, mount: Path, form: str, cached: bool) -> None:
    site.list_datasets(("qa", str(mount / "qa.jsonl") if form == "path" else (mount / "qa.jsonl").as_uri()))
    client = make(cached=cached)
    version = client.resolve("qa")
    assert version.name == "qa" and version.uri == (mount / "qa.jsonl").as_uri()
    assert version.files == digest_files(mount / "qa.jsonl") and version.digest == manifest_digest(version.files)
    path = client.fetch(version)
    assert path.read_bytes() == RECORDS and (path == mount / "qa.jsonl") == (not cached)
    assert client.resolve(f"qa@{version.version}") == version
    with pytest.raises(DataError, match=f"that is version {version.version}"):
        client.resolve("qa@1.0.0")


def test_a_folder_and_what_changed_in_it(site: Any, make: Make, mount: Path) -> None:
    site.list_datasets(("ecmwf/era5", str(mount / "era5")))
    cached, plain = make(), make(cached=False)
    version = plain.resolve("ecmwf/era5")
    assert version.uri.endswith("era5/")
    assert digest_files(cached.fetch(version)) == version.files == digest_files(plain.fetch(version))
    (mount / "era5" / "t.bin").write_bytes(b"other")
    with pytest.raises(DataError, match=r"t\.bin"):
        plain.fetch(version)
    site.pages.clear()
    assert (cached.fetch(version) / "t.bin").read_bytes() == bytes(256)


def test_paths_that_are_not_there_or_outside_of_the_roots(site: Any, make: Make, mount: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    site.list_datasets(("away", "/no/such/place"), ("out", str(tmp_path / "secret")), ("in", str(mount / "qa.jsonl")))
    with pytest.raises(DataError, match=r"/no/such/place.*not there on this machine[\s\S]*mounted"):
        make().resolve("away")
    client = make(roots=(mount,))
    assert client.fetch(client.resolve("in")).read_bytes() == RECORDS
    with pytest.raises(DataError, match="leaves the data roots"):
        client.resolve("out")


# ------------------------------------------------------------ what is downloaded


@pytest.mark.parametrize("form", ["absolute", "relative"])
def test_a_file_is_downloaded_whole(site: Any, make: Make, tmp_path: Path, form: str) -> None:
    address = site.serve("/files/v1/train.jsonl", LARGE)
    site.list_datasets(("drug_qa", address if form == "absolute" else "files/v1/train.jsonl?sig=hidden"))
    client = make()
    version = client.resolve("drug_qa")
    assert version.uri == address and version.files[0].size == len(LARGE)
    path = client.fetch(version)
    assert path.name == "train.jsonl" and path.read_bytes() == LARGE
    asked = len(site.seen)
    site.pages.clear()  # the catalogue and the file are gone
    assert make().fetch(version) == path and len(site.seen) == asked
    assert not list((tmp_path / "cache" / "incoming").iterdir())


def test_the_file_is_called_as_the_dataset_when_that_has_an_ending(site: Any, make: Make) -> None:
    site.list_datasets(("a/train.jsonl", site.serve("/assets/17/content", RECORDS)))
    client = make()
    assert client.fetch(client.resolve("a/train.jsonl")).name == "train.jsonl"


def test_an_unchanged_file_is_not_downloaded_again(site: Any, make: Make) -> None:
    def page(headers: Mapping[str, str]) -> Any:
        same = headers.get("if-none-match") == '"one"'
        return site.answer(status=304) if same else site.answer(RECORDS, ETag='"one"')

    site.pages["/f.jsonl"] = page
    site.list_datasets(("qa", "f.jsonl"))
    version = make().resolve("qa")
    path = make().fetch(version)
    assert make().resolve("qa") == version
    assert [headers.get("if-none-match") for headers in site.asked("/f.jsonl")] == [None, '"one"']
    path.chmod(0o644)
    path.write_bytes(b"x" * len(RECORDS))
    assert make().fetch(version).read_bytes() == RECORDS  # a damaged copy: not asked whether it is the same
    site.serve("/f.jsonl", site.answer(b"{}\n", ETag='"two"'))
    assert make().resolve("qa").digest != version.digest
    path.unlink()
    with pytest.raises(DataError, match=f"no longer qa@{version.version}"):
        make().fetch(version)


@pytest.mark.parametrize("ranges", [True, False], ids=["goes on", "from the start"])
def test_a_download_that_is_cut_off(site: Any, make: Make, ranges: bool) -> None:
    def page(headers: Mapping[str, str]) -> Any:
        if len(site.asked("/f.bin")) == 1:
            return site.answer(LARGE[:3_000_000], length=len(LARGE), ETag='"one"')
        if not ranges or "range" not in headers:
            return site.answer(LARGE, ETag='"one"')
        start = int(headers["range"].removeprefix("bytes=").rstrip("-"))
        assert headers["if-range"] == '"one"'
        part = f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}"
        return site.answer(LARGE[start:], status=206, Content_Range=part)

    site.pages["/f.bin"] = page
    site.list_datasets(("qa", "f.bin"))
    client = make()
    assert client.fetch(client.resolve("qa")).read_bytes() == LARGE
    assert [headers.get("range") for headers in site.asked("/f.bin")] == [None, "bytes=2097152-"]


def test_a_download_that_is_cut_off_for_ever_leaves_nothing(site: Any, make: Make, tmp_path: Path) -> None:
    site.serve("/f.bin", site.answer(LARGE[:100], length=len(LARGE)))
    site.list_datasets(("qa", "f.bin"))
    with pytest.raises(Unreachable, match=r"f\.bin.*lost"):
        make().resolve("qa")
    assert len(site.asked("/f.bin")) == 4
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_an_empty_file_and_addresses_of_other_kinds(site: Any, make: Make) -> None:
    site.serve("/empty", b"")
    site.list_datasets(
        ("e", "empty"), ("s3", "s3://b/x"), ("user", "http://u:pw-of-u@127.0.0.1/x"), ("no", " "), ("bad", "http://[x")
    )
    for name, said in (
        ("e", "is empty"),
        ("s3", "begins with s3:"),
        ("user", "user information"),
        ("no", "none"),
        ("bad", "none"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            make().resolve(name)
        assert "pw-of-u" not in str(caught.value)


def test_several_threads_download_the_same_file(site: Any, make: Make) -> None:
    site.serve("/f.bin", LARGE)
    site.list_datasets(("qa", "f.bin"))
    found: list[bytes] = []

    def work() -> None:
        client = make()
        found.append(client.fetch(client.resolve("qa")).read_bytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [LARGE] * 4


# ------------------------------------------------------------ what a catalogue answers


def test_what_is_asked(site: Any, make: Make, mount: Path) -> None:
    site.list_datasets(("a b&c", str(mount / "qa.jsonl")))
    make().resolve("a b&c")
    make(query="", url=f"{site.url}/api?all=1").resolve("a b&c")
    make(query="name={name}", url=f"{site.url}/api?v=2").resolve("a b&c")
    targets = [target for target, _ in site.seen]
    assert targets == ["/api?type=dataset&q=a%20b%26c", "/api?all=1", "/api?v=2&name=a%20b%26c"]


def test_names_are_matched_exactly(site: Any, make: Make, mount: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.list_datasets(("drug_qa_train", str(mount / "qa.jsonl")), ("two", str(mount / "qa.jsonl")), ("two", "/else"))
    with pytest.raises(DataError, match=r"no dataset 'drug_qa' in the catalogue[\s\S]*did you mean drug_qa_train\?"):
        make().resolve("drug_qa")
    with caplog.at_level(logging.WARNING):
        assert make().resolve("two").uri == (mount / "qa.jsonl").as_uri()
    assert "2 datasets 'two'; the first is used" in caplog.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "does not answer JSON"),
        (b"[" * 100_000, "does not answer JSON"),
        (b'{"data": []}', "something else than a list"),
        (b'[{"index": "qa", "path": "/x"}, {"index": "b"}]', "entry 2 of its answer lacks"),
        (b'["qa"]', "entry 1"),
        (b"[]", "there is no dataset 'qa'"),
    ],
)
def test_answers_of_the_wrong_shape(site: Any, make: Make, body: bytes, said: str) -> None:
    site.serve("/api", body)
    with pytest.raises(DataError, match=said):
        make().resolve("qa")


# ------------------------------------------------------------ servers that refuse, fail or are away


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_fails_is_asked_again(site: Any, make: Make, mount: Path, status: int) -> None:
    site.list_datasets(("qa", str(mount / "qa.jsonl")))
    site.pages["/api"].insert(0, site.answer(status=status))
    assert make().resolve("qa").name == "qa"
    assert len(site.seen) == 2
    site.serve("/api", site.answer(status=status))
    with pytest.raises(Unreachable, match=rf"/api answers {status}[\s\S]*asked 4 times"):
        make().resolve("qa")


def test_a_server_says_how_long_to_wait(site: Any, make: Make, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", waited.append)
    site.list_datasets(("qa", str(mount / "qa.jsonl")))
    site.pages["/api"].insert(0, site.answer(status=429, Retry_After="7"))
    site.pages["/api"].insert(0, site.answer(status=429, Retry_After="86400"))
    make().resolve("qa")
    assert waited == [60.0, 7.0]


@pytest.mark.parametrize(("status", "said"), [(404, "nothing at"), (400, "answers 400"), (304, "answers 304")])
def test_other_refusals_are_not_repeated(site: Any, make: Make, status: int, said: str) -> None:
    site.serve("/api", site.answer(b"reason", status=status))
    with pytest.raises(DataError, match=said):
        make().resolve("qa")
    assert len(site.seen) == 1


def test_a_server_that_is_silent(site: Any, make: Make) -> None:
    over = threading.Event()

    def page(_: Mapping[str, str]) -> Any:
        over.wait(60)
        return site.answer(b"[]")

    site.pages["/api"] = page
    try:
        with pytest.raises(Unreachable, match=r"did not answer within 0\.3 s"):
            make(timeout=0.3).resolve("qa")
    finally:
        over.set()


def test_a_server_that_is_away_and_one_without_a_name(make: Make, new_site: Callable[..., Any]) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9/api.*[Rr]efused"):
        make(url="http://127.0.0.1:9/api").resolve("qa")
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid"):
        make(url="http://no-such-host.invalid/api").resolve("qa")


def test_a_cache_that_cannot_be_written(site: Any, make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    site.serve("/f.bin", RECORDS)
    site.list_datasets(("qa", "f.bin"))
    with pytest.raises(EnvironmentUnfit, match="cannot be written"):
        make(cache=tmp_path / "file" / "cache").resolve("qa")


# ------------------------------------------------------------ in a configuration


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "url"),
        ("url: ftp://h/x", "must be the address of a server"),
        ("url: 'https://me:open-sesame@h/x'", "user information"),
        ("url: 'https://h:x/'", "must be the address"),
        ("url: https://h, header: 'a b'", "name of an HTTP header"),
        ('url: https://h, token: "open-sesame\\n\\x01"', "a character that an HTTP header cannot carry"),
        ("url: https://h, timeout: 0", "timeout"),
        ("url: https://h, verify: false", "verify"),
    ],
)
def test_wrong_options_are_refused_where_they_stand(tmp_path: Path, options: str, said: str) -> None:
    file = tmp_path / "sais_foundation.yaml"
    file.write_text(f"unified_data_access:\n  client: {{name: http, {options}}}\n")
    with pytest.raises(UsageError, match=said) as caught:
        open_project(file)
    assert "sais_foundation.yaml:2:" in str(caught.value) and "open-sesame" not in str(caught.value)


def test_nothing_is_asked_or_imported_before_a_dataset_is_wanted(site: Any, tmp_path: Path) -> None:
    code = "import sys, prism_data.plugin, prism_data.options; print({'requests', 'urllib3', 'ssl'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "set()", done.stderr
    file = tmp_path / "sais_foundation.yaml"
    file.write_text(
        json.dumps({"unified_data_access": {"token": "t0ken-value", "client": {"name": "http", "url": site.url}}})
    )
    project = open_project(file)
    assert project.build("data_client", project.config.unified_data_access.client)
    assert not site.seen
