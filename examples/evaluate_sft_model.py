"""Evaluate a fine-tuned model: its answers beside the right ones, ROUGE, BLEU and speed, and one file of results."""

import argparse
import sys
from pathlib import Path

from prism.cli.failures import exit_code_of
from prism.evaluation.summary import questions_text, summary_text
from prism.runs.sft_evaluation import evaluate_sft_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model_path", "--model-path", required=True, help="the model's folder, or a run, NAME@VERSION …"
    )
    parser.add_argument("--evaluation_file", "--evaluation-file", required=True, type=Path, help="a file of records")
    parser.add_argument("--max_samples", "--max-samples", type=int, metavar="N", help="at most so many samples")
    parser.add_argument(
        "--max_new_tokens",
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="the most tokens of an answer (default: 200)",
    )
    parser.add_argument("--output_file", "--output-file", type=Path, metavar="PATH", help="a new file for the results")
    options = parser.parse_args()

    evaluation = evaluate_sft_model(
        options.model_path,
        file=options.evaluation_file,
        max_samples=options.max_samples,
        max_new_tokens=options.max_new_tokens,
        output_file=options.output_file,
    )
    print(questions_text(evaluation.samples))
    print(summary_text(evaluation))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
