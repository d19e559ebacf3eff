"""What the manager does as a callback of Transformers' `Trainer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prism import Run
from sais_prism.frameworks.checkpoints import note_checkpoint
from sais_prism.hints import hint

_NUMBERS = (int, float)


def log_figures(run: Run, *, args: Any, state: Any, logs: Any) -> None:
    """What the trainer reports, at its global step, unless MLflow's own callback logs the same into the same run."""
    if logs and state.is_world_process_zero and not _mlflow_reports(run, args):
        figures = {name: value for name, value in logs.items() if isinstance(value, _NUMBERS)}
        run.log_metrics(figures, step=state.global_step)


def record_checkpoint(run: Run, *, args: Any, state: Any) -> None:
    """Record the checkpoint that the trainer has just written, by its digest."""
    folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
    if state.is_world_process_zero and folder.is_dir():
        note_checkpoint(run, folder, step=state.global_step)


def look_at_labels(train_dataloader: Any) -> None:
    """Say, once, when the collator puts the inputs in the place of the answers that the dataset has as labels."""
    collate = getattr(train_dataloader, "collate_fn", None)
    collator = getattr(collate, "data_collator", collate)  # Trainer wraps it to drop columns
    if type(collator).__name__ != "DataCollatorForLanguageModeling" or getattr(collator, "mlm", True):
        return
    try:
        first = train_dataloader.dataset[0]
    except Exception:  # a dataset of the user's own that cannot be indexed: then nothing is known
        return
    labels = first.get("labels") if hasattr(first, "get") else None
    if labels is not None and list(labels) != list(first.get("input_ids", labels)):
        hint(
            "this trains on the prompts alone: DataCollatorForLanguageModeling(mlm=False) takes the input ids as labels"
            " and drops the dataset's own `labels`, the answers. To train on the answers, put prompt and answer in one"
            " sequence with -100 as the prompt's labels and use DataCollatorForSeq2Seq, or `prism run` with"
            " `trainer: accelerate`, which does so"
        )


def _mlflow_reports(run: Run, args: Any) -> bool:
    """Whether MLflow's calls go to the run, which is so where it is a tracker, and Transformers makes them."""
    return "mlflow" in args.report_to and any(tracker.name == "mlflow" for tracker in run.config.trackers)
