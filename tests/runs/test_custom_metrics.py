"""`ml.custom_metrics` in runs: computed with what they come from, over a resume too, and never the end of training."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from prism.config.sections import CustomMetric
from prism.runs.custom_metrics import CustomMetrics
from prism.runs.series import Points

SEED = random.SystemRandom().randrange(1 << 30)


def custom(*expressions: str, history: Mapping[str, Points] | None = None, warnings: list[str] | None = None) -> Any:
    """Custom metrics called m0, m1, … of these expressions."""
    definitions = [CustomMetric(f"m{number}", text) for number, text in enumerate(expressions)]
    complaints = warnings if warnings is not None else []
    return CustomMetrics(definitions, complaints.append, lambda _: history or {})


def logged(metrics: CustomMetrics, name: str, values: Sequence[float], *, first: int = 1) -> list[float]:
    """What `m0` is while the values are logged one step after the other."""
    return [float(metrics.observe(first + at, {name: value})["m0"]) for at, value in enumerate(values)]


@pytest.mark.parametrize("window", [1, 3, 50, 1000])
def test_a_mean_over_a_window_is_the_mean_of_the_last_values(window: int) -> None:
    print(f"seed {SEED}")
    values = [random.Random(SEED).uniform(-1e6, 1e6) * 10 ** (at % 7) for at in range(300)]
    expected = [statistics.fmean(values[max(0, at + 1 - window) : at + 1]) for at in range(300)]
    assert logged(custom(f"mean(x, {window})"), "x", values) == pytest.approx(expected, rel=1e-9, abs=1e-3)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("mean(x)", [4.0, 3.0, 4.0]),
        ("min(x)", [4.0, 2.0, 2.0]),
        ("max(x)", [4.0, 4.0, 6.0]),
        ("first(x)", [4.0, 4.0, 4.0]),
        ("last(x)", [4.0, 2.0, 6.0]),
        ("delta(x)", [0.0, -2.0, 4.0]),
        ("ema(x, 0.5)", [4.0, 3.0, 4.5]),
        ("x - mean(x)", [0.0, -1.0, 2.0]),
        ("max(x, 3) % 4", [0.0, 3.0, 2.0]),
        ("-x ** 2 / 2 + 10 * abs(x - 5)", [2.0, 28.0, -8.0]),
        ("log10(10 ** x) + exp(log(x)) + sqrt(x * x)", [12.0, 6.0, 18.0]),
    ],
)
def test_what_an_expression_is_worth(expression: str, expected: list[float]) -> None:
    assert logged(custom(expression), "x", [4.0, 2.0, 6.0]) == pytest.approx(expected)


def test_metrics_of_one_step_are_brought_together() -> None:
    metrics = custom("a - b", "metric('val/a') - last(a)")
    assert metrics.observe(1, {"a": 5.0}) == {}
    assert metrics.observe(1, {"b": 2.0}) == {"m0": 3.0}  # logged on its own, at the same step
    assert metrics.observe(2, {"b": 2.0}) == {}  # `a` is of another step
    assert metrics.observe(3, {"val/a": 7.0}) == {"m1": 2.0}
    assert metrics.observe(None, {"a": 1.0, "b": 1.0}) == {"m0": 0.0}


def test_a_custom_metric_may_be_made_of_another() -> None:
    assert custom("x + 1", "m0 * 10", "mean(m1)").observe(1, {"x": 1.0}) == {"m0": 2.0, "m1": 20.0, "m2": 20.0}


def test_what_has_no_value_is_nan_with_one_warning_each() -> None:
    warnings: list[str] = []
    metrics = custom("1 / x", "log(x)", "(-1) ** (x + 0.5)", "9e300 ** (x + 2)", "exp(x + 1000)", warnings=warnings)
    for step in range(3):
        found = metrics.observe(step, {"x": 0.0})
        assert found == {"m0": "NaN", "m1": "NaN", "m2": "NaN", "m3": "NaN", "m4": "Infinity"}
    assert len(warnings) == 4 and "'m0' is NaN" in warnings[0]


def test_values_that_are_not_finite_are_passed_over_by_series_and_not_by_arithmetic() -> None:
    metrics = custom("ema(x, 0.5)", "x + 1", "max(x, 0)")
    assert metrics.observe(1, {"x": "NaN"}) == {"m1": "NaN", "m2": "NaN"}
    assert metrics.observe(2, {"x": 2.0}) == {"m0": 2.0, "m1": 3.0, "m2": 2.0}
    assert metrics.observe(3, {"x": "-Infinity"}) == {"m0": 2.0, "m1": "-Infinity", "m2": 0.0}


def test_what_the_run_logs_under_the_name_itself_stands() -> None:
    warnings: list[str] = []
    metrics = custom("x + 1", warnings=warnings)
    assert metrics.observe(1, {"x": 1.0, "m0": 7.0}) == {} and "by the run itself" in warnings[0]


def test_a_series_goes_on_over_a_resume() -> None:
    values = [random.Random(5).uniform(0, 9) for _ in range(40)]
    for expression in ("mean(x)", "mean(x, 7)", "ema(x, 0.9)", "min(x)", "delta(x)", "first(x)"):
        whole = logged(custom(expression), "x", values)
        history: Points = [
            (step, value) for step, value in enumerate(values[:25], start=1)
        ]  # five beyond the checkpoint
        resumed = custom(expression, history={"x": history})
        assert logged(resumed, "x", values[20:], first=21) == pytest.approx(whole[20:])
    assert math.isclose(custom("mean(x)", history={"x": [(None, 3.0)]}).observe(None, {"x": 1.0})["m0"], 2.0)


CONFIGURATION = """
foundation: {experiment_name: real}
plugins: {local: [shares.py]}
ml:
  enabled: false
  custom_metrics:
    - {name: perplexity, expression: exp(loss)}
    - {name: smooth, expression: "ema(loss, 0.5)"}
    - {name: fit, evaluator: shares, predictions: forecast, references: val/observed}
    - {name: broken, evaluator: shares, predictions: forecast, references: nothing}
