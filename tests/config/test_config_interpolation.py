"""Variables in values: every form, every error, and how the field decides what a value is."""

from __future__ import annotations

from typing import Any

import pytest

from prism.config.interpolation import Unset, fill, spans

ENVIRON = {"A": "one", "EMPTY": "", "MY_TOKEN": "t0psecret", "N": "3"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${A}", "one"),
        ("x${A}y${N}", "xoney3"),
        ("${EMPTY}", ""),
        ("${NONE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${A:-d}", "one"),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("${NONE:-${A}}", "one"),
        ("${NONE:-{}}", "{}"),
        ("${A:?must be there}", "one"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A {A} $", "$A {A} $"),
        ("$${A} ${A}", "${A} one"),
    ],
)
def test_variables_are_put_in(text: str, filled: str) -> None:
    assert fill(text, ENVIRON).text == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NONE}", "NONE is not set"),
        ("${NONE:?tell me}", "NONE is not set: tell me"),
        ("${EMPTY:?tell me}", "EMPTY is not set: tell me"),
        ("${EMPTY:?}", "EMPTY is not set"),
        ("${A", "not closed"),
        ("${}", "not a variable"),
        ("${1A}", "not a variable"),
        ("${A-x}", "not a variable"),
        ("${A:+x}", "not a variable"),
        ("${NONE:-${ALSO}}", "ALSO is not set"),
    ],
)
def test_what_cannot_be_put_in_is_said(text: str, message: str) -> None:
    with pytest.raises(Unset, match=message.replace("(", r"\(")):
        fill(text, ENVIRON)


def test_a_secret_variable_is_masked_within_the_text() -> None:
    filled = fill("Bearer ${MY_TOKEN} of ${A}", ENVIRON)
    assert (filled.text, filled.shown, filled.secrets) == (
        "Bearer t0psecret of one",
        "Bearer *** of one",
        ("t0psecret",),
    )
    assert fill("${OTHER_KEY:-hunter2}", ENVIRON).shown == "***"


def test_spans_end_on_their_line() -> None:
    assert list(spans("a ${B} ${C\n} ${D:-{x}}")) == [(2, 6), (13, 22)]


def test_the_field_decides_what_a_variable_is(configs: Any) -> None:
    config = configs.load(
        "foundation: {experiment_name: ${EXP}}\n"
        "ml:\n  enabled: ${ON}\n  tracking_uri: ${URI:-}\n"
        "  model_repo: {name: m, version: ${VERSION}, await_registration_for: ${WAIT}}\n"
        "  parameters: {lr: ${LR}, text: '${LR}', flag: ${ON}, word: ${WORD}}\n"
        "evaluation: {max_samples: ${MAX:-}}\n"
        'launcher: {processes: "${N}"}\n',
        environ={"EXP": "123", "ON": "false", "VERSION": "1.10", "WAIT": "5", "LR": "2e-5", "WORD": "no", "N": "2"},
    )
    assert config.foundation.experiment_name == "123"
    assert config.ml.enabled is False
    assert config.ml.tracking_uri is None
    assert config.ml.model_repo.version == "1.10"
    assert config.ml.model_repo.await_registration_for == 5.0
    assert dict(config.ml.parameters) == {"lr": 2e-5, "text": "2e-5", "flag": False, "word": "no"}
    assert config.evaluation.max_samples is None
    assert config.launcher.processes == 2


def test_a_missing_variable_is_reported_once_and_where_it_stands(configs: Any) -> None:
    problems = configs.problems("ml:\n  enabled: ${ON}\n  auto_log: ${LOG:?say true or false}\n  x: 1\ntrainer: ${T}\n")
    assert [(one.line, one.column, one.key) for one in problems] == [
        (2, 12, "ml.enabled"),
        (3, 13, "ml.auto_log"),
        (4, 3, "ml.x"),
        (5, 10, "trainer"),
    ]
    assert "${ON:-default}" in problems[0].hint
    assert "say true or false" in problems[1].message


def test_a_wrong_variable_is_reported_at_its_place(configs: Any) -> None:
    problem = configs.problem("launcher:\n  processes: ${N}\n", environ={"N": "two"})
    assert (problem.line, problem.column, problem.key) == (2, 14, "launcher.processes")
    assert "expected a whole number, found text ('two')" in problem.message
