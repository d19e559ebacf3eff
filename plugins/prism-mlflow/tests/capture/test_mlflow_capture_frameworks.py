"""Frameworks that log to MLflow by themselves, inside a run: their callbacks, their loggers, and autologging."""

from __future__ import annotations

import importlib
import inspect
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from campaigns.proxy import FaultProxy
from prism_mlflow.inside.addresses import journal_address
from prism_mlflow.inside.autolog import disable_autologging

pytestmark = pytest.mark.torch


def needs(*modules: str) -> None:
    for module in modules:
        if find_spec(module.partition(".")[0]) is None:
            pytest.skip(f"{module} is not installed")


def points(inside: Any, name: str) -> list[tuple[int, float]]:
    """Every point of that name in the journal: step and value."""
    said = [record.data for record in inside.journal("metrics")]
    return [(data["step"], data["metrics"][name]) for data in said if name in data["metrics"]]


def train_with_transformers(folder: Path) -> None:
    import torch
    from transformers import Trainer, TrainingArguments

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x: Any, labels: Any) -> Any:
            logits = self.layer(x)
            return {"loss": ((logits - labels) ** 2).mean(), "logits": logits}

    data = [{"x": torch.tensor([i / 8.0, 1.0]), "labels": torch.tensor([i / 4.0])} for i in range(8)]
    steps = {"max_steps": 4, "logging_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 0.01}
    quiet = {"save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    Trainer(
        Net(), TrainingArguments(output_dir=str(folder), report_to="mlflow", **steps, **quiet), train_dataset=data
    ).train()


def train_with_lightning(package: str, folder: Path, *, logger: Any, callbacks: Any = None) -> None:
    import torch

    lightning: Any = importlib.import_module(package)

    class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"hidden": 4})
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = (self.layer(batch) ** 2).mean()
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=2, logger=logger, callbacks=callbacks, log_every_n_steps=1, accelerator="cpu",
        default_root_dir=folder, **quiet,
    )  # fmt: skip
    trainer.fit(Net(), torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=4))


def test_the_callback_of_transformers(anywhere: Any, tmp_path: Path) -> None:
    needs("transformers", "accelerate")
    before = time.monotonic()
    train_with_transformers(tmp_path / "out")
    mlflow.log_metric("after training", 1.0)
    assert time.monotonic() - before < 150
    assert [step for step, _ in points(anywhere, "loss")] == [1, 2, 3, 4]
    assert [step for step, _ in points(anywhere, "train_loss")] == [4]
    assert points(anywhere, "after training") == [(0, 1.0)]
    params = {name: value for record in anywhere.journal("params") for name, value in record.data["params"].items()}
    assert params["max_steps"] == "4"
    assert not anywhere.journal("call")


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def loggers(request: pytest.FixtureRequest) -> Any:
    """The module of Lightning's loggers, imported before the run begins, as scripts do it."""
    needs(request.param.partition(".")[0])
    return importlib.import_module(f"{request.param}.loggers")


def test_the_logger_of_lightning(loggers: Any, anywhere: Any, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    inside, package = anywhere, loggers.__name__.removesuffix(".loggers")
    logger = loggers.MLFlowLogger(experiment_name="mine")
    assert logger._tracking_uri == journal_address(inside.run.directory)
    train_with_lightning(package, tmp_path, logger=logger)
    assert logger.run_id == inside.run.run_id
    assert [step for step, _ in points(inside, "train_loss")] == [0, 1, 2, 3]
    if "present" in request.node.name:
        client, mlflow_id = inside.deliver()
        assert client.get_run(mlflow_id).data.params["hidden"] == "4"
        assert len(client.get_metric_history(mlflow_id, "train_loss")) == 4
    inside.leave()
    assert inspect.signature(loggers.MLFlowLogger).parameters["tracking_uri"].default is None


def test_autologging_of_what_is_in_use(enter: Any, free_port: int, tmp_path: Path) -> None:
    """Without a server: nothing that is logged by itself needs one."""
    needs("lightning", "sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    rows = np.array([[float(i % 7), float(i % 3)] for i in range(40)])
    labels = np.array([i % 2 for i in range(40)])
    off = enter(f"http://127.0.0.1:{free_port}", timeout=1.5, auto_log="false")
    LogisticRegression().fit(rows, labels)
    assert not off.journal("metrics")
    off.leave()
    inside = enter(f"http://127.0.0.1:{free_port}", timeout=1.5, auto_log="true")
    LogisticRegression(C=0.5).fit(rows, labels)
    assert len(points(inside, "training_score")) == 1
    params = {name: value for record in inside.journal("params") for name, value in record.data["params"].items()}
    assert params["C"] == "0.5" and params["lr"] == 0.1
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(rows, labels)
    made = Counter(record.data["method"] for record in inside.journal("call"))
    assert made["create_run"] == 2  # one for each candidate, within this run
    train_with_lightning("lightning.pytorch", tmp_path, logger=False)
    assert [step for step, _ in points(inside, "train_loss")] == [0, 1]
    inside.leave()
    LogisticRegression().fit(rows, labels)
    assert mlflow.active_run() is None
    assert not (tmp_path / "mlflow.db").exists()


def test_points_are_not_doubled_where_lightning_has_mlflows_logger(enter: Any, free_port: int, tmp_path: Path) -> None:
    needs("lightning")
    inside = enter(f"http://127.0.0.1:{free_port}", timeout=1.5, auto_log="true")
    loggers: Any = importlib.import_module("lightning.pytorch.loggers")
    train_with_lightning("lightning.pytorch", tmp_path, logger=loggers.MLFlowLogger())
    assert [step for step, _ in points(inside, "train_loss")] == [0, 1, 2, 3]
    disable_autologging()


def test_autologging_keeps_out_where_a_callback_logs_to_the_run(enter: Any, free_port: int, tmp_path: Path) -> None:
    """It says so by an attribute; a callback that does not, and a run before, change nothing."""
    needs("lightning")
    lightning: Any = importlib.import_module("lightning.pytorch")

    class Speaking(lightning.Callback):  # type: ignore[misc, name-defined]
        logs_to_prism = True

    for _ in range(2):
        inside = enter(f"http://127.0.0.1:{free_port}", timeout=1.5, auto_log="true")
        train_with_lightning("lightning.pytorch", tmp_path, logger=False, callbacks=[Speaking()])
        assert not points(inside, "train_loss")
        train_with_lightning("lightning.pytorch", tmp_path, logger=False, callbacks=[lightning.Callback()])
        assert [step for step, _ in points(inside, "train_loss")] == [0, 1]
        inside.leave()


def test_a_slow_server_costs_training_nothing(enter: Any, fault_proxy: FaultProxy, tmp_path: Path) -> None:
    """Whose replies come a byte every 2 ms: none of these calls waits for one, since none is asked for."""
    needs("transformers", "accelerate", "lightning")
    fault_proxy.fault("drip", seconds=0.002)
    inside = enter(fault_proxy.uri)
    loggers: Any = importlib.import_module("lightning.pytorch.loggers")
    train_with_transformers(tmp_path / "out")
    train_with_lightning("lightning.pytorch", tmp_path, logger=loggers.MLFlowLogger())
    with mlflow.start_run(nested=True):
        mlflow.log_metric("of the script", 1.0)
        mlflow.log_text("text", "a.txt")
    assert not fault_proxy.paths
    assert mlflow.search_experiments(max_results=1)  # slow, and an answer all the same
    assert fault_proxy.counts["drip"] == 1
    assert [step for step, _ in points(inside, "loss")] == [1, 2, 3, 4]
