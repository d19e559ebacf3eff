"""User code as it stands, run by the real command: scripts, functions, classes, their ends, and their secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

UNTRACKED = "foundation: {experiment_name: real}\nml: {enabled: false}\n"
DIED = ("killed by SIGKILL", "the process died without a word")  # as far as the kernel tells who is not its parent
LOG_ONE = "    run.log_metrics({'loss': 0.5}, step=1)\n"


def worker_pid(project: Any) -> int:
    """The pid of the process that does the run's work."""
    starts = [record for record in project.records("start") if record.data["role"] == "worker"]
    return int(starts[-1].data["process"]["pid"])


# ---------------------------------------------------------------- what can be run


def test_a_whole_script_sees_its_own_arguments_and_folder(project: Any) -> None:
    project.write("beside.py", "VALUE = 0.25\n")
    project.write(
        "train.py",
        """
        import json, pathlib, sys
        import prism
        from beside import VALUE

        def main():
            run = prism.start_run()
            run.log_metrics({"loss": VALUE}, step=3)
            seen = {"argv": sys.argv, "name": __name__, "file": __file__}
            pathlib.Path("seen.json").write_text(json.dumps(seen))
            run.finish()

        if __name__ == "__main__":
            main()
        """,
    )
    done = project.prism("run", "train.py", "--", "--epochs", "3", "--name=x y", "a=b")
    assert done.code == 0, done.err
    seen = json.loads((project.path / "seen.json").read_text())
    assert seen["argv"][1:] == ["--epochs", "3", "--name=x y", "a=b"]
    assert Path(seen["argv"][0]).name == "train.py"
    assert (seen["name"], seen["file"]) == ("__main__", str(project.path / "train.py"))
    state = project.state()
    assert (state.status, state.metrics, state.attempts) == ("FINISHED", {"loss": 0.25}, 1)
    assert f"run        {state.run_id}  FINISHED" in done.out and str(project.run().path) in done.err


def test_a_note_is_shown_with_the_run(project: Any) -> None:
    project.write("train.py", "print('working')\n")
    assert project.prism("run", "train.py", "--note", "twice as long").code == 0
    assert "description twice as long\n" in project.prism("runs", "show", project.run().run_id).out


def test_what_a_joined_run_cannot_be_given_any_more_is_said(project: Any) -> None:
    call = "prism.start_run('sais_foundation.yaml', name='mine', tags={'a': 1}, overrides={'ml.parameters.x': 2})"
    project.write("train.py", f"import prism\nrun = {call}\n" + LOG_ONE.strip())
    done = project.prism("run", "train.py")
    assert done.code == 0, done.err
    assert project.state().tags["a"] == "1"
    assert [line for line in project.state().warnings if line.endswith("without its name, overrides")]


def test_a_script_that_only_defines_an_experiment_has_it_called_once(project: Any) -> None:
    project.write(
        "train.py",
        """
        import pickle
        import prism

        class Model:
            pass

        def scale(by: int): ...
        assert scale.__annotations__ == {"by": int}  # Prism's own `from __future__` does not reach the script

        @prism.experiment
        def train(run):
            run.log_params({"copy": type(pickle.loads(pickle.dumps(Model()))).__name__})
            run.log_metrics({"calls": len(calls)})
            calls.append(1)

        calls = []
        """,
    )
    done = project.prism("run", "train.py")
    assert done.code == 0, done.err
    assert [record.data["metrics"] for record in project.records("metrics")] == [{"calls": 0.0}]
    assert project.state().params["copy"] == "Model"  # a script's classes can be pickled, as when Python runs it


def test_a_script_that_calls_its_experiment_itself_has_it_called_once(project: Any) -> None:
    project.write(
        "train.py",
        "import prism\n\n@prism.experiment\ndef train(run):\n" + LOG_ONE + "if __name__ == '__main__':\n    train()\n",
    )
    assert project.prism("run", "train.py").code == 0
    assert len(project.records("metrics")) == 1
    project.python("train.py")  # the same file without the command line: a run of its own
    assert len(project.runs()) == 2


