"""The options of the data clients."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import Attribute, field, frozen, validators

from prism.config import SECRET

_LONGEST = 3600.0
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@frozen
class LocalOptions:
    """`roots`: the folders that dataset names are looked up in, in this order."""

    roots: tuple[Path, ...] = field(default=(Path("."),), validator=validators.min_len(1))


@frozen
class CpfsOptions:
    """`roots`: mounted folders, looked up in this order. `cached`: copy a dataset to `cache` before it is used.

    `cache` is the user's own cache folder when it is not given; choose one on a local disk.
    """

    roots: tuple[Path, ...] = field(validator=validators.min_len(1))
    cache: Path | None = None
    cached: bool = True


def _check_url(_: Any, attribute: Attribute[str], value: str) -> None:
    # The message never repeats the value: it may hold a password.
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:
        sound = False
    if not sound:
        raise ValueError(f"'{attribute.name}' must be the address of a server: https://… or http://…", attribute)
    if "@" in parts.netloc:
        raise ValueError(
            f"'{attribute.name}' holds user information, which would be shown: set unified_data_access.token", attribute
        )


def _check_header(_: Any, attribute: Attribute[str], value: str) -> None:
    if not _FIELD_NAME.fullmatch(value):
        raise ValueError(f"'{attribute.name}' must be the name of an HTTP header, such as Authorization", attribute)


def _check_token(_: Any, attribute: Attribute[str], value: str) -> None:
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"'{attribute.name}' holds a character that an HTTP header cannot carry", attribute)


def _stripped(value: str) -> str:
    return value.strip()


@frozen
class HttpOptions:
    """`url`: the catalogue, asked with `query`, in which `{name}` stands for the dataset's name.

    `token` is sent as `header`, to the catalogue's own origin only; as `Authorization` it gets "Bearer "
    before it unless it names a scheme itself. `timeout`: seconds for a connection, and without a byte.
    `ca_bundle`: a PEM file of the authorities to trust, in place of the public ones. `roots`: the folders
    that paths of the catalogue may lie in; none: any. `cached` and `cache` as for `cpfs`; what is
    downloaded is always kept in `cache`.
    """

    url: str = field(validator=_check_url)
    query: str = "type=dataset&q={name}"
    header: str = field(default="auth_token", validator=_check_header)
    token: str = field(default="", repr=False, converter=_stripped, validator=_check_token, metadata=SECRET)
    timeout: float = field(default=30.0, validator=[validators.gt(0), validators.le(_LONGEST)])
    ca_bundle: Path | None = None
    roots: tuple[Path, ...] = ()
    cache: Path | None = None
    cached: bool = True
