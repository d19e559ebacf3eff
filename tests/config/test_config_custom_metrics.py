"""`ml.custom_metrics` and `ml.ranks`: what is taken, and what is wrong at which line and column."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from prism.config.expressions import ExpressionError, Metric, Number, Operation, Series, parse_expression

LISTED = "ml:\n  custom_metrics:\n"


def test_an_expression_is_read_with_its_operators_in_their_order() -> None:
    assert parse_expression("2 * loss ** 2") == Operation(
        "*", (Number(2.0), Operation("**", (Metric("loss"), Number(2.0))))
    )
    assert parse_expression("metric('eval/loss') - mean(loss, 10)") == Operation(
        "-", (Metric("eval/loss"), Series("mean", "loss", 10.0))
    )
    assert parse_expression("min(loss)") == Series("min", "loss")
    assert parse_expression("min(loss, 1)") == Operation("min", (Metric("loss"), Number(1.0)))


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("loss +", 6, "no expression"),
        (" ", 0, "no place"),
        ("loss > 1", 0, "no place"),
        ("loss if loss else 0", 0, "no place"),
        ("__import__('os').system('true')", 0, "no place"),
        ("1 + foo(loss)", 4, "no function 'foo'"),
        ("2 * 'loss'", 4, "no place"),
        ("loss[0]", 0, "no place"),
        ("loss.x", 0, "no place"),
        ("(lambda: 1)()", 0, "no place"),
        ("True + loss", 0, "no place"),
        ("2j", 0, "no place"),
        ("exp(loss, 1)", 0, r"exp\(\) takes 1 arguments, 2"),
        ("exp(x=loss)", 0, "no place"),
        ("max(1, *loss)", 7, "no place"),
        ("ema(loss)", 0, "takes a metric and a number"),
        ("ema(loss, 1)", 10, "less than 1"),
        ("ema(exp(loss), 0.5)", 4, "takes the name of a metric"),
        ("mean(loss, 0)", 11, "whole number"),
        ("mean(loss, n)", 11, "not a number"),
        ("metric(loss)", 0, "one name in quotes"),
        ("ü + exp()", 4, "takes 1 arguments"),
        ("1" + "0" * 400, 0, "too large"),
        ("(" * 500 + "1", 199, "no expression"),
        ("x" * 1001, 1000, "at most 1000"),
    ],
)
def test_what_is_no_expression_is_said_with_its_place(text: str, at: int, message: str) -> None:
    with pytest.raises(ExpressionError, match=message) as caught:
        parse_expression(text)
    assert caught.value.at == at


@pytest.mark.parametrize("text", ["-" * 990 + "1", "exp(" * 240 + "1" + ")" * 240, "1" + "+1" * 490, "1" + "**1" * 330])
def test_deep_nesting_is_read_or_refused(text: str) -> None:
    with suppress(ExpressionError):
        parse_expression(text)


@pytest.mark.parametrize(
    ("entry", "column", "key", "message"),
    [
        ("{name: x, expression: loss +}", 35, "[0].expression", "no expression"),
        ('{name: x, expression: "1 + foo(loss)"}', 34, "[0].expression", "no function"),
        ("{name: x, expression: 1 + 1}", 29, "[0].expression", "names no metric"),
        ("{name: x, expression: x + 1}", 29, "[0].expression", "names itself"),
        ("{name: x}", 7, "[0]", "says nothing of how"),
        ("{name: x, expression: loss, evaluator: rouge}", 7, "[0]", "either an expression or"),
        ("{name: x, expression: loss, predictions: a}", 35, "[0].predictions", "only an evaluator"),
        ("{name: x, evaluator: rouge, predictions: a}", 7, "[0]", "'references' is missing"),
        ("{expression: loss}", 7, "[0]", "'name' is missing"),
        ("loss", 7, "[0]", "expected a mapping"),
        ("{name: x, expression: loss, at: 1}", 35, "[0].at", "unknown key"),
        ("{name: x, evaluator: nobody, predictions: a, references: b}", 28, "[0].evaluator", "no plugin"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said_with_its_place(
    configs: Any, entry: str, column: int, key: str, message: str
) -> None:
    problem = configs.problem(f"{LISTED}    - {entry}\n")
    assert (problem.line, problem.column, problem.key) == (3, column, f"ml.custom_metrics{key}")
    assert message in problem.message


def test_entries_are_held_against_each_other(configs: Any) -> None:
    text = (
        f"{LISTED}    - {{name: a, expression: b + loss}}\n    - {{name: b, expression: loss}}\n"
        "    - {name: b, expression: a + loss}\n"
    )
    assert [(one.line, one.key, one.message.split(":")[0]) for one in configs.problems(text)] == [
        (3, "ml.custom_metrics[0].expression", "the custom metric 'b' stands below"),
        (5, "ml.custom_metrics[2].name", "another custom metric above is called 'b' too"),
    ]


def test_an_expression_that_a_comma_has_ended_is_hinted(configs: Any) -> None:
    problems = configs.problems(f"{LISTED}    - {{name: a, expression: ema(loss, 0.9)}}\n")
    assert "quote it" in problems[0].hint


def test_a_configuration_with_custom_metrics_is_written_and_read_again(configs: Any, tmp_path: Path) -> None:
    text = (
        f"{LISTED}    - {{name: a, expression: exp(loss)}}\n"
        "    - {name: b, evaluator: rouge, predictions: p, references: r}\n  ranks: [1, 3]\n"
    )
    config = configs.load(text)
    again = configs.load(config.dump())
    assert again.ml.custom_metrics == config.ml.custom_metrics and again.digest == config.digest
    assert [one.name for one in config.ml.custom_metrics] == ["a", "b"]
    assert config.ml.custom_metrics[1].evaluator.name == "rouge"
    assert not config.warnings


@pytest.mark.parametrize(("given", "ranks"), [("all", "all"), ("[1, 3]", (1, 3)), ("[]", ()), ("", ())])
def test_ranks_are_a_list_or_all(configs: Any, given: str, ranks: object) -> None:
    assert configs.load(f"ml:\n  ranks: {given}\n").ml.ranks == ranks


@pytest.mark.parametrize("given", ["some", "[0]", "3", "[a]", "{}"])
def test_other_ranks_are_wrong(configs: Any, given: str) -> None:
    assert configs.problem(f"ml:\n  ranks: {given}\n").key.startswith("ml.ranks")
