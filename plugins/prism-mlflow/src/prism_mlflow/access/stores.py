"""MLflow's stores of a server, over our own transport."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import mlflow.store.model_registry.rest_store as registry_rest
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import RestException
from mlflow.protos.service_pb2 import LogBatch
from mlflow.store.tracking.rest_store import RestStore

from prism_mlflow.access.transport import Transport, content_of

_MCP = "/api/3.0/mlflow/mcp-servers"
_SCORING = "/api/3.0/mlflow/scorers/online-config"


class ServerStore(RestStore):
    """The store for runs."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport.creds)  # type: ignore[no-untyped-call]
        self._transport = transport

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> None:
        """As MLflow's, but written as JSON at once: the way through protocol buffers takes longer than the rest."""
        message = {
            "run_id": run_id,
            "metrics": [_metric(metric) for metric in metrics],
            "params": [{"key": param.key, "value": param.value} for param in params],
            "tags": [{"key": tag.key, "value": tag.value} for tag in tags],
        }
        self._call_endpoint(LogBatch, json.dumps(message))

    def _call_endpoint(
        self,
        api: Any,
        json_body: str | None = None,
        endpoint: str | None = None,
        retry_timeout_seconds: float | None = None,
        response_proto: Any = None,
    ) -> Any:
        self._validate_workspace_support_if_specified()
        known = self._V3_METHOD_TO_INFO if api in self._V3_APIS else self._METHOD_TO_INFO
        path, method = known[api]
        reply = response_proto or api.Response()
        return self._transport.call(endpoint or path, method=method, json_body=json_body, reply=reply)

    # What follows MLflow sends by requests of its own, which it repeats for minutes

    def _mcp_request(self, method: str, path: str, json: Any = None, params: Any = None) -> Any:
        response = self._transport.request(method, f"{_MCP}{path}", json=json, params=params)
        return response.json() if response.text else None

    def upsert_online_scoring_config(
        self, experiment_id: str, scorer_name: str, sample_rate: float, filter_string: str | None = None
    ) -> Any:
        given: dict[str, Any] = {"experiment_id": experiment_id, "name": scorer_name, "sample_rate": sample_rate}
        if filter_string is not None:
            given["filter_string"] = filter_string
        response = self._transport.request("PUT", _SCORING, json=given)
        return self._parse_online_scoring_config_from_response(response, _SCORING)

    def get_online_scoring_configs(self, scorer_ids: list[str]) -> list[Any]:
        if not scorer_ids:
            return []
        response = self._transport.request("GET", f"{_SCORING}s", params=[("scorer_ids", one) for one in scorer_ids])
        found = [SimpleNamespace(json=partial(dict, config=one)) for one in content_of(response)["configs"]]
        return [self._parse_online_scoring_config_from_response(one, _SCORING) for one in found]


class ServerRegistryStore(registry_rest.RestStore):
    """The store for registered models."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport.creds)  # type: ignore[no-untyped-call]
        self._transport = transport

    def _call_endpoint(
        self, api: Any, json_body: str | None, call_all_endpoints: bool = False, extra_headers: Any = None
    ) -> Any:
        self._validate_workspace_support_if_specified()
        reply = self._get_response_from_method(api)  # type: ignore[no-untyped-call]
        ways = [self._get_endpoint_from_method(api)]  # type: ignore[no-untyped-call]
        if call_all_endpoints:  # MLflow's word for: try the older addresses too
            ways = list(self._get_all_endpoints_from_method(api))  # type: ignore[no-untyped-call]
        for path, method in ways[:-1]:
            try:
                return self._transport.call(path, method=method, json_body=json_body, reply=reply)
            except RestException as error:
                if error.error_code != "ENDPOINT_NOT_FOUND":
                    raise
        path, method = ways[-1]
        return self._transport.call(path, method=method, json_body=json_body, reply=reply)

    def _call_webhook_endpoint(self, api: Any, json_body: str | None = None, webhook_id: str | None = None) -> Any:
        path, method = self._get_webhook_endpoint_from_method(api)  # type: ignore[no-untyped-call]
        reply = self._get_response_from_method(api)  # type: ignore[no-untyped-call]
        return self._transport.call(path.format(webhook_id=webhook_id), method=method, json_body=json_body, reply=reply)


def _metric(metric: Metric) -> dict[str, Any]:
    point = {"key": metric.key, "value": _number(metric.value), "timestamp": metric.timestamp, "step": metric.step}
    if metric.model_id or metric.dataset_name:
        linked = {name: getattr(metric, name) for name in ("model_id", "dataset_name", "dataset_digest", "run_id")}
        point.update({name: value for name, value in linked.items() if value})
    return point


def _number(value: float) -> float | str:
    """As JSON of protocol buffers writes it: what is not finite is a text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
