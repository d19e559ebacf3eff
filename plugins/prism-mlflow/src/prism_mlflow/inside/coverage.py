"""Every method of MLflow's stores, and what becomes of a call to it inside a run.

A test fails for a method that stands in none of these lists, or in two: a new MLflow has to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

JOURNALLED = (
    *("create_logged_model", "create_run", "delete_logged_model", "delete_logged_model_tag", "end_async_logging"),
    *("finalize_logged_model", "flush_async_logging", "log_batch", "log_batch_async", "log_inputs", "log_metric"),
    *("log_metric_async", "log_outputs", "log_param", "log_param_async", "record_logged_model"),
    *("set_experiment_tag", "set_logged_model_tags", "set_tag", "set_tag_async", "shut_down_async_logging"),
    *("update_run_info",),
)
"""Written to the journal before the call returns, and delivered; the server is not asked."""

ANSWERED = (
    *("create_experiment", "get_experiment", "get_experiment_by_name", "get_logged_model", "get_metric_history"),
    *("get_metric_history_bulk_interval", "get_metric_history_bulk_interval_from_steps", "get_run"),
    *("_evenly_spaced_indices", "supports_trace_archival", "supports_workspaces"),
)
"""Answered from the journal where they are about this run; about anything else the server is asked."""

MERGED = ("_search_runs", "search_logged_models", "search_runs")
"""The server is asked, and what this run has said since is put in its place."""

DROPPED = ("link_traces_to_run", "log_spans", "log_spans_async", "start_trace")
"""Traces: neither kept nor sent, without an exception; the run warns once. See the page on MLflow's calls."""

REFUSED: Mapping[str, str] = {
    "delete_run": "of this run: the journal is the truth, and it would come back with the next delivery",
    "restore_run": "of this run: it is not deleted",
    "delete_experiment": "of this run: the run is being written to it",
    "rename_experiment": "of this run: it is named by foundation.experiment_name",
    "restore_experiment": "of this run: it is not deleted",
    "delete_experiment_tag": "of this run: what was delivered cannot be taken back from here",
    "archive_traces": "is for MLflow's server",
    "resolve_trace_archival_config": "is for MLflow's server",
}
"""An `MlflowException` that says why; the first six fall through when they are about another run or experiment."""

