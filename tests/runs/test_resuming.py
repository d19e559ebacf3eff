"""A run that is resumed by the real command: its attempts, its checkpoint, and the exit code of the last one alone."""

from __future__ import annotations

from typing import Any

SCRIPT = """
import prism

@prism.experiment
def train(run):
    saved = run.latest_checkpoint()
    if saved is not None:
        run.log_metrics({"resumed": float((saved / "step").read_text())}, step=2)
        return
    with run.checkpoint(step=1) as folder:
        (folder / "step").write_text("1")
    raise SystemExit(7)
"""


def test_a_resumed_run_goes_on_from_its_checkpoint_with_an_exit_code_of_its_own(project: Any) -> None:
    project.write("train.py", SCRIPT)
    first = project.prism("run", "train.py:train")
    assert first.code == 7, first.err
    second = project.prism("run", "train.py:train", "--resume", "auto")
    assert second.code == 0, second.err
    state = project.state()
    assert (state.status, state.attempts, state.metrics["resumed"]) == ("FINISHED", 2, 1.0)
    third = project.prism("run", "train.py:train", "--resume", state.run_id)
    assert (third.code, project.state().attempts) == (0, 3)
