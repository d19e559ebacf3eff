"""An evaluation dataset as questions with ids and right answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from attrs import field, frozen

from prism.data.digest import digest_files, manifest_digest
from prism.data.reading import read_records
from prism.data.references import parse_reference
from prism.errors import DataError, UsageError
from prism.protocols import Example, Reference


@frozen
class Questions:
    """The records of one evaluation dataset, each with a value under "output".

    `data` is what the dataset is called, `digest` its content digest. A record's own "id" is its id
    where all records have one and no two share it; otherwise it is its place, counted from 1.
    """

    data: str
    records: Sequence[Mapping[str, Any]]
    digest: str = ""
    ids: Sequence[str] = field()

    @ids.default
    def _number(self) -> Sequence[str]:
        own = [record.get("id") for record in self.records]
        unique = len({str(key) for key in own}) == len(own)
        if unique and all(isinstance(key, str | int) and str(key) for key in own):
            return [str(key) for key in own]
        return [str(place) for place in range(1, len(own) + 1)]

    @property
    def name(self) -> str:
        """The name of the set in metrics and paths: the file's name without its endings."""
        return set_name(self.data)

    def first(self, count: int | None) -> Questions:
        """The first `count` questions, or all of them."""
        if count is None:
            return self
        return Questions(self.data, self.records[:count], self.digest, self.ids[:count])

    def examples(self) -> list[Example]:
        return [Example(key, record) for key, record in zip(self.ids, self.records, strict=True)]

    def references(self) -> list[Reference]:
        return [Reference(key, record["output"], record) for key, record in zip(self.ids, self.records, strict=True)]


def read_questions(path: Path, *, data: str = "", digest: str = "") -> Questions:
    """The questions in a file of records. `data` and `digest` are the file's own when not given.

    Raises `DataError` for what `read_records` refuses, and for a record without `output`.
    """
    records = read_records(path, fields=("output",))
    return Questions(data or path.name, records, digest or manifest_digest(digest_files(path)))


def set_name(data: str) -> str:
    """`drug_qa_eval` for `folder/drug_qa_eval.jsonl` and `drug_qa_eval.jsonl@3f2a90c1d7e4`."""
    name = PurePosixPath(parse_reference(data).name).name
    for ending in (".gz", ".jsonl", ".json"):
        name = name.removesuffix(ending)
    if not name:
        raise DataError(f"{data!r} gives an evaluation set no name")
    return name


def check_names(datasets: Sequence[str]) -> None:
    """Raises `UsageError` when two evaluation datasets would report under one name."""
    seen: dict[str, str] = {}
    for data in datasets:
        other = seen.setdefault(set_name(data), data)
        if other != data or datasets.count(data) > 1:
            raise UsageError(
                f"the evaluation sets {other!r} and {data!r} would both report as {set_name(data)!r}",
                hint="give one of the files another name",
            )
