"""Evaluating a model on one dataset: predict, score, keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from prism.errors import EnvironmentUnfit
from prism.evaluation.pairing import pair
from prism.evaluation.predictions import Progress, origin_of, predict
from prism.evaluation.questions import Questions
from prism.evaluation.results import Evaluation, Sample, write_file, write_samples, write_scores
from prism.evaluation.scoring import Scoring, score_all
from prism.evaluation.summary import questions_text
from prism.protocols import Evaluator, Prediction, Predictor


def evaluate_set(
    questions: Questions,
    *,
    model: Path,
    predictor: Predictor,
    evaluators: Mapping[str, Evaluator],
    output: Path,
    model_name: str = "",
    max_samples: int | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Let the model in the folder `model` answer the questions, score its answers, keep both.

    The files are `predictions.jsonl`, `samples.jsonl`, `questions.txt` and `scores.json` in a folder
    under `output` that is named after the set, with a number where an earlier evaluation is complete
    or of something else. One that was killed goes on where it stood, when `model_name` (with a digest;
    default: the path), the data's digest and `settings` (JSON values: the predictor and its options) are the same.
    Raises `WorkFailed`, `DataError`, `EnvironmentUnfit`.
    """
    asked = questions.first(max_samples)
    origin = {
        "data": asked.data,
        "digest": asked.digest,
        "model": model_name or str(model),
        "settings": json.loads(json.dumps(settings or {}, default=str)),
    }
    folder = _open_folder(output, asked.name, origin=origin)
    predictions = predict(
        asked.examples(),
        model=model,
        predictor=predictor,
        file=folder / "predictions.jsonl",
        origin=origin,
        progress=progress,
    )
    return conclude(
        asked, predictions=predictions, evaluators=evaluators, model_name=model_name or str(model), folder=folder
    )


def conclude(
    questions: Questions,
    *,
    predictions: Sequence[Prediction],
    evaluators: Mapping[str, Evaluator],
    model_name: str,
    folder: Path,
) -> Evaluation:
    """Score predictions of these questions; keep `samples.jsonl`, `questions.txt` for people, last `scores.json`."""
    evaluation = rescore(
        questions, predictions=predictions, evaluators=evaluators, model_name=model_name, file=folder / "samples.jsonl"
    )
    write_samples(evaluation.samples_file, evaluation.samples)
    write_file(folder / "questions.txt", questions_text(evaluation.samples))
    write_scores(folder / "scores.json", evaluation)
    return evaluation


def rescore(
    questions: Questions,
    *,
    predictions: Sequence[Prediction],
    evaluators: Mapping[str, Evaluator],
    model_name: str,
    file: Path,
) -> Evaluation:
    """Score predictions of these questions; nothing is written, `file` is where the samples lie or will lie."""
    pair(predictions, questions.references())
    scoring = score_all(evaluators, predictions=predictions, references=questions.references())
    return Evaluation(
        data=questions.data,
        name=questions.name,
        digest=questions.digest,
        model=model_name,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        figures={**scoring.figures, **measure(predictions)},
        signatures=scoring.signatures,
        samples=_samples(questions, predictions, scoring),
        samples_file=file,
    )


def measure(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Tokens per second over all answers, mean seconds an answer, and how many; 0 where nothing was timed."""
    tokens = sum(prediction.tokens for prediction in predictions)
    seconds = sum(prediction.seconds for prediction in predictions)
    return {
        "avg_tokens_per_second": tokens / seconds if seconds else 0.0,
        "avg_generation_time": seconds / len(predictions) if predictions else 0.0,
        "total_samples": float(len(predictions)),
    }


def _samples(questions: Questions, predictions: Sequence[Prediction], scoring: Scoring) -> list[Sample]:
    answers = {prediction.id: prediction for prediction in predictions}
    return [
        Sample(example.id, example.record, answers[example.id], scoring.samples[example.id])
        for example in questions.examples()
    ]


def _open_folder(output: Path, name: str, *, origin: Mapping[str, Any]) -> Path:
    """The folder of the evaluation to go on with, else a new one; nothing that is complete is written to again."""
    for number in count(1):
        folder = output / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            unfinished = not (folder / "scores.json").exists()
            if unfinished and origin_of(folder / "predictions.jsonl") in (None, origin):
                return folder
        except OSError as error:
            raise EnvironmentUnfit(
                f"cannot make {folder}: {error.strerror or error}", hint="make room first"
            ) from error
        else:
            return folder
    raise AssertionError("unreachable")
