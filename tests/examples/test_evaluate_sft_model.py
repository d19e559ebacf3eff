"""The example program that evaluates a fine-tuned model: what it prints, the file it writes, the run it speaks to."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prism.journal.directory import RunDirectory, list_runs
from prism.journal.state import read_state
from prism.runs.sft_evaluation import evaluate_sft_model
from prism.runs.start import start_run

pytestmark = pytest.mark.torch
EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIG = """
foundation: {experiment_name: example_sft}
ml:
  enabled: false
  parameters: {base_model: made/from/this}
  model_repo:
    name: llama_models
    version: 1.2.3
    tag: {framework: pytorch, task_type: language-model, base_model: meta-llama/Llama-3.2-1B}
evaluation: {evaluators: [rouge]}
"""
KEYS = ["rouge1", "rouge2", "rougeL", "bleu", "avg_tokens_per_second", "avg_generation_time", "total_samples"]
SAVED = re.compile(r"^Detailed results saved to (.+)$", re.MULTILINE)
NAME = r"sft_evaluation_results_v{}_\d{{8}}{}\.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's untrained model and four questions."""
    folder = tmp_path_factory.mktemp("made")
    scripts = (
        ("generate_evaluation_dataset.py", "--num_questions", "100", "--output", "many.jsonl"),
        ("drug_qa/make_model.py", "--records", "many.jsonl", "--out", "fine_tuned_model"),
        ("generate_evaluation_dataset.py", "--num_questions", "4", "--output", "evaluation_dataset.jsonl"),
    )
    for script, *words in scripts:
        subprocess.run([sys.executable, str(EXAMPLES / script), *words], cwd=folder, check=True, timeout=120)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a model and questions, and without a project."""
    folder = tmp_path / "here"
    shutil.copytree(made / "fine_tuned_model", folder / "fine_tuned_model")
    shutil.copy(made / "evaluation_dataset.jsonl", folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def project(here: Path) -> Path:
    (here / "sais_foundation.yaml").write_text(CONFIG, encoding="utf-8")
    return here


class Evaluating:
    """Calls the program within this process, where torch is imported once."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        given = ["--model_path", "./fine_tuned_model", "--evaluation_file", "evaluation_dataset.jsonl"]
        short = [] if "--max_new_tokens" in words or "--max-new-tokens" in words else ["--max_new_tokens", "8"]
        self.monkeypatch.setattr(sys, "argv", ["evaluate_sft_model.py", *given, *short, *words])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXAMPLES / "evaluate_sft_model.py"), run_name="__main__")
        said = self.capsys.readouterr()
        assert ended.value.code == code, said.err
        return said.out, said.err

    def document(self, *words: str) -> dict[str, Any]:
        """The file of results that the program names at its end."""
        found = SAVED.search(self(*words)[0])
        assert found is not None
        document: dict[str, Any] = json.loads(Path(found[1]).read_text(encoding="utf-8"))
        return document


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Evaluating:
    return Evaluating(capsys, monkeypatch)


def run_that_made_the_model(project: Path) -> RunDirectory:
    with start_run(project / "sais_foundation.yaml") as run:
        run.log_model(project / "fine_tuned_model")
    return RunDirectory(run.directory)


def test_it_prints_blocks_and_summary_and_needs_no_project(here: Path, evaluate: Evaluating) -> None:
    out, err = evaluate()
    assert out.startswith(
        "===== QUESTION 1 =====\n"
        "Instruction: What are the different classifications of the drug Imatinib mesylate?\n\nModel response:\n"
    )
    assert "\n\nReference answer:\nImatinib mesylate is classified as Kinase Inhibitor.\n\nMetrics:\nrouge1: 0." in out
    assert "===== QUESTION 4 =====" in out and "===== QUESTION 5 =====" not in out
    summary = out[out.index("===== EVALUATION SUMMARY =====") :].splitlines()
    assert [line.partition(":")[0] for line in summary[1:8]] == KEYS and summary[7] == "total_samples: 4"
    assert summary[8] == "" and len(summary) == 10
    file = summary[9].removeprefix("Detailed results saved to ")
    assert re.fullmatch("artifacts/evaluation_results/" + NAME.format("1.0.0", ""), file)
    document = json.loads((here / file).read_text(encoding="utf-8"))
    assert list(document["scores"]) == KEYS and len(document["results"]) == 4
    metadata = document["metadata"]
    assert (metadata["framework"], metadata["task_type"]) == ("pytorch", "language-model")
    assert metadata["evaluation_dataset"] == "evaluation_dataset.jsonl"
    assert metadata["evaluation_dataset_digest"].startswith("sha256:") and metadata["run_id"] is None
    assert "to no run and no tracker" in err and not list(list_runs(here))


