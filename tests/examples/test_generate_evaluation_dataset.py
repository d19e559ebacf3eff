"""The example program that writes evaluation questions: true, different, the same each time, and easy to add to."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "generate_evaluation_dataset.py"
FIELDS = ("established_pharmacologic_class", "routes", "mechanism_of_action")
ALL = 4050


def generate(*words: str | Path, script: Path = SCRIPT, cwd: Path, code: int = 0) -> str:
    """What the script says, on either stream."""
    command = [sys.executable, str(script), *map(str, words)]
    done = subprocess.run(command, cwd=cwd, timeout=120, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the script with what it needs, to change it or to let it write beside itself."""
    folder = tmp_path / "examples"
    (folder / "drug_qa" / "data").mkdir(parents=True)
    for name in ("make_records.py", "phrasings.py", "data/drug_facts.jsonl"):
        shutil.copy(EXAMPLES / "drug_qa" / name, folder / "drug_qa" / name)
    return Path(shutil.copy(SCRIPT, folder))


def test_every_question_is_different_and_every_answer_is_a_fact(tmp_path: Path) -> None:
    said = generate("--output", "new/folder/all.jsonl", "--num_questions", str(ALL), cwd=tmp_path)
    assert said == f"{ALL} questions written to new/folder/all.jsonl\n"
    records = read(tmp_path / "new" / "folder" / "all.jsonl")
    assert len({record["instruction"] for record in records}) == ALL
    assert {(*record, record["input"]) for record in records} == {("instruction", "input", "output", "")}
    facts = {fact["substance"]: fact for fact in read(EXAMPLES / "drug_qa" / "data" / "drug_facts.jsonl")}
    for record in records:
        substance = max((name for name in facts if name in record["instruction"]), key=len)
        before, _, rest = record["output"].partition(substance)
        answers = [facts[substance][field] for field in FIELDS if field in facts[substance]]
        lists = [re.escape(", ".join(one[:-1]) + " and " + one[-1] if one[1:] else one[0]) for one in answers]
        assert re.search(rf" ({'|'.join(lists)})\.$", before + rest), record


def test_the_seeds_sample_questions_come_first_and_the_kinds_take_turns(tmp_path: Path) -> None:
    generate("--output", "ten.jsonl", cwd=tmp_path)
    questions = [record["instruction"] for record in read(tmp_path / "ten.jsonl")]
    assert len(questions) == 10
    assert questions[0] == "What are the different classifications of the drug Imatinib mesylate?"
    assert questions[1].startswith("What are the different classification types associated with the drug ")
    for word in ("class", "mechanism", "route"):
        assert sum(word in question for question in questions) >= 2


def test_a_seed_gives_the_same_bytes_wherever_one_stands(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    generate("--output", "a.jsonl", "--num-questions", "50", cwd=tmp_path)
    generate("--output", tmp_path / "b.jsonl", "--num_questions", "50", cwd=tmp_path / "elsewhere")
    generate("--output", "c.jsonl", "--num_questions", "50", "--seed", "1", cwd=tmp_path)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert (tmp_path / "a.jsonl").read_bytes() != (tmp_path / "c.jsonl").read_bytes()


def test_without_output_it_writes_beside_itself_in_place_of_what_was_there(copied: Path, tmp_path: Path) -> None:
    (copied.parent / "evaluation_dataset.jsonl").write_text("old", encoding="utf-8")
    generate("--num_questions", "3", script=copied, cwd=tmp_path)
    assert len(read(copied.parent / "evaluation_dataset.jsonl")) == 3
    assert not [path for path in copied.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--num_questions", str(ALL + 1)), 2, f"there are {ALL} questions, {ALL + 1} were asked for"),
        (("--num_questions", "0"), 2, f"there are {ALL} questions, 0 were asked for"),
        (("--num_questions", "few"), 2, "invalid int value"),
        (("--output", "file/questions.jsonl"), 4, "cannot make the folder of file/questions.jsonl"),
        (("--output", "folder"), 4, "folder cannot be written"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, words: tuple[str, ...], code: int, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert message in generate("--output", "questions.jsonl", *words, cwd=tmp_path, code=code)
    assert not (tmp_path / "questions.jsonl").exists()


def test_own_questions_stand_at_one_place_and_come_first(copied: Path, tmp_path: Path) -> None:
    text = copied.read_text(encoding="utf-8")
    mark = "OWN_QUESTIONS: tuple[Record, ...] = (\n"
    own = '    {"instruction": "Is this ours?", "input": "", "output": "Yes."},\n'
    copied.write_text(text.replace(mark, mark + own), encoding="utf-8")
    generate("--output", "out.jsonl", "--num_questions", "3", script=copied, cwd=tmp_path)
    first, second, _ = read(tmp_path / "out.jsonl")
    assert first == {"instruction": "Is this ours?", "input": "", "output": "Yes."}
    assert "Imatinib" in second["instruction"]
    copied.write_text(text.replace(mark, mark + own + own), encoding="utf-8")
    assert "a question is there twice" in generate("--output", "out.jsonl", script=copied, cwd=tmp_path, code=2)
    copied.write_text(text.replace(mark, mark + own.replace("Yes.", "")), encoding="utf-8")
    assert "no output" in generate("--output", "out.jsonl", script=copied, cwd=tmp_path, code=2)
