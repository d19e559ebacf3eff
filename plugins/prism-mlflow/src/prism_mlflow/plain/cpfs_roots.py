"""What a `cpfs://` address means on this machine, and which folders such addresses may name at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from prism.config import find_config
from prism.data.mounts import file_system, is_shared
from prism.errors import PrismError
from prism.project import open_project

ROOTS_VARIABLE = "PRISM_CPFS_ROOTS"
_HINT = f"set {ROOTS_VARIABLE} (folders, ':' between them), or the `roots` of the project's data client `cpfs`"


def folder_of(uri: str, *, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that `uri` means, whether or not there is anything.

    `cpfs:///cpfs01/team/x` is the path /cpfs01/team/x, `cpfs://team/x` is team/x under the first root. Raises
    `MlflowException` for one outside the roots, and when its root is not mounted: an address that a client made up
    must not reach other folders of a server, and nothing may be written under an empty mount point.
    """
    parts = urlsplit(uri)
    text = unquote(parts.netloc + parts.path)
    if parts.query or parts.fragment or not text or "\0" in text or ".." in Path(text).parts:
        raise _invalid(f"{uri!r} is no address of a folder: no '..', no query")
    roots = _roots(environ)
    if not Path(text).is_absolute() and not roots:
        raise _invalid(f"{uri!r} is relative to a root, and no root is known; {_HINT}")
    return _allowed(Path(text) if Path(text).is_absolute() else roots[0] / text, uri=uri, roots=roots)


def _allowed(path: Path, *, uri: str, roots: tuple[Path, ...]) -> Path:
    real = path.resolve()
    if not roots:
        if not is_shared(file_system(real)):
            raise _invalid(f"{uri!r} means {real}, which is on no parallel file system that is mounted here; {_HINT}")
        return real
    root = next((root for root in roots if real.is_relative_to(root.resolve())), None)
    if root is None:
        raise _invalid(f"{uri!r} means {real}, outside the roots {', '.join(map(str, roots))}; {_HINT}")
    if not root.is_dir():
        raise _invalid(f"the root {root} is not there: is the file system mounted?")
    return real


def _roots(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The roots of the environment, else those of the project's data client `cpfs`, else none."""
    named = tuple(Path(text) for text in environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if text)
    if named:
        return named
    try:
        if find_config(Path.cwd()) is None:
            return ()
        client = open_project().config.unified_data_access.client
    except (OSError, PrismError):  # no folder, or a configuration that whoever uses the project is told of
        return ()
    return tuple(client.options.roots) if client.name == "cpfs" else ()


def _invalid(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)
