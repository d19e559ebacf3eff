"""Finds the configuration of a project: `sais_foundation.yaml` here or in a folder above."""

from __future__ import annotations

from pathlib import Path

from prism.errors import UsageError

CONFIG_NAME = "sais_foundation.yaml"


def find_config(start: Path) -> Path | None:
    """The nearest `sais_foundation.yaml` in the folder `start` or above it, None if there is none."""
    folder = start.absolute()
    return next((path / CONFIG_NAME for path in (folder, *folder.parents) if (path / CONFIG_NAME).is_file()), None)


def locate_config(file: Path | None = None, *, start: Path) -> Path:
    """The configuration `file`, or else the nearest `sais_foundation.yaml` from the folder `start` upwards.

    Raises `UsageError` that says where was looked and how to begin.
    """
    hint = "`prism init` writes one to start from; `prism --project DIR` says where yours is"
    if file is not None:
        if not file.is_file():
            raise UsageError(f"there is no configuration file {file.absolute()}", hint=hint)
        return file
    found = find_config(start)
    if found is None:
        raise UsageError(f"there is no {CONFIG_NAME} in {start.absolute()} or any folder above it", hint=hint)
    return found
