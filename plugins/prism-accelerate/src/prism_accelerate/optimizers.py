"""Optimizers by their `TrainingArguments` names."""

from __future__ import annotations

import torch

from prism_accelerate.settings import Settings


def make_optimizer(model: torch.nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that `optim` names, over the weights that train.

    Weight decay is for matrices alone: biases and the scales of norms have one dimension and are left out.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = settings.learning_rate
    if settings.optim == "sgd":
        return torch.optim.SGD(groups, lr=rate)
    if settings.optim == "adafactor":
        return torch.optim.Adafactor(groups, lr=rate)
    return torch.optim.AdamW(
        groups,
        lr=rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=settings.optim == "adamw_torch_fused",
    )
