"""What scripts import: every name and signature of the seed and of sais-prism-sdk 0.1, and what an import costs."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

# Where scripts find it, and the arguments in their order that they may hand over.
NAMES = {
    "sais_prism:sais_foundation": "cls",
    "sais_prism.core.decorators:sais_foundation": "cls",
    "sais_prism.core.config:ConfigManager": "",
    "sais_prism.core.config:ConfigManager.get": "self key default",
    "sais_prism.core.config:ConfigManager.update_config": "self key_path value update_yaml",
    "sais_prism.core.config:parse_cli_args": "description update_yaml",
    "sais_prism.core.service_locator:ServiceLocator.get_ml_manager": "",
    "sais_prism.core.service_locator:ServiceLocator.set_ml_manager": "instance",
    "sais_prism.core.service_locator:ServiceLocator.get_data_client": "",
    "sais_prism.core.service_locator:ServiceLocator.set_data_client": "instance",
    "sais_prism.ml.mlflow_integration:MLflowManager": "experiment_name experiment_description config mlflow",
    "sais_prism.ml.mlflow_integration:MLflowManager.init_run": "self",
    "sais_prism.ml.mlflow_integration:MLflowManager.system_tracing": "self enabled",
    "sais_prism.ml.mlflow_integration:MLflowManager.log_model": "self params",
    "sais_prism.ml.mlflow_integration:MLflowManager.log_params": "self params",
    "sais_prism.ml.mlflow_integration:MLflowManager.log_metrics": "self metrics step",
    "sais_prism.ml.mlflow_integration:MLflowManager.log_artifacts": "self artifacts",
    "sais_prism.ml.mlflow_integration:MLflowManager.set_log_artifacts": "self obj_str",
    "sais_prism.ml.mlflow_integration:MLflowManager.set_log_params": "self key val",
    "sais_prism.ml.mlflow_integration:MLflowService": "",
    "sais_prism.ml.mlflow_integration:initialize": "arguments named",
    "sais_prism.unified_data_access.client:DataAccessClient": "token cached enabled data_access client",
    "sais_prism.unified_data_access.client:DataAccessClient.get_dataset": "self dataset_names",
    "sais_prism.unified_data_access.client:DataClient": "",
    "sais_prism.unified_data_access.client:DataClient.get_dataset": "self dataset_names",
    "sais_prism.unified_data_access.client:initialize": "arguments",
}
ALONE = """
import json, sys
reached = []
sys.addaudithook(lambda event, about: event in {"socket.connect", "socket.getaddrinfo"} and reached.append(event))
import sais_prism, sais_prism.ml.mlflow_integration, sais_prism.unified_data_access.client
import sais_prism.core.service_locator, sais_prism.core.exceptions, sais_prism.core.config

@sais_prism.sais_foundation
class Study:
    def run(self):
        pass

manager = sais_prism.core.service_locator.ServiceLocator.get_ml_manager()
client = sais_prism.core.service_locator.ServiceLocator.get_data_client()
print(json.dumps([sorted({name.partition(".")[0] for name in sys.modules}), reached]))
"""
HEAVY = {"torch", "transformers", "mlflow", "lightning", "pytorch_lightning", "datasets", "numpy", "requests"}


@pytest.mark.parametrize("place", NAMES)
def test_a_name_is_where_scripts_look_for_it(place: str) -> None:
    module, _, path = place.partition(":")
    found: Any = importlib.import_module(module)
    for step in path.split("."):
        found = getattr(found, step)
    assert list(inspect.signature(found).parameters) == NAMES[place].split()


def test_what_may_be_left_out() -> None:
    from sais_prism.core.config import ConfigManager, parse_cli_args
    from sais_prism.unified_data_access.client import DataAccessClient

    def default(of: Any, name: str) -> Any:
        return inspect.signature(of).parameters[name].default

    assert default(ConfigManager.get, "default") is None
    assert default(ConfigManager.update_config, "update_yaml") is False
    assert default(parse_cli_args, "update_yaml") is False  # 0.1 rewrote the file: our one deliberate change
    assert (default(DataAccessClient, "cached"), default(DataAccessClient, "enabled")) == (True, True)


def test_errors_are_of_one_family() -> None:
    from sais_prism.core import exceptions as found

    for error in (found.ConfigurationError, found.DataAccessError, found.MLFlowIntegrationError):
        assert issubclass(error, found.SAISError)
        assert "what" in str(error("what"))


def test_an_import_and_a_class_definition_are_light_and_reach_no_network(here: Any) -> None:
    here.configure(
        """
        foundation: {experiment_name: light}
        unified_data_access:
          client: {name: http, url: "http://127.0.0.1:9/api"}
          data_access: {dataset_names: [a.jsonl]}
        ml: {tracking_uri: "http://127.0.0.1:9", parameters: {device: cpu}}
        """
    )
    import json

    modules, reached = json.loads(here.python("-c", ALONE).stdout)
    assert not HEAVY & set(modules)
    assert reached == []
    assert not here.runs()
