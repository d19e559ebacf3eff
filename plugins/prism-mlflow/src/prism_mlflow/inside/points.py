"""Metrics, parameters and tags from MLflow's calls into the journal: of Prism's run, or of one nested in it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from prism_mlflow.inside.asking import ask_server
from prism_mlflow.inside.entities import metric_values
from prism_mlflow.inside.within import Within

_NOW_MS = 1000  # a time this near is the record's own


def log_metric(here: Within, run_id: str, metric: Metric) -> None:
    """One point: the short way for the call that scripts make most."""
    if run_id == here.run.run_id and not (metric.model_id or metric.dataset_name):
        here.run.log_metrics({metric.key: metric.value}, step=metric.step, timestamp=_when(metric.timestamp))
    else:
        log_batch(here, run_id, metrics=[metric], params={}, tags={})


def log_batch(
    here: Within, run_id: str, *, metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    """Points, parameters and tags of one run."""
    if run_id == here.run.run_id:
        _log_metrics(here, metrics)
        _log_params(here, params)
        if tags:
            here.run.set_tags(tags)
    elif here.find_run(run_id) is None:
        given = [RunTag(*pair) for pair in tags.items()]
        ask_server(here, "log_batch", run_id, list(metrics), [Param(*pair) for pair in params.items()], given)
    else:
        values = [metric_values(metric, model_id=metric.model_id) for metric in metrics]
        here.say("log_batch", run=run_id, metrics=values, params=dict(params), tags=dict(tags))


def _log_metrics(here: Within, metrics: Sequence[Metric]) -> None:
    """Points of Prism's own run: a record for those of one step and time, and a call for their links to models."""
    linked = [metric for metric in metrics if metric.model_id or metric.dataset_name]
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for metric in metrics:
        group = groups.setdefault((metric.step, metric.timestamp), [{}])
        if metric.key in group[-1]:  # the same key twice at one step and time: both are points
            group.append({})
        group[-1][metric.key] = metric.value
    for (step, timestamp), several in groups.items():
        for points in several:
            here.run.log_metrics(points, step=step, timestamp=timestamp if linked else _when(timestamp))
    if linked:
        values = [metric_values(metric, model_id=metric.model_id) for metric in linked]
        here.say("log_batch", run=here.run.run_id, metrics=values, params={}, tags={})


def _log_params(here: Within, params: Mapping[str, str]) -> None:
    """Parameters of Prism's own run, but those that it has with the same text: `3` from the YAML is MLflow's "3"."""
    if params:
        known = here.told.poll().own.params
        news = {name: value for name, value in params.items() if known.get(name) != value}
        if news:
            here.run.log_params(news)


def _when(timestamp: int) -> int | None:
    return None if abs(time.time() * 1000 - timestamp) < _NOW_MS else timestamp
