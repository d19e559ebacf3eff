"""Where MLflow is: where the configuration says, or a SQLite file in the project."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from attrs import field, frozen

from prism.errors import UsageError

_RELATIVE_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/)([^?]+)(.*)", re.DOTALL)
_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///([^?]+)")
_USER_INFORMATION = re.compile(r"(?<=://)[^/\s'\"]*@")


@frozen
class Location:
    """An MLflow: its address without credentials, and the credentials beside it.

    `artifacts` is the address under which a new experiment keeps its files, "" to leave that to
    the server. `uri` is fit for messages only through `shown`: a database's address needs its password.
    """

    uri: str = field(repr=False)
    artifacts: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """The address without user information, for messages."""
        return without_credentials(self.uri)

    @property
    def is_server(self) -> bool:
        return self.uri.startswith(("http://", "https://"))

    @property
    def database(self) -> Path | None:
        """The SQLite file, if that is what it is."""
        found = _SQLITE.match(self.uri)
        return Path(unquote(found[1])) if found and found[1] != ":memory:" else None


def locate(project: Path, *, settings: Mapping[str, Any]) -> Location:
    """The MLflow that a project's `ml` section names, else `mlflow.db` in the project.

    The environment is not asked here: the core lets MLFLOW_TRACKING_URI stand for a `tracking_uri` that is not
    set when a run begins, and whoever delivers that run later, from another shell, goes where it went.
    Raises `UsageError` for credentials without a user.
    """
    uri = str(settings.get("tracking_uri") or "sqlite:///mlflow.db")
    uri = _absolute(uri, project=project)
    username, password = _credentials(settings)
    if uri.startswith(("http://", "https://")):
        uri, found = _split_credentials(uri.rstrip("/"))
        return Location(uri=uri, username=username or found[0], password=password or found[1])
    artifacts = (project.absolute() / "artifacts" / "mlflow").as_uri()
    return Location(uri=uri, artifacts=artifacts, username=username, password=password)


def without_credentials(text: str) -> str:
    """The text with the user information of every address in it left out."""
    return _USER_INFORMATION.sub("", text)


def _absolute(uri: str, *, project: Path) -> str:
    found = _RELATIVE_SQLITE.fullmatch(uri)
    if not found or found[2] == ":memory:":
        return uri
    return f"{found[1]}{sqlite_path(project.absolute())}/{found[2]}{found[3]}"


def sqlite_path(path: Path) -> str:
    """The path as it stands in a SQLite address."""
    return str(path).replace("%", "%25").replace("?", "%3F")


def _credentials(settings: Mapping[str, Any]) -> tuple[str, str]:
    security = settings.get("security") or {}
    if not security.get("enabled"):
        return "", ""
    username, password = str(security.get("username") or ""), str(security.get("password") or "")
    if not username or not password:
        empty = "password" if username else "username"
        raise UsageError(
            f"ml.security is enabled, but ml.security.{empty} is empty",
            hint="set it, for example to ${MLFLOW_TRACKING_PASSWORD}, or set ml.security.enabled to false",
        )
    return username, password


def _split_credentials(uri: str) -> tuple[str, tuple[str, str]]:
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri, ("", "")
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, (unquote(parts.username or ""), unquote(parts.password or ""))
