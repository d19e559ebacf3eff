"""A run that is resumed by the real command: its attempts, its checkpoint, and the exit code of the last one alone."""

from __future__ import annotations

import time
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


def test_of_several_that_resume_a_run_at_once_one_does(project: Any) -> None:
    source = """
        import time
        def train(run):
            run.log_metrics({"attempt": float(run.attempt)}, step=run.attempt)
            while run.attempt > 1 and not (run.project / "go").exists():
                time.sleep(0.02)
            if run.attempt == 1:
                raise SystemExit(7)
        """
    project.write("train.py", source)
    assert project.prism("run", "train.py:train").code == 7
    run_id = project.run().run_id
    resuming = [project.start_prism("run", "train.py:train", "--resume", run_id) for _ in range(4)]
    deadline = time.monotonic() + 60
    while sum(one.process.poll() is not None for one in resuming) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    project.write("go", "")
    done = [one.finish() for one in resuming]
    assert sorted(one.code for one in done) == [0, 2, 2, 2], done
    assert all("resumes the run" in one.err or "still running" in one.err for one in done if one.code == 2)
    state = project.state()
    assert (state.status, state.attempts, state.metrics) == ("FINISHED", 2, {"attempt": 2.0})
    assert [path.stem for path in project.run().journal.glob("a2-*-p*")] == []
