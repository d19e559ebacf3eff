"""Addresses of a run's journal, which stand where MLflow takes those of a server or of artifacts.

`prism-journal:///folder/of/the/run` is the tracking and the registry address. What lies within a run has an
artifact address: the run's, then `/-/` and one of `run/<id>`, `model/<id>` and `there/<address>`, where `there` is an
artifact address at the server, quoted; then `/` and the artifact's path.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from attrs import frozen

SCHEME = "prism-journal"
OUTER = "PRISM_OUTER_TRACKING_URI"
OUTER_REGISTRY = "PRISM_OUTER_REGISTRY_URI"
"""What stood in MLflow's own variables before a run's address did."""

_WITHIN = "/-/"


@frozen
class Place:
    """What an artifact address means: `kind` (run, model, there), whose, and the path below it."""

    directory: Path
    kind: str
    id: str
    path: str = ""


def journal_address(directory: Path) -> str:
    """The tracking address of the run in that directory."""
    return f"{SCHEME}://{quote(str(directory))}"


def run_directory(address: str) -> Path:
    """The run directory of a tracking address, or of an artifact's."""
    # MLflow takes addresses apart and may put them together again with one slash where there were three
    return Path(unquote(urlsplit(address).path.partition(_WITHIN)[0]))


def is_journal(address: str | None) -> bool:
    return bool(address) and str(address).startswith(f"{SCHEME}:")


def artifact_address(directory: Path, kind: str, owner: str) -> str:
    """The address of the artifacts of a run or model within a run, or of something at the server."""
    return f"{journal_address(directory)}{_WITHIN}{kind}/{quote(owner, safe='')}"


def parse_artifact_address(address: str) -> Place:
    """What `artifact_address` made, with the path that MLflow has put after it. Raises `ValueError` for others."""
    outer, mark, inner = address.partition(_WITHIN)
    kind, _, rest = inner.partition("/")
    owner, _, path = rest.partition("/")
    if not mark or kind not in ("run", "model", "there") or not owner:
        raise ValueError(f"{address!r} is no address of artifacts in a run's journal")
    return Place(run_directory(outer), kind, unquote(owner), unquote(path))


def registry_address(environ: Mapping[str, str]) -> str:
    """The registry that the user's environment names, also inside a run, where the variable is the journal's."""
    address = environ.get("MLFLOW_REGISTRY_URI", "")
    return environ.get(OUTER_REGISTRY, "") if is_journal(address) else address
