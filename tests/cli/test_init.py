"""`prism init`: what it writes is a valid project, and it never overwrites without saying."""

from __future__ import annotations

import json
import shlex
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import pytest

from prism.cli.init import LIGHTNING, NEXT
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


@pytest.mark.parametrize("template", NEXT)
def test_each_template_is_a_valid_project_and_says_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str
) -> None:
    folder = tmp_path / "a project"
    assert main(["init", "--template", template, str(folder)]) == 0
    told = capsys.readouterr()
    assert sorted(told.out.splitlines()) == sorted(f"wrote {path}" for path in folder.iterdir())
    lacks = template == "lightning" and not any(map(find_spec, LIGHTNING))
    commands = [*(["pip install lightning"] if lacks else []), *NEXT[template]]
    assert f"next: cd {shlex.quote(str(folder))} && {' && '.join(commands)}\n" in told.err
    scripts = {word.partition(":")[0] for command in NEXT[template] for word in command.split() if ".py" in word}
    assert scripts == {path.name for path in folder.glob("*.py")}
    assert "@" not in (folder / "sais_foundation.yaml").read_text()
    assert main(["--project", str(folder), "config", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "problems": [], "warnings": []}


def test_there_is_a_template_for_each_name_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    folders = {path.name for path in (resources.files("prism") / "templates").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == set(NEXT) == {"sft", "science", "lightning"}
    assert main(["init", "--template", "sience"]) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in NEXT)


def test_without_a_template_it_is_the_one_for_fine_tuning(tmp_path: Path) -> None:
    assert (
        main(["init", str(tmp_path / "a" / "x")]) == main(["init", "--template", "sft", str(tmp_path / "b" / "x")]) == 0
    )
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / n / "x").iterdir()} for n in "ab")
    assert one == other


def test_no_next_folder_where_one_stands_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert "next: python make_model.py && prism run\n" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sais_foundation.yaml", "train.py", "sais_foundation.schema.json"])
def test_what_is_there_is_kept_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    file = tmp_path / name
    file.write_text("mine: 1\n")
    init = ["init", "--template", "lightning", str(tmp_path)]
    assert main(init) == 2
    told = capsys.readouterr().err
    assert str(file) in told and "--force" in told
    assert file.read_text() == "mine: 1\n" and list(tmp_path.iterdir()) == [file]
    assert main([*init, "--force"]) == 0
    out = capsys.readouterr().out
    assert "mine" not in file.read_text() and f"replaced {file}\n" in out and out.count("wrote") == 2


def test_a_link_that_leads_nowhere_is_there_too(tmp_path: Path) -> None:
    (tmp_path / "train.py").symlink_to(tmp_path / "elsewhere.py")
    assert main(["init", "--template", "lightning", str(tmp_path)]) == 2
    assert not (tmp_path / "elsewhere.py").exists()


def test_a_place_that_cannot_be_written_is_exit_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file" / "below")]) == 4
    assert "cannot be written" in capsys.readouterr().err
