"""`prism doctor`: each check against a real server, file system, plugin or interpreter, and the exit codes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from prism.cli import checkup
from prism.cli.main import main

Install = Callable[..., Path]


class _Answers(BaseHTTPRequestHandler):
    status = 200
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """A real HTTP server on a free port; `status` is what it answers, `seen` what it was asked."""
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    server.status, server.seen = 200, []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (401, "ok"), (404, "ok"), (503, "unreachable")])
def test_a_server_that_answers_is_there_unless_it_says_it_is_not(server: HTTPServer, status: int, state: str) -> None:
    server.status = status  # type: ignore[attr-defined]
    uri = f"http://me:hunter2@127.0.0.1:{server.server_port}/mlflow/"
    found = checkup.look_at_mlflow(uri, folder=Path())
    assert found.state == state
    assert str(status) in found.text and "hunter2" not in found.text
    assert server.seen == [("/mlflow/health", None)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg2"])
def test_nobody_there_is_unreachable(scheme: str) -> None:
    found = checkup.look_at_mlflow(f"{scheme}://me:hun@ter2@127.0.0.1:{free_port()}", folder=Path())
    assert found.state == "unreachable" and "hun" not in found.text and "ter2" not in found.text and found.hint


def test_a_sqlite_file_needs_a_folder_to_be_in(tmp_path: Path) -> None:
    assert checkup.look_at_mlflow("sqlite:///mlflow.db", folder=tmp_path).state == "ok"
    assert checkup.look_at_mlflow("sqlite:///absent/mlflow.db", folder=tmp_path).state == "failed"


MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
bind /cpfs01 fuse.aliyun-alinas-efc rw 0 0
server:/home /home\\040of\\040all nfs4 rw 0 0
/dev/sdb /cpfs01/local xfs rw 0 0
none /overlay fuse.overlayfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind", "state"),
    [
        ("/data/project", "ext4", "ok"),
        ("/cpfs01/team/project", "fuse.aliyun-alinas-efc", "failed"),
        ("/cpfs01/local/x", "xfs", "ok"),
        ("/home of all/me", "nfs4", "failed"),
        ("/overlay/x", "fuse.overlayfs", "ok"),
        ("/cpfs01x", "ext4", "ok"),
    ],
)
def test_sqlite_on_a_network_file_system_is_said_to_be_unsafe(
    tmp_path: Path, folder: str, kind: str, state: str
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert checkup.file_system(Path(folder), mounts=mounts) == kind
    embedded = checkup.look_at_file_system(Path(folder), tracking_uri="sqlite:///mlflow.db", mounts=mounts)
    assert (embedded.state, "unsafe" in embedded.text) == (state, state == "failed")
    assert checkup.look_at_file_system(Path(folder), tracking_uri="http://x", mounts=mounts).state == "ok"


@pytest.mark.skipif(not checkup.MOUNTS.exists(), reason="this system has no /proc")
def test_the_file_system_of_this_machine_is_read() -> None:
    assert checkup.file_system(Path("/proc/self")) == "proc"


def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkup.look_at_disk(tmp_path).state == "ok"
    monkeypatch.setattr(checkup, "LEAST_FREE", 1 << 60)
    assert checkup.look_at_disk(tmp_path).state == "failed"


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_is_looked_at_from_another_process() -> None:
    before = set(sys.modules)
    found = checkup.look_at_torch()
    assert found.state == "ok" and found.text.startswith(importlib.metadata.version("torch").partition("+")[0])
    assert "cpu with" in found.text
    assert "torch" not in set(sys.modules) - before


def doctor(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, dict[str, list[dict[str, str]]]]:
    code = main(["--project", str(folder), "doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    by_check: dict[str, list[dict[str, str]]] = {}
    for check in found["checks"]:
        by_check.setdefault(check["check"], []).append(check)
    assert found["ok"] == (code == 0)
    return code, by_check


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing torch takes seconds, and one test does it."""
    monkeypatch.setattr(checkup, "look_at_torch", lambda: checkup.Finding("torch", "ok", "left out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


quick = pytest.mark.usefixtures("no_torch")


@quick
def test_without_a_project_it_says_how_to_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = doctor(capsys, tmp_path)
    assert "prism init" in found["project"][0]["text"]
    assert set(found) == {"python", "torch", "project", "plugins", "disk", "file system", "mlflow"}


@quick
def test_a_server_out_of_reach_is_exit_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "sais_foundation.yaml").write_text(f"ml: {{tracking_uri: '{uri}'}}\n")
    code, found = doctor(capsys, tmp_path)
    assert code == 4 and found["mlflow"][0]["state"] == "unreachable"


@quick
def test_switched_off_tracking_is_not_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "sais_foundation.yaml").write_text(f"ml: {{enabled: false, tracking_uri: '{uri}'}}\n")
    assert "mlflow" not in doctor(capsys, tmp_path)[1]


@quick
def test_a_wrong_configuration_and_a_broken_plugin_are_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], install: Install
) -> None:
    install("acme-bad", points="bad = acme_dbad", acme_dbad="1 / 0")
    (tmp_path / "sais_foundation.yaml").write_text("mll: {}\n")
    code, found = doctor(capsys, tmp_path)
    assert code == 1 and "mll" in found["project"][0]["text"]
    assert [one["state"] for one in found["plugins"]] == ["ok", "failed"]
    assert "ZeroDivisionError" in found["plugins"][1]["text"]


LAYER = """
from prism.hookspecs import hookimpl
from prism.providers import Provider

@hookimpl
def prism_trainers():
    return [Provider("acme", target="acme_layer:Trainer", requires=("module_that_is_nowhere", "json"))]
"""


@quick
def test_the_layer_that_is_missing_is_named_with_its_install_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], install: Install
) -> None:
    install("acme-layer", points="acme = acme_layer", acme_layer=LAYER)
    (tmp_path / "sais_foundation.yaml").write_text("trainer: acme\nml: {enabled: false}\n")
    code, found = doctor(capsys, tmp_path)
    assert code == 1
    (missing,) = [one for one in found["layers"] if "acme" in one["text"]]
    assert "module_that_is_nowhere, not installed" in missing["text"]
    assert missing["hint"] == "pip install module_that_is_nowhere"


@quick
def test_text_says_the_state_first_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sais_foundation.yaml").write_text("trainer: nobody\n")
    assert main(["--project", str(tmp_path), "doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("failed      project") for line in lines)
    assert any("→" in line for line in lines)
