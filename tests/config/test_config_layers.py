"""Layers: extends, the file, the environment, the command line; and the origin of every value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prism.config import ConfigurationError, load, peek_plugins
from prism.config.document import read_yaml
from prism.config.layers import split_path
from prism.errors import UsageError


def test_each_layer_wins_over_the_one_below(configs: Any) -> None:
    configs.write("ml: {parameters: {a: 1, b: 1, c: 1, d: 1, e: [1]}}\n", name="up/one.yaml")
    configs.write("ml: {parameters: {b: 2, c: 2, d: 2}}\n", name="up/two.yaml")
    config = configs.load(
        "extends: [up/one.yaml, up/two.yaml]\nml: {parameters: {c: 3, d: 3, e: [3, 3]}}\n",
        environ={"PRISM__ML__PARAMETERS__D": "4", "PRISM__ML__PARAMETERS__NEW": "2e-5"},
        overrides=["ml.parameters.f=5", "ml.parameters.D=x"],
    )
    assert dict(config.ml.parameters) == {"a": 1, "b": 2, "c": 3, "d": 4, "e": [3, 3], "new": 2e-5, "f": 5, "D": "x"}
    origins = {name: str(config.origin(f"ml.parameters.{name}")) for name in ("a", "b", "c", "d", "f")}
    assert origins == {
        "a": f"{configs.folder}/up/one.yaml:1:22",
        "b": f"{configs.folder}/up/two.yaml:1:22",
        "c": f"{configs.file}:2:22",
        "d": "environment",
        "f": "command line",
    }
    assert config.origin("ml.parameters.d").text == "${PRISM__ML__PARAMETERS__D}"
    assert str(config.origin("ml.auto_log")) == "default"


def test_extends_is_relative_to_the_file_that_names_it(configs: Any) -> None:
    configs.write("foundation: {experiment_name: base}\n", name="a/b/base.yaml")
    configs.write("extends: [b/base.yaml]\n", name="a/team.yaml")
    assert configs.load("extends: [a/team.yaml]\n").foundation.experiment_name == "base"
    file = configs.load("extends: ['${WHERE}/team.yaml']\n", environ={"WHERE": "a"})
    assert file.foundation.experiment_name == "base"


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("extends: [none.yaml]\n", (1, 11), "there is no file"),
        ("extends: base.yaml\n", (1, 10), "expected a list of files"),
        ("extends: [3]\n", (1, 11), "expected the name of a file"),
        ("extends: [sais_foundation.yaml]\n", (1, 11), "extends itself"),
    ],
)
def test_a_wrong_extends_is_reported_where_it_stands(
    configs: Any, text: str, place: tuple[int, int], word: str
) -> None:
    problem = configs.problem(text)
    assert ((problem.line, problem.column), problem.key) == (place, "extends")
    assert word in problem.message


def test_problems_of_all_files_come_at_once(configs: Any) -> None:
    base = configs.write("ml: {enabled: 3}\nml: {}\n", name="base.yaml")
    problems = configs.problems("extends: [base.yaml]\nml:\n  x: 1\n", overrides=["ml.y=2"])
    assert {(one.file, one.line, one.key) for one in problems} == {
        (str(base), 1, "ml.enabled"),
        (str(base), 2, "ml"),
        (str(configs.file), 3, "ml.x"),
        ("command line", 0, "ml.y"),
    }


def test_a_cycle_over_two_files_is_found(configs: Any) -> None:
    configs.write("extends: [sais_foundation.yaml]\n", name="b.yaml")
    problem = configs.problem("extends: [b.yaml]\n")
    assert problem.file == str(configs.folder / "b.yaml")
    assert "extends itself" in problem.message


THREE = {
    "institute/base.yaml": """\
ml:
  tracking_uri: http://mlflow.example:5000
  artifacts: [a.txt, b.txt]
  parameters: {seed: 0, optim: {lr: 1, betas: [0.9, 0.99]}}
  model_repo: {tag: {institute: SAIS}}
""",
    "institute/labs/team.yaml": """\
extends: [../base.yaml]
ml:
  parameters: {seed: 1, optim: {betas: [0.8]}}
  model_repo: {tag: {team: drugs}}
""",
    "projects/mine/sais_foundation.yaml": """\
extends: [../../institute/labs/team.yaml]
ml:
  artifacts: [c.txt]
  parameters: {optim: {lr: 3}}
  model_repo: {name: m}
""",
}


@pytest.fixture
def three(configs: Any) -> Any:
    """An institute's file, a team's over it, a project's over that, each in a folder of its own."""
    for name, text in THREE.items():
        configs.write(text, name=name)
    configs.file = configs.folder / "projects/mine/sais_foundation.yaml"
    return configs


def test_three_files_in_three_folders_stack_up(three: Any) -> None:
    config = three.load(environ={"PRISM__ML__PARAMETERS__WIDTH": "8"}, overrides=["ml.parameters.seed=4"])
    assert config.ml.parameters == {"seed": 4, "optim": {"lr": 3, "betas": [0.8]}, "width": 8}
    assert (config.ml.artifacts, dict(config.ml.model_repo.tag)) == (("c.txt",), {"institute": "SAIS", "team": "drugs"})
    institute, team, mine = (three.folder / name for name in THREE)
    origins = {
        "ml.tracking_uri": f"{institute}:2:17",
        "ml.model_repo.tag.institute": f"{institute}:5:33",
        "ml.model_repo.tag.team": f"{team}:4:28",
        "ml.parameters.optim.betas[0]": f"{team}:3:41",
        "ml.parameters.optim.lr": f"{mine}:4:28",
        "ml.artifacts[0]": f"{mine}:3:15",
        "ml.parameters.seed": "command line",
        "ml.parameters.width": "environment",
        "ml.auto_log": "default",
    }
    assert {key: str(config.origin(key)) for key in origins} == origins


def test_paths_of_shared_files_are_the_project_s_and_those_of_extends_their_own(three: Any) -> None:
    three.write(
        "data: {train: t}\ntrainer: {name: accelerate, folder: sub, inner: {file: /at/all}}\n", name="more.yaml"
    )
    three.write(
        "extends: [../../institute/labs/team.yaml, ../../more.yaml]\n", name="projects/mine/sais_foundation.yaml"
    )
    options = three.load().trainer.options
    assert (options.folder, str(options.inner.file)) == (three.folder / "projects/mine/sub", "/at/all")


def test_a_shared_folder_is_found_where_a_linked_project_really_is(three: Any) -> None:
    link = three.folder / "home" / "mine"
    link.parent.mkdir()
    link.symlink_to(three.folder / "projects/mine")
    three.file = link / "sais_foundation.yaml"
    origin = three.load().origin("ml.tracking_uri")
    assert origin.file == str(three.folder / "institute/base.yaml")


def test_what_is_wrong_in_any_of_them_is_told_where_it_stands(three: Any) -> None:
    three.write("mll: {}\n", name="institute/base.yaml")
    three.write("extends: [../base.yaml, gone.yaml]\nml: {artefacts: []}\n", name="institute/labs/team.yaml")
    problems = three.problems()
    places = {(one.file.removeprefix(f"{three.folder}/"), one.line, one.column, one.key) for one in problems}
    assert places == {
        ("institute/base.yaml", 1, 1, "mll"),
        ("institute/labs/team.yaml", 1, 25, "extends"),
        ("institute/labs/team.yaml", 2, 6, "ml.artefacts"),
    }
    (missing,) = [one.message for one in problems if one.key == "extends"]
    assert missing == f"there is no file {three.folder}/institute/labs/gone.yaml"


def test_a_cycle_over_three_files_names_those_on_the_way(three: Any) -> None:
    institute, team, mine = (three.folder / name for name in THREE)
    three.write("extends: [../projects/mine/sais_foundation.yaml]\n", name="institute/base.yaml")
    problem = three.problem()
    assert (problem.file, problem.line, problem.column) == (str(institute), 1, 11)
    assert problem.message == f"{mine} extends itself, through {team}, {institute}"


def test_a_file_that_nobody_reads_is_reported_where_it_is_named(three: Any) -> None:
    def read(path: Path) -> Any:
        if path.suffix != ".yaml":
            raise UsageError(f"no plugin reads {path}", hint="name it so")
        return read_yaml(path)

    three.write("extends: [base.json]\n", name="projects/mine/sais_foundation.yaml")
    three.write("{}", name="projects/mine/base.json")
    with pytest.raises(ConfigurationError) as caught:
        load(three.file, read=read, option_type=lambda kind, name: None, environ={})
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.key, problem.hint) == (1, 11, "extends", "name it so")


def test_of_two_files_over_one_base_the_later_brings_the_base_s_values_again(configs: Any) -> None:
    """As the reference says: files win in their order, each over what it extends itself."""
    configs.write("ml: {parameters: {a: base, b: base}}\n", name="base.yaml")
    configs.write("extends: [base.yaml]\nml: {parameters: {a: one}}\n", name="one.yaml")
    configs.write("extends: [base.yaml]\nml: {parameters: {b: two}}\n", name="two.yaml")
    assert dict(configs.load("extends: [one.yaml, two.yaml]\n").ml.parameters) == {"a": "base", "b": "two"}


def test_another_name_replaces_the_options_and_the_same_name_keeps_them(configs: Any) -> None:
    configs.write("trainer: {name: accelerate, task: lm, rate: 2}\n", name="base.yaml")
    same = configs.load("extends: [base.yaml]\ntrainer: {rate: 3}\n").trainer
    assert (same.name, same.options.task, same.options.rate) == ("accelerate", "lm", 3.0)
    other = configs.load("extends: [base.yaml]\ntrainer: {name: other}\n", option_type=lambda kind, name: None)
    assert (other.trainer.name, other.trainer.options) == ("other", None)
    bare = configs.load("extends: [base.yaml]\ntrainer: accelerate\n").trainer
    assert bare.options.task == "sft"


def test_options_of_a_bare_name_can_be_overridden(configs: Any) -> None:
    trainer = configs.load("trainer: accelerate\n", overrides=["trainer.task=lm"]).trainer
    assert (trainer.name, trainer.options.task) == ("accelerate", "lm")
    assert configs.load("ml: {}\n", overrides=["launcher.processes=4"]).launcher.processes == 4


def test_null_clears_what_lower_layers_say(configs: Any) -> None:
    configs.write("ml: {tracking_uri: 'http://x', artifacts: [a]}\ndata: {train: t}\n", name="base.yaml")
    config = configs.load("extends: [base.yaml]\nml:\n  tracking_uri: null\n  artifacts:\ndata:\n")
    assert (config.ml.tracking_uri, config.ml.artifacts, config.data.train) == (None, (), None)


@pytest.mark.parametrize(
    ("override", "key", "word"),
    [
        ("ml.trackng_uri=x", "ml.trackng_uri", "unknown key"),
        ("mll.x=1", "mll", "unknown key"),
        ("ml.enabled=yes", "ml.enabled", "expected true or false"),
        ("ml.enabled.x=1", "ml.enabled", "expected true or false, found a mapping"),
        ("ml.artifacts=[a", "ml.artifacts", "not YAML"),
        ("ml.ranks=[0]", "ml.ranks[0]", "expected at least 1"),
        ("nothing", "", "not KEY=VALUE"),
        ("=3", "", "not KEY=VALUE"),
        ("a..b=3", "", "not KEY=VALUE"),
        ("extends=[x.yaml]", "extends", "unknown key"),
        ("ml.tracking_uri=${NONE}", "ml.tracking_uri", "NONE is not set"),
    ],
)
def test_a_wrong_override_is_a_problem_of_the_command_line(configs: Any, override: str, key: str, word: str) -> None:
    problem = configs.problem("ml: {enabled: true}\n", overrides=[override])
    assert (problem.file, problem.line, problem.key) == ("command line", 0, key)
    assert word in problem.message


