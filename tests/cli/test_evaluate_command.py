"""`prism evaluate`: models by every name, scores in the model's run, and scoring again without a model."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from prism.cli.main import main
from prism.journal.directory import RunDirectory, list_runs
from prism.journal.state import read_state
from prism.project import open_project
from prism.runs.start import start_run

PLUGIN = '''
from prism.hookspecs import hookimpl
from prism.protocols import Prediction, Scores
from prism.providers import Provider
from attrs import frozen

@frozen
class EchoOptions:
    max_new_tokens: int = 200

class Echo:
    """Answers with the text of the model folder, cut to so many words."""
    def __init__(self, options):
        self.words = options.max_new_tokens
    def predict(self, model, examples):
        text = (model / "answer.txt").read_text()
        for example in examples:
            yield Prediction(example.id, " ".join(text.split()[:self.words]), self.words, 0.5)

class Length:
    def score(self, predictions, references):
        samples = {one.id: {"words": float(len(one.output.split()))} for one in predictions}
        mean = sum(one["words"] for one in samples.values()) / len(samples)
        return Scores({"words": mean}, samples, "length|version:1")

@hookimpl
def prism_predictors():
    return [Provider("echo", target="echo_plugin:Echo", options="echo_plugin:EchoOptions")]

@hookimpl
def prism_evaluators():
    return [Provider("length", target="echo_plugin:Length")]
'''
CONFIG = """
foundation: {experiment_name: qa}
ml: {enabled: false}
evaluation: {predictor: echo, evaluators: [rouge, bleu, length]}
plugins: {local: [./echo_plugin.py]}
"""
ANSWER = "Imatinib is a kinase inhibitor."


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "sais_foundation.yaml").write_text(CONFIG)
    (folder / "echo_plugin.py").write_text(dedent(PLUGIN))
    records = [
        {"instruction": f"What is it? {n}", "output": ANSWER if n else "Something else entirely."} for n in (0, 1)
    ]
    (folder / "qa_eval.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_model(folder / "model")
    monkeypatch.chdir(folder)
    return folder


def write_model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "answer.txt").write_text(ANSWER)
    return folder


def run_with_model(project: Path) -> RunDirectory:
    with start_run(project / "sais_foundation.yaml") as run:
        run.log_model(project / "model")
    return RunDirectory(run.directory)


def evaluate(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["evaluate", *words]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(evaluate(capsys, *words, "--json")[0])


def test_a_folder_is_evaluated_in_a_new_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = evaluate(capsys, "./model", "--data", "qa_eval.jsonl")
    lines = out.splitlines()
    assert lines[0] == "===== EVALUATION SUMMARY ====="
    keys = [line.partition(":")[0] for line in lines[1:9]]
    assert keys[:4] == ["rouge1", "rouge2", "rougeL", "bleu"]
    assert keys[4:] == ["avg_tokens_per_second", "avg_generation_time", "total_samples", "words"]
    assert "total_samples: 2" in lines
    (run,) = list_runs(project)
    assert lines[-1] == f"Detailed results saved to {run.evaluation / 'qa_eval' / 'samples.jsonl'}"
    assert run.run_id in err
    state = read_state(run)
    assert state.status == "FINISHED" and state.metrics["eval/qa_eval/words"] == 5.0
    assert [(one["name"], one["use"]) for one in state.datasets] == [("qa_eval.jsonl", "evaluation")]
    assert state.evaluations[0]["samples_file"] == "evaluation/qa_eval/samples.jsonl"
    assert "===== QUESTION 2 =====" in (run.evaluation / "qa_eval" / "questions.txt").read_text()


@pytest.mark.parametrize("how", ["id", "prefix", "model folder", "run folder", "same files elsewhere"])
def test_scores_land_in_the_run_that_made_the_model(
    project: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_model(project)
    named = {"id": run.run_id, "prefix": run.run_id[:-1], "model folder": str(run.model), "run folder": str(run.path)}
    named["same files elsewhere"] = "./model"  # what the run has logged, and copied
    found = as_json(capsys, named[how], "--data", "qa_eval.jsonl")
    assert list(found) == ["metrics", "signatures", "samples_file"]
    assert set(found["signatures"]) == {"rouge", "bleu", "length"} and "tok:latin" in found["signatures"]["rouge"]
    assert found["samples_file"] == str(run.evaluation / "qa_eval" / "samples.jsonl")
    assert len(list(list_runs(project))) == 1
    state = read_state(run)
    assert state.status == "FINISHED" and state.attempts == 1
    assert state.metrics["eval/qa_eval/rouge1"] == found["metrics"]["eval/qa_eval/rouge1"]
    assert sum(path.name.startswith("eval-") for path in run.journal_files()) == 1


def test_a_later_evaluation_keeps_the_datasets_of_the_training(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_model(project)
    trained_on = {"name": "train.jsonl", "version": "1", "uri": "", "digest": "sha256:0", "files": []}
    run.datasets.write_text(json.dumps([trained_on]))
    for _ in range(2):
        evaluate(capsys, run.run_id, "--data", "qa_eval.jsonl")
    assert [one["name"] for one in json.loads(run.datasets.read_text())] == ["train.jsonl", "qa_eval.jsonl"]


def test_options_reach_predictor_and_evaluators(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "model",
        "--data",
        "./qa_eval.jsonl",
        "--max-samples",
        "1",
        "--max-new-tokens",
        "3",
        "--evaluator",
        "length",
    )
    found = as_json(capsys, *words)
    assert found["metrics"]["eval/qa_eval/words"] == 3.0 and found["metrics"]["eval/qa_eval/total_samples"] == 1.0
    assert list(found["signatures"]) == ["length"]


def test_a_document_is_written_and_never_over_another(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("model", "--data", "qa_eval.jsonl", "--output-file", "results.json")
    out, _ = evaluate(capsys, *words)
    assert out.endswith("Detailed results saved to results.json\n")
    written = json.loads((project / "results.json").read_text())
    assert written["results"][1]["prediction"] == ANSWER and written["scores"]["words"] == 5.0
    assert written["metadata"]["evaluation_dataset_digest"] == written["digest"]
    _, err = evaluate(capsys, *words, code=2)
    assert "results.json exists already" in err
    assert len(list(list_runs(project))) == 1
    evaluate(capsys, "model", "--data", "qa_eval.jsonl", "--output-file", "absent/results.json", code=2)


@pytest.mark.parametrize("kind", ["samples.jsonl", "predictions.jsonl", "results.json"])
def test_scoring_again_needs_no_model(project: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = as_json(capsys, "model", "--data", "qa_eval.jsonl")
    file = Path(first["samples_file"]).with_name(kind)
    if kind == "results.json":
        evaluate(capsys, "model", "--data", "qa_eval.jsonl", "--output-file", str(file))
    data = ("--data", "qa_eval.jsonl") if kind == "predictions.jsonl" else ()
    runs = len(list(list_runs(project)))
    again = as_json(capsys, "--rescore", str(file), *data)
    assert again["metrics"] == first["metrics"] and again["signatures"] == first["signatures"]
    assert (
        as_json(capsys, "--rescore", str(file), *data, "--max-samples", "1")["metrics"]["eval/qa_eval/total_samples"]
        == 1
    )
    assert len(list(list_runs(project))) == runs
    out, _ = evaluate(capsys, "--rescore", str(file), *data, "--evaluator", "length")
    assert "words: 5.0000" in out and "rouge1" not in out and out.endswith(f"Scored again from {file}\n")


def test_scoring_again_needs_no_project(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    (tmp_path / "own.jsonl").write_text('{"id": "1", "output": "Imatinib"}\n')
    (tmp_path / "data.jsonl").write_text('{"output": "Imatinib"}\n')
    monkeypatch.chdir(tmp_path)
    found = as_json(capsys, "--rescore", "own.jsonl", "--data", "data.jsonl")
    assert found["metrics"]["eval/data/rouge1"] == 1.0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "wants a MODEL and --data"),
        (("model",), 2, "wants a MODEL and --data"),
        (("./absent", "--data", "qa_eval.jsonl"), 2, "there is no model folder"),
        (("model", "--data", "qa_evil.jsonl"), 1, "did you mean qa_eval.jsonl"),
        (("model", "--data", "../x.jsonl"), 1, "leaves the data root"),
        (("model", "--data", "qa_eval.jsonl", "--evaluator", "rogue"), 2, "did you mean 'rouge'"),
        (("model", "--data", "qa_eval.jsonl", "--evaluator", "rouge", "--evaluator", "rouge"), 2, "named twice"),
        (("model", "--data", "empty.jsonl"), 1, "the dataset is empty"),
        (("model", "--data", "bad.jsonl"), 1, "bad.jsonl:2: the record has no 'output'"),
        (("hollow", "--data", "qa_eval.jsonl"), 2, "is empty"),
        (("--rescore", "qa_eval.jsonl"), 1, "an object with 'id' and 'output'"),
        (("--rescore", "own.jsonl"), 2, "give --data"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_begun(
    project: Path, words: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "hollow").mkdir()
    (project / "empty.jsonl").touch()
    (project / "bad.jsonl").write_text('{"output": "x"}\n{"instruction": "x"}\n')
    (project / "own.jsonl").write_text('{"id": "1", "output": "x"}\n')
    _, err = evaluate(capsys, *words, code=code)
    assert message in err
    assert not list(list_runs(project))


def test_a_run_without_a_model_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start_run(project / "sais_foundation.yaml") as run:
        run.log_metrics({"loss": 1.0})
    _, err = evaluate(capsys, run.run_id, "--data", "qa_eval.jsonl", code=2)
    assert f"the run {run.run_id} has no model" in err


def test_a_predictor_that_fails_leaves_a_failed_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "model" / "answer.txt").rename(project / "model" / "other.txt")
    _, err = evaluate(capsys, "model", "--data", "qa_eval.jsonl", code=1)
    assert "answer.txt" in err
    (run,) = list_runs(project)
    assert read_state(run).status == "FAILED"


@pytest.mark.timeout(170)
def test_a_registered_model_by_version_and_alias(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("prism_mlflow.registry", reason="needs sais-prism-mlflow")
    from prism.data.digest import digest_files, manifest_digest
    from prism.protocols import RunRef, TrackedRun

    file = project / "sais_foundation.yaml"
    file.write_text(CONFIG.replace("enabled: false", "enabled: true, system_tracing: false"))
    opened = open_project(file)
    registry = opened.plugins.build("model_registry", "mlflow")
    settings = opened.config.section("ml")
    registry.open(project, settings)
    tracker = opened.plugins.build("tracker", "mlflow")
    tracked = TrackedRun(RunRef("20260101-run", project), project, "qa", "made elsewhere", 1, settings=settings)
    opening = tracker.open(tracked)
    tracked = TrackedRun(
        RunRef("20260101-run", project, {"mlflow": opening.id}), project, "qa", "made elsewhere", 1, settings=settings
    )
    digest = manifest_digest(digest_files(project / "model"))
    made = registry.register(project / "model", name="qa_llama", version="", digest=digest, tags={}, run=tracked)
    registry.alias("qa_llama", "champion", made.version)
    for reference in ("qa_llama@1.0.0", "qa_llama@champion", "qa_llama"):
        assert as_json(capsys, reference, "--data", "qa_eval.jsonl")["metrics"]["eval/qa_eval/words"] == 5.0
    assert [read_state(run).pending for run in list_runs(project)] == [0, 0, 0]  # MLflow has got all of it
    assert (project / "artifacts" / "models" / "qa_llama" / "1.0.0" / "answer.txt").is_file()
    _, err = evaluate(capsys, "qa_llama@2.0.0", "--data", "qa_eval.jsonl", code=2)
    assert "1.0.0@champion" in err
    _, err = evaluate(capsys, "qa_lama", "--data", "qa_eval.jsonl", code=2)
    assert "registered models: qa_llama" in err
