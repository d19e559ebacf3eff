"""`prism config`: whether the configuration is right, what it resolves to and why, and its JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import click

from prism.cli.output import data, document, talk
from prism.cli.session import Session, pass_session
from prism.config import Configuration, ConfigurationError, Problem, locate_config

_JSON = click.option("--json", "form", flag_value="json", default="text", help="Print one JSON document.")
_FILE = click.argument("file", required=False, type=click.Path(path_type=Path))


@click.group()
def config() -> None:
    """Check and show the configuration, and print its schema."""


@config.command()
@_FILE
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@_JSON
@pass_session
@click.pass_context
def check(ctx: click.Context, session: Session, *, file: Path | None, overrides: tuple[str, ...], form: str) -> None:
    """Say everything that is wrong with FILE.

    By default with the project's configuration; exit code 1 if anything is.
    """
    file, overrides = _split(file, overrides)
    path = locate_config(file, start=session.start)
    warnings: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    try:
        warnings = _load(session, path, overrides=overrides).warnings
    except ConfigurationError as error:
        problems = error.problems
    if form == "json":
        document({"ok": not problems, "problems": _as_json(problems), "warnings": _as_json(warnings)})
    else:
        _say(path, problems, warnings)
    if problems:
        ctx.exit(1)


@config.command()
@_FILE
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--origin", "wanted", flag_value="origin", default="values", help="Say where each value comes from.")
@_JSON
@pass_session
def show(session: Session, *, file: Path | None, overrides: tuple[str, ...], wanted: str, form: str) -> None:
    """Print the configuration as resolved.

    With all its layers and defaults, secrets masked.
    """
    file, overrides = _split(file, overrides)
    found = _load(session, locate_config(file, start=session.start), overrides=overrides)
    if wanted == "origin":
        _show_origins(found, form=form)
    elif form == "json":
        document(found.plain())
    else:
        data(found.dump().rstrip())
    _talk_of(found.warnings)


@config.command()
@pass_session
def schema(session: Session) -> None:
    """Print the JSON Schema (draft-07).

    Of the core and of every plugin that is here.
    """
    from prism.config.schema import json_schema

    document(json_schema(session.option_types()))


def _split(file: Path | None, overrides: tuple[str, ...]) -> tuple[Path | None, tuple[str, ...]]:
    # `prism config show ml.enabled=false`: the first word may be an override already.
    if file is not None and "=" in str(file) and not file.exists():
        return None, (str(file), *overrides)
    return file, overrides


def _load(session: Session, path: Path, *, overrides: tuple[str, ...]) -> Configuration:
    return session.load_project(path, overrides=overrides).config


def _show_origins(found: Configuration, *, form: str) -> None:
    values = {key: value for key, value in found.shown().items() if not isinstance(value, dict | list) or not value}
    origins = {key: found.origin(key) for key in values}
    if form == "json":
        document([{"key": key, "value": values[key], "origin": attrs.asdict(origins[key])} for key in values])
        return
    lines = [f"{key} = {_shown(value)}" for key, value in values.items()]
    width = min(max(map(len, lines)), 72)
    for line, origin in zip(lines, origins.values(), strict=True):
        data(f"{line:<{width}}  # {origin}")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _say(path: Path, problems: tuple[Problem, ...], warnings: tuple[Problem, ...]) -> None:
    for problem in problems:
        data(str(problem))
    _talk_of(warnings)
    if problems:
        talk(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
    else:
        talk(f"{path}: ok")


def _talk_of(warnings: tuple[Problem, ...]) -> None:
    for warning in warnings:
        talk(f"warning: {warning}")


def _as_json(problems: tuple[Problem, ...]) -> list[dict[str, Any]]:
    shown = [field.name for field in attrs.fields(Problem) if field.name != "unfit"]
    return [{name: getattr(problem, name) for name in shown} for problem in problems]
