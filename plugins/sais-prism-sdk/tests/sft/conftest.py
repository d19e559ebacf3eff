"""The seed's SFT script and its configuration as they stand there, and a small model and data to run them on."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from prism.journal.directory import list_runs
from prism.journal.projection import Follower
from prism.journal.state import RunState, read_state

SEED = Path(__file__).parents[1] / "seed" / "README.md"
DIGEST = "ff78a11143edf060d18d6724b5812361ac7ec9a9466dee2a01c27936b74e9ec8"
DRUG_QA = Path(__file__).parents[4] / "examples" / "drug_qa"
RECORDS = 16
_BLOCK = re.compile(r"^```(\w*) *\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and find_spec("transformers") is None:
            item.add_marker(pytest.mark.skip(reason="transformers is not installed"))


@define
class Found:
    """A run that has ended: what its journal says, and what MLflow's file has of it."""

    folder: Path
    state: RunState

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [dict(record.data) for record in Follower(self.state.directory).poll() if record.kind == kind]

    def points(self, name: str) -> list[tuple[int | None, float]]:
        """Every point of that name in the journal: step and value."""
        said = self.records("metrics")
        return [(data["step"], data["metrics"][name]) for data in said if name in data["metrics"]]

    def stored(self, name: str) -> list[tuple[int, float]]:
        """The same at MLflow, doubled ones doubled."""
        rows = "SELECT step, value FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step"
        with sqlite3.connect(self.folder / "mlflow.db") as database:
            return list(database.execute(rows, (self.state.trackers["mlflow"].run_id, name)))

    def warned(self, text: str) -> list[str]:
        return [message for message in self.state.warnings if text in message]


@define
class SftProject:
    """A folder with the seed's script `script.py` and its configuration, of which only what must differ differs."""

    here: Any
    seed: tuple[str, str]

    @property
    def path(self) -> Path:
        return self.here.path

    @staticmethod
    def count(text: str, *words: str) -> dict[str, int]:
        """How many lines of a text have each of these in them."""
        return {each: sum(each in line for line in text.splitlines()) for each in words}

    def configure(self, *, tracking_uri: str = "", **parameters: Any) -> None:
        """The seed's configuration with other values for the keys that are given."""
        text = self.seed[1]
        for name, value in parameters.items():
            text, found = re.subn(rf"^( +{name}:).*$", rf"\1 {value}", text, flags=re.MULTILINE)
            assert found, f"the seed has no {name}"
        if tracking_uri:
            text = text.replace("\nml:\n", f"\nml:\n  tracking_uri: {tracking_uri}\n")
        self.here.configure(text)

    def python(self, *words: str, code: int = 0, **environ: str) -> Any:
        return self.here.python(*words, code=code, HF_HOME=str(self.path / "hf"), HF_HUB_OFFLINE="1", **environ)

    def runs(self, *, within: float = 120) -> list[Found]:
        """The runs, oldest first, when all that they have said is delivered and registered."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            found = self.states()
            states = [run.state for run in found]
            if not any(state.status == "RUNNING" or state.pending or state.awaits_registration for state in states):
                return found
            time.sleep(0.2)
        raise AssertionError([(state.status, state.pending, state.model) for state in states])

    def states(self) -> list[Found]:
        """The runs, oldest first, whatever is still to be delivered."""
        states = sorted(map(read_state, list_runs(self.path)), key=lambda state: state.started)
        return [Found(self.path, state) for state in states]

    def registered(self) -> list[tuple[str, str]]:
        """The run and the source's folder of each model version that MLflow has."""
        rows = "SELECT run_id, storage_location FROM model_versions ORDER BY version"
        with sqlite3.connect(self.path / "mlflow.db") as database:
            return list(database.execute(rows))


@pytest.fixture(scope="session")
def seed() -> tuple[str, str]:
    """The script and the configuration of the seed, letter for letter."""
    assert hashlib.sha256(SEED.read_bytes()).hexdigest() == DIGEST, "it is no longer the seed's, byte for byte"
    blocks = _BLOCK.findall(SEED.read_text(encoding="utf-8"))
    (script,) = (text for kind, text in blocks if kind == "python" and "class SFTTraining" in text)
    (config,) = (text for kind, text in blocks if kind == "yaml" and text.startswith("foundation:"))
    return script, config


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained Llama with a tokenizer, some drug questions, and MLflow's database as after a first run."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from prism_mlflow.access.embedded import prepare

    folder = tmp_path_factory.mktemp("sft-made")
    subprocess.run([sys.executable, DRUG_QA / "make_records.py", "--out", folder], check=True, timeout=120)
    lines = (folder / "drug_qa_train.jsonl").read_text(encoding="utf-8").splitlines()[:RECORDS]
    rows = [{key: json.loads(line)[key] for key in ("instruction", "input", "output")} for line in lines]
    for path in folder.glob("drug_qa_*.jsonl"):
        path.unlink()
    (folder / "alpaca_sft_dataset.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    maker = runpy.run_path(str(DRUG_QA / "make_model.py"))
    tokenizer = maker["make_tokenizer"]([text for row in rows for text in (row["instruction"], row["output"])])
    torch.manual_seed(0)
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "max_position_embeddings": 256}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **heads, **ids))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    prepare(folder / "mlflow.db", artifacts=(folder / "artifacts").as_uri())
    return folder


@pytest.fixture
def sft(here: Any, seed: tuple[str, str], made: Path) -> Iterator[SftProject]:
    """The seed's script in a folder of its own, to run for 20 steps of 4 examples."""
    shutil.copytree(made, here.path, dirs_exist_ok=True)
    here.path.joinpath("script.py").write_text(seed[0], encoding="utf-8")
    yield SftProject(here, seed)
