"""Train a LightningModule: `prism run train.py`.

The run is begun, recorded and ended around `train`. What the module logs with `self.log` is in the run by MLflow's
autologging, which `ml.auto_log` in sais_foundation.yaml switches on; `run.log_metrics` is there for anything else.
`run.params` is ml.parameters of that file.
"""

import math

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import prism

try:
    import lightning.pytorch as pl
except ModuleNotFoundError:
    import pytorch_lightning as pl  # the same under its older name


def waves(count: int, *, seed: int) -> TensorDataset:
    """Noisy damped waves, (count, 64), and what is to be found in each, its frequency in periods, (count, 1).

    With data of your own, take the file `run.dataset("name").path` instead: it is recorded with the run.
    """
    random = torch.Generator().manual_seed(seed)
    frequency = 1 + 7 * torch.rand(count, 1, generator=random)
    phase = 2 * math.pi * torch.rand(count, 1, generator=random)
    time = torch.linspace(0, 1, 64)
    noise = 0.1 * torch.randn(count, 64, generator=random)
    return TensorDataset(torch.exp(-time) * torch.sin(2 * math.pi * frequency * time + phase) + noise, frequency)


class FindFrequency(pl.LightningModule):
    def __init__(self, *, width: int, learning_rate: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(64, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        self.log("val_error", (self.net(batch[0]) - batch[1]).abs().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class RunCheckpoints(pl.callbacks.Checkpoint):
    """A checkpoint of the run after every epoch, whole or not at all, in place of Lightning's ModelCheckpoint."""

    def __init__(self, run: prism.Run) -> None:
        self.run = run

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with self.run.checkpoint(step=trainer.global_step, keep=2) as folder:
            trainer.save_checkpoint(folder / "lightning.ckpt", weights_only=False)
        if self.run.stopping:  # SIGTERM or Ctrl-C: --resume auto goes on from here
            trainer.should_stop = True


@prism.experiment
def train(run: prism.Run) -> None:
    params = run.params
    pl.seed_everything(params.seed)
    module = FindFrequency(width=params.width, learning_rate=params.learning_rate)
    known = waves(2000, seed=1)
    # The order depends on the seed and the epoch's number alone, so a resumed run is the same as an unbroken one. (What
    # else is random, such as dropout, is drawn anew: Lightning's checkpoints keep no random state.)
    order = DistributedSampler(known, num_replicas=1, rank=0, seed=params.seed)
    training = DataLoader(known, batch_size=params.batch_size, sampler=order)
    validation = DataLoader(waves(500, seed=2), batch_size=500)
    trainer = pl.Trainer(
        max_epochs=params.epochs,
        accelerator=params.accelerator,
        devices=1,
        callbacks=[RunCheckpoints(run)],
        logger=False,  # autologging logs; Lightning's MLFlowLogger would do, too
        enable_progress_bar=False,
        default_root_dir=run.scratch,
    )
    saved = run.latest_checkpoint()  # a whole, verified folder, or None
    trainer.fit(module, training, validation, ckpt_path=saved / "lightning.ckpt" if saved else None)
    run.stop_if_told()
    folder = run.scratch / "model"
    folder.mkdir(exist_ok=True)
    save_file(module.state_dict(), folder / "model.safetensors")
    run.log_model(folder)  # registered as ml.model_repo says, once the run has succeeded
