"""Finding and loading a causal language model and its tokenizer: a folder, or a name on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from prism.errors import UsageError

_HUB_SECONDS = 10.0


def find_model(name: str, *, project: Path) -> str:
    """The folder `name` (relative to the project), `name` itself when the hub has it, or the hub's cached folder.

    Raises `UsageError` saying what is missing. What looks like a path is never asked of the hub,
    and the hub is asked once, for at most 10 seconds, before anything retries.
    """
    if not name:
        raise UsageError("ml.parameters.base_model is not set", hint="a model folder, or a name on the hub")
    folder = (project / Path(name).expanduser()).resolve()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(f"base_model {name!r}: {folder} has no config.json, it is no model folder")
        return str(folder)
    if _looks_like_a_path(name):
        raise UsageError(
            f"base_model {name!r}: there is no folder {folder}",
            hint="a path is relative to the folder of the YAML; a hub name has the form owner/model",
        )
    return _ask_hub(name, folder=folder)


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model found by `find_model`. Raises `UsageError` when it has none, or no EOS."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise UsageError(f"base_model {model!r} has no tokenizer that loads: {_first_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"the tokenizer of {model!r} has no EOS token", hint="set eos_token in its tokenizer_config.json"
        )
    return tokenizer


def load_config(model: str) -> PreTrainedConfig:
    """The configuration of a model found by `find_model`. Raises `UsageError`."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise UsageError(f"base_model {model!r} does not load: {_first_line(error)}") from error
    return config


def load_model(model: str, *, dtype: torch.dtype | None) -> PreTrainedModel:
    """The model on the CPU with weights in `dtype` (None: as they are stored). Raises `UsageError`."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=dtype or "auto")
    except (OSError, ValueError) as error:
        raise UsageError(f"base_model {model!r} does not load: {_first_line(error)}") from error
    return loaded  # type: ignore[no-any-return]


def context_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The most tokens the model has positions for, or its tokenizer allows; None if neither says."""
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    known = [int(limit) for limit in limits if limit and 0 < limit < 1e9]  # "no limit" is 1e30 there
    return min(known, default=None)


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or name.endswith("/")


def _ask_hub(name: str, *, folder: Path) -> str:
    try:
        HfApi().model_info(name, timeout=_HUB_SECONDS)
    except Exception as error:  # refused names, the hub's answers and its HTTP library's errors share no other parent
        cached = _cached(name)
        if cached:
            return cached
        raise UsageError(
            f"base_model {name!r}: there is no folder {folder}, and the hub does not give it: {_first_line(error)}",
            hint="name a model folder, or a hub model that this machine can download or has in its cache",
        ) from error
    return name


def _cached(name: str) -> str:
    """The folder in the hub's cache; "" if it has none."""
    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return ""
    return str(Path(config).parent) if isinstance(config, str) else ""


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
