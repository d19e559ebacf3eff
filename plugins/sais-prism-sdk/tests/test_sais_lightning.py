"""The manager as a callback of Lightning's `Trainer`, of both packages: which points there are, at which steps."""

from __future__ import annotations

import importlib
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sais_prism.core.decorators import sais_foundation
from sais_prism.core.service_locator import ServiceLocator
from sais_prism.ml.mlflow_integration import MLflowManager

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(find_spec("lightning") is None, reason="lightning is not installed"),
]
PACKAGES = ["lightning.pytorch", "pytorch_lightning"]
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> Any:
    if find_spec(request.param.partition(".")[0]) is None:
        pytest.skip(f"{request.param} is not installed")
    logging.getLogger(request.param).setLevel(logging.ERROR)
    return importlib.import_module(request.param)


def net(package: Any, *, fails_at: int = -1) -> Any:
    """A model whose loss is known: 4, then 3, 2, 1 for the batches of every epoch."""
    import torch

    class Net(package.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"hidden": 4, "lr": 7})
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            if self.global_step == fails_at:
                raise RuntimeError("the third step")
            loss = 0 * self.layer(batch).sum() + batch.mean()
            self.log("train_loss", loss)
            self.log("epoch_loss", loss, on_step=False, on_epoch=True)
            return loss if index % 2 else {"loss": loss}

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", batch.mean())

        def test_step(self, batch: Any, index: int) -> None:
            self.log("test_loss", batch.mean())

        def predict_step(self, batch: Any, index: int) -> Any:
            return self.layer(batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.0)

    return Net()


def batches() -> Any:
    import torch

    return torch.utils.data.DataLoader(torch.tensor([[4.0], [3.0], [2.0], [1.0]]), batch_size=1)


