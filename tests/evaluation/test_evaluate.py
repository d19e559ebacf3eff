"""Evaluating a set: predictions that survive a kill, figures with one name each, and the seed's summary."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from prism.errors import DataError, EnvironmentUnfit, UsageError, WorkFailed
from prism.evaluation.evaluate import evaluate_set, measure, rescore
from prism.evaluation.questions import Questions, check_names, read_questions, set_name
from prism.evaluation.rescoring import read_kept
from prism.evaluation.results import write_document
from prism.evaluation.summary import question_text, summary_text
from prism.protocols import Evaluator, Example, Prediction, Reference, Scores

RECORDS = [{"instruction": f"question {n}", "input": "", "output": f"answer {n}"} for n in range(1, 6)]
QUESTIONS = Questions("folder/qa_eval.jsonl", RECORDS, "sha256:00")


class Echo:
    """Answers "answer <n>", and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def predict(self, model: Path, examples: Sequence[Example]) -> Iterator[Prediction]:
        for example in examples:
            self.asked.append(example.id)
            yield Prediction(example.id, example.record["instruction"].replace("question", "answer"), 4, 0.5)


class Exact:
    """The share of answers that are the reference; built with what it shall answer instead."""

    def score(self, predictions: Sequence[Prediction], references: Sequence[Reference]) -> Scores:
        answers = {prediction.id: prediction.output for prediction in predictions}
        samples = {one.id: {"exact": float(answers[one.id] == one.record["output"])} for one in references}
        mean = sum(values["exact"] for values in samples.values()) / len(samples)
        return Scores({"exact": mean}, samples, "exact|version:1")


def run(tmp_path: Path, questions: Questions = QUESTIONS, **changed: Any) -> Any:
    arguments: dict[str, Any] = {
        "model": tmp_path / "model",
        "model_name": "sha256:11",
        "predictor": Echo(),
        "evaluators": {"exact": Exact()},
        "output": tmp_path / "evaluation",
    }
    return evaluate_set(questions, **(arguments | changed))


# ------------------------------------------------------------ the whole


def test_a_set_is_answered_scored_and_kept(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    evaluation = run(tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 5) for done in range(6)]
    assert evaluation.metrics == {
        "eval/qa_eval/exact": 1.0,
        "eval/qa_eval/avg_tokens_per_second": 8.0,
        "eval/qa_eval/avg_generation_time": 0.5,
        "eval/qa_eval/total_samples": 5.0,
    }
    assert evaluation.signatures == {"exact": "exact|version:1"}
    folder = tmp_path / "evaluation" / "qa_eval"
    assert evaluation.samples_file == folder / "samples.jsonl"
    first = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
    assert first["prediction"] == first["reference"] == "answer 1" and first["scores"] == {"exact": 1.0}
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["digest"] == "sha256:00" and scores["model"] == "sha256:11" and scores["date"].endswith("+00:00")
    assert scores["scores"]["exact"] == 1.0 and scores["signatures"] == evaluation.signatures


def test_at_most_so_many_samples(tmp_path: Path) -> None:
    assert run(tmp_path, max_samples=2).figures["total_samples"] == 2.0


def test_a_complete_evaluation_is_never_written_to_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = first.samples_file.read_bytes()
    second = run(tmp_path, evaluators={"exact": Exact()}, predictor=(echo := Echo()))
    assert second.samples_file.parent.name == "qa_eval-2" and len(echo.asked) == 5
    assert first.samples_file.read_bytes() == before


# ------------------------------------------------------------ resuming


def test_a_killed_evaluation_goes_on_where_it_stood(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "import test_evaluate as t\n"
        "def stop(done, total):\n"
        "    if done == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.run(Path(sys.argv[2]), progress=stop)\n"
    )
    argv = [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path)]
    assert subprocess.run(argv, timeout=60).returncode == -signal.SIGKILL
    file = tmp_path / "evaluation" / "qa_eval" / "predictions.jsonl"
    assert len(file.read_text().splitlines()) == 4
    with file.open("ab") as torn:
        torn.write(b'{"id": "4", "outp')
    evaluation = run(tmp_path, predictor=(echo := Echo()))
    assert echo.asked == ["4", "5"]
    assert evaluation.figures["exact"] == 1.0 and evaluation.samples_file.parent == file.parent
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()[1:]] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("changed", [{"model_name": "sha256:22"}, {"settings": {"max_new_tokens": 5}}])
def test_predictions_of_something_else_are_not_gone_on_with(tmp_path: Path, changed: Mapping[str, Any]) -> None:
    evaluation = run(tmp_path)
    (evaluation.samples_file.parent / "scores.json").unlink()
    other = run(tmp_path, **changed)
    assert other.samples_file.parent.name == "qa_eval-2"


