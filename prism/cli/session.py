"""What the commands of one `prism` call share: where they stand, which plugins there are, the project."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prism.cli.output import warn
from prism.errors import UsageError

if TYPE_CHECKING:
    from prism.plugins import Plugins
    from prism.runs.project import Project

CONFIG_NAME = "sais_foundation.yaml"


class Session:
    """`start` is the folder where the search for a project begins, `off` the plugins switched off by `--no-plugin`."""

    def __init__(self, *, start: Path, off: Sequence[str] = ()) -> None:
        self.start = start
        self.off = tuple(off)

    @cached_property
    def plugins(self) -> Plugins:
        """The installed plugins, loaded when first asked for."""
        from prism.plugins import Plugins  # not needed to say --help

        return Plugins.load(off=self.off)

    def config_file(self) -> Path | None:
        """The `sais_foundation.yaml` of `start` or of the nearest folder above it."""
        start = self.start.absolute()
        candidates = (folder / CONFIG_NAME for folder in (start, *start.parents))
        return next((path for path in candidates if path.is_file()), None)

    def folder(self) -> Path:
        """The project's folder. Raises `UsageError` when there is no project here."""
        file = self.config_file()
        if file is None:
            raise UsageError(
                f"there is no {CONFIG_NAME} in {self.start.absolute()} or above it",
                hint="give the project with --project DIR, or begin one with prism init",
            )
        return file.parent

    def open_project(self, file: Path | None = None, *, overrides: Sequence[str] = ()) -> Project:
        """The project of `file`, or the one found from `start`, with its plugins and its configuration.

        Plugins that failed and that nobody named are warned about on stderr. Raises as
        `prism.runs.project.open_project`.
        """
        from prism.runs.project import open_project

        project = open_project(file, overrides=overrides, off=self.off, start=self.start)
        for record in project.plugins.records:
            if record.state == "failed":
                warn(f"the plugin {record.name!r} ({record.origin}) cannot load: {record.error}")
        return project


pass_session = click.make_pass_decorator(Session)
