"""Cutting what is to be logged into requests within MLflow's limits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias

from attrs import define, field
from mlflow.entities import Metric, Param, RunTag

Entity: TypeAlias = Metric | Param | RunTag

MAX_METRICS = 1000
MAX_PARAMS = 100
MAX_TAGS = 100
MAX_ENTITIES = 1000
MAX_BYTES = 900_000  # MLflow refuses requests over 1 MB
_FRAME = 100  # bytes of JSON around the texts of one entity


@define
class Batch:
    """What one `log_batch` takes."""

    metrics: list[Metric] = field(factory=list)
    params: list[Param] = field(factory=list)
    tags: list[RunTag] = field(factory=list)
    size: int = 0


def cut_batches(entities: Iterable[Entity], *, points: int = MAX_METRICS) -> Iterator[Batch]:
    """The entities in batches, in their order; at most `points` metrics in one."""
    batch = Batch()
    for entity in entities:
        size = _size(entity)
        if not _has_room(batch, entity, size=size, points=points):
            yield batch
            batch = Batch()
        _list(batch, entity).append(entity)
        batch.size += size
    if batch.size:
        yield batch


def _list(batch: Batch, entity: Entity) -> list[Any]:
    lists: dict[type, list[Any]] = {Metric: batch.metrics, Param: batch.params, RunTag: batch.tags}
    return lists[type(entity)]


def _has_room(batch: Batch, entity: Entity, *, size: int, points: int) -> bool:
    most = {Metric: points, Param: MAX_PARAMS, RunTag: MAX_TAGS}[type(entity)]
    total = len(batch.metrics) + len(batch.params) + len(batch.tags)
    return (
        len(_list(batch, entity)) < most and total < MAX_ENTITIES and (not batch.size or batch.size + size <= MAX_BYTES)
    )


def _size(entity: Entity) -> int:
    value = "" if isinstance(entity, Metric) else entity.value
    # as in the request, where every character beyond ASCII takes six bytes or twelve
    return _key_size(entity.key) + (len(json.dumps(value)) if value else 2) + _FRAME


@lru_cache(maxsize=4096)
def _key_size(key: str) -> int:
    return len(json.dumps(key))
