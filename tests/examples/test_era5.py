"""The science example: where its data is from, what its baselines know, its scores, its network, and a run killed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from prism.journal.directory import RunDirectory
from prism.journal.state import read_state

np = pytest.importorskip("numpy")
pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

EXAMPLE = Path(__file__).parents[2] / "examples" / "era5"
DATA = EXAMPLE / "data" / "era5_levels_members.nc"
MODULES = ("era5", "baselines", "network", "temperature", "study")
TIMES = ("2017-01-01T00:00", "2017-01-01T12:00", "2017-01-02T00:00", "2017-01-02T12:00")


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    """The example's modules by name; they are gone again afterwards, for another example has modules of these names."""
    others = {name: sys.modules.pop(name, None) for name in MODULES}
    sys.path.insert(0, str(EXAMPLE))
    yield SimpleNamespace(**{name: import_module(name) for name in MODULES})
    sys.path.remove(str(EXAMPLE))
    for name, other in others.items():
        del sys.modules[name]
        if other is not None:
            sys.modules[name] = other


@pytest.fixture(scope="module")
def fields(example: SimpleNamespace) -> Any:
    return example.era5.read_fields(DATA)


class TestData:
    def test_the_file_is_the_one_that_its_page_describes(self) -> None:
        page = (DATA.parent / "README.md").read_text(encoding="utf-8")
        (digest,) = re.findall(r"`([0-9a-f]{64})`", page)
        assert hashlib.sha256(DATA.read_bytes()).hexdigest() == digest
        assert f"{DATA.stat().st_size:,} bytes" in page
        assert "Contains modified Copernicus Climate Change Service information 2017" in page

    def test_fields_are_in_their_places(self, fields: Any) -> None:
        assert fields.times == TIMES
        assert fields.predictors.shape == (4, 10, 3, 61, 120) and fields.t850.shape == (4, 10, 61, 120)
        assert fields.latitude[0] == 90 and fields.latitude[-1] == -90
        t500, z850, z500 = (fields.predictors[:, :, place].mean() for place in range(3))
        assert 240 < t500 < 265 and 265 < fields.t850.mean() < 285  # K
        assert 1300 < z850 / 9.80665 < 1550 and 5300 < z500 / 9.80665 < 5800  # m

    def test_weights_are_shares_of_the_sphere(self, example: SimpleNamespace, fields: Any) -> None:
        weights = example.era5.area_weights(fields.latitude)
        assert weights.shape == (61, 1) and weights.min() < 1e-9  # at the poles
        assert weights.sum() * 120 == pytest.approx(61 * 120, rel=1e-6)
        tropics = np.abs(fields.latitude) <= 30
        assert weights[tropics].sum() / weights.sum() == pytest.approx(0.5, abs=0.03)  # half of the Earth lies there


class TestHoldingOut:
    @pytest.mark.parametrize("place", range(4))
    def test_nothing_of_the_held_out_time_is_in_what_is_learned_from(
        self, example: SimpleNamespace, fields: Any, place: int
    ) -> None:
        """Spoil that time: statistics, climatology, coefficients and persistence are as before, its truth is not."""
        spoilt = example.era5.Fields(fields.times, fields.latitude, fields.predictors.copy(), fields.t850.copy())
        spoilt.t850[place] += 1000
        spoilt.predictors[place, 1:] *= 3  # all members but the first, which the regressions are then asked about
        splits = [example.era5.hold_out(each, TIMES[place]) for each in (fields, spoilt)]
        assert TIMES[place] not in splits[0].training.times and len(splits[0].training.times) == 3
        statistics = [attrs.asdict(example.era5.statistics(each.training), recurse=False) for each in splits]
        forecasts = [
            {name: each[:, :1] for name, each in example.baselines.baselines(split).items()} for split in splits
        ]
        for true, same in (statistics, forecasts):
            assert true.keys() == same.keys()
            assert all(np.array_equal(true[name], same[name]) for name in true)
        assert ("persistence" in forecasts[0]) == (place > 0)
        assert np.abs(splits[1].held_out.t850 - splits[0].held_out.t850).min() > 900

    def test_the_task_trains_on_its_training_times_and_validates_on_the_other(
        self, example: SimpleNamespace, fields: Any
    ) -> None:
        run = SimpleNamespace(
            params=SimpleNamespace(held_out=TIMES[1], per_device_train_batch_size=8, width=4),
            config=SimpleNamespace(data=SimpleNamespace(train="era5")),
            dataset=lambda name: SimpleNamespace(path=DATA),
            log_metrics=lambda metrics, step: None,
        )
        task = example.temperature.Temperature(run)
        for split, places in {"train": [0, 2, 3], "validation": [1]}.items():
            given = torch.cat([t850 for _, t850 in task.batches(split)]).numpy()
            expected = fields.t850[places].reshape(given.shape)
            assert np.array_equal(np.sort(given[:, 30, 0]), np.sort(expected[:, 30, 0]))

    def test_persistence_is_the_same_member_12_hours_ago(self, example: SimpleNamespace, fields: Any) -> None:
        split = example.era5.hold_out(fields, TIMES[2])
        assert np.array_equal(example.baselines.baselines(split)["persistence"], fields.t850[1:2])

    def test_another_time_is_refused(self, example: SimpleNamespace, fields: Any) -> None:
        with pytest.raises(ValueError, match=f"'2017-01-03' is none of {TIMES[0]}"):
            example.era5.hold_out(fields, "2017-01-03")


class TestScores:
    def test_a_case_done_by_hand(self, example: SimpleNamespace) -> None:
        truth, usual = np.array([[[4.0, 2.0], [2.0, 0.0]]]), np.array([[1.0, 1.0], [1.0, 1.0]])
        forecast, weights = np.array([[[2.0, 2.0], [3.0, 1.0]]]), np.array([[1.5], [0.5]])
        found = example.baselines.score(forecast, truth, usual, weights)
        # errors -2 0 | 1 1: (1.5 x 4 + 0.5 x 2) / 4; anomalies 1 1 | 2 0 and 3 1 | 1 -1
        assert found.rmse == pytest.approx((7 / 4) ** 0.5)
        assert found.acc == pytest.approx((1.5 * 4 + 0.5 * 2) / ((1.5 * 2 + 0.5 * 4) * (1.5 * 10 + 0.5 * 2)) ** 0.5)
        assert example.baselines.score(truth, truth, usual, weights) == example.baselines.Score(0.0, pytest.approx(1))
        nothing = example.baselines.score(np.broadcast_to(usual, truth.shape), truth, usual, weights)
        assert nothing.acc is None

    @pytest.mark.parametrize("reach", [0, 1])
    def test_least_squares_finds_a_law_that_is_linear(self, example: SimpleNamespace, reach: int) -> None:
        """Anomalies of t850 are made of those of the western neighbour: only the regression that sees it is exact."""
        rng = np.random.default_rng(0)
        predictors = rng.standard_normal((4, 2, 3, 7, 8))
        t850 = 280 + 3 * predictors[:, :, 0] + (2 * np.roll(predictors[:, :, 2], 1, axis=-1) if reach else 0)
        fields = example.era5.Fields(TIMES, np.linspace(60, -60, 7), predictors, t850)
        split = example.era5.hold_out(fields, TIMES[3])
        usual = example.era5.statistics(split.training)
        exact = example.baselines.linear(split.training, split.held_out, reach=reach)
        assert exact == pytest.approx(split.held_out.t850, abs=1e-4)
        assert usual.t850.shape == (7, 8)
        if reach:
            blind = example.baselines.linear(split.training, split.held_out, reach=0)
            assert np.abs(blind - split.held_out.t850).max() > 1


class TestNetwork:
    def test_it_is_round_eastwards_and_says_the_usual_at_first(self, example: SimpleNamespace, fields: Any) -> None:
        torch.manual_seed(0)
        usual = example.era5.statistics(fields.at([0, 1, 2]))
        network = example.network.Network(4).take(usual)
        predictors = torch.from_numpy(fields.predictors[3, :1])
        assert torch.equal(network(predictors)[0], torch.from_numpy(usual.t850))
        torch.nn.init.normal_(network.layers[-1].weight)
        with torch.no_grad():
            anomalies = torch.randn(1, 3, 61, 120) * network.predictors_spread
            change = [
                network(network.predictors + anomalies.roll(shift, -1)).roll(-shift, -1) - network.t850.roll(-shift, -1)
                for shift in (0, 50)
            ]
        assert torch.allclose(*change, atol=1e-3) and change[0].abs().max() > 0.1

    def test_a_mirrored_field_has_its_anomalies_upside_down(self, example: SimpleNamespace) -> None:
        usual, fields = torch.tensor([[1.0], [2.0]]), torch.tensor([[[1.0], [5.0]], [[1.0], [5.0]]])
        where = torch.tensor([True, False])
        assert example.temperature.mirror(fields, usual, where=where).flatten().tolist() == [4.0, 2.0, 1.0, 5.0]


def prism(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PRISM", "MLFLOW"))}
    command = [sys.executable, "-m", "prism", "--project", str(project), *words]
    return subprocess.run(
        command, cwd=project, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=150
    )


KILLED = """
import os, signal
from temperature import Temperature

class Killed(Temperature):
    '''Ends its own process, as kill -9 does, in the forward pass of the sixth step.'''
    seen = 0

    def loss(self, model, batch):
        self.seen += model.training
        if self.seen == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, batch)
"""
# 6 steps make an epoch: killed in the first, two steps after the checkpoint, with mirrors drawn in between
FEW = (
    "ml.parameters.max_steps=9",
    "ml.parameters.save_steps=4",
    "ml.parameters.width=4",
    "ml.parameters.logging_steps=1",
)


@pytest.mark.timeout(400)
def test_a_run_is_registered_and_one_killed_goes_on_to_the_same_bits(example: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    project = tmp_path / "era5"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("artifacts", "__pycache__", "mlflow.db"))
    (project / "killed.py").write_text(KILLED, encoding="utf-8")
    whole = prism(project, "run", "temperature.py:Temperature", *FEW)
    assert whole.returncode == 0, whole.stderr
    assert "era5_t850 1.0.0  registered" in whole.stdout
    killed = prism(project, "run", "killed.py:Killed", "ml.enabled=false", *FEW)
    assert killed.returncode == 137, killed.stderr
    resumed = prism(project, "run", "temperature.py:Temperature", "--resume", "auto", "ml.enabled=false", *FEW)
    assert resumed.returncode == 0, resumed.stderr

    folders = sorted((project / "artifacts" / "runs").glob("2*"))
    assert len(folders) == 2
    states = [read_state(RunDirectory(folder)) for folder in folders]
    assert [each.attempts for each in states] == [1, 2]
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    scores = [{name: value for name, value in each.metrics.items() if "eval" in name} for each in states]
    assert scores[0] == scores[1] and scores[0]["eval_rmse_persistence"] == pytest.approx(2.317, abs=0.001)

    # the model alone, read again, has the score that its run says
    split = example.era5.hold_out(example.era5.read_fields(DATA), TIMES[3])
    network = example.network.load_network(folders[0] / "model")
    with torch.no_grad():
        forecast = network(torch.from_numpy(split.held_out.predictors[0])).numpy()
    weighted = example.era5.area_weights(split.held_out.latitude)
    found = example.baselines.score(forecast, split.held_out.t850[0], network.t850.numpy(), weighted)
    (table,) = folders[0].glob("files/*/scores.md")
    assert f"| network | {found.rmse:.3f} | {found.acc:.3f} |" in table.read_text(encoding="utf-8")
    assert scores[0]["eval_rmse"] == pytest.approx(found.rmse, rel=1e-4)


def test_the_study_writes_the_marked_part_alone(example: SimpleNamespace, tmp_path: Path) -> None:
    study, page = example.study, tmp_path / "page.md"
    page.write_text(f"before\n{study.BEGIN}\nold\n{study.END}\nafter\n", encoding="utf-8")
    runs = tuple(
        {"eval_rmse": rmse, "eval_acc": 0.5, "eval_rmse_linear": 2.0, "eval_acc_linear": 0.4} for rmse in (1, 2)
    )
    study.put_into(page, study.figures_text([study.Outcome(TIMES[0], runs, 0.42)]))
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| **network** | **1.50** (1.00 to 2.00) |" in text
    assert "| linear, a point's own fields | 2.00 |" in text and "| persistence, 12 hours | – |" in text
