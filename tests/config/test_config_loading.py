"""Strict structure: what fits, what does not, and where that is said."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from prism.config import ConfigurationError, Named, Problem, find_config, locate_config
from prism.errors import UsageError


def places(problems: list[Problem]) -> list[tuple[int, int, str]]:
    return [(one.line, one.column, one.key) for one in problems]


def test_an_almost_empty_file_has_all_the_defaults(configs: Any) -> None:
    config = configs.load("foundation:\n")
    assert (config.path, config.project) == (configs.file, configs.folder)
    assert config.foundation.experiment_name == "default_experiment"
    assert (config.trainer.name, config.launcher.name, config.launcher.processes) == ("accelerate", "accelerate", None)
    assert config.trackers == (Named("mlflow"),)
    assert config.unified_data_access.client == Named("local")
    assert config.evaluation.predictor.name == "generate"
    assert [one.name for one in config.evaluation.evaluators] == ["rouge", "bleu"]
    assert (config.ml.model_repo.registered, config.ml.model_repo.await_registration_for) == (True, 300.0)
    assert not config.ml.model_repo.registers
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("text", "line", "column", "key", "message", "hint"),
    [
        ("ml:\n  enabled: 'yes'\n", 2, 12, "ml.enabled", "expected true or false, found text ('yes')", "write true"),
        ("ml:\n  enabled: no\n", 2, 12, "ml.enabled", "expected true or false, found text ('no')", "write true"),
        ("ml:\n  enabled: 1\n", 2, 12, "ml.enabled", "expected true or false, found a whole number (1)", ""),
        ("launcher:\n  processes: true\n", 2, 14, "launcher.processes", "expected a whole number, found true", ""),
        ("launcher:\n  processes: '2'\n", 2, 14, "launcher.processes", "found text ('2')", "remove the quotes"),
        ("launcher:\n  processes: 1.5\n", 2, 14, "launcher.processes", "found a number (1.5)", ""),
        ("launcher: {processes: 0}\n", 1, 23, "launcher.processes", "expected at least 1", ""),
        ("evaluation: {max_samples: 0}\n", 1, 27, "evaluation.max_samples", "expected at least 1", ""),
        ("ml: {model_repo: {version: 1.10}}\n", 1, 28, "ml.model_repo.version", "(1.10)", 'quote it: "1.10"'),
        ("foundation: {experiment_name: 5}\n", 1, 31, "foundation.experiment_name", "expected text", 'quote it: "5"'),
        ("foundation: {experiment_name: ''}\n", 1, 31, "foundation.experiment_name", "not empty", ""),
        ("foundation: {experiment_name: null}\n", 1, 31, "foundation.experiment_name", "found nothing", ""),
        ("ml:\n- a\n", 2, 1, "ml", "expected a mapping, found a list", ""),
        ("ml: text\n", 1, 5, "ml", "expected a mapping, found text", ""),
        ("evaluation: {data: x}\n", 1, 20, "evaluation.data", "expected a list, found text", "write [x]"),
        ("evaluation: {data: [1]}\n", 1, 21, "evaluation.data[0]", "expected text", 'quote it: "1"'),
        ("ml: {trackng_uri: x}\n", 1, 6, "ml.trackng_uri", "unknown key", "did you mean 'tracking_uri'?"),
        ("mll: {}\n", 1, 1, "mll", "unknown key", "did you mean 'ml'?"),
        ("mine: {}\n", 1, 1, "mine", "unknown key", "x-mine"),
        ("trainer: 3\n", 1, 10, "trainer", "expected a name, or a mapping", ""),
        ("trainer: [a]\n", 1, 10, "trainer", "expected a name, or a mapping", ""),
        ("trainer: acelerate\n", 1, 10, "trainer", "no plugin provides a trainer", "did you mean 'accelerate'?"),
        ("trainer: {task: sfft}\n", 1, 17, "trainer.task", "expected one of sft, lm", "did you mean 'sft'?"),
        ("trainer: {taks: sft}\n", 1, 11, "trainer.taks", "unknown key", "did you mean 'task'?"),
        ("trainer: {rate: -1}\n", 1, 17, "trainer.rate", "'rate' must be > 0", ""),
        ("trainer: {betas: [1]}\n", 1, 18, "trainer.betas", "expected 2 values, found 1", ""),
        ("trainer: {colour: green}\n", 1, 19, "trainer.colour", "expected one of red, blue", ""),
        ("trainer: {limit: x}\n", 1, 18, "trainer.limit", "a whole number or a number", ""),
        ("trainer: {inner: {dept: 1}}\n", 1, 19, "trainer.inner.dept", "unknown key", "did you mean 'depth'?"),
        ("trainer: {table: {a: b}}\n", 1, 22, "trainer.table.a", "expected a whole number", ""),
        ("trackers:\n- mlflow\n- {x: 1}\n", 3, 3, "trackers[1]", "the key 'name' is missing", ""),
        ("trackers: [{name: mlflow, x: 1}]\n", 1, 27, "trackers[0].x", "unknown key", "mlflow takes no options"),
        ("unified_data_access:\n  client: cpfs\n", 2, 11, "unified_data_access.client", "'roots' is missing", ""),
        ("ml: {parameters: {a.b: 1, a: {b: 2}}}\n", 1, 31, "ml.parameters.a.b", "both the parameter", ""),
        ("data_access: {}\nunified_data_access: {}\n", 1, 1, "data_access", "same section", "keep one"),
    ],
)
def test_what_does_not_fit_is_said_where_it_stands(
    configs: Any, text: str, line: int, column: int, key: str, message: str, hint: str
) -> None:
    problem = configs.problem(text)
    assert (problem.file, problem.line, problem.column, problem.key) == (str(configs.file), line, column, key)
    assert message in problem.message
    assert hint in problem.hint


def test_everything_wrong_is_said_at_once_in_the_order_of_the_file(configs: Any) -> None:
    problems = configs.problems(
        "ml:\n  enabled: 3\n  x: 1\n  security: {user: a, password: [b]}\nfoo: 1\nml: {}\n"
        "trainer: nobody\nevaluation: {evaluators: [rouge, nobody, {name: bleu, y: 2}]}\n"
    )
    assert places(problems) == [
        (2, 12, "ml.enabled"),
        (3, 3, "ml.x"),
        (4, 14, "ml.security.user"),
        (4, 33, "ml.security.password"),
        (5, 1, "foo"),
        (6, 1, "ml"),
        (7, 10, "trainer"),
        (8, 34, "evaluation.evaluators[1]"),
        (8, 55, "evaluation.evaluators[2].y"),
    ]


def test_numbers_are_widened_and_nothing_else(configs: Any) -> None:
    config = configs.load("ml: {model_repo: {name: m, await_registration_for: 5}}\ntrainer: {limit: 2, rate: 1}\n")
    assert config.ml.model_repo.await_registration_for == 5.0
    assert (config.trainer.options.limit, config.trainer.options.rate) == (2, 1.0)


def test_paths_in_options_are_absolute_also_the_defaults(configs: Any) -> None:
    config = configs.load(
        "unified_data_access: {client: {name: cpfs, roots: [data, /mnt/x]}}\n"
        "trainer: {inner: {file: f.txt}}\nplugins: {local: [p.py]}\n"
    )
    folder = configs.folder
    assert config.unified_data_access.client.options.roots == (folder / "data", Path("/mnt/x"))
    assert config.unified_data_access.client.options.cache is None
    assert config.trainer.options.folder == folder / "out"
    assert config.trainer.options.inner.file == folder / "f.txt"
    assert config.plugins.local == (folder / "p.py",)
    elsewhere = configs.load("trainer: accelerate\n", project=folder / "other")
    assert elsewhere.trainer.options.folder == folder / "other/out"
    assert elsewhere.project == folder / "other"


def test_options_take_over_what_their_section_says(configs: Any) -> None:
    config = configs.load(
        "unified_data_access: {cached: true, token: abcdef, client: {name: cpfs, roots: [d]}}\n"
        "evaluation: {max_new_tokens: 11}\n"
    )
    options = config.unified_data_access.client.options
    assert (options.cached, options.token) == (True, "abcdef")
    assert config.evaluation.predictor.options.max_new_tokens == 11
    assert str(config.origin("evaluation.predictor.max_new_tokens")) == f"{configs.file}:2:30"
    own = configs.load("evaluation: {max_new_tokens: 11, predictor: {name: generate, max_new_tokens: 12}}\n")
    assert own.evaluation.predictor.options.max_new_tokens == 12
    assert configs.load("data: {}\n").evaluation.predictor.options.max_new_tokens == 200


def test_a_default_that_is_not_installed_is_no_problem_until_it_is_named(configs: Any) -> None:
    def nothing(kind: str, name: str) -> type | None:
        raise UsageError(f"no {kind} {name}")

    assert configs.load("foundation: {}\n", option_type=nothing).trainer == Named("accelerate")
    assert configs.problem("trainer: accelerate\n", option_type=nothing).message == "no trainer accelerate"
    assert configs.problem("trainer: {task: sft}\n", option_type=nothing).key == "trainer.name"


def test_a_named_plugin_that_cannot_load_is_an_unfit_environment(configs: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configs.load("trainer: broken\n")
    assert caught.value.exit_code == 4
    assert caught.value.problems[0].hint == "mend it"
    with pytest.raises(ConfigurationError) as caught:
        configs.load("trainer: broken\nmll: {}\n")
    assert caught.value.exit_code == 2


def test_messages_name_file_line_column_key_and_hint(configs: Any) -> None:
    configs.write("ml:\n  enabld: true\n")
    with pytest.raises(ConfigurationError) as caught:
        configs.load()
    assert str(caught.value) == (
        f"{configs.file}:2:3  ml.enabld: unknown key 'enabld'\n    hint: did you mean 'enabled'?"
    )
    assert caught.value.exit_code == 2


def test_no_tracker_is_in_use_while_ml_is_off(configs: Any) -> None:
    assert configs.load("ml: {enabled: false}\n").trackers == ()
    named = configs.load("ml: {enabled: false}\ntrackers: [mlflow]\n")
    assert named.trackers == ()
    assert [one.key for one in named.warnings] == ["trackers"]
    assert configs.load("trackers:\n").trackers == ()
    assert configs.load("trainer:\nevaluation: {predictor:  , evaluators: }\n").trainer.name == "accelerate"


def test_keys_that_do_not_act_yet_and_old_names_are_hinted(configs: Any) -> None:
    config = configs.load(
        "ml:\n  custom_metrics: []\n  metrics: {train: [loss]}\n  model_repo: {registered: true}\n"
        "  parameters:\n    evaluation_strategy: 'no'\n    logging_dir: ./logs\n    torch_dtype: float16\n"
        "    data_version: 1.10\n    lr: 0.10\n"
    )
    assert [(one.line, one.key) for one in config.warnings] == [
        (6, "ml.parameters.evaluation_strategy"),
        (7, "ml.parameters.logging_dir"),
        (8, "ml.parameters.torch_dtype"),
        (9, "ml.parameters.data_version"),
        (3, "ml.metrics"),
        (4, "ml.model_repo"),
    ]
    assert all("\n" not in one.message for one in config.warnings)
    assert config.warnings[3].hint == 'quote it: "1.10"'
    assert config.ml.metrics == ("loss",)


def test_another_model_than_the_runs_own_is_hinted(configs: Any) -> None:
    config = configs.load("ml:\n  model_repo: {name: m, model_uri: models:/other/1}\n")
    assert [(one.line, one.key) for one in config.warnings] == [(2, "ml.model_repo.model_uri")]


def test_sections_of_ones_own_are_kept(configs: Any) -> None:
    config = configs.load("x-mine: {a: [1, {b: ${C:-d}}]}\n")
    assert config.extra == {"x-mine": {"a": [1, {"b": "d"}]}}
    assert config.section("x-mine") == {"a": [1, {"b": "d"}]}


def test_plain_dump_and_digest(configs: Any) -> None:
    text = "trainer: {colour: blue}\nml: {parameters: {a: '$${X}', b: no, c: '1.10', d: 2e-5}}\nx-own: {k: v}\n"
    config = configs.load(text)
    assert config.plain()["trainer"]["colour"] == "blue"
    assert config.plain()["trainer"]["folder"] == "out"
    again = configs.load(config.dump())
    assert again.plain() == config.plain()
    assert again.digest == config.digest
    assert config.digest.startswith("sha256:")
    assert configs.load(text + "# comment\n").digest == config.digest
    assert configs.load(text, overrides=["ml.parameters.d=3e-5"]).digest != config.digest


def test_a_configuration_travels_to_other_processes(configs: Any) -> None:
    config = configs.load("ml: {parameters: {a: 1}}\ntrainer: accelerate\n")
    assert pickle.loads(pickle.dumps(config)).plain() == config.plain()


def test_the_digest_does_not_depend_on_the_folder(configs: Any, tmp_path: Path) -> None:
    other = type(configs)(tmp_path / "elsewhere")
    text = "trainer: {folder: sub}\nplugins: {local: [a.py]}\n"
    assert configs.load(text).digest == other.load(text).digest


def test_the_origin_of_a_bare_name_and_of_no_key(configs: Any) -> None:
    config = configs.load("trainer: accelerate\ntrackers: [mlflow]\n")
    assert str(config.origin("trainer.name")) == f"{configs.file}:1:10"
    assert str(config.origin("trackers[0].name")) == f"{configs.file}:2:12"
    assert config.origin("trainer.rate").text == "0.5"
    with pytest.raises(UsageError, match=r"there is no key 'trainer\.rat'"):
        config.origin("trainer.rat")


def test_a_broken_options_class_is_the_plugins_fault(configs: Any) -> None:
    problem = configs.problem(
        "trainer: accelerate\n", option_type=lambda kind, name: _broken_class() if kind == "trainer" else None
    )
    assert "options class" in problem.message
    assert problem.unfit


def _broken_class() -> type:
    import attrs

    return attrs.make_class("Options", {"x": attrs.field(type="NoSuchType", default=None)}, frozen=True)


def test_a_configuration_is_found_upwards_or_missed_clearly(configs: Any, tmp_path: Path) -> None:
    deep = tmp_path / "a/b"
    deep.mkdir(parents=True)
    assert find_config(deep) is None
    with pytest.raises(UsageError) as caught:
        locate_config(start=deep)
    assert str(deep) in caught.value.message
    assert "prism init" in caught.value.hint
    configs.write("ml: {}\n")
    assert locate_config(start=deep) == configs.file
    with pytest.raises(UsageError, match="there is no configuration file"):
        locate_config(tmp_path / "none.yaml", start=deep)


def test_a_configuration_of_the_usual_size_loads_quickly(configs: Any) -> None:
    parameters = "".join(f"    p{n}: {n}.5\n" for n in range(25))
    configs.write(f"foundation: {{experiment_name: e}}\nml:\n  parameters:\n{parameters}trainer: accelerate\n")
    configs.load()
    begun = time.process_time()
    configs.load()
    assert time.process_time() - begun < 0.2  # about 0.01 s on an idle machine