def test_a_header_alone_or_half_a_header_is_begun_again(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation" / "qa_eval"
    folder.mkdir(parents=True)
    for left in ("", '{"format": 1, "ki'):
        (folder / "predictions.jsonl").write_text(left)
        assert run(tmp_path).samples_file.parent == folder
        (folder / "scores.json").unlink()
        header = (folder / "predictions.jsonl").read_text().splitlines()[0] + "\n"
    (folder / "predictions.jsonl").write_text(header)
    assert run(tmp_path, predictor=(echo := Echo())).samples_file.parent == folder
    assert len(echo.asked) == 5


# ------------------------------------------------------------ predictors that break their role


class Broken:
    def __init__(self, *answers: Any) -> None:
        self.answers = answers

    def predict(self, model: Path, examples: Sequence[Example]) -> Iterator[Prediction]:
        for answer in self.answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ((), "left out 5 of 5"),
        ((Prediction("9", "x"),), "'9', which was not asked"),
        ((Prediction("1", "x"), Prediction("1", "x")), "'1', which was not asked or is answered already"),
        (("text",), "gave str, not prism.protocols.Prediction"),
        ((ValueError("no weights"),), "Broken failed: ValueError: no weights"),
        ((Prediction("1", object()),), "'1' is no JSON value"),
    ],
)
def test_a_predictor_that_breaks_its_role_is_said(tmp_path: Path, answers: tuple[Any, ...], message: str) -> None:
    with pytest.raises(WorkFailed, match=message):
        run(tmp_path, predictor=Broken(*answers))


def test_errors_of_prism_pass_through_a_predictor(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnfit, match="no GPU"):
        run(tmp_path, predictor=Broken(EnvironmentUnfit("no GPU")))


# ------------------------------------------------------------ evaluators that break their role


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def score(self, predictions: Sequence[Prediction], references: Sequence[Reference]) -> Scores:
        if isinstance(self.answer, Exception):
            raise self.answer
        found: Scores = self.answer
        return found


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"exact": 1.0}, "gave dict, not prism.protocols.Scores"),
        (Scores({"a": float("nan")}, {}, "s"), "'a' of the corpus is nan"),
        (Scores({"a": "1"}, {}, "s"), "'a' of the corpus is '1', not a number"),
        (Scores({"a": True}, {}, "s"), "is True, not a number"),
        (Scores({}, {"1": {"a": float("inf")}}, "s"), "'a' of sample '1' is inf"),
        (Scores({}, {"9": {"a": 1.0}}, "s"), "ids that were not asked: '9'"),
        (Scores({}, {"1": 1.0}, "s"), "sample '1' are float, not a mapping"),
        (Scores([1.0], {}, "s"), "the corpus are list"),
        (Scores({}, None, "s"), "its samples are NoneType"),
        (Scores({"a": 1.0}, {}, " "), "signature"),
        (Scores({1: 1.0}, {}, "s"), "has the name 1"),
        (ZeroDivisionError("division by zero"), "'odd' failed: ZeroDivisionError"),
    ],
)
def test_an_evaluator_that_breaks_its_role_is_named(tmp_path: Path, answer: Any, message: str) -> None:
    with pytest.raises(WorkFailed, match=message) as caught:
        run(tmp_path, evaluators={"odd": Answers(answer)})
    assert "'odd'" in caught.value.message
    assert (tmp_path / "evaluation" / "qa_eval" / "predictions.jsonl").exists()  # what was answered is kept
    assert not (tmp_path / "evaluation" / "qa_eval" / "scores.json").exists()


def test_a_taken_name_gets_its_evaluators_in_front(tmp_path: Path) -> None:
    one: Evaluator = Answers(Scores({"f": 0.5, "total_samples": 9.0}, {"1": {"f": 0.1}}, "one"))
    two: Evaluator = Answers(Scores({"f": 0.25}, {"1": {"f": 0.2}, "2": {"g": 1.0}}, "two"))
    evaluation = run(tmp_path, evaluators={"one": one, "two": two})
    assert evaluation.figures["f"] == 0.5 and evaluation.figures["two_f"] == 0.25
    assert evaluation.figures["total_samples"] == 5.0 and evaluation.figures["one_total_samples"] == 9.0
    assert evaluation.samples[0].scores == {"f": 0.1, "two_f": 0.2} and evaluation.samples[1].scores == {"g": 1.0}


# ------------------------------------------------------------ questions


