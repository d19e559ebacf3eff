"""The page docs/how-to/share-settings.md: its three files, what it says they come to, and the errors that it quotes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prism.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs/how-to/share-settings.md").read_text(encoding="utf-8")
FILES = {name: text for text, name in re.findall(r"^```yaml\n(# (\S+)\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "drugs/dosage")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    return capsys.readouterr().out.replace(str(folder), "…")


def test_the_three_files_come_to_what_the_page_says(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().err.endswith(": ok\n")
    assert main(["config", "show", "--origin", "ml.parameters.seed=1"]) == 0
    shown = [re.sub(" +#", "  #", line) for line in told(capsys, project).splitlines()]
    quoted = re.findall(r"^.+ = .+  # .+$", PAGE, re.MULTILINE)
    assert len(quoted) == 10 and not set(quoted) - set(shown)
    assert [line for line in shown if re.match(r"evaluation.evaluators\[.\].name", line)] == quoted[-1:]


def test_the_errors_are_as_quoted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    institute, team = project / "institute.yaml", project / "drugs/team.yaml"
    whole, base = team.read_text(), institute.read_text()
    team.write_text(whole.replace("# drugs/team.yaml\n", "").replace("institute.yaml", "institut.yaml"))
    assert main(["config", "check"]) == 1
    said = told(capsys, project)
    team.write_text(whole)
    institute.write_text(base.replace("tracking_uri", "trackng_uri"))
    assert main(["config", "check"]) == 1
    said += told(capsys, project)
    institute.write_text("extends: [drugs/team.yaml]\n")
    assert main(["config", "check"]) == 1
    said += told(capsys, project)
    (quoted,) = re.findall(r"^```text\n(…/drugs.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert said == quoted