@pytest.mark.parametrize(
    "source",
    [
        "def work(run):\n" + LOG_ONE,
        "import prism\n@prism.experiment\ndef work(run: prism.Run, scale=1):\n" + LOG_ONE,
        "import prism\ndef work():\n    run = prism.start_run()\n" + LOG_ONE,
        "class work:\n    def run(self, run):\n        run.log_metrics({'loss': 0.5}, step=1)\n",
        "class work:\n    def __init__(self, run):\n        self.it = run\n    def run(self):\n"
        "        self.it.log_metrics({'loss': 0.5}, step=1)\n",
    ],
    ids=["function", "experiment", "joins", "class", "class made with the run"],
)
def test_a_name_in_a_script(project: Any, source: str) -> None:
    project.write("train.py", source)
    done = project.prism("run", "train.py:work")
    assert done.code == 0, done.err
    assert (project.state().status, project.state().metrics) == ("FINISHED", {"loss": 0.5})


def test_a_name_in_a_package_of_the_project(project: Any) -> None:
    project.write("package/__init__.py", "")
    project.write("package/training.py", "from . import sizes\ndef go(run):\n    run.log_params({'n': sizes.N})\n")
    project.write("package/sizes.py", "N = 7\n")
    done = project.prism("run", "package.training:go")
    assert done.code == 0, done.err
    assert project.state().params == {"n": 7}


def test_a_class_that_is_a_task_goes_to_the_trainer(project: Any) -> None:
    project.configure(UNTRACKED + "trainer: tiny\nplugins: {local: [tiny.py]}\n")
    project.write(
        "tiny.py",
        """
        from prism.hookspecs import hookimpl
        from prism.providers import Provider

        class Tiny:
            def train(self, task, run):
                for step, batch in enumerate(task.batches("train"), 1):
                    run.log_metrics({"loss": task.loss(task.model(), batch)}, step=step)
                folder = run.scratch / "out"
                folder.mkdir()
                (folder / "weights.txt").write_text("2")
                return folder

        @hookimpl
        def prism_trainers():
            return [Provider("tiny", target="tiny:Tiny")]
        """,
    )
    project.write(
        "task.py",
        """
        class Task:
            def __init__(self, run): self.run = run
            def model(self): return 2
            def batches(self, split): return [1, 2, 3]
            def loss(self, model, batch): return model * batch
        """,
    )
    done = project.prism("run", "task.py:Task")
    assert done.code == 0, done.err
    assert project.state().metrics == {"loss": 6.0}
    assert (project.run().model / "weights.txt").read_text() == "2"


def test_a_process_that_the_script_starts_joins_the_run(project: Any) -> None:
    project.write("child.py", "import prism\nprism.start_run().log_metrics({'child': 1})\n")
    project.write(
        "train.py",
        "import subprocess, sys\ndef work(run):\n    subprocess.run([sys.executable, 'child.py'], check=True)\n",
    )
    assert project.prism("run", "train.py:work").code == 0
    assert project.state().metrics == {"child": 1.0} and len(project.runs()) == 1


def test_a_forked_process_logs_beside_its_parent(project: Any) -> None:
    project.write(
        "train.py",
        """
        import multiprocessing
        import prism

        def child(run):
            run.log_metrics({"child": 2})
            run.log_text("of the child", name="note.txt")

        @prism.experiment
        def train(run):
            run.log_text("before", name="note.txt")
            process = multiprocessing.get_context("fork").Process(target=child, args=(run,))
            process.start()
            run.log_text("of the parent", name="note.txt")
            run.log_metrics({"parent": 1})
            process.join()
            assert process.exitcode == 0
        """,
    )
    done = project.prism("run", "train.py")
    assert done.code == 0, done.err
    state = project.state()
    assert (state.status, state.metrics, state.damage) == ("FINISHED", {"parent": 1.0, "child": 2.0}, [])
    kept = [(project.run().path / record.data["stored"]).read_text() for record in project.records("file")]
    assert sorted(kept) == ["before", "of the child", "of the parent"]


# ---------------------------------------------------------------- plain scripts


def test_a_plain_script_that_just_ends_has_finished(project: Any) -> None:
    project.write("plain.py", "import prism\nrun = prism.start_run(name='mine', tags={'a': 1})\n" + LOG_ONE.strip())
    done = project.python("plain.py")
    assert done.code == 0 and project.run().run_id in done.err
    state = project.state()
    assert (state.status, state.name, state.tags, state.metrics) == ("FINISHED", "mine", {"a": "1"}, {"loss": 0.5})


