"""Files of results: named after version and day, and never one over another, whoever writes at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from prism.errors import EnvironmentUnfit, UsageError
from prism.evaluation.publishing import check_free, publish, publish_as, results_folder
from prism.evaluation.results import Evaluation, Sample
from prism.protocols import Prediction

EVALUATION = Evaluation(
    data="qa.jsonl",
    name="qa",
    digest="sha256:0",
    model="m",
    date="2026-11-23T00:00:00+00:00",
    figures={"bleu": 0.5},
    signatures={},
    samples=[Sample("1", {"output": "x"}, Prediction("1", "y"))],
    samples_file=Path("samples.jsonl"),
    metadata={"framework": "pytorch", "base_model": None},
)
DAY = date(2025, 2, 26)
TOGETHER = """
import sys
from datetime import date
from pathlib import Path
from test_publishing import EVALUATION
from prism.evaluation.publishing import publish
print(flush=True)
sys.stdin.readline()
for _ in range(25):
    publish(EVALUATION, folder=Path(sys.argv[1]), version="1.0.1", day=date(2025, 2, 26))
"""


def test_names_are_the_seeds_and_count_on(tmp_path: Path) -> None:
    folder = results_folder(tmp_path)
    assert folder == tmp_path / "artifacts" / "evaluation_results"
    files = [publish(EVALUATION, folder=folder, version="1.0.1", day=DAY).samples_file.name for _ in range(3)]
    stem = "sft_evaluation_results_v1.0.1_20250226"
    assert files == [f"{stem}.json", f"{stem}-2.json", f"{stem}-3.json"]
    other = publish(EVALUATION, folder=folder, version="1.0.2", day=DAY).samples_file.name
    assert other == "sft_evaluation_results_v1.0.2_20250226.json"
    document = json.loads((folder / other).read_text(encoding="utf-8"))
    assert document["metadata"] == {"framework": "pytorch", "base_model": None}
    assert document["results"][0]["prediction"] == "y" and document["metrics"] == {"eval/qa/bleu": 0.5}


@pytest.mark.timeout(170)
def test_processes_that_write_together_write_each_their_own(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(4)
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "\n"  # it has imported what it needs
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
    assert [writer.returncode for writer in writers] == [0] * 4
    files = list(tmp_path.iterdir())
    assert len(files) == 100
    assert all(json.loads(file.read_text(encoding="utf-8"))["data"] == "qa.jsonl" for file in files)


def test_a_named_file_is_refused_before_the_work_and_after_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    check_free(file)
    assert publish_as(file, EVALUATION).samples_file == file
    content = file.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        check_free(file)
    with pytest.raises(UsageError, match="exists already"):
        publish_as(file, EVALUATION)
    assert file.read_bytes() == content
    with pytest.raises(UsageError, match="there is no folder"):
        check_free(tmp_path / "absent" / "mine.json")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "artifacts").touch()
    with pytest.raises(EnvironmentUnfit, match="evaluation_results"):
        results_folder(tmp_path)
    with pytest.raises(EnvironmentUnfit, match="cannot be written"):
        publish(EVALUATION, folder=tmp_path / "absent", version="1.0.0", day=DAY)
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]
