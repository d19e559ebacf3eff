"""What people read of an evaluation: the summary, and the block of a single question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prism.evaluation.results import Evaluation, Sample
from prism.evaluation.scoring import MEASURED

_SCORES = ("rouge1", "rouge2", "rougeL", "bleu")
_TRUNCATED = 1000


def summary_text(evaluation: Evaluation, *, closing: str = "Detailed results saved to {}") -> str:
    """The figures in the seed's order, those of further evaluators after them, and where the samples lie."""
    lines = ["===== EVALUATION SUMMARY =====", *figure_lines(evaluation.figures)]
    return "\n".join([*lines, "", closing.format(evaluation.samples_file)])


def figure_lines(figures: Mapping[str, float]) -> list[str]:
    """`name: value` for each figure: scores with four decimals, rates and seconds with two, counts whole."""
    first = [name for name in (*_SCORES, *MEASURED) if name in figures]
    further = [name for name in figures if name not in first]
    return [f"{name}: {_shown(name, figures[name])}" for name in (*first, *further)]


def questions_text(samples: Sequence[Sample]) -> str:
    """The blocks of all questions, one after the other."""
    return "\n\n\n".join(question_text(sample, number=number) for number, sample in enumerate(samples, start=1)) + "\n"


def question_text(sample: Sample, *, number: int) -> str:
    """A question, the model's answer (cut where it is very long), the right one, and its scores."""
    output = sample.prediction.output
    answer = output if isinstance(output, str) else str(output)
    lines = [f"===== QUESTION {number} =====", f"Instruction: {sample.record.get('instruction', '')}"]
    if sample.record.get("input"):
        lines.append(f"Input: {sample.record['input']}")
    lines += ["", "Model response:", answer[:_TRUNCATED]]
    if len(answer) > _TRUNCATED:
        lines.append("[truncated]")
    lines += ["", "Reference answer:", str(sample.record.get("output", "")), "", "Metrics:"]
    return "\n".join([*lines, *figure_lines(sample.scores)])


def _shown(name: str, value: float) -> str:
    if name == "total_samples":
        return str(int(value))
    return f"{value:.2f}" if name in MEASURED else f"{value:.4f}"