@pytest.mark.parametrize(
    ("form", "ending", "code", "status"),
    [
        ("plain", "raise ValueError('wrong shape')", 1, "FAILED"),
        ("context", "raise ValueError('wrong shape')", 1, "FAILED"),
        ("plain", "import sys; sys.exit(3)", 3, "FAILED"),
        ("context", "import sys; sys.exit('no data')", 1, "FAILED"),
        ("plain", "import sys; sys.exit(0)", 0, "FINISHED"),
        ("plain", "raise KeyboardInterrupt", 130, "KILLED"),
        ("context", "run.finish('KILLED')", 0, "KILLED"),
    ],
)
def test_how_a_plain_script_ends(project: Any, form: str, ending: str, code: int, status: str) -> None:
    opening = "run = prism.start_run()\nif True:\n" if form == "plain" else "with prism.start_run() as run:\n"
    project.write("plain.py", f"import prism\n{opening}{LOG_ONE}    {ending}\n")
    done = project.python("plain.py")
    assert (done.code, project.state().status) == (code, status)
    assert project.state().metrics == {"loss": 0.5}
    if ending.startswith("raise ValueError"):
        assert "ValueError: wrong shape" in project.state().error
        assert "Traceback" in project.log() and "plain.py" in project.log()


# ---------------------------------------------------------------- ends under prism run


def test_a_failure_is_told_once_with_its_traceback_in_the_log(project: Any) -> None:
    project.write("train.py", "def work(run):\n" + LOG_ONE + "    raise ValueError('wrong shape')\n")
    done = project.prism("run", "train.py:work")
    state = project.state()
    assert (done.code, state.status) == (1, "FAILED")
    assert state.error == "ValueError: wrong shape" and state.metrics == {"loss": 0.5}
    assert done.err.count("ValueError: wrong shape") == 1
    assert 'train.py", line 3, in work' in project.log()
    shown = project.prism("runs", "logs", state.run_id)
    assert shown.code == 0 and shown.out.count("ValueError: wrong shape") == 1


def test_an_error_that_explains_itself_has_its_traceback_in_the_log(project: Any) -> None:
    project.write("train.py", "def work(run):\n    run.dataset('nowhere.jsonl')\n")
    done = project.prism("run", "train.py:work")
    assert done.code == 1 and "there is no dataset 'nowhere.jsonl'" in done.err and "Traceback" not in done.err
    assert 'train.py", line 2, in work' in project.log()
    debugged = project.prism("--debug", "run", "train.py:work")
    assert debugged.code == 1 and 'train.py", line 2, in work' in debugged.err


@pytest.mark.parametrize(
    ("ending", "code", "status"),
    [("sys.exit(3)", 3, "FAILED"), ("sys.exit('no data')", 1, "FAILED"), ("sys.exit()", 0, "FINISHED")],
)
def test_the_exit_code_of_a_script_is_kept(project: Any, ending: str, code: int, status: str) -> None:
    project.write("train.py", f"import sys, prism\nrun = prism.start_run()\n{LOG_ONE.strip()}\n{ending}\n")
    done = project.prism("run", "train.py")
    assert (done.code, project.state().status) == (code, status), done.err
    assert ("no data" in done.err) == (ending == "sys.exit('no data')")  # as Python itself says it
    assert project.state().metrics == {"loss": 0.5}


