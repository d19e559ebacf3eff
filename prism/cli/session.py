"""What the commands of one `prism` call share: where they stand, which plugins there are, the project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prism.cli.output import warn
from prism.config.finding import find_config, locate_config
from prism.errors import EnvironmentUnfit

if TYPE_CHECKING:
    from prism.plugins import Plugins
    from prism.project import Project


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
        return find_config(self.start)

    def option_types(self) -> dict[str, dict[str, type[Any] | None]]:
        """Kind → provider's name → its options class; one that cannot load is warned about and left out."""
        from prism.plugins import KINDS

        found: dict[str, dict[str, type[Any] | None]] = {kind: {} for kind in KINDS}
        for kind, names in found.items():
            for name in self.plugins.providers(kind):
                try:
                    names[name] = self.plugins.option_type(kind, name)
                except EnvironmentUnfit as error:
                    warn(error.message)
        return found

    def folder(self) -> Path:
        """The project's folder. Raises `UsageError` when there is no project here."""
        return locate_config(start=self.start).parent

    def open_project(self, file: Path | None = None, *, overrides: Sequence[str] = ()) -> Project:
        """As `load_project`, and plugins that failed and that nobody named are warned about on stderr."""
        project = self.load_project(file, overrides=overrides)
        for record in project.plugins.records:
            if record.state == "failed":
                warn(f"the plugin {record.name!r} ({record.origin}) cannot load: {record.error}")
        return project

    def load_project(
        self,
        file: Path | None = None,
        *,
        overrides: Sequence[str] = (),
        option_type: Callable[[Plugins, str, str], type[Any] | None] | None = None,
    ) -> Project:
        """The project of `file`, or the one found from `start`, with its plugins and its configuration.

        `option_type` and what is raised are those of `prism.project.open_project`.
        """
        from prism.plugins import Plugins
        from prism.project import open_project

        known = option_type or Plugins.option_type
        return open_project(file, overrides=overrides, off=self.off, start=self.start, option_type=known)


pass_session = click.make_pass_decorator(Session)