def test_metrics_and_tags_land_in_the_run_that_made_the_model(project: Path, evaluate: Evaluating) -> None:
    run = run_that_made_the_model(project)
    document = evaluate.document()
    state = read_state(run)
    assert len(list(list_runs(project))) == 1 and state.status == "FINISHED"
    assert state.metrics == document["metrics"]
    assert list(document["metrics"]) == [f"eval/evaluation_dataset/{key}" for key in KEYS]
    told = ("framework", "task_type", "base_model", "evaluation_dataset", "evaluation_dataset_digest")
    assert state.tags == {name: document["metadata"][name] for name in told}
    assert state.tags["evaluation_dataset_digest"] == state.datasets[0]["digest"] == document["digest"]
    assert state.tags["base_model"] == "made/from/this"  # with ml.enabled false the run has no tags of a registration
    assert document["metadata"]["run_id"] == run.run_id


def test_a_model_that_no_run_has_made_gets_a_run(project: Path, evaluate: Evaluating) -> None:
    document = evaluate.document("--max_samples", "1")
    (run,) = list_runs(project)
    state = read_state(run)
    assert state.status == "FINISHED" and state.name == "evaluation of fine_tuned_model"
    assert state.tags["base_model"] == "meta-llama/Llama-3.2-1B" and state.metrics == document["metrics"]
    assert document["metadata"]["model_version_from"] == "configuration"