BLIND = """
import pathlib, time
def work(run):
    run.log_metrics({"loss": 0.5}, step=1)
    pathlib.Path("begun").touch()
    time.sleep(60)
"""
LOOKING = """
import pathlib, time
def work(run):
    for step in range(1, 6000):
        run.log_metrics({"loss": 1 / step}, step=step)
        if step == 20:
            pathlib.Path("begun").touch()
        if run.stopping:
            with run.checkpoint(step=step) as folder:
                (folder / "state.txt").write_text(str(step))
            ENDING
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("ending", "code", "status", "error"),
    [
        ("run.warn('unheard')", 0, "FINISHED", ""),
        ("raise ValueError('unheard')", 1, "FAILED", "ValueError: unheard"),
        ("raise Mute", 1, "FAILED", "Mute"),
    ],
)
def test_code_that_closes_its_streams_ends_as_it_ends(
    project: Any, ending: str, code: int, status: str, error: str
) -> None:
    project.configure(UNTRACKED)
    source = f"""
        import os

        class Mute(Exception):
            def __str__(self):
                raise RuntimeError("no words")

        def train(run):
            os.closerange(1, 64)
            run.log_metrics({{"loss": 1.0}}, step=1)
            {ending}
        """
    project.write("train.py", source)
    assert project.prism("run", "train.py:train").code == code
    state = project.state()
    assert (state.status, state.error, state.metrics) == (status, error, {"loss": 1.0})


@pytest.mark.parametrize(
    ("source", "number", "code"),
    [
        (BLIND, signal.SIGTERM, 143),
        (BLIND, signal.SIGINT, 130),
        (LOOKING.replace("ENDING", "return"), signal.SIGTERM, 143),
        (LOOKING.replace("ENDING", "run.stop()"), signal.SIGINT, 130),
        (LOOKING.replace("ENDING", "pass"), signal.SIGTERM, 143),
    ],
    ids=["blind, TERM", "blind, INT", "returns", "stops", "goes on"],
)
def test_a_signal_to_the_command_kills_the_run(project: Any, source: str, number: int, code: int) -> None:
    project.write("train.py", source)
    started = project.start_prism("run", "train.py:work")
    project.await_file("begun")
    started.signal(number)
    done = started.finish(within=20)
    state = project.state()
    assert (done.code, state.status) == (code, "KILLED"), done.err
    assert "Traceback" not in done.err
    steps = [checkpoint["step"] for checkpoint in state.checkpoints]
    assert len(steps) == (source != BLIND)
    assert not steps or len(project.records("metrics")) <= steps[0] + 1  # at most to where it asks again


def test_ctrl_c_reaches_a_whole_terminal_group_once(project: Any) -> None:
    project.write("train.py", LOOKING.replace("ENDING", "return"))
    started = project.start_prism("run", "train.py:work")
    project.await_file("begun")
    started.signal_group(signal.SIGINT)  # as a terminal sends it: to the command and to its worker
    assert started.finish(within=20).code == 130
    assert project.state().status == "KILLED" and len(project.state().checkpoints) == 1


def test_a_script_may_handle_ctrl_c_as_python_scripts_do(project: Any) -> None:
    project.write(
        "train.py",
        """
        import pathlib, time, prism
        run = prism.start_run()
        try:
            pathlib.Path("begun").touch()
            time.sleep(60)
        except KeyboardInterrupt:
            run.log_metrics({"stopped_early": 1})
        """,
    )
    started = project.start_prism("run", "train.py")
    project.await_file("begun")
    started.signal(signal.SIGINT)
    done = started.finish(within=20)
    assert (done.code, project.state().status) == (0, "FINISHED"), done.err
    assert project.state().metrics == {"stopped_early": 1.0}


def test_a_killed_worker_has_failed_within_two_seconds(project: Any) -> None:
    project.write("train.py", BLIND)
    started = project.start_prism("run", "train.py:work")
    project.await_file("begun")
    project.await_watcher()
    os.kill(worker_pid(project), signal.SIGKILL)
    killed = time.monotonic()
    project.until(lambda: [r for r in project.records("end") if r.data.get("of")], within=2, what="the watcher's word")
    assert project.await_status("FAILED", within=2).error in DIED
    assert time.monotonic() - killed < 2
    assert started.finish(within=20).code == 137
    assert project.state().metrics == {"loss": 0.5}


def test_everything_killed_at_once_has_failed_within_two_seconds(project: Any) -> None:
    project.write("train.py", BLIND)
    started = project.start_prism("run", "train.py:work")
    project.await_file("begun")
    project.await_watcher()
    started.signal_group(signal.SIGKILL)
    project.await_status("FAILED", within=2)
    project.until(lambda: [r for r in project.records("end") if r.data.get("of")], within=2, what="the watcher's word")
    assert json.loads(project.prism("runs", "list", "--json").out)[0]["status"] == "FAILED"


# ---------------------------------------------------------------- configuration of a run


def test_modules_of_the_project_do_not_reach_the_process_beside_the_run(project: Any) -> None:
    project.configure(UNTRACKED)
    for name in ("secrets", "attrs", "queue"):
        project.write(f"{name}.py", "raise RuntimeError('not meant')\n")
    project.write("code/train.py", "import prism\nwith prism.start_run() as run:\n    run.log_metrics({'loss': 1.0})\n")
    done = project.python("code/train.py")
    assert (done.code, project.state().status) == (0, "FINISHED"), done.err
    deadline = time.monotonic() + 30
    while not list(project.run().journal.glob("node-*.jsonl")):
        (log,) = project.run().logs.glob("node-*.log")
        assert log.read_text() == "" and time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_without_trackers_is_in_the_journal_only(project: Any) -> None:
    project.write("train.py", "def work(run):\n" + LOG_ONE)
    done = project.prism("run", "train.py:work")
    assert done.code == 0 and not (project.path / "mlflow.db").exists()
    listed = json.loads(project.prism("runs", "list", "--json").out)
    assert [(run["status"], run["pending"], run["experiment"]) for run in listed] == [("FINISHED", 0, "real")]
    shown = json.loads(project.prism("runs", "show", listed[0]["run_id"][:18], "--json").out)
    assert shown["trackers"] == {} and shown["metrics"] == {"loss": 0.5}
    assert "mlflow" not in done.out + done.err


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_dry_run_writes_nothing_and_says_what_would_start(project: Any) -> None:
    project.write("train.py", "raise SystemExit('imported')\n")
    before = tree(project.path)
    done = project.prism("run", "train.py", "ml.parameters.lr=3", "--dry-run", "--", "--flag")
    assert done.code == 0, done.err
    assert "prism.runs.worker" in done.out and "--flag" in done.out and "topology  local" in done.out
    plan = json.loads(project.prism("run", "train.py", "-n", "2", "--dry-run", "--json").out)
    assert plan["env"]["PRISM_PROCESSES"] == "2" and "torch.distributed.run" in plan["argv"]
    assert tree(project.path) == before and sorted(p.name for p in project.path.iterdir()) == sorted(before)


def test_overrides_reach_the_run_and_never_the_file(project: Any) -> None:
    text = "foundation: {experiment_name: real}\nml: {enabled: false, parameters: {lr: 0.1, nested: {depth: 2}}}\n"
    file = project.configure(text)
    project.write(
        "train.py",
        "def work(run):\n    run.log_metrics({'lr': run.params.lr,\n        'd': run.params['nested']['depth']})\n",
    )
    done = project.prism("run", "train.py:work", "ml.parameters.lr=2e-5", "--config", "ml.parameters.nested.depth=4")
    assert done.code == 0, done.err
    assert project.state().metrics == {"lr": 2e-5, "d": 4.0}
    assert project.state().params == {"lr": 2e-5, "nested.depth": 4}
    assert file.read_text() == text and "2e-05" in project.run().config.read_text()


def test_a_package_that_changes_values_of_the_run_changes_its_record_without_secrets(project: Any) -> None:
    project.configure("ml: {enabled: false, parameters: {api_key: 11111111, lr: 1, same: 3}}\n")
    project.write(
        "train.py",
        """
        from prism.project import open_project
        from prism.runs.start import hosted_project, reconfigure
        def work(run):
            values = ("ml.parameters.lr=2", "ml.parameters.api_key=77777777")
            reconfigure(open_project(hosted_project().config.path, overrides=values))
            print(run.params.lr, run.params.api_key == 77777777)
        """,
    )
    done = project.prism("run", "train.py:work")
    assert done.code == 0 and "2 True" in done.out, done.err
    assert [record.data["params"] for record in project.records("params")][1:] == [{"lr": 2}]
    assert project.state().params == {"api_key": "***", "lr": 2, "same": 3}
    assert "lr: 2" in project.run().config.read_text() and "77777777" not in project.run().config.read_text()


def test_configured_artifacts_are_kept_as_they_are_at_the_end(project: Any) -> None:
    project.configure(
        "foundation: {experiment_name: a}\n"
        "ml:\n  enabled: false\n"
        "  artifacts: ['out/*.csv', 'figures', '*.none', '**/deep.txt', '../outside.txt', '/etc/hostn*', '**.csv']\n"
    )
    project.write("../outside.txt", "outside\n")
    project.write("a/b/deep.txt", "deep\n")
    project.write(
        "train.py",
        """
        import pathlib
        def work(run):
            for name in ("out/a.csv", "out/b.csv", "out/c.txt", "figures/x/loss.svg"):
                path = pathlib.Path(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)
        """,
    )
    done = project.prism("run", "train.py:work")
    assert (done.code, project.state().status) == (0, "FINISHED"), done.err
    kept = {r.data["name"]: (project.run().path / r.data["stored"]).read_text() for r in project.records("file")}
    expected = {name: name for name in ("out/a.csv", "out/b.csv", "figures/x/loss.svg")}
    assert kept == {**expected, "a/b/deep.txt": "deep\n"}
    for pattern in ("*.none", "../outside.txt", "/etc/hostn*", "**.csv"):
        assert [line for line in done.err.splitlines() if "ml.artifacts" in line and pattern in line]


def test_no_secret_is_in_the_run_directory_or_in_what_prism_says(project: Any) -> None:
    secrets = ("tok-5e1f9a77", "pass-2b44c0de", "env-91c7aa03", "user-7d00f1ab", "over-6c1d22ee")
    project.configure(
        f"""
        foundation: {{experiment_name: hush, experiment_description: "the key is ${{SOME_API_KEY}}"}}
        unified_data_access: {{token: {secrets[0]}}}
        ml:
          tracking_uri: http://{secrets[3]}:x{secrets[3]}@127.0.0.1:9/
          security: {{enabled: true, username: someone, password: {secrets[1]}}}
          parameters: {{hub: "${{SOME_API_KEY}}", plain: 1}}
          enabled: false
        """
    )
    project.write(
        "train.py",
        """
        import sys
        from prism.protocols import DatasetVersion
        def work(run):
            token = run.config.unified_data_access.token
            print("the token is", token, file=open("/dev/null", "w"))
            run.log_params({"again": run.params.hub, token: 1})
            run.set_tags({"hub": run.params.hub})
            run.log_text(f"token={token}", name="notes.txt")
            run.warn(f"server said {token}")
            run.say("mine", {"asked": [token]})
            run.record_dataset(DatasetVersion("far", "1", f"http://me:{token}@host/far", "sha256:0", ()), use="train")
            sys.stderr.write(f"leaked {token}\\n")
            raise ValueError(f"401 for {token}")
        """,
    )
    for words in ("init -q", "add -A", "-c user.name=n -c user.email=n@x commit -q -m all"):
        subprocess.run(["git", *words.split()], cwd=project.path, check=True, timeout=60)
    written = (project.path / "sais_foundation.yaml").read_text(encoding="utf-8")
    project.configure(f"# not committed yet\n{written}")
    arguments = ("run", "train.py:work", "--tag", f"k={secrets[2]}", "--note", f"n {secrets[2]}", "--name", secrets[2])
    override = f"ml.security.password={secrets[4]}"
    environ = {"SOME_API_KEY": secrets[2]}
    done = project.prism(*arguments, override, **environ)
    assert (done.code, project.state().status) == (1, "FAILED"), done.err
    assert project.state().params["plain"] == 1 and "401 for ***" in project.state().error
    shown = project.prism("runs", "show", project.run().run_id).out
    logs = project.prism("runs", "logs", project.run().run_id).out
    assert "leaked ***" in logs
    said = done.out + done.err.replace(f"leaked {secrets[0]}", "")  # what the script itself prints is its own
    dry = project.prism(*arguments, override, "--dry-run", **environ)
    dry_json = project.prism(*arguments, override, "--dry-run", "--json", **environ)
    assert dry.code == dry_json.code == 0
    kept = {name: content.decode(errors="replace") for name, content in tree(project.run().path).items()}
    places = {**kept, "said": said, "show": shown, "logs": logs, "dry": dry.out, "dry json": dry_json.out}
    assert {(place, secret) for place, text in places.items() for secret in secrets if secret in text} == set()
