"""The configurations of the first SDK, key for key, and the whole file as it is documented."""

from __future__ import annotations

from typing import Any

import pytest

EXAMPLE = """\
foundation:
  experiment_name: "example_sft" # The name of the experiment

unified_data_access: # Unified data access configuration, current is still under development
  enabled: true
  token: "demo_token"
  data_access:
    dataset_names: ["alpaca_sft_dataset.jsonl", "mars"]
ml:
  enabled: true # Enable MLflow integration
  auto_log: true # Auto log params and metrics
  system_tracing: true # Enable system metrics logging automatically
  parameters: # parameters that you are able to place any configs you want
    output_dir: "artifacts/runtime"
    device: 'mps'
    dataset_names: ["/cpfs01/projects-HDD/cfff-4a8d9af84f66_HDD/public/Data/ecmwf-001/ENS"]
    base_model: "meta-llama/Llama-3.2-1B"
    num_train_epochs: 3  # Number of training epochs
    per_device_train_batch_size: 2  # Small batch size to fit in memory
    gradient_accumulation_steps: 8  # Accumulate gradients to simulate larger batch size
    learning_rate: 0.00002
    weight_decay: 0.01
    warmup_steps: 200  # Reduced warmup steps
    save_total_limit: 1  # Keep only one checkpoint
    logging_dir: "./logs"
    logging_steps: 10  # Log less frequently to save resources
    save_strategy: "epoch"  # Save at the end of each epoch
    evaluation_strategy: "no"  # No evaluation during training
    report_to: ["mlflow"]  # Disable reporting to external tools
    optim: "adamw_torch"  # Optimized AdamW optimizer
    gradient_checkpointing: true
  custom_metrics: [] # Define custom metrics
  artifacts: []
  model_repo: # Model repository configuration, you can define the value of name, the content of tags, version
    model_uri: "runs:/{run_id}/artifacts/model"
    name: "llama_models"
    await_registration_for: 300
    tag:
      framework: "pytorch"
      task_type: "language-model"
      model_type: "llama"
      base_model: "meta-llama/Llama-3.2-1B"
    version: "1.0.1"
"""

ML = """\
ml:
  enabled: true
  auto_log: true
  system_tracing: true
  parameters:
    key: value
  custom_metrics: [] # Define custom metrics
  artifacts: []
  model_repo:
    model_uri: "runs:/{run_id}/artifacts/model"
    name: "model_name"
    await_registration_for: 300
    tag:
      key: value
    version:
"""

DATA = """\
data_access:
  enabled: true
  cached: true  # Enable local caching
  token: ${ENV_API_TOKEN}  # Env var injection
  data_access: [dataset_one, dataset_two]
"""

WHOLE = """\
extends: [../institute.yaml, ../team.yaml]            # new
foundation: {experiment_name: drug_qa, experiment_description: text}
unified_data_access:
  enabled: true
  cached: true
  token: ${ENV_API_TOKEN:-}
  client: local                                        # new
  data_access: {dataset_names: [drug_qa_train.jsonl]}
data: {train: drug_qa_train.jsonl, validation: null}   # new
ml:
  enabled: true
  tracking_uri: null                                   # new
  auto_log: true
  system_tracing: true
  security: {enabled: false, username: "", password: ${MLFLOW_TRACKING_PASSWORD:-}}
  parameters: {base_model: ./model, num_train_epochs: 3, …}
  custom_metrics: []
  artifacts: []
  model_repo: {model_uri: "runs:/{run_id}/artifacts/model", registered: true, name: drug_qa_llama,
               await_registration_for: 300, tag: {…: text}, version: ""}
trainer: accelerate                                    # new
evaluation: {data: [drug_qa_eval.jsonl, drug_qa_unseen.jsonl], predictor: generate, evaluators: [rouge, bleu],
             max_samples: null, max_new_tokens: 200}
trackers: [mlflow]                                     # new
launcher: {name: accelerate, processes: 1}             # new
plugins: {off: [], local: [./my_plugin.py]}            # new
x-anything: {}
"""


