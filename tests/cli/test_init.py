"""`prism init`: what it writes is a valid project, and it never overwrites without saying."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prism.cli.main import main


def test_what_it_writes_is_a_configuration_without_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my drugs"
    assert main(["init", str(folder)]) == 0
    assert str(folder / "sais_foundation.yaml") in capsys.readouterr().out
    text = (folder / "sais_foundation.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=sais_foundation.schema.json\n")
    assert 'experiment_name: "my_drugs"' in text
    assert main(["--project", str(folder), "config", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "problems": [], "warnings": []}


def test_the_schema_is_draft_07_and_knows_the_plugins(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0
    schema = json.loads((tmp_path / "sais_foundation.schema.json").read_text())
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert {"foundation", "ml", "trainer", "evaluation"} <= set(schema["properties"])
    assert "cpfs" in json.dumps(schema["properties"]["unified_data_access"])


@pytest.mark.parametrize("name", ["名字", "a: b", "#", "no", "1.10", "'"])
def test_a_folder_of_any_name_gives_a_valid_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    assert main(["init", str(folder)]) == 0
    assert main(["--project", str(folder), "config", "check"]) == 0


def test_a_configuration_that_is_there_is_kept_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sais_foundation.yaml"
    file.write_text("mine: 1\n")
    assert main(["init", str(tmp_path)]) == 2
    assert file.read_text() == "mine: 1\n" and not (tmp_path / "sais_foundation.schema.json").exists()
    assert "--force" in capsys.readouterr().err
    assert main(["init", str(tmp_path), "--force"]) == 0
    assert "replaced" in capsys.readouterr().out and "mine" not in file.read_text()


def test_a_place_that_cannot_be_written_is_exit_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file" / "below")]) == 4
    assert "cannot be written" in capsys.readouterr().err