def test_ids_are_the_records_own_where_they_are_unique() -> None:
    def named(*own: object) -> Sequence[str]:
        return Questions("x", [{"id": key, "output": ""} if key else {"output": ""} for key in own]).ids

    assert named("a", 7) == ["a", "7"]
    assert named("a", None) == named("a", "a") == named("7", 7) == ["1", "2"]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("a/qa.jsonl", "qa"),
        ("qa.json.gz@3f2a", "qa"),
        ("qa.v2.jsonl", "qa.v2"),
        ("x@1/评估.jsonl", "评估"),
        ("era5", "era5"),
    ],
)
def test_the_name_of_a_set(data: str, name: str) -> None:
    assert set_name(data) == name


def test_two_sets_of_one_name_are_refused() -> None:
    check_names(["a/qa.jsonl", "a/other.jsonl"])
    for datasets in (["a/qa.jsonl", "b/qa.jsonl"], ["qa.jsonl", "qa.jsonl"]):
        with pytest.raises(UsageError, match="'qa'"):
            check_names(datasets)


def test_questions_are_read_with_their_digest(tmp_path: Path) -> None:
    file = tmp_path / "qa.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    questions = read_questions(file)
    assert questions.data == "qa.jsonl" and questions.digest.startswith("sha256:") and len(questions.records) == 5
    file.write_text('{"instruction": "q"}\n')
    with pytest.raises(DataError, match=r"qa\.jsonl:1: the record has no 'output'"):
        read_questions(file)


# ------------------------------------------------------------ rescoring


@pytest.mark.parametrize("kind", ["predictions", "samples", "document"])
def test_what_was_kept_can_be_scored_again(tmp_path: Path, kind: str) -> None:
    first = run(tmp_path, max_samples=3)
    file = first.samples_file.with_name(f"{kind}.jsonl")
    if kind == "document":
        file = tmp_path / "results.json"
        write_document(file, first)
    kept = read_kept(file)
    assert kept.model == "sha256:11"
    if kind == "predictions":
        assert kept.questions is None
        kept = kept.against(QUESTIONS)
    assert kept.questions is not None and list(kept.questions.ids) == ["1", "2", "3"]
    again = rescore(
        kept.questions, predictions=kept.predictions, evaluators={"exact": Exact()}, model_name=kept.model, file=file
    )
    assert again.figures == first.figures and again.metrics == first.metrics


def test_a_users_own_predictions_can_be_scored(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"id": 2, "output": "answer 2"}\n{"id": "1", "output": "?"}\n')
    kept = read_kept(file).against(QUESTIONS)
    assert kept.questions is not None
    scored = rescore(kept.questions, predictions=kept.predictions, evaluators={"e": Exact()}, model_name="", file=file)
    assert scored.figures == {"exact": 0.5, **measure(kept.predictions)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.jsonl", '{"output": "x"}\n', "an object with 'id' and 'output'"),
        ("p.jsonl", '{"id": "1", "output": "x", "tokens": "many"}\n', "not numbers"),
        ("p.json", "{}", "no list under 'results'"),
        ("p.json", "{", "not JSON"),
        ("p.jsonl", '{"kind": "predictions", "format": 1}\n', "there are no predictions"),
    ],
)
def test_what_is_no_predictions_file_is_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_kept(tmp_path / name)


# ------------------------------------------------------------ what people read


def test_the_summary_is_the_seeds_to_the_letter(tmp_path: Path) -> None:
    figures = {"bleu": 0.0857, "rougeL": 0.2234, "rouge2": 0.1421, "rouge1": 0.2845, "exact": 0.5}
    evaluation = run(tmp_path, evaluators={"all": Answers(Scores(figures, {}, "s"))})
    timed = {"avg_tokens_per_second": 21.976, "avg_generation_time": 9.1, "total_samples": 10.0}
    object.__setattr__(evaluation, "figures", {**figures, **timed})
    assert summary_text(evaluation) == (
        "===== EVALUATION SUMMARY =====\n"
        "rouge1: 0.2845\nrouge2: 0.1421\nrougeL: 0.2234\nbleu: 0.0857\n"
        "avg_tokens_per_second: 21.98\navg_generation_time: 9.10\ntotal_samples: 10\n"
        "exact: 0.5000\n\n"
        f"Detailed results saved to {evaluation.samples_file}"
    )


def test_the_block_of_a_question(tmp_path: Path) -> None:
    sample = run(tmp_path).samples[0]
    assert question_text(sample, number=1) == (
        "===== QUESTION 1 =====\nInstruction: question 1\n\nModel response:\nanswer 1\n\n"
        "Reference answer:\nanswer 1\n\nMetrics:\nexact: 1.0000"
    )
