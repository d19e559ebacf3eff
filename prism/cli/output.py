"""Data on stdout, talk on stderr: JSON documents, aligned tables, and colour only for a terminal that wants it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click


def document(value: Any) -> None:
    """One JSON document on stdout: what `--json` promises. Non-finite numbers become null, paths text."""
    import json

    click.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str, allow_nan=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under their column names on stdout: plain and aligned, or drawn when stdout is a terminal."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if styled(sys.stdout):
        _draw(columns, cells)
        return
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    for row in ([name.upper() for name in columns], *cells):
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def data(text: str) -> None:
    """Text that is the result, on stdout."""
    click.echo(text)


def talk(text: str) -> None:
    """Text for the person, on stderr."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """A warning for the person, on stderr."""
    talk(f"warning: {text}")


def styled(stream: TextIO) -> bool:
    """Whether colour and moving bars may go to `stream`: a terminal, and neither NO_COLOR nor CI is set."""
    if os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def _draw(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns, box=box.SIMPLE_HEAD)
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    Console().print(drawn)


def _width(text: str) -> int:
    """Columns that `text` takes on a terminal: East Asian wide letters take two."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
