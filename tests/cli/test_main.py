"""The frame of the command line: help without imports, exit codes, plugin commands, quiet pipes, completion."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from prism.cli.main import main

Install = Callable[..., Path]
PRISM = (sys.executable, "-c", "import sys; from prism.cli.main import main; sys.exit(main())")


def start(site: Path | None, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([*([str(site)] if site else []), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [*PRISM, *arguments],
        env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def prism(site: Path | None, *arguments: str, **environ: str) -> tuple[int, str, str]:
    process = start(site, *arguments, **environ)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_help_lists_every_command_and_imports_no_plugin(install: Install) -> None:
    site = install("acme-tools", version="4.2", group="prism.commands", points="polish = acme_polish")
    (site / "acme_polish.py").write_text("raise SystemExit('imported')")
    code, out, err = prism(site, "--help")
    assert (code, err) == (0, "")
    for name in ("run", "evaluate", "runs", "models", "plugins", "config", "sync", "init", "doctor"):
        assert f"\n  {name} " in out
    assert "polish" in out and "from acme-tools 4.2" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "prism 0.2.0\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plugin"], "Did you mean 'plugins'?"),
        (["plugins", "lits"], "list"),
        (["--projekt", "x"], "--project"),
        (["--project", "no-such-folder", "plugins", "list"], "does not exist"),
        (["qqqqqq"], "no such command 'qqqqqq'"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_suggestion(
    arguments: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert told in captured.err and captured.out == ""


COMMANDS = """
import sys
import click
from prism.errors import EnvironmentUnfit, GateRefused, Stopped, Unreachable, WorkFailed

@click.command()
@click.option("--name", default="you")
def hello(name):
    click.echo(f"hello {name}")

def echo(argv):
    print(argv)
    return 7

def fail(argv):
    raise {"work": WorkFailed, "gate": GateRefused, "env": EnvironmentUnfit, "server": Unreachable}[argv[0]](
        "it went wrong at https://me:hun@ter2@host/x", hint="do this")

def crash(argv):
    raise RuntimeError("surprise")

def interrupt(argv):
    raise KeyboardInterrupt

def stopped(argv):
    raise Stopped(15)

def leave(argv):
    sys.exit(5)

def text(argv):
    return "done"

def pour(argv):
    for number in range(100_000):
        print("line", number)

def sleep(argv):
    import time
    print("asleep", flush=True)
    time.sleep(50)

number = 5
"""
NAMES = ("hello", "echo", "fail", "crash", "interrupt", "stopped", "leave", "text", "pour", "sleep", "number")


@pytest.fixture
def site(install: Install) -> Path:
    """A distribution with a command of each kind."""
    points = "\n".join(f"{name} = acme_commands:{name}" for name in NAMES)
    points += "\nabsent = acme_absent:run\ndoctor = acme_commands:crash"
    return install("acme-commands", version="2.0", group="prism.commands", points=points, acme_commands=COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["hello", "--name", "Ada"], 0, "hello Ada\n", ""),
        (["echo", "a", "--help", "--", "-x"], 7, "['a', '--help', '--', '-x']\n", ""),
        (["fail", "work"], 1, "", "error: it went wrong at https://***@host/x\n  hint: do this\n"),
        (["fail", "gate"], 3, "", "error: it went wrong at https://***@host/x\n  hint: do this\n"),
        (["fail", "env"], 4, "", "error: it went wrong at https://***@host/x\n  hint: do this\n"),
        (["fail", "server"], 4, "", "error: it went wrong at https://***@host/x\n  hint: do this\n"),
        (["interrupt"], 130, "", ""),
        (["stopped"], 143, "", ""),
        (["leave"], 5, "", ""),
    ],
)
def test_a_command_of_a_plugin_keeps_its_arguments_and_codes(
    site: Path, arguments: Sequence[str], code: int, out: str, err: str
) -> None:
    found = prism(site, *arguments)
    assert (found[0], found[1], found[2].strip("\n")) == (code, out, err.strip("\n"))


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("absent", "'absent' of acme-commands 2.0 cannot load: ModuleNotFoundError"),
        ("number", "neither a click.Command nor callable"),
        ("text", "answered 'done', not an exit code"),
    ],
)
def test_a_broken_command_is_exit_4_and_names_its_distribution(site: Path, command: str, told: str) -> None:
    code, _, err = prism(site, command)
    assert code == 4 and told in err and "Traceback" not in err


def test_what_cannot_be_shown_is_shown_escaped(install: Install) -> None:
    site = install("acme-tools", version="4.2", group="prism.commands", points="say = acme_say:say")
    (site / "acme_say.py").write_text("def say(argv):\n    print('caf\\xe9 \\udce9')\n    return 0\n")
    code, out, err = prism(site, "say", PYTHONIOENCODING="ascii")
    assert (code, err, out) == (0, "", "caf\\xe9 \\udce9\n")


def test_a_crash_is_one_sentence_and_the_traceback_only_with_debug(site: Path) -> None:
    code, _, err = prism(site, "crash")
    assert code == 1 and "error: RuntimeError: surprise" in err and "Traceback" not in err
    code, _, err = prism(site, "--debug", "crash")
    assert code == 1 and "Traceback" in err and "acme_commands.py" in err
    assert "ter2" not in prism(site, "--debug", "fail", "work")[2]


def test_no_plugin_can_take_the_name_of_a_built_in(site: Path) -> None:
    assert "surprise" not in prism(site, "doctor", "--help")[2]


def test_two_distributions_with_one_command_are_both_named(install: Install) -> None:
    first = install("acme-one", group="prism.commands", points="twice = json:dumps")
    second = install("acme-two", group="prism.commands", points="twice = json:dumps")
    code, _, err = prism(None, "twice", PYTHONPATH=f"{first}{os.pathsep}{second}")
    assert code == 4 and "acme-one 1.0" in err and "acme-two 1.0" in err


def test_a_reader_that_leaves_is_no_error(site: Path) -> None:
    with start(site, "pour") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 128 + signal.SIGPIPE


def test_ctrl_c_is_exit_130_without_a_traceback(site: Path) -> None:
    process = start(site, "sleep")
    assert process.stdout is not None
    assert process.stdout.readline() == "asleep\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err


def test_completion_knows_commands_without_importing_them(site: Path) -> None:
    words = {"_PRISM_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    assert prism(site, COMP_WORDS="prism pl", **words)[1] == "plain,plugins\n"
    assert prism(site, COMP_WORDS="prism abs", **words)[1] == "plain,absent\n"
    words["COMP_CWORD"] = "2"
    assert prism(site, COMP_WORDS="prism plugins l", **words)[1] == "plain,list\n"
    assert prism(site, COMP_WORDS="prism absent l", **words)[0] == 0
