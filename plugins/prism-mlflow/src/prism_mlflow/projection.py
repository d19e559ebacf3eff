"""What a run's journal records become in MLflow: metrics, parameters, tags, datasets and files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from prism.protocols import Record
from prism_mlflow.naming import MAX_TAG, cut, noted_name, own_tag, stored_name, stored_path, stored_tag, text

_DIGEST = 36  # characters that MLflow keeps of a dataset's digest


@frozen
class File:
    """A kept copy to upload under the artifact path `name`; sha256 in hex, "" when it is not known."""

    name: str
    path: Path
    sha256: str = ""


@define
class Projection:
    """What a delivery brings to MLflow, under MLflow's names.

    `params` and `changed` are whole texts, in `changed` the last of those that came after the first of their name.
    `own` are the tracker's own tags, `texts` the artifacts that hold values which were cut.
    """

    metrics: list[Metric] = field(factory=list)
    params: dict[str, str] = field(factory=dict)
    changed: dict[str, str] = field(factory=dict)
    tags: dict[str, str] = field(factory=dict)
    own: dict[str, str] = field(factory=dict)
    datasets: list[DatasetInput] = field(factory=list)
    files: dict[str, File] = field(factory=dict)
    texts: dict[str, str] = field(factory=dict)
    nonfinite: dict[str, dict[str, int]] = field(factory=dict)


def project(records: Iterable[Record]) -> Projection:
    """The records in MLflow's terms. Kinds that MLflow has no place for are left out."""
    projection = Projection()
    for record in records:
        add = _KINDS.get(record.kind)
        if add is not None:
            add(projection, record)
    return projection


def _metrics(projection: Projection, record: Record) -> None:
    step = int(record.data.get("step") or 0)
    for given, value in record.data["metrics"].items():
        name = _named(projection, given, stored=stored_name(given))
        number = float(value)
        projection.metrics.append(Metric(name, number, record.time, step))
        if not math.isfinite(number):
            kind = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
            first = projection.nonfinite.setdefault(name, {})
            first[kind] = min(step, first.get(kind, step))


def _params(projection: Projection, record: Record) -> None:
    for given, value in record.data["params"].items():
        name = _named(projection, given, stored=stored_name(given))
        if projection.params.setdefault(name, text(value)) != text(value):  # the first stays, as in MLflow
            projection.changed[name] = text(value)


def _tags(projection: Projection, record: Record) -> None:
    for given, value in record.data["tags"].items():
        name = _named(projection, given, stored=stored_tag(given))
        projection.tags[name] = _kept(projection, value, limit=MAX_TAG, whole=whole_file("tags", name))


def _dataset(projection: Projection, record: Record) -> None:
    data = record.data
    given, digest, uri = text(data["name"]), str(data.get("digest", "")), text(data.get("uri", ""))
    source_type, source = _source(uri)
    dataset = Dataset(
        name=cut(given, limit=500, whole="the journal"),
        digest=digest[:_DIGEST] or "unknown",
        source_type=source_type,
        source=json.dumps(source),
        profile=json.dumps({"version": str(data.get("version", "")), "digest": digest}),
    )
    tags = {
        "mlflow.data.context": text(data.get("use") or "")[:500],
        "prism.digest": digest,
        "prism.version": text(data.get("version") or "")[:500],
    }
    projection.datasets.append(DatasetInput(dataset, [InputTag(key, value) for key, value in tags.items() if value]))
    # MLflow keeps 36 characters of the digest, and one context for a dataset in a run: these tags keep all
    stored = _named(projection, given, stored=stored_name(given))
    role = f"{stored_name(tags['mlflow.data.context'])}." if tags["mlflow.data.context"] else ""
    projection.own[own_tag("dataset", role + stored)] = f"{tags['prism.version']} {digest}".strip()


def _file(projection: Projection, record: Record) -> None:
    data = record.data
    name = _named(projection, data["name"], stored=stored_path(data["name"]))
    projection.files[name] = File(name=name, path=Path(data["path"]), sha256=str(data.get("sha256") or ""))


_KINDS = {"metrics": _metrics, "params": _params, "tags": _tags, "dataset": _dataset, "file": _file}


def _named(projection: Projection, given: str, *, stored: str) -> str:
    """The stored name; where it is not the one given, that is kept in a tag."""
    if stored != given:
        noted = noted_name(given)
        tag = own_tag("name", stored)
        projection.own[tag] = _kept(projection, noted, limit=MAX_TAG, whole=whole_file("names", stored))
    return stored


def _kept(projection: Projection, value: object, *, limit: int, whole: str) -> str:
    given = text(value)
    if len(given) > limit:
        projection.texts[whole] = given
    return cut(given, limit=limit, whole=whole)


def whole_file(folder: str, name: str) -> str:
    """The artifact that has the whole of a value which was cut."""
    return stored_path(f"{folder}/{name}.txt")


def _source(uri: str) -> tuple[str, Mapping[str, Any]]:
    """MLflow's source type of an address, and its content."""
    if uri.startswith(("http://", "https://")):
        return "http", {"url": uri}
    if "://" not in uri or uri.startswith("file://"):
        return "local", {"uri": uri}
    return "prism", {"uri": uri}