def test_the_project_above_the_model_is_its_project_where_none_is_here(
    project: Path, tmp_path: Path, evaluate: Evaluating, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_that_made_the_model(project)
    monkeypatch.chdir(tmp_path)
    words = ("--model_path", "here/fine_tuned_model", "--evaluation_file", "here/evaluation_dataset.jsonl")
    document = evaluate.document(*words, "--max_samples", "1")
    assert document["metadata"]["run_id"] == run.run_id and document["metadata"]["model_version"] == "1.2.3"
    assert len(list((project / "artifacts" / "evaluation_results").iterdir())) == 1


def test_a_second_file_that_day_gets_a_number(project: Path, evaluate: Evaluating) -> None:
    for _ in range(3):
        evaluate("--max_samples", "1")
    names = sorted(path.name for path in (project / "artifacts" / "evaluation_results").iterdir())
    patterns = [NAME.format(re.escape("1.2.3"), ending) for ending in ("-2", "-3", "")]
    assert all(re.fullmatch(pattern, name) for pattern, name in zip(patterns, names, strict=True)), names


def test_options(here: Path, evaluate: Evaluating) -> None:
    (here / "elsewhere").mkdir()
    out, _ = evaluate("--max_samples", "2", "--max_new_tokens", "3", "--output_file", "elsewhere/mine.json")
    assert out.endswith("total_samples: 2\n\nDetailed results saved to elsewhere/mine.json\n")
    results = json.loads((here / "elsewhere" / "mine.json").read_text(encoding="utf-8"))["results"]
    assert [one["tokens"] for one in results] == [3, 3] and not (here / "artifacts").exists()
    document = evaluate.document("--max-samples", "1", "--max-new-tokens", "5", "--output-file", "dashes.json")
    assert document["results"][0]["tokens"] == 5


def test_200_new_tokens_by_default_or_what_the_configuration_says(project: Path, evaluate: Evaluating) -> None:
    found = evaluate_sft_model("./fine_tuned_model", file=Path("evaluation_dataset.jsonl"), max_samples=1)
    assert found.samples[0].prediction.tokens == 200  # an untrained model does not come to an end
    (project / "sais_foundation.yaml").write_text(
        CONFIG.replace("evaluation: {", "evaluation: {max_new_tokens: 7, "), encoding="utf-8"
    )
    found = evaluate_sft_model("./fine_tuned_model", file=Path("evaluation_dataset.jsonl"), max_samples=1)
    assert found.samples[0].prediction.tokens == 7
    assert evaluate.document("--max_samples", "1", "--max_new_tokens", "4")["results"][0]["tokens"] == 4


def test_an_existing_file_is_never_written_over(project: Path, evaluate: Evaluating) -> None:
    (project / "mine.json").write_text("mine", encoding="utf-8")
    _, err = evaluate("--output_file", "mine.json", code=2)
    assert "mine.json exists already" in err and (project / "mine.json").read_text(encoding="utf-8") == "mine"
    _, err = evaluate("--output_file", "absent/mine.json", code=2)
    assert "there is no folder" in err
    assert not list(list_runs(project))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--model_path", "./absent"), 2, "there is no model folder"),
        (("--model_path", "absent/"), 2, "there is no model folder"),
        (("--model_path", "./hollow"), 2, "hollow is empty"),
        (("--model_path", "./data"), 2, "has no config.json, it is no model folder"),
        (("--evaluation_file", "absent.jsonl"), 1, "absent.jsonl: there is no such file"),
        (("--evaluation_file", "data/empty.jsonl"), 1, "the dataset is empty"),
        (("--evaluation_file", "data/bad.jsonl"), 1, "bad.jsonl:2: the record has no 'output'"),
        (("--evaluation_file", "data/torn.jsonl"), 1, "torn.jsonl:1: not JSON"),
        (("--max_samples", "0"), 2, "evaluation.max_samples"),
        (("--max_new_tokens", "0"), 2, "evaluation.max_new_tokens"),
        (("--max_samples", "some"), 2, "invalid int value"),
        (("--max_sample_count", "1"), 2, "unrecognized arguments"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_begun(
    project: Path, evaluate: Evaluating, words: tuple[str, ...], code: int, message: str
) -> None:
    for folder in ("hollow", "data"):
        (project / folder).mkdir()
    (project / "data" / "empty.jsonl").touch()
    (project / "data" / "bad.jsonl").write_text('{"output": "x"}\n{"instruction": "x"}\n', encoding="utf-8")
    (project / "data" / "torn.jsonl").write_text('{"output"', encoding="utf-8")
    out, err = evaluate(*words, code=code)
    assert message in err and "Traceback" not in err and out == ""
    assert not (project / "artifacts").exists()


@pytest.mark.timeout(170)
def test_metrics_and_tags_are_in_mlflow(project: Path, evaluate: Evaluating) -> None:
    mlflow = pytest.importorskip("mlflow")
    file = project / "sais_foundation.yaml"
    file.write_text(CONFIG.replace("enabled: false", "enabled: true\n  system_tracing: false"), encoding="utf-8")
    run = run_that_made_the_model(project)
    document = evaluate.document("--max_samples", "1")
    state = read_state(run)
    assert state.pending == 0 and state.model is not None and state.model["version"] == "1.2.3"
    assert document["metadata"]["model_version"] == "1.2.3" and document["metadata"]["model_version_from"] == "run"
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (there,) = client.search_runs([client.get_experiment_by_name("example_sft").experiment_id])
    assert there.info.run_id == state.trackers["mlflow"].run_id and there.info.status == "FINISHED"
    assert there.data.metrics == document["metrics"]
    assert there.data.tags["base_model"] == "meta-llama/Llama-3.2-1B"
    assert there.data.tags["evaluation_dataset_digest"] == document["digest"]