def test_a_mistyped_override_is_held_against_keys_that_the_file_gives(configs: Any) -> None:
    problem = configs.problem("ml: {parameters: {x: 1}}\n", overrides=["ml.parameter.x=2"])
    assert (problem.key, problem.hint) == ("ml.parameter", "did you mean 'parameters'?")


def test_the_value_of_an_override_is_yaml_and_text_where_text_is_due(configs: Any) -> None:
    config = configs.load(
        "ml: {parameters: {x: 1}}\n",
        overrides=[
            "ml.parameters.betas=[0.9, 0.99]",
            "ml.parameters.table={a: {b: no}}",
            "ml.parameters.empty=",
            'ml.parameters.text="1"',
            'ml.parameters."a.b"=1',
            "ml.parameters.eq=a=b",
            "ml.model_repo.version=1.10",
            "foundation.experiment_name=12",
            r'ml.parameters.emoji="\ud83d\ude00"',
        ],
    )
    parameters = dict(config.ml.parameters)
    assert parameters.pop("betas") == [0.9, 0.99]
    assert parameters == {
        "x": 1, "table": {"a": {"b": "no"}}, "empty": None, "text": "1", "a.b": 1, "eq": "a=b", "emoji": "😀"
    }  # fmt: skip
    assert (config.ml.model_repo.version, config.foundation.experiment_name) == ("1.10", "12")


def test_overrides_never_touch_the_file(configs: Any) -> None:
    text = "ml: {enabled: true}   # mine\n"
    configs.write(text)
    before = configs.file.stat().st_mtime_ns
    configs.load(overrides=["ml.enabled=false"], environ={"PRISM__ML__AUTO_LOG": "false"})
    assert (configs.file.read_text(), configs.file.stat().st_mtime_ns) == (text, before)


def test_a_variable_finds_keys_in_the_case_of_the_file(configs: Any) -> None:
    environ = {"PRISM__ML__PARAMETERS__MYLR": "3", "PRISM__TRAINER": "accelerate", "PRISM_RUN_ID": "x", "PRISM": "y"}
    config = configs.load("ml: {parameters: {myLr: 1}}\n", environ=environ)
    assert dict(config.ml.parameters) == {"myLr": 3}


@pytest.mark.parametrize(
    ("name", "key", "word"),
    [
        ("PRISM__ML__TRACKNG_URI", "ml.trackng_uri", "unknown key"),
        ("PRISM__ML____X", "PRISM__ML____X", "empty name"),
        ("PRISM__", "PRISM__", "empty name"),
    ],
)
def test_a_wrong_variable_is_a_problem_of_the_environment(configs: Any, name: str, key: str, word: str) -> None:
    problem = configs.problem("ml: {}\n", environ={name: "1"})
    assert (problem.file, problem.key) == ("environment", key)
    assert word in problem.message


def test_plugins_are_seen_through_all_layers_before_structuring(configs: Any) -> None:
    configs.write("plugins: {off: [a]}\n", name="base.yaml")
    path = configs.write("extends: [base.yaml]\nplugins: {local: [p.py, 3]}\nml: {wrong: ${NONE}}\n")
    assert peek_plugins(path, read=read_yaml) == (("a",), (configs.folder / "p.py",))
    assert peek_plugins(path, read=read_yaml, environ={"PRISM__PLUGINS__OFF": "[b, c]"})[0] == ("b", "c")
    assert peek_plugins(path, read=read_yaml, project=configs.folder / "x")[1] == (configs.folder / "x/p.py",)
    assert peek_plugins(configs.write("plugins: [x]\n"), read=read_yaml) == ((), ())


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("a.b", ["a", "b"]),
        ('a."b.c".d', ["a", "b.c", "d"]),
        ('"x y"', ["x y"]),
        ("", []),
        ("a.", []),
        (".a", []),
        ("a..b", []),
        ('a"b', []),
    ],
)
def test_paths_of_keys(path: str, steps: list[str]) -> None:
    assert split_path(path) == steps
