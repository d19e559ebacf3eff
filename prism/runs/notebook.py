"""A run as a notebook shows it: one small table."""

from __future__ import annotations

from html import escape

from prism.journal.directory import RunDirectory
from prism.journal.state import read_state


def render_run(directory: RunDirectory) -> str:
    """HTML of the run's status, where it is, and the last values of its metrics."""
    state = read_state(directory)
    rows = {
        "run": state.run_id,
        "experiment": state.experiment,
        "status": state.status,
        "directory": str(directory.path),
        **{name: tracker.url or f"{tracker.pending} records pending" for name, tracker in state.trackers.items()},
        **{name: f"{value:.6g}" for name, value in sorted(state.metrics.items())},
    }
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{_cell(text)}</td></tr>" for name, text in rows.items())
    return f"<table>{cells}</table>"


def _cell(text: str) -> str:
    shown = escape(text)
    return f'<a href="{shown}">{shown}</a>' if text.startswith(("http://", "https://")) else shown
