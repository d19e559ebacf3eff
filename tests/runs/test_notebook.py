"""Runs in a real notebook kernel: what a cell shows, a cell run twice, a kernel restarted or killed."""

from __future__ import annotations

import json
import os
import queue
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from attrs import define

pytestmark = pytest.mark.skipif(
    find_spec("ipykernel") is None or find_spec("jupyter_client") is None,
    reason="ipykernel and jupyter-client are not installed here",
)
START = "import prism\nrun = prism.start_run()\nrun.log_metrics({'loss': 0.5}, step=1)\nrun"


@define
class Notebook:
    """A kernel, and what its cells show."""

    manager: Any
    client: Any

    def cell(self, code: str) -> dict[str, str]:
        """Run a cell; what it shows by MIME type, its printed text under "text"."""
        shown = {"text": ""}
        asked = self.client.execute(code)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            content = message["content"]
            if message["parent_header"].get("msg_id") != asked:
                continue
            if message["msg_type"] in ("execute_result", "display_data"):
                shown |= content["data"]
            if message["msg_type"] == "stream":
                shown["text"] += content["text"]
            if message["msg_type"] == "error":
                shown["error"] = "\n".join(content["traceback"])
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                return shown
        pytest.fail(f"the cell did not end: {code}")

    def pid(self) -> int:
        return int(self.cell("import os; print(os.getpid())")["text"])


@pytest.fixture
def notebook(project: Any) -> Iterator[Notebook]:
    """A kernel that works in the project."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(project.path), env={**project.surroundings(), "IPYTHONDIR": str(project.path)})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_a_run_shows_itself_and_a_cell_run_twice_finishes_the_first(project: Any, notebook: Notebook) -> None:
    shown = notebook.cell(START)
    assert "error" not in shown, shown["error"]
    first = project.run()
    html = shown["text/html"]
    assert html.startswith("<table>") and first.run_id in html and "RUNNING" in html and "0.5" in html
    assert str(first.path) in html and project.state().status == "RUNNING"

    again = notebook.cell(START)
    assert first.run_id not in again["text/html"]
    statuses = {run["run_id"]: run["status"] for run in json.loads(project.prism("runs", "list", "--json").out)}
    assert statuses.pop(first.run_id) == "FINISHED" and list(statuses.values()) == ["RUNNING"]

    assert "FINISHED" in notebook.cell("run.finish()\nrun")["text/html"]
    late = notebook.cell("run.log_metrics({'loss': 1.0})")
    assert "has ended (FINISHED)" in late["error"]
    assert [state["status"] for state in json.loads(project.prism("runs", "list", "--json").out)] == ["FINISHED"] * 2


def test_a_cell_that_fails_leaves_the_run_open_and_a_context_ends_it(project: Any, notebook: Notebook) -> None:
    notebook.cell(START)
    assert "ZeroDivisionError" in notebook.cell("1 / 0")["error"]
    assert project.state().status == "RUNNING"  # the next cell may go on with it
    notebook.cell("run.finish()")
    assert "ZeroDivisionError" in notebook.cell("with prism.start_run() as second:\n    1 / 0")["error"]
    newest = json.loads(project.prism("runs", "list", "--json").out)[0]
    assert newest["status"] == "FAILED"


def test_a_restarted_kernel_has_failed_its_open_run(project: Any, notebook: Notebook) -> None:
    notebook.cell(START)
    notebook.manager.restart_kernel()
    notebook.client.wait_for_ready(timeout=60)
    state = project.await_status("FAILED", within=2)
    words = ("kernel ended before the run was finished", "the process died without a word", "killed by SIGKILL")
    assert any(word in state.error for word in words)
    assert state.metrics == {"loss": 0.5}
    shown = notebook.cell(START)
    assert state.run_id not in shown["text/html"] and "RUNNING" in shown["text/html"]
    assert sorted(run.run_id for run in project.runs())[0] == state.run_id


def test_a_killed_kernel_has_failed_within_two_seconds(project: Any, notebook: Notebook) -> None:
    notebook.cell(START)
    project.await_watcher()
    os.kill(notebook.pid(), signal.SIGKILL)
    state = project.await_status("FAILED", within=2)
    project.until(lambda: [r for r in project.records("end") if r.data.get("of")], within=2, what="the watcher's word")
    assert state.metrics == {"loss": 0.5}
