"""`prism plugins list`: its stable keys, its table, and what a project adds and switches off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prism.cli.main import main

Install = Callable[..., Path]

GOOD = """
from prism.hookspecs import hookimpl
from prism.providers import Provider

@hookimpl
def prism_evaluators():
    return [Provider("length", target="nowhere:Length")]
"""


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, object]]:
    assert main([*arguments, "plugins", "list", "--json"]) == 0
    return {record["name"]: record for record in json.loads(capsys.readouterr().out)}


def test_json_has_the_stable_keys(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install("acme-good", version="1.5", points="good = acme_lgood", acme_lgood=GOOD)
    install("acme-bad", points="bad = acme_lbad", acme_lbad="1 / 0")
    found = listed(capsys)
    assert found["good"] == {
        "name": "good",
        "distribution": "acme-good",
        "version": "1.5",
        "state": "ok",
        "error": None,
        "provides": [{"kind": "evaluator", "name": "length"}],
    }
    assert found["bad"]["state"] == "failed" and found["bad"]["error"] == "ZeroDivisionError: division by zero"
    assert listed(capsys, "--no-plugin", "bad")["bad"]["state"] == "disabled"


def test_the_table_is_aligned_and_the_causes_go_to_stderr(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install("acme-bad", points="bad = acme_lbad2", acme_lbad2="1 / 0")
    assert main(["plugins", "list"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    row = next(line for line in lines if line.startswith("bad "))
    assert row.index("acme-bad") == lines[0].index("DISTRIBUTION")
    assert row.index("failed") == lines[0].index("STATE")
    assert "bad (acme-bad 1.0): ZeroDivisionError: division by zero\n" in captured.err


def test_the_project_adds_and_switches_off(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("acme-good", points="good = acme_lgood2", acme_lgood2=GOOD)
    (tmp_path / "mine.py").write_text(GOOD)
    yaml = "foundation: {experiment_name: x}\nplugins: {off: [good], local: [./mine.py]}\n"
    (tmp_path / "sais_foundation.yaml").write_text(yaml)
    (tmp_path / "below").mkdir()
    found = listed(capsys, "--project", str(tmp_path / "below"))
    assert found["good"]["state"] == "disabled"
    assert found["mine"]["state"] == "ok" and found["mine"]["distribution"] == str(tmp_path / "mine.py")


def test_a_file_that_cannot_be_read_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sais_foundation.yaml").write_text("plugins: [\n")
    assert main(["--project", str(tmp_path), "plugins", "list"]) == 0
    assert "its plugins are not shown" in capsys.readouterr().err
