"""Supervised fine-tuning of a causal language model: the task's model, batches and loss, apart from any loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attrs import field, frozen
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from prism.data.reading import read_records
from prism.errors import UsageError
from prism_accelerate.devices import Numerics
from prism_accelerate.feeds import Weighed
from prism_accelerate.grouping import grouped_order, share, sorted_order
from prism_accelerate.language_models import context_length, find_model, load_config, load_model, load_tokenizer
from prism_accelerate.prompts import filler
from prism_accelerate.settings import Settings
from prism_accelerate.tokens import Tokens, tokenise

if TYPE_CHECKING:
    from prism.runs.handle import Run

IGNORED = -100
"""The label that takes no part in the loss (torch's and transformers' convention)."""

Batch = dict[str, torch.Tensor]


class SftTask:
    """Role `Task`: `{instruction, input, output}` records, the loss on the output's tokens alone."""

    def __init__(self, run: Run, *, settings: Settings, numerics: Numerics) -> None:
        self._run = run
        self._settings = settings
        self._numerics = numerics
        self._source = find_model(settings.base_model, project=run.project)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self._source)
        longest = context_length(load_config(self._source), self.tokenizer)
        self._limit = min((n for n in (settings.max_length, longest) if n), default=None)

    def model(self) -> PreTrainedModel:
        model = load_model(self._source, dtype=self._numerics.dtype)
        model.config.use_cache = False
        return model

    def batches(self, split: str) -> TokenBatches:
        """Batches of the "train" or "validation" records, tokenised in memory."""
        found = self._run.dataset(dataset_name(self._run, split), use=split)
        records = read_records(found.path, fields=("instruction", "output"))
        tokenised = tokenise(records, self.tokenizer, max_length=self._limit)
        if tokenised.cut_prompts or tokenised.cut_answers:
            self._run.warn(
                f"{found.name}: of {len(records)} records, {tokenised.cut_prompts} prompts and "
                f"{tokenised.cut_answers} answers were cut to {self._limit} tokens in all (max_length)"
            )
        train = split == "train"
        settings = self._settings
        return TokenBatches(
            tokenised.records,
            size=settings.per_device_train_batch_size if train else settings.per_device_eval_batch_size,
            seed=settings.seed if train else None,
            filler=filler(self.tokenizer),
            workers=settings.dataloader_num_workers,
        )

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """The mean cross-entropy over the batch's answer tokens."""
        loss: torch.Tensor = model(**batch).loss
        return loss

    def weight(self, batch: Batch) -> int:
        """How many tokens `loss` is the mean of."""
        return int((batch["labels"][:, 1:] != IGNORED).sum())

    def tokens(self, batch: Batch) -> int:
        """How many tokens are not padding."""
        return int(batch["attention_mask"].sum())

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the model as transformers reads it, weights as safetensors, with its tokenizer."""
        model.config.use_cache = True
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def dataset_name(run: Run, split: str) -> str:
    """What the configuration calls the data of a split. Raises `UsageError` when it names none."""
    data = run.config.data
    named = data.train if split == "train" else data.validation
    names = run.config.unified_data_access.data_access.dataset_names
    if named:
        return str(named)
    if split == "train" and names:
        return str(names[0])
    hint = "data.train, or the first of unified_data_access.data_access.dataset_names"
    raise UsageError(f"the configuration names no {split} data", hint=hint if split == "train" else "data.validation")


@frozen
class TokenBatches:
    """Padded batches of tokenised records; `feeds.Positioned`.

    With a `seed` every epoch has its own order, records of like length together; without one the
    order is fixed. `filler` is the token id under the padding, which no mask and no label shows.
    """

    records: Sequence[Tokens]
    size: int = field(kw_only=True)
    seed: int | None = field(kw_only=True)
    filler: int = field(kw_only=True)
    workers: int = field(kw_only=True, default=0)

    def __len__(self) -> int:
        return self.rounds(1)

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self.share(0, rank=0, world_size=1, skip=0))

    def rounds(self, world_size: int) -> int:
        return -(-len(self.records) // (self.size * world_size))

    def share(self, epoch: int, *, rank: int, world_size: int, skip: int) -> Iterator[Weighed]:
        """The batches of `size` records for one rank; see `feeds.Positioned`."""
        parts = list(share(self._order(epoch, world_size), rank=rank, world_size=world_size))[skip:]
        rows = [part for part, _ in parts]
        weights = [sum(self._predicted(row) for row in part) if counts else 0 for part, counts in parts]
        return zip(self._collated(rows), weights, strict=True)

    def _order(self, epoch: int, world_size: int) -> list[list[int]]:
        lengths = [len(record.ids) for record in self.records]
        if self.seed is None:
            return sorted_order(lengths, size=self.size * world_size)
        return grouped_order(lengths, size=self.size * world_size, seed=self.seed, epoch=epoch)

    def _predicted(self, row: int) -> int:
        return self.records[row].answer

    def _collated(self, rows: list[list[int]]) -> Iterator[Batch]:
        if not self.workers:
            return (self._collate([self.records[row] for row in part]) for part in rows)
        # A generator of its own: the loader would otherwise draw its workers' seeds from the model's.
        loader: Any = DataLoader(
            list(self.records),  # type: ignore[arg-type]
            batch_sampler=rows,
            collate_fn=self._collate,
            num_workers=self.workers,
            generator=torch.Generator(),
        )
        return iter(loader)

    def _collate(self, records: Sequence[Tokens]) -> Batch:
        return collate(records, filler=self.filler)


def collate(records: Sequence[Tokens], *, filler: int) -> Batch:
    """`input_ids`, `attention_mask` and `labels`, each (records, longest), padded on the right by length."""
    longest = max(len(record.ids) for record in records)
    ids = torch.full((len(records), longest), filler)
    mask = torch.zeros((len(records), longest), dtype=torch.long)
    labels = torch.full((len(records), longest), IGNORED)
    for row, record in enumerate(records):
        length = len(record.ids)
        ids[row, :length] = torch.tensor(record.ids)
        mask[row, :length] = 1
        labels[row, record.prompt : length] = ids[row, record.prompt : length]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