def test_the_example_of_the_first_sdk(configs: Any) -> None:
    config = configs.load(EXAMPLE)
    assert config.foundation.experiment_name == "example_sft"
    assert config.unified_data_access.token == "demo_token"
    assert config.unified_data_access.data_access.dataset_names == ("alpaca_sft_dataset.jsonl", "mars")
    assert config.unified_data_access.data_access.dataset_names[0] == "alpaca_sft_dataset.jsonl"
    parameters = config.ml.parameters
    assert (parameters.learning_rate, parameters.device, parameters.report_to) == (0.00002, "mps", ["mlflow"])
    assert parameters.evaluation_strategy == parameters.eval_strategy == "no"
    assert len(parameters) == 18
    repo = config.ml.model_repo
    assert (repo.name, repo.version, repo.await_registration_for, repo.registers) == (
        "llama_models",
        "1.0.1",
        300,
        True,
    )
    assert repo.tag["framework"] == "pytorch"
    assert [one.key for one in config.warnings] == ["ml.parameters.logging_dir", "ml.parameters.evaluation_strategy"]


def test_an_empty_version_is_the_empty_text(configs: Any) -> None:
    config = configs.load(ML)
    assert config.ml.model_repo.version == ""
    assert config.ml.parameters.key == "value"
    assert config.warnings == ()


def test_the_other_spelling_of_the_data_section(configs: Any) -> None:
    access = configs.load(DATA, environ={"ENV_API_TOKEN": "s3cret"}).unified_data_access
    assert (access.enabled, access.cached, access.token) == (True, True, "s3cret")
    assert access.data_access.dataset_names == ("dataset_one", "dataset_two")
    (problem,) = configs.problems(DATA)
    assert (problem.line, problem.column) == (4, 10)
    assert "ENV_API_TOKEN is not set" in problem.message


def test_both_spellings_mix_over_layers(configs: Any) -> None:
    configs.write("data_access: {enabled: false, data_access: [a]}\n", name="base.yaml")
    text = "extends: [base.yaml]\nunified_data_access: {cached: false}\n"
    access = configs.load(text, overrides=["data_access.token=abcd", "data_access.data_access=[b]"]).unified_data_access
    assert (access.enabled, access.cached, access.token) == (False, False, "abcd")
    assert access.data_access.dataset_names == ("b",)


def test_a_wrong_key_in_the_other_spelling_is_found_where_it_stands(configs: Any) -> None:
    problem = configs.problem("data_access:\n  enabled: true\n  tokn: x\n")
    assert (problem.line, problem.column, problem.hint) == (3, 3, "did you mean 'token'?")


@pytest.mark.parametrize(
    ("text", "artifacts"),
    [("[a, b]", ("a", "b")), ("{figures: [a], tables: [b, c]}", ("a", "b", "c")), ("{}", ()), ("", ())],
)
def test_artifacts_are_a_list_or_lists_by_name(configs: Any, text: str, artifacts: tuple[str, ...]) -> None:
    assert configs.load(f"ml:\n  artifacts: {text}\n").ml.artifacts == artifacts


def test_the_whole_file(configs: Any) -> None:
    project = type(configs)(configs.folder / "project")
    configs.write("ml: {parameters: {a: 1}}\n", name="institute.yaml")
    configs.write("ml: {parameters: {a: 2, num_train_epochs: 1}}\n", name="team.yaml")
    config = project.load(WHOLE)
    assert dict(config.ml.parameters) == {"a": 2, "num_train_epochs": 3, "base_model": "./model", "…": None}
    assert config.launcher.processes == 1
    assert config.ml.security.password == ""
    assert config.plugins.local == (project.folder / "my_plugin.py",)
    assert config.warnings == ()
