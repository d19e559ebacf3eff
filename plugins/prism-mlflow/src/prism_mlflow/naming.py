"""Names and texts as MLflow takes them, from any that a user may give.

MLflow takes letters and digits of any script and `_ - . : /` and spaces, 250 characters, and no
name that reads as another path. Any other name is stored as a readable part and a digest; the
tracker keeps the name as given in the tag `prism.name.<stored name>`, from which `original_name` has it back.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache

MAX_NAME = 250
MAX_PARAM = 6000
MAX_TAG = 8000

_QUOTE = '"'
_UNFIT = re.compile(r"[^\w\-. :/]")
_UNFIT_FILE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\\?#%:*\"<>|;]")
_READABLE = 180
_OURS = re.compile(
    r"prism\.(run_id|made|alone|superseded_by|position|name|nonfinite|changed|uploaded|file|dataset|model|model_id|within"
    r"|calls?)(\.|$)"
)


@lru_cache(maxsize=4096)
def stored_name(name: str) -> str:
    """The name under which MLflow keeps the metric, parameter or tag `name`; most names stay as they are."""
    if _is_fit(name):
        return name
    readable = _UNFIT.sub("_", name)[:_READABLE]
    parts = [part for part in readable.split("/") if part.strip(". ")]
    return f"{'/'.join(parts).lstrip('.') or 'unnamed'}-{_digest(name)}"  # MLflow takes no name that begins with ".."


def original_name(stored: str, tags: Mapping[str, str]) -> str:
    """The name as it was given, from the one under which MLflow keeps it and the tags of the run."""
    noted = tags.get(own_tag("name", stored))
    if noted is None:
        return stored
    return str(json.loads(noted)) if noted.startswith(_QUOTE) else noted


def noted_name(name: str) -> str:
    """A name as a tag keeps it: itself; as JSON where a database could not store it, or it looks like JSON itself."""
    return name if text(name) == name and not name.startswith(_QUOTE) else json.dumps(name)


def stored_tag(name: str) -> str:
    """The name of a user's tag, kept apart from the tags that the tracker itself lives by."""
    return f"user.{name.replace('/', '_')[:_READABLE]}-{_digest(name)}" if _OURS.match(name) else stored_name(name)


def own_tag(kind: str, name: str) -> str:
    """The tracker's own tag of a kind ("name", "changed", …) about the stored name `name`."""
    key = f"prism.{kind}.{name}"
    return key if _is_fit(key) else f"{_UNFIT.sub('_', key).replace('/', '_')[:_READABLE]}-{_digest(key)}"


def stored_path(path: str) -> str:
    """The artifact path for `path`: relative, in parts that any artifact store can name."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/".join(_stored_part(part) for part in parts) or f"unnamed-{_digest(path)}"


def text(value: object) -> str:
    """The value as text that every database stores: no NUL, no half of a character."""
    return str(value).replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def cut(value: str, *, limit: int, whole: str) -> str:
    """A value too long for MLflow, marked as cut, saying that `whole` has all of it.

    The digest in the mark tells two long values apart that only differ in what is cut.
    """
    if len(value) <= limit:
        return value
    mark = f" … [cut: {len(value)} characters, digest {_digest(value)}, all of them in {whole}]"
    return value[: limit - len(mark)] + mark


def _is_fit(name: str) -> bool:
    if not name or len(name) > MAX_NAME or _UNFIT.search(name):
        return False
    return posixpath.normpath(name) == name and not name.startswith(("..", "/")) and name != "."


def _stored_part(part: str) -> str:
    if not part.startswith("..") and len(part.encode("utf-8", "surrogatepass")) <= 200 and not _UNFIT_FILE.search(part):
        return part
    stem, suffix = posixpath.splitext(_UNFIT_FILE.sub("_", part))
    # 40 characters of four bytes each leave room for digest and suffix in the 255 bytes of a file name
    return f"{stem[:40].strip('. ') or 'unnamed'}-{_digest(part)}{suffix[:8]}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
