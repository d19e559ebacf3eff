"""The frame of the `prism` command: its global options, and what each failure becomes on stderr and as exit code."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from prism.cli.commands import LazyGroup
from prism.cli.failures import exit_code_of, say_error, without_credentials
from prism.cli.output import talk
from prism.cli.session import Session
from prism.version import VERSION


def _say_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"prism {VERSION}")
        ctx.exit()


class _Frame(LazyGroup):
    def invoke(self, ctx: click.Context) -> object:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
            return code
        except BrokenPipeError as error:  # here, because click makes exit code 1 of it
            return _after_broken_pipe(error)


@click.group(cls=_Frame, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--project",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Look for the project here and above, instead of from the current folder.",
)
@click.option("--no-plugin", metavar="NAME", multiple=True, help="Switch a plugin off (may be repeated).")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version, help="Say the version."
)
@click.pass_context
def cli(ctx: click.Context, *, project: Path, no_plugin: tuple[str, ...], debug: bool) -> None:
    """From one YAML file, or a training script as it stands, to a run that is tracked, evaluated and registered."""
    ctx.obj = Session(start=project, off=no_plugin)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show must not end the showing
            stream.reconfigure(errors="backslashreplace")
    debug = _wants_debug(arguments)
    show = _show_traceback if debug else _show_nothing
    try:
        return exit_code_of(lambda: cli.main(arguments, prog_name="prism", standalone_mode=False), before=show)
    except click.Abort as error:
        interrupted = isinstance(error.__cause__ or error.__context__, KeyboardInterrupt)
        return 128 + signal.SIGINT if interrupted else 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:  # the outermost frame: a person gets a sentence, --debug the traceback
        show(error)
        say_error(f"{type(error).__name__}: {error}")
        if not debug:
            talk("  this is a fault of Prism or of a plugin; prism --debug … shows where")
        return 1


def _show_traceback(error: Exception) -> None:
    import traceback

    talk(without_credentials("".join(traceback.format_exception(error))).rstrip())


def _show_nothing(error: Exception) -> None:
    """Without --debug a person gets a sentence."""


def _wants_debug(arguments: Sequence[str]) -> bool:
    """Whether `--debug` stands among the global options, also where reading them failed."""
    options = iter(arguments)
    for argument in options:
        if argument == "--debug":
            return True
        if argument in ("--project", "--no-plugin"):
            next(options, None)
        elif not argument.startswith("-"):
            return False
    return False


def _after_broken_pipe(error: BrokenPipeError) -> int:
    """End quietly, as SIGPIPE would, when the reader of our output has gone (`prism runs list | head -1`)."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        raise error  # some other pipe: a failure like any other
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE
