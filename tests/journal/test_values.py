"""Values come back bit for bit: from the journal, and from what `prism` reads of it."""

from __future__ import annotations

import importlib
import json
import math
import struct
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from prism.cli.main import cli
from prism.journal.directory import RunDirectory
from prism.journal.records import number, parse_number, read_journal
from prism.journal.state import read_state
from prism.project import open_project
from prism.runs.beginning import begin_run, enter_attempt
from prism.runs.handle import Run
from prism.runs.values import flatten, whole_step

FLOATS = {
    "zero": 0.0,
    "minus zero": -0.0,
    "least subnormal": 5e-324,
    "a subnormal": -2.2250738585072011e-308,
    "least normal": 2.2250738585072014e-308,
    "largest": 1.7976931348623157e308,
    "beside one": 1.0000000000000002,
    "a tenth": 0.1,
    "shortest text is long": 9007199254740993.0,
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}


def bits(value: float) -> bytes:
    return b"NaN" if math.isnan(value) else struct.pack("<d", value)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    settings = {"foundation": {"experiment_name": "any"}, "ml": {"enabled": False}}
    (tmp_path / "sais_foundation.yaml").write_text(json.dumps(settings), encoding="utf-8")
    project = open_project(tmp_path / "sais_foundation.yaml")
    with enter_attempt(begin_run(project), project=project, attempt=1) as run:
        yield run


def in_the_journal(run: Run) -> dict[str, float]:
    records = read_journal(run.directory / "journal" / "a1-rank0.jsonl").records
    metrics = (record.data["metrics"] for record in records if record.kind == "metrics")
    return {name: parse_number(value) for points in metrics for name, value in points.items()}


def test_every_float_is_the_same_wherever_prism_reads_it(run: Run, tmp_path: Path) -> None:
    run.log_metrics(FLOATS, step=1)
    wanted = {name: bits(value) for name, value in FLOATS.items()}
    assert {name: bits(value) for name, value in in_the_journal(run).items()} == wanted
    state = read_state(RunDirectory(run.directory))
    assert {name: bits(value) for name, value in state.metrics.items()} == wanted
    told = CliRunner().invoke(cli, ["--project", str(tmp_path), "runs", "show", run.run_id, "--json"])
    shown = json.loads(told.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["metrics"]
    assert {name: bits(parse_number(value)) for name, value in shown.items()} == wanted
    run.finish()
    told = CliRunner().invoke(cli, ["--project", str(tmp_path), "runs", "show", run.run_id, "--json"])  # from run.json
    shown = json.loads(told.stdout)["metrics"]
    assert {name: bits(parse_number(value)) for name, value in shown.items()} == wanted


def scalars_of(library: str) -> Iterator[tuple[Any, float]]:
    """Scalars of a library, and the floats with exactly their values."""
    found: Any = importlib.import_module(library)
    make = found.tensor if library == "torch" else (lambda value, dtype: dtype(value))
    least = {"float64": 5e-324, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}
    for name in least if library == "torch" else ("float64", "float32", "float16"):
        kind = getattr(found, name)
        largest = float(found.finfo(kind).max)
        for value in (0.0, -0.0, 1.0, -1.5, 2.0**-14, largest, -largest, least[name], math.inf, -math.inf, math.nan):
            yield make(value, dtype=kind), value
    for name in ("int8", "int16", "int32", "int64", "uint8", "bool"):
        kind = getattr(found, name, None) or found.bool_
        yield make(1, dtype=kind), 1.0
    yield make(-(2**53), dtype=found.int64), -(2.0**53)


@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=pytest.mark.torch)])
def test_scalars_of_array_libraries_are_stored_exactly(run: Run, library: str) -> None:
    pytest.importorskip(library)
    scalars = list(scalars_of(library))
    run.log_metrics({f"{index}": scalar for index, (scalar, _) in enumerate(scalars)}, step=1)
    back = in_the_journal(run)
    assert [bits(back[f"{index}"]) for index in range(len(scalars))] == [bits(value) for _, value in scalars]


@pytest.mark.torch
def test_tensors_with_a_gradient_and_of_one_element_are_numbers() -> None:
    torch: Any = pytest.importorskip("torch")
    loss = (torch.tensor([0.1], requires_grad=True) ** 2).mean()
    assert number(loss) == float(loss.detach()) and number(torch.tensor([[0.5]])) == 0.5
    for value in (torch.tensor([1.0, 2.0]), torch.tensor([]), torch.tensor(1j)):
        with pytest.raises(TypeError):
            number(value)


def test_what_is_more_exact_than_a_float_is_rounded_to_the_nearest() -> None:
    numpy: Any = pytest.importorskip("numpy")
    assert number(2**53 + 1) == float(2**53) and number(2**53 + 3) == float(2**53 + 4)
    assert number(True) == 1.0 and number(Fraction(1, 3)) == 1 / 3 and number(Decimal("0.1")) == 0.1
    assert number(numpy.longdouble("0.1")) == 0.1 and number(numpy.uint64(2**64 - 1)) == 2.0**64
    for value in (10**400, Fraction(10**400)):
        with pytest.raises(TypeError, match="is not one number"):
            number(value)


def test_parameters_keep_the_numbers_of_array_libraries(run: Run) -> None:
    numpy: Any = pytest.importorskip("numpy")

    class Colour(IntEnum):
        RED = 3

    class Mode(Enum):
        FAST = "fast"

    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no words")

    given = {
        "lr": numpy.float32(0.1),
        "layers": numpy.int64(12),
        "flag": numpy.bool_(True),
        "list": [numpy.float16(0.5), (numpy.int8(1), None)],
        "big": 2**63 + 1,
        "huge": 10**5000,
        "nan": math.nan,
        "enum": Colour.RED,
        "mode": Mode.FAST,
        "path": Path("a/b"),
        "mute": Mute(),
        "nested": {"deep": {"er": numpy.float64(1e-320)}, "empty": {}},
    }
    run.log_params(given)
    wanted = {
        "lr": 0.10000000149011612,
        "layers": 12,
        "flag": True,
        "list": [0.5, [1, None]],
        "big": 2**63 + 1,
        "huge": hex(10**5000),
        "nan": "NaN",
        "enum": 3,
        "mode": "Mode.FAST",
        "path": "a/b",
        "mute": "<Mute: RuntimeError>",
        "nested.deep.er": 1e-320,
        "nested.empty": {},
    }
    state = read_state(RunDirectory(run.directory))
    assert state.damage == []
    assert {name: state.params[name] for name in wanted} == wanted
    assert all(type(state.params[name]) is type(value) for name, value in wanted.items())


def test_steps_of_array_libraries_are_whole_numbers() -> None:
    numpy: Any = pytest.importorskip("numpy")
    for step in (numpy.int64(7), numpy.int32(7), numpy.uint8(7), numpy.float32(7.0), numpy.array(7)):
        assert whole_step(step) == 7 and type(whole_step(step)) is int
    for step in (numpy.float32(7.5), numpy.float64("nan"), numpy.array([7])):
        with pytest.raises(TypeError, match="whole number"):
            whole_step(step)


def test_a_lot_of_parameters_and_long_ones_are_kept_whole(run: Run) -> None:
    many = {f"group{index % 50}": {} for index in range(50)}
    for index in range(5000):
        many[f"group{index % 50}"][f"key {index} größe[@]"] = index
    run.log_params({**many, "prompt": "ü" * 1_000_000, "n" * 300: 1})
    params = read_state(RunDirectory(run.directory)).params
    assert params["prompt"] == "ü" * 1_000_000 and params["n" * 300] == 1
    assert {name: params[name] for name in dict(flatten(many))} == dict(flatten(many))


def test_any_name_of_a_metric_comes_back(run: Run) -> None:
    names = ["größe", "acc[0]@k", "損失", "n" * 300, "a/b", "a_b", "A/B", "", " ", "\n", "\0", '"', "\\", "🌡", "crc"]
    run.log_metrics({name: index for index, name in enumerate(names)}, step=1)
    assert in_the_journal(run) == {name: float(index) for index, name in enumerate(names)}
