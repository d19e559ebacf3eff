"""`prism run`: one YAML file, or an existing script, becomes a run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prism.cli.output import data, document, talk
from prism.cli.session import Session
from prism.errors import UsageError

if TYPE_CHECKING:
    from prism.journal.directory import RunDirectory
    from prism.journal.state import RunState
    from prism.project import Project
    from prism.runs.execute import RunRequest


class _ScriptCommand(click.Command):
    """A command whose words after `--` belong to the user's script, untouched."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta["prism.script_arguments"] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


@click.command(cls=_ScriptCommand)
@click.argument("words", nargs=-1, metavar="[CONFIG.yaml | SCRIPT.py[:NAME] | MODULE:NAME] [KEY=VALUE ...]")
@click.option("--file", type=click.Path(path_type=Path), help="The configuration, when a script is run.")
@click.option(
    "--config", "settings", metavar="KEY=VALUE", multiple=True, help="Set a value for this run (may be repeated)."
)
@click.option("--name", default="", help="A name for people.")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="Tag the run (may be repeated).")
@click.option("--note", default="", help="A note, shown with the run.")
@click.option("-n", "--processes", type=click.IntRange(min=1), help="How many processes share the work.")
@click.option("--launcher", metavar="NAME", help="The launcher, instead of the configuration's.")
@click.option(
    "--resume",
    metavar="RUN|auto",
    help="Continue a run; auto: the newest unfinished one with a checkpoint, else a new one.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be started, and start nothing.")
@click.option("--json", "form", flag_value="json", default="text", help="With --dry-run: print one JSON document.")
@click.pass_context
def run(ctx: click.Context, /, words: Sequence[str], **options: Any) -> int:
    """Train, evaluate and register.

    Without an argument it takes sais_foundation.yaml of this folder or of one above. KEY=VALUE
    changes a value of the configuration for this run only. Words after -- go to the script.
    """
    from prism.launch.membership import membership
    from prism.runs.execute import execute

    session: Session = ctx.obj
    if options["form"] == "json" and not options["dry_run"]:
        raise UsageError("--json goes with --dry-run", hint="prism runs show RUN --json describes a run")
    target, file, overrides = _sort_words(words, options["file"])
    overrides += options["settings"]
    if options["launcher"]:
        overrides += (f"launcher.name={options['launcher']}",)
    project = session.open_project(file or _beside(target, session), overrides=overrides)
    for warning in project.config.warnings:
        talk(f"warning: {warning}")
    request = _request(ctx, target, project, options)
    if options["dry_run"]:
        _show_plan(request, project, form=options["form"])
        return 0
    outcome = execute(request, project, begun=lambda directory: _tell_begin(directory, project))
    if membership(os.environ).rank == 0:
        _tell_end(outcome.state)
    return outcome.exit_code


def _sort_words(words: Sequence[str], file: Path | None) -> tuple[str, Path | None, tuple[str, ...]]:
    """(target, configuration file, overrides) of the positional words."""
    overrides = tuple(word for word in words if _is_override(word))
    targets = [word for word in words if not _is_override(word)]
    if len(targets) > 1:
        raise UsageError(
            f"there are two things to run: {' and '.join(targets)}", hint="words for the script go after --"
        )
    target = targets[0] if targets else ""
    if not target.endswith((".yaml", ".yml")):
        return target, file, overrides
    if file is not None:
        raise UsageError(f"there are two configurations: {target} and {file}")
    if not Path(target).is_file():
        raise UsageError(f"there is no configuration {target}", hint="prism init writes one")
    return "", Path(target), overrides


def _is_override(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and "/" not in key and not key.endswith((".py", ".yaml"))


def _beside(target: str, session: Session) -> Path | None:
    """The configuration of the folder a script lies in, for a script that is run from elsewhere."""
    from prism.config import find_config

    script = Path(target.partition(":")[0])
    if session.config_file() is None and script.suffix == ".py":
        return find_config(script.absolute().parent)
    return session.config_file()


def _request(ctx: click.Context, target: str, project: Project, options: dict[str, Any]) -> RunRequest:
    from prism.runs.execute import RunRequest
    from prism.runs.resuming import run_to_resume
    from prism.runs.usercode import parse_target

    if target:
        parse_target(target)
    malformed = [tag for tag in options["tags"] if "=" not in tag]
    if malformed:
        raise UsageError(f"--tag {malformed[0]!r} is not of the form K=V")
    resumed = options["resume"]
    return RunRequest(
        target=target,
        arguments=ctx.meta["prism.script_arguments"],
        name=options["name"],
        note=options["note"],
        tags=dict(tag.split("=", 1) for tag in options["tags"]),
        processes=options["processes"],
        resume=run_to_resume(project.config, resumed) if resumed else None,
        off=ctx.obj.off,
        debug=ctx.find_root().params["debug"],
    )


def _show_plan(request: RunRequest, project: Project, *, form: str) -> None:
    from prism.journal.directory import RunDirectory, runs_folder
    from prism.runs.execute import describe_topology, plan_run
    from prism.runs.foreign import Place

    place = Place(request.resume or RunDirectory(runs_folder(project.config.project) / "RUN_ID"))
    plan, topology = plan_run(request, project, place=place), describe_topology(request, project)
    argv = [project.config.redact(word) for word in plan.argv]
    env = {name: project.config.redact(value) for name, value in plan.env.items()}
    if form == "json":
        document({"topology": topology.source, "reason": topology.reason, "argv": argv, "env": env})
        return
    data(f"topology  {topology.source}: {topology.reason}")
    data(f"argv      {shlex.join(argv)}")
    for name, value in sorted(env.items()):
        data(f"env       {name}={shlex.quote(value)}")


def _tell_begin(directory: RunDirectory, project: Project) -> None:
    talk(f"run {directory.run_id} of {project.config.foundation.experiment_name} in {directory.path}")
    for tracker in project.config.trackers:
        address = project.config.ml.tracking_uri or "sqlite:///mlflow.db in the project"
        talk(f"{tracker.name} at {project.config.redact(address)}")


def _tell_end(state: RunState) -> None:
    data(f"run        {state.run_id}  {state.status}" + (f"  ({state.error})" if state.error else ""))
    data(f"directory  {state.directory.path}")
    if state.model and state.model["name"]:
        model = state.model
        known = f"{model['name']} {model['version']}".strip()
        data(f"model      {known}  {model['state']}" + (f": {model['reason']}" if model["reason"] else ""))
    for name, tracker in state.trackers.items():
        where = tracker.url or tracker.run_id or "not reached yet"
        data(f"{name:<10} {where}")
        if tracker.pending:
            reason = f" ({tracker.problem})" if tracker.problem else ""
            data(f"pending    {tracker.pending} records{reason}, kept here; prism sync {state.run_id} delivers them")
