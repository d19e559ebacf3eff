"""The predictor `generate`: greedy answers of a causal language model, in left-padded batches of like length."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from prism.protocols import Example, Prediction
from prism_accelerate.devices import choose_device, devices_here
from prism_accelerate.language_models import context_length, load_model, load_tokenizer
from prism_accelerate.options import GenerateOptions
from prism_accelerate.prompts import filler, prompt_ids

log = logging.getLogger(__name__)

_BATCHES_PER_WINDOW = 8
"""Answers come in the order asked, so sorting by length reaches no farther than this many batches."""


class GeneratePredictor:
    """Role `Predictor` for the folder of a causal language model with its tokenizer."""

    def __init__(self, options: GenerateOptions | None = None) -> None:
        self.options = options or GenerateOptions()
        self._loaded: tuple[Path, Answering] | None = None

    def predict(self, model: Path, examples: Sequence[Example]) -> Iterator[Prediction]:
        """Answers in the order asked; `tokens` counts what was generated before EOS.

        `seconds` is an example's share of the wall time of its batch. Raises `UsageError` when
        the folder is no model.
        """
        answering = self._load(model)
        window = self.options.batch_size * _BATCHES_PER_WINDOW
        answering.cut = 0
        for start in range(0, len(examples), window):
            yield from self._answer(answering, examples[start : start + window])
        if answering.cut:
            log.warning("%d of %d prompts were cut: the model has no positions for all", answering.cut, len(examples))

    def _answer(self, answering: Answering, examples: Sequence[Example]) -> list[Prediction]:
        prompts = [answering.encode(example) for example in examples]
        order = sorted(range(len(examples)), key=lambda at: -len(prompts[at]))
        found: dict[int, Prediction] = {}
        for start in range(0, len(order), self.options.batch_size):
            members = order[start : start + self.options.batch_size]
            began = time.perf_counter()
            answers = answering.generate([prompts[at] for at in members])
            share = (time.perf_counter() - began) / len(members)
            for at, (text, tokens) in zip(members, answers, strict=True):
                found[at] = Prediction(examples[at].id, text, tokens=tokens, seconds=share)
        return [found[at] for at in range(len(examples))]

    def _load(self, model: Path) -> Answering:
        if self._loaded is None or self._loaded[0] != model:
            self._loaded = (model, Answering(model, self.options))
        return self._loaded[1]


class Answering:
    """A loaded model and how it is asked; `cut` counts the prompts that were too long for it."""

    def __init__(self, folder: Path, options: GenerateOptions) -> None:
        self.cut = 0
        self.device = choose_device(options.device, here=devices_here(), warn=log.warning)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(str(folder))
        loaded = load_model(str(folder), dtype=_dtype(options.dtype, device=self.device))
        self.model: PreTrainedModel = loaded.to(self.device).eval()  # type: ignore[arg-type]
        self.eos = _ends(self.model, self.tokenizer)
        self.config: Any = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            eos_token_id=sorted(self.eos),
            pad_token_id=filler(self.tokenizer),
        )
        self._most = options.max_new_tokens
        self._limit = context_length(self.model.config, self.tokenizer)

    def encode(self, example: Example) -> list[int]:
        """The example's prompt. Where the model has no room for it and the answer, it loses its beginning,
        but never more than half of the room."""
        ids = prompt_ids(example.record, self.tokenizer)
        room = max(self._limit - self._most, self._limit // 2) if self._limit else len(ids)
        self.cut += len(ids) > room
        return ids[-room:]

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
        """(text, tokens before EOS) for each prompt."""
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.full((len(prompts), longest), self.config.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        rooms = [self._room_after(prompt) for prompt in prompts]
        model: Any = self.model
        config = copy(self.config)
        config.max_new_tokens = max(rooms)
        made = model.generate(
            input_ids=ids.to(self.device), attention_mask=mask.to(self.device), generation_config=config
        )
        return [self._read(row[:room]) for row, room in zip(made[:, longest:].tolist(), rooms, strict=True)]

    def _room_after(self, prompt: Sequence[int]) -> int:
        """How many tokens may follow: as many as asked for, as far as the model has positions for them."""
        return min(self._most, self._limit - len(prompt)) if self._limit else self._most

    def _read(self, ids: list[int]) -> tuple[str, int]:
        end = next((at for at, token in enumerate(ids) if token in self.eos), len(ids))
        return str(self.tokenizer.decode(ids[:end], skip_special_tokens=True)).strip(), end


def _dtype(name: str, *, device: str) -> torch.dtype | None:
    if name == "auto":
        return torch.float32 if device == "cpu" else None
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that ends an answer: the tokenizer's EOS, and those of the model's generation settings."""
    own = getattr(model.generation_config, "eos_token_id", None)
    return {int(tokenizer.eos_token_id), *(own if isinstance(own, list) else [own] if own is not None else [])}
