"""Real parts for the trainer's tests: a tiny Llama with its own BPE tokenizer, a project, runs in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from prism.journal.directory import RunDirectory
from prism.journal.records import read_journal
from prism.project import open_project
from prism.runs.beginning import begin_run, enter_attempt
from prism.runs.handle import Run
from prism.runs.signals import StopRequest

FACTS = {
    "Imatinib": "kinase inhibitor",
    "Aspirin": "platelet aggregation inhibitor",
    "Morphine": "opioid agonist",
    "Metformin": "biguanide",
    "Ibuprofen": "nonsteroidal anti-inflammatory drug",
    "Atorvastatin": "HMG-CoA reductase inhibitor",
    "Lisinopril": "angiotensin converting enzyme inhibitor",
    "Warfarin": "vitamin K antagonist",
    "Insulin": "hormone",
    "Codeine": "opioid",
    "Zinc": "copper absorption inhibitor",
}
RECORDS = [
    {"instruction": f"What is {name}?", "input": "", "output": f"{name} is a {kind}."} for name, kind in FACTS.items()
]


def train_tokenizer(*, pad: str | None = "<pad>") -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 400 tokens over the facts."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", *([pad] if pad else [])]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([record["instruction"] + record["output"] for record in RECORDS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token=pad)


@pytest.fixture(scope="session")
def records() -> list[dict[str, str]]:
    return RECORDS


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    return train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer()


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The folder of a random Llama of 2 layers, 64 wide."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        attention_dropout=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def still_model(tmp_path: Path, small_model: Path) -> Path:
    """The same model without dropout."""
    folder = tmp_path / "still"
    shutil.copytree(small_model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.0}), encoding="utf-8")
    return folder


@pytest.fixture
def project_folder(tmp_path: Path, small_model: Path) -> Path:
    """A project with the drug facts as training and validation data."""
    folder = tmp_path / "project"
    folder.mkdir()
    write_records(folder / "train.jsonl", RECORDS)
    write_records(folder / "validation.jsonl", RECORDS[:4])
    return folder


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_yaml(folder: Path, parameters: dict[str, Any], **sections: Any) -> Path:
    """A configuration that keeps its run in the journal alone."""
    values = {
        "foundation": {"experiment_name": "trainer_tests"},
        "unified_data_access": {"enabled": False, "data_access": {"dataset_names": ["train.jsonl"]}},
        "ml": {"enabled": False, "parameters": parameters},
        **sections,
    }
    path = folder / "sais_foundation.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


StartRun = Callable[..., Run]


@pytest.fixture
def start_run(project_folder: Path, small_model: Path) -> Iterator[StartRun]:
    """`start_run(parameters, …)` begins a run; `like=run` goes on with one as its next attempt."""
    opened: list[Run] = []

    def start(
        parameters: dict[str, Any], *, like: Run | None = None, stop: StopRequest | None = None, **sections: Any
    ) -> Run:
        file = write_yaml(project_folder, {"base_model": str(small_model), "device": "cpu", **parameters}, **sections)
        project = open_project(file)
        directory = RunDirectory(like.directory) if like else begin_run(project)
        attempt = like.attempt + 1 if like else 1
        run = enter_attempt(directory, project=project, attempt=attempt, environ={}, stop=stop)
        opened.append(run)
        return run

    yield start
    for run in opened:
        run.finish()


@pytest.fixture
def said() -> Callable[[Run, str], list[dict[str, Any]]]:
    """What a run's own journal file has of one kind."""

    def read(run: Run, kind: str) -> list[dict[str, Any]]:
        file = run.directory / "journal" / f"a{run.attempt}-rank{run.rank}.jsonl"
        return [dict(record.data) for record in read_journal(file).records if record.kind == kind]

    return read


class StopAfter(StopRequest):
    """A request to stop that arrives while the given step is under way."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def look(self) -> bool:
        self.left -= 1
        if self.left == 0:
            self.signal_number = 15
        return super().look()


@pytest.fixture
def stop_after() -> Callable[[int], StopRequest]:
    return StopAfter