"""
PLUGIN = """
from prism.hookspecs import hookimpl
from prism.protocols import Scores
from prism.providers import Provider

class Shares:
    def score(self, predictions, references):
        same = {one.id: float(one.output == other.output) for one, other in zip(predictions, references, strict=True)}
        return Scores({"equal": sum(same.values()) / len(same)}, {}, "equal|exact")

@hookimpl
def prism_evaluators():
    return [Provider("shares", target="shares:Shares")]
"""
TRAIN = """
def train(run):
    saved = run.latest_checkpoint()
    first = int(saved.name.split("-")[1]) + 1 if saved else 1
    for step in range(first, 9):
        run.log_metrics({"loss": 8.0 / step, "forecast": step % 3}, step=step)
        run.log_metric("val/observed", step % 2, step=step)
        if step == 4:
            with run.checkpoint(step=step):
                pass
        if step == 6 and run.attempt == 1:
            raise SystemExit(7)
"""


def test_a_run_logs_them_with_what_they_come_from_and_scores_series_at_its_end(project: Any) -> None:
    project.configure(CONFIGURATION)
    project.write("shares.py", PLUGIN)
    project.write("train.py", TRAIN)
    assert project.prism("run", "train.py:train").code == 7
    again = project.prism("run", "train.py:train", "--resume", "auto")
    assert again.code == 0, again.err
    state = project.state()
    smooth = 8.0
    for step in range(2, 9):
        smooth = 0.5 * smooth + 0.5 * 8.0 / step
    assert state.metrics["smooth"] == pytest.approx(smooth)  # as if nothing had happened
    assert state.metrics["perplexity"] == math.exp(1.0)
    assert state.metrics["fit/equal"] == sum(step % 3 == step % 2 for step in range(1, 9)) / 8
    (evaluation,) = state.evaluations
    assert (evaluation["data"], evaluation["signatures"]) == ("fit", {"shares": "equal|exact"})
    assert state.status == "FINISHED" and "no step in common" in again.err
    points = [r.data for r in project.records("metrics") if "loss" in r.data["metrics"]]
    assert all({"perplexity", "smooth"} <= point["metrics"].keys() for point in points)


def test_an_evaluator_that_cannot_load_is_an_error_before_anything_is_started(project: Any) -> None:
    project.configure(CONFIGURATION)
    project.write("shares.py", PLUGIN.replace('Provider("shares"', 'Provider("shares", requires=("no_such_module",)'))
    project.write("train.py", TRAIN)
    done = project.prism("run", "train.py:train")
    assert done.code == 4 and "the evaluator 'shares' needs no_such_module" in done.err
    assert project.runs() == []


def test_a_wrong_expression_is_an_error_before_anything_is_started(project: Any) -> None:
    project.configure("ml:\n  enabled: false\n  custom_metrics:\n    - {name: x, expression: open('a')}\n")
    project.write("train.py", TRAIN)
    done = project.prism("run", "train.py:train")
    assert done.code == 2 and "yaml:4:29  ml.custom_metrics[0].expression: there is no function 'open'" in done.err
    assert project.runs() == []