@pytest.mark.parametrize("given", [lambda ml: [ml], lambda ml: ml], ids=["in a list", "alone"])
def test_steps_epochs_checkpoints_and_a_resumed_fit(here: Any, package: Any, given: Any) -> None:
    """Two batches to a step; two epochs, then a third from the checkpoint: every point once, at the global step."""
    here.configure()

    @sais_foundation
    class Study:
        def run(self) -> Any:
            ml = ServiceLocator.get_ml_manager()
            assert isinstance(ml, package.Callback) and type(ml).__name__ == "MLflowManager"
            common = {"callbacks": given(ml), "accumulate_grad_batches": 2, "default_root_dir": here.path, **QUIET}
            first = package.Trainer(max_epochs=2, logger=False, **common)
            first.fit(net(package), batches(), batches())
            assert first.loggers == [] and first.log_dir == str(here.path)
            second = package.Trainer(max_epochs=3, logger=False, **common)
            second.fit(net(package), batches(), batches(), ckpt_path=first.checkpoint_callback.best_model_path)
            second.save_checkpoint(here.path / "last.ckpt", weights_only=True)
            ml.log_metrics({"afterwards": 1.0})
            return second

    trainer = Study().run()
    assert here.points("train_loss") == here.points("batch_loss") == [(n, 1.0 + 2 * (n % 2)) for n in range(1, 7)]
    assert here.points("epoch_loss") == here.points("val_loss") == [(2, 2.5), (4, 2.5), (6, 2.5)]
    assert here.points("epoch") == [(step, (step - 1) // 2) for step in range(1, 7)]
    assert here.points("afterwards") == [(None, 1.0)]
    assert here.state().params == {"lr": 0.1, "hidden": 4}  # what the configuration says stays
    kept = [(record.data["step"], Path(record.data["folder"]).name) for record in here.records("checkpoint")]
    names = [(2, "epoch=0-step=2.ckpt"), (4, "epoch=1-step=4.ckpt"), (6, "epoch=2-step=6.ckpt"), (6, "last.ckpt")]
    assert kept == names and trainer.checkpoint_callback.dirpath == str(here.path / "checkpoints")
    assert len(here.runs()) == 1


def test_test_validate_and_predict(here: Any, package: Any) -> None:
    here.configure()

    class Own(package.Trainer):  # type: ignore[misc, name-defined]
        pass

    ml = ServiceLocator.get_ml_manager()
    trainer = Own(max_epochs=1, callbacks=[ml], logger=False, default_root_dir=here.path, **QUIET)
    trainer.fit(model := net(package), batches())
    trainer.test(model, batches(), verbose=False)
    trainer.validate(model, batches(), verbose=False)
    assert len(trainer.predict(model, batches())) == 4
    assert here.points("test_loss") == here.points("val_loss") == [(4, 2.5)]
    assert [step for step, _ in here.points("train_loss")] == [1, 2, 3, 4]


def test_an_exception_fails_the_run_and_frees_the_trainer(here: Any, package: Any) -> None:
    here.configure()
    ml = MLflowManager("mine")
    trainer = package.Trainer(max_epochs=2, callbacks=[ml], logger=False, default_root_dir=here.path, **QUIET)

    @sais_foundation
    class Study:
        def run(self) -> None:
            trainer.fit(net(package, fails_at=2), batches())

    with pytest.raises(RuntimeError, match="the third step"):
        Study().run()
    assert trainer.loggers == []
    assert here.state().status == "FAILED" and here.points("train_loss") == [(1, 4.0), (2, 3.0)]
    trainer.fit(net(package), batches())  # another run, which the process ends
    assert len(here.runs()) == 2 and [step for step, _ in here.points("train_loss")][-1] == trainer.global_step


def test_each_point_once_beside_mlflow_s_logger_and_autologging(here: Any, package: Any) -> None:
    pytest.importorskip("mlflow")
    from prism_mlflow.inside.autolog import disable_autologging

    here.configure("foundation: {experiment_name: both}\nml: {auto_log: true, system_tracing: false}\n")
    loggers = importlib.import_module(f"{package.__name__}.loggers")

    @sais_foundation
    class Study:
        def run(self) -> None:
            ml = ServiceLocator.get_ml_manager()
            for logger, epochs in ((loggers.MLFlowLogger(), 1), (False, 2)):
                common = {"max_epochs": epochs, "enable_checkpointing": False, "default_root_dir": here.path, **QUIET}
                package.Trainer(callbacks=[ml], logger=logger, **common).fit(net(package), batches())
                if epochs == 1:
                    points = here.points("train_loss")
                    assert [value for _, value in points] == [4.0, 3.0, 2.0, 1.0]
                    assert len(here.points("batch_loss")) == 4

    Study().run()
    assert len(here.points("train_loss")) == 4 + 8 and len(here.points("batch_loss")) == 4 + 8
    assert len(here.points("epoch_loss")) == 1 + 2
    ServiceLocator.get_ml_manager().run.finish()
    disable_autologging()


def test_a_logger_that_speaks_to_another_place_keeps_no_point_from_the_run(here: Any, package: Any) -> None:
    """`ml.enabled: false`: MLflow's logger writes where it was told to, and the run has its points all the same."""
    pytest.importorskip("mlflow")
    here.configure()
    loggers = importlib.import_module(f"{package.__name__}.loggers")

    class Elsewhere(loggers.MLFlowLogger):  # type: ignore[misc, name-defined]
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            return None

        def log_hyperparams(self, params: Any) -> None:
            return None

        def finalize(self, status: str = "success") -> None:
            return None

    Elsewhere.experiment = property(lambda self: None)
    logger = Elsewhere(tracking_uri=f"sqlite:///{here.path}/other.db")
    ml = ServiceLocator.get_ml_manager()
    common = {"enable_checkpointing": False, "default_root_dir": here.path, **QUIET}
    package.Trainer(max_epochs=1, callbacks=[ml], logger=logger, **common).fit(net(package), batches())
    assert [step for step, _ in here.points("train_loss")] == [1, 2, 3, 4]


SCRIPT = """
import sys
from sais_prism import sais_foundation
from sais_prism.core.service_locator import ServiceLocator

ml = ServiceLocator.get_ml_manager()
assert not {"torch", "lightning", "pytorch_lightning", "transformers", "mlflow"} & set(sys.modules)
import torch
import lightning.pytorch as pl

assert isinstance(ml, pl.Callback) and "pytorch_lightning" not in sys.modules

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch, index):
        loss = 0 * self.layer(batch).sum() + batch.mean()
        self.log("train_loss", loss, sync_dist=True)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)

@sais_foundation
class Study:
    def run(self):
        data = torch.utils.data.DataLoader(torch.tensor([[4.0], [4.0], [4.0], [4.0]]), batch_size=1)
        pl.Trainer(
            max_epochs=2, callbacks=[ml], logger=False, accelerator="cpu", devices=2, strategy="ddp",
            log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False,
        ).fit(Net(), data)
        ml.log_metrics({"rank": float(ml.run.rank)})

Study().run()
"""


def test_two_processes_are_one_run_and_rank_0_speaks(here: Any, free_port: int) -> None:
    here.configure()
    here.write("study.py", SCRIPT)
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port)]
    here.python(*launch, "study.py")
    assert len(here.runs()) == 1 and here.state().status == "FINISHED"
    assert here.points("train_loss") == here.points("batch_loss") == [(step, 4.0) for step in range(1, 5)]
    assert sorted(here.points("rank")) == [(None, 0.0), (None, 1.0)]  # said by both, each in its own journal
    assert [record.data["step"] for record in here.records("checkpoint")] == [2, 4]


def test_a_loop_of_plain_pytorch(here: Any) -> None:
    import torch

    here.configure()

    @sais_foundation
    class Study:
        def run(self) -> None:
            ml = ServiceLocator.get_ml_manager()
            weight = torch.ones(1, requires_grad=True)
            for step in range(1, 4):
                loss = (weight * step).sum()
                ml.log_metrics({"loss": loss, "double": float(loss) * 2}, step=step)
            ml.log_metrics({"last": torch.tensor(3)})

    Study().run()
    assert here.points("loss") == [(1, 1.0), (2, 2.0), (3, 3.0)] and here.points("last") == [(None, 3)]