FALLING_THROUGH = (
    *("_delete_traces", "_load_dataset_records", "add_dataset_to_experiments", "add_guardrail_to_endpoint"),
    *("add_items_to_review_queue", "attach_model_to_endpoint", "batch_get_trace_infos", "batch_get_traces"),
    *("calculate_trace_filter_correlation", "create_assessment", "create_budget_policy", "create_dataset"),
    *("create_endpoint_binding", "create_gateway_endpoint", "create_gateway_guardrail"),
    *("create_gateway_model_definition", "create_gateway_secret", "create_issue", "create_label_schema"),
    *("create_mcp_access_endpoint", "create_mcp_server", "create_mcp_server_version", "create_review_queue"),
    *("delete_assessment", "delete_budget_policy", "delete_dataset", "delete_dataset_records", "delete_dataset_tag"),
    *("delete_endpoint_binding", "delete_gateway_endpoint", "delete_gateway_endpoint_tag"),
    *("delete_gateway_guardrail", "delete_gateway_model_definition", "delete_gateway_secret"),
    *("delete_label_schema", "delete_mcp_access_endpoint", "delete_mcp_server", "delete_mcp_server_alias"),
    *("delete_mcp_server_tag", "delete_mcp_server_version", "delete_mcp_server_version_tag"),
    *("delete_review_queue", "delete_scorer", "delete_trace_tag", "delete_traces", "detach_model_from_endpoint"),
    *("filter_active_experiment_ids", "find_completed_sessions", "get_active_online_scorers", "get_assessment"),
    *("get_budget_policy", "get_dataset", "get_dataset_experiment_ids", "get_gateway_endpoint"),
    *("get_gateway_guardrail", "get_gateway_model_definition", "get_issue", "get_label_schema"),
    *("get_label_schema_by_name", "get_latest_mcp_server_version", "get_mcp_access_endpoint", "get_mcp_server"),
    *("get_mcp_server_version", "get_mcp_server_version_by_alias", "get_mcp_server_versions_for_trace"),
    *("get_online_scoring_configs", "get_online_trace_details", "get_or_create_user_queue", "get_review_queue"),
    *("get_review_queue_by_name", "get_scorer", "get_secret_info", "get_trace", "get_trace_info"),
    *("link_mcp_server_versions_to_trace", "link_prompts_to_trace", "list_budget_policies"),
    *("list_endpoint_bindings", "list_endpoint_guardrail_configs", "list_gateway_endpoints"),
    *("list_gateway_guardrails", "list_gateway_model_definitions", "list_label_schemas", "list_review_queue_items"),
    *("list_review_queues", "list_scorer_versions", "list_scorers", "list_scorers_across_experiments"),
    *("list_secret_infos", "query_trace_metrics", "register_scorer", "remove_dataset_from_experiments"),
    *("remove_guardrail_from_endpoint", "remove_items_from_review_queue", "search_datasets", "search_experiments"),
    *("search_issues", "search_mcp_access_endpoints", "search_mcp_server_versions", "search_mcp_servers"),
    *("search_traces", "set_dataset_tags", "set_gateway_endpoint_tag", "set_mcp_server_alias", "set_mcp_server_tag"),
    *("set_mcp_server_version_tag", "set_model_versions_tags", "set_review_queue_item_status", "set_trace_tag"),
    *("sum_gateway_trace_cost", "unlink_traces_from_run", "update_assessment", "update_budget_policy"),
    *("update_endpoint_guardrail_config", "update_gateway_endpoint", "update_gateway_model_definition"),
    *("update_gateway_secret", "update_issue", "update_label_schema", "update_mcp_access_endpoint"),
    *("update_mcp_server", "update_mcp_server_version", "update_review_queue", "upsert_dataset_records"),
    *("upsert_online_scoring_config",),
)
"""Asked of the server, with a time-out; ids of this run in the arguments become the server's."""

BEYOND = ("delete_tag", "log_logged_model_params")
"""Journalled too: MLflow's clients call them on every store, though `AbstractStore` does not declare them."""

REGISTRY_JOURNALLED = ("create_model_version", "create_registered_model")
REGISTRY_ANSWERED = (
    *("_await_model_version_creation", "_await_model_version_creation_impl", "_parse_experiment_id_filter"),
    *("get_model_version", "get_model_version_by_alias", "get_model_version_download_uri", "get_registered_model"),
    "supports_workspaces",
)
"""Answered from the journal for models and versions that this run has made; for others the server is asked."""

REGISTRY_JOURNALLED_FOR_NEW = (
    *("delete_model_version", "delete_model_version_tag", "set_model_version_tag", "set_registered_model_alias"),
    *("update_model_version",),
)
"""Journalled for versions that this run has made; for others the server is asked."""

REGISTRY_FALLING_THROUGH = (
    *("copy_model_version", "create_prompt", "create_prompt_version", "create_webhook", "delete_prompt"),
    *("delete_prompt_alias", "delete_prompt_tag", "delete_prompt_version", "delete_prompt_version_tag"),
    *("delete_registered_model", "delete_registered_model_alias", "delete_registered_model_tag", "delete_webhook"),
    *("get_latest_versions", "get_prompt", "get_prompt_version"),
    *("get_prompt_version_by_alias", "get_webhook", "link_prompt_version_to_model"),
    *("link_prompt_version_to_run", "link_prompts_to_trace", "list_webhooks", "list_webhooks_by_event"),
    *("rename_registered_model", "search_model_versions", "search_prompt_versions", "search_prompts"),
    *("search_registered_models", "set_prompt_alias", "set_prompt_tag", "set_prompt_version_tag"),
    *("set_registered_model_tag", "test_webhook", "transition_model_version_stage", "update_registered_model"),
    *("update_webhook",),
)

REGISTRY_BEYOND = ("get_model_version_stages",)
"""Asked of the server too, though the abstract class does not declare it."""
