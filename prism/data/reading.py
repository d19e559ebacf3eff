"""Reading records from `.jsonl` and `.json` files, plain or gzipped, with every problem at its line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from prism.errors import DataError

_SHOWN = 5  # problems named one by one; the rest is counted


def read_records(path: Path, *, fields: Collection[str] = ()) -> list[dict[str, Any]]:
    """The records (JSON objects, UTF-8) of a `.jsonl` file, or of a `.json` file that holds a list.

    `.gz` after either is unpacked. Raises `DataError` with line numbers for what is not JSON, not
    an object, or has no value (absent or null) for one of `fields`; and for an empty dataset.
    """
    lines, problems = [], []
    for line, value in _values(path):
        if isinstance(value, _Problem):
            problems.append(f"{path}:{line}: {value}")
        elif not isinstance(value, dict):
            problems.append(f"{path}:{line}: a record is a JSON object, here it is {_kind(value)}")
        else:
            missing = [name for name in fields if value.get(name) is None]
            problems += [f"{path}:{line}: the record has no {name!r}" for name in missing]
            lines.append(value)
    if problems:
        raise DataError(_summary(problems), hint=_fields_hint(fields))
    if not lines:
        raise DataError(f"{path}: the dataset is empty", hint="it needs at least one record")
    return lines


class _Problem(str):
    """What is wrong at a line, in place of its value."""


def _values(path: Path) -> Iterator[tuple[int, Any]]:
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if path.is_dir():
        raise DataError(f"{path}: a folder, where a file of records is wanted", hint="name one file in it")
    if kind not in ("json", "jsonl"):
        raise DataError(f"{path}: records are read from .jsonl and .json files (also .gz), this is neither")
    content = _content(path).removeprefix(b"\xef\xbb\xbf")
    return _lines(content) if kind == "jsonl" else _elements(content, path=path)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _lines(content: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, _DECODER.decode(line.decode())
        except (ValueError, RecursionError) as error:
            yield number, _explain(error)


def _elements(content: bytes, *, path: Path) -> Iterator[tuple[int, Any]]:
    """The elements of a list, each with the line it begins at."""
    try:
        text = content.decode()
        whole = _DECODER.decode(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 0) or content[: getattr(error, "start", 0)].count(b"\n") + 1
        yield line, _explain(error)
        return
    if not isinstance(whole, list):
        raise DataError(f"{path}: a list of records is wanted, here it is {_kind(whole)}")
    position, line = text.find("[") + 1, 1 + text[: text.find("[") + 1].count("\n")
    for value in whole:
        start = position
        while text[position] in " \t\r\n,":
            position += 1
        line += text.count("\n", start, position)
        yield line, value
        _, end = _DECODER.raw_decode(text, position)
        line += text.count("\n", position, end)
        position = end


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _explain(error: Exception) -> _Problem:
    if isinstance(error, json.JSONDecodeError):
        return _Problem(f"not JSON: {error.msg} (column {error.colno})")
    if isinstance(error, UnicodeDecodeError):
        return _Problem(f"not UTF-8: byte 0x{error.object[error.start]:02x} ({error.reason})")
    if isinstance(error, RecursionError):
        return _Problem("nested too deeply")
    return _Problem(f"not JSON: {error}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _summary(problems: list[str]) -> str:
    shown = problems[:_SHOWN]
    if len(problems) > _SHOWN:
        shown.append(f"and {len(problems) - _SHOWN} problems more")
    return "\n".join(shown)


def _fields_hint(fields: Collection[str]) -> str:
    return f"every record is one JSON object with {', '.join(fields)}" if fields else "every record is one JSON object"
