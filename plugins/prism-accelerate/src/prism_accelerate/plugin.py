"""What this distribution provides to Prism; registration only, nothing heavy is imported."""

from __future__ import annotations

from prism.hookspecs import hookimpl
from prism.providers import Provider


@hookimpl
def prism_trainers() -> list[Provider]:
    return [
        Provider(
            "accelerate",
            target="prism_accelerate.trainer:AccelerateTrainer",
            options="prism_accelerate.options:TrainerOptions",
            requires=("torch", "accelerate"),
            summary="our own training loop on HF Accelerate: CUDA, MPS, CPU, one process or many",
        )
    ]


@hookimpl
def prism_predictors() -> list[Provider]:
    return [
        Provider(
            "generate",
            target="prism_accelerate.generate:GeneratePredictor",
            options="prism_accelerate.options:GenerateOptions",
            requires=("torch", "transformers"),
            summary="greedy generation in left-padded batches with a causal language model",
        )
    ]


@hookimpl
def prism_launchers() -> list[Provider]:
    return [
        Provider(
            "accelerate",
            target="prism_accelerate.launcher:AccelerateLauncher",
            options="prism_accelerate.options:LauncherOptions",
            summary="one process, or several through torch.distributed.run",
        )
    ]
