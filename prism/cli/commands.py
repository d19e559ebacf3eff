"""The commands there are, built in and from plugins: listed without importing them, imported when called."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import click
from attrs import frozen

from prism.entrypoints import EntryPoint, entry_points
from prism.errors import EnvironmentUnfit, PrismError

GROUP = "prism.commands"


@frozen
class Builtin:
    """A command of the core: where it is, and its line in `prism --help`."""

    target: str
    help: str


BUILTINS: Mapping[str, Builtin] = {
    "run": Builtin("prism.cli.run:run", "Train, evaluate and register: from a YAML file, a script or a class."),
    "evaluate": Builtin("prism.cli.evaluate:evaluate", "Let a model answer a dataset and score its answers."),
    "runs": Builtin("prism.cli.runs:runs", "List, show and follow the runs of a project, and close lost ones."),
    "models": Builtin("prism.cli.models:models", "List and show registered models."),
    "plugins": Builtin("prism.cli.plugins:plugins", "List the plugins and their state."),
    "config": Builtin("prism.cli.config:config", "Check and show the configuration, print its schema."),
    "sync": Builtin("prism.cli.sync:sync", "Deliver to the trackers what they have not got yet."),
    "init": Builtin("prism.cli.init:init", "Begin a project: a commented sais_foundation.yaml."),
    "doctor": Builtin("prism.cli.doctor:doctor", "Look at Python, devices, MLflow, plugins, disk and file system."),
}


class LazyGroup(click.Group):
    """A click group over `BUILTINS` and the entry points of `prism.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*BUILTINS, *foreign_commands()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in BUILTINS:
            return _builtin(BUILTINS[name])
        points = foreign_commands().get(name)
        if points is None:
            return None
        try:
            return _foreign(name, points)
        except PrismError:
            if ctx.resilient_parsing:  # completion: a broken plugin completes to nothing
                return None
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in BUILTINS or ctx.resilient_parsing or name.startswith("-") or name in foreign_commands():
            return super().resolve_command(ctx, args)
        import difflib  # only where something is wrong already

        near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
        raise click.UsageError(f"no such command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""), ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, builtin.help) for name, builtin in BUILTINS.items()])
        foreign = foreign_commands()
        if foreign:
            with formatter.section("Commands from plugins"):
                formatter.write_dl([(name, _from(points)) for name, points in foreign.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        lines = {name: builtin.help for name, builtin in BUILTINS.items()}
        lines |= {name: _from(points) for name, points in foreign_commands().items()}
        items = [CompletionItem(name, help=line) for name, line in lines.items() if name.startswith(incomplete)]
        return items + click.Command.shell_complete(self, ctx, incomplete)


class ForeignCommand(click.Command):
    """A plugin's `callable(argv) -> int` as a click command: every argument is its own, also `--help` and `--`."""

    def __init__(self, name: str, call: Callable[[list[str]], object], *, source: str) -> None:
        super().__init__(name, add_help_option=False)
        self._call = call
        self._source = source

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> int:
        code = self._call(ctx.args)
        if code is None or isinstance(code, int):
            return int(code or 0)
        raise EnvironmentUnfit(f"the command {self.name!r} of {self._source} answered {code!r}, not an exit code")


def foreign_commands() -> dict[str, list[EntryPoint]]:
    """Name → the entry points that give a command of that name; the core's own names cannot be taken."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(GROUP):
        if point.name not in BUILTINS:
            found.setdefault(point.name, []).append(point)
    return found


def _builtin(builtin: Builtin) -> click.Command:
    module, _, attribute = builtin.target.partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


def _foreign(name: str, points: list[EntryPoint]) -> click.Command:
    if len(points) > 1:
        raise EnvironmentUnfit(f"the command {name!r} comes {_from(points)}", hint="uninstall one of them")
    source = f"{points[0].distribution} {points[0].version}".strip()
    try:
        loaded = points[0].load()
    except (Exception, SystemExit) as error:  # the boundary to a plugin's code
        text = f"{type(error).__name__}: {error}"
        raise EnvironmentUnfit(f"the command {name!r} of {source} cannot load: {text}") from error
    if isinstance(loaded, click.Command):
        return loaded
    if callable(loaded):
        return ForeignCommand(name, loaded, source=source)
    raise EnvironmentUnfit(f"the command {name!r} of {source} is {loaded!r}, neither a click.Command nor callable")


def _from(points: list[EntryPoint]) -> str:
    return "from " + " and from ".join(f"{point.distribution} {point.version}".strip() for point in points)
