"""What the tests of the configuration share: a project folder, and providers with options of every sort."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import field, frozen, validators

from prism.config import SECRET, Configuration, ConfigurationError, Problem, load
from prism.config.document import read_yaml
from prism.errors import EnvironmentUnfit, UsageError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@frozen
class Inner:
    depth: int = 1
    file: Path = Path("inner.txt")


@frozen
class ClientOptions:
    roots: tuple[Path, ...]
    cache: Path | None = None
    cached: bool = False
    token: str = field(default="", repr=False, metadata=SECRET)


@frozen
class TrainerOptions:
    task: Literal["sft", "lm"] = "sft"
    rate: float = field(default=0.5, validator=validators.gt(0))
    betas: tuple[float, float] = (0.9, 0.99)
    colour: Colour = Colour.RED
    limit: int | float | None = None
    inner: Inner = Inner()
    table: Mapping[str, int] = field(factory=dict)
    folder: Path = Path("out")


@frozen
class PredictorOptions:
    max_new_tokens: int = 7


OPTIONS: dict[tuple[str, str], type | None] = {
    ("data_client", "local"): None,
    ("data_client", "cpfs"): ClientOptions,
    ("trainer", "accelerate"): TrainerOptions,
    ("tracker", "mlflow"): None,
    ("launcher", "accelerate"): None,
    ("predictor", "generate"): PredictorOptions,
    ("evaluator", "rouge"): None,
    ("evaluator", "bleu"): None,
}


def option_type(kind: str, name: str) -> type | None:
    if name == "broken":
        raise EnvironmentUnfit("the plugin 'broken' cannot load", hint="mend it")
    if (kind, name) not in OPTIONS:
        raise UsageError(f"no plugin provides a {kind} named {name!r}", hint="did you mean 'accelerate'?")
    return OPTIONS[kind, name]


class ConfigProject:
    """A folder with configuration files in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "sais_foundation.yaml"

    def write(self, text: str, *, name: str = "sais_foundation.yaml") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def load(
        self,
        text: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        overrides: Sequence[str] = (),
        option_type: Callable[[str, str], type | None] = option_type,
        **more: Any,
    ) -> Configuration:
        if text is not None:
            self.write(text)
        return load(
            self.file, read=read_yaml, option_type=option_type, environ=environ or {}, overrides=overrides, **more
        )

    def problems(self, text: str | None = None, **more: Any) -> list[Problem]:
        with pytest.raises(ConfigurationError) as caught:
            self.load(text, **more)
        return list(caught.value.problems)

    def problem(self, text: str | None = None, **more: Any) -> Problem:
        (one,) = self.problems(text, **more)
        return one


@pytest.fixture
def configs(tmp_path: Path) -> ConfigProject:
    return ConfigProject(tmp_path)
