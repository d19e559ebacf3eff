"""The configuration as scripts read it and change it, for themselves and in the file."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from sais_prism.core.config import ConfigManager, config, parse_cli_args
from sais_prism.core.decorators import sais_foundation
from sais_prism.core.exceptions import ConfigurationError
from sais_prism.ml.mlflow_integration import MLflowManager

FILE = """\
# what we train
foundation:
  experiment_name: "rates"   # its name
  experiment_description: of learning rates
unified_data_access:
  enabled: false
  token: ${ENV_API_TOKEN:-}
ml:
  enabled: false
  system_tracing: false
  metrics: {metrics: [loss]}
  parameters:
    lr: 0.1  # the rate
    evaluation_strategy: "no"
    device: cpu
    layers: [{size: 4}, {size: 8}]
  model_repo: {registered: true, name: rates, version: "1.0.1"}
wandb: {project: ours}
"""


@pytest.fixture
def file(here: Any) -> Path:
    path: Path = here.configure(FILE)
    return path


def test_sections_are_objects_with_the_values_of_the_file(file: Path) -> None:
    assert config.ml.parameters.lr == 0.1
    assert config.ml.parameters.layers[1].size == 8
    assert config.foundation.experiment_description == "of learning rates"
    assert (config.ml.model_repo.registered, config.ml.model_repo.version) == (True, "1.0.1")
    assert vars(config.ml.parameters)["device"] == "cpu"
    assert isinstance(config.ml, SimpleNamespace)
    assert ConfigManager() is ConfigManager()
    assert ConfigManager().config_path == str(file)
    assert ConfigManager().raw_config["ml"]["parameters"]["lr"] == 0.1


def test_a_section_of_the_user_s_own_is_there_under_its_name(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config.wandb.project == "ours"
    assert "write `x-wandb`" in capsys.readouterr().err
    ConfigManager().update_config("wandb.project", "yours", update_yaml=True)
    assert config.wandb.project == "yours" and "wandb: {project: yours}" in file.read_text()
    ConfigManager().update_config("wandb", {"entity": "us"})
    assert vars(config.wandb) == {"entity": "us", "project": "yours"}


def test_get_takes_a_default(file: Path) -> None:
    manager = ConfigManager()
    assert manager.get("ml").parameters.lr == manager.get("ml.parameters.lr") == 0.1
    assert manager.get("ml.parameters.momentum", 0.9) == 0.9
    assert manager.get("nothing") is None and config.nothing is None
    assert manager.get("ml.parameters.lr.deeper", "no") == "no"


def test_old_and_new_names_of_parameters_mean_the_same(file: Path) -> None:
    assert config.ml.parameters.eval_strategy == config.ml.parameters.evaluation_strategy == "no"


def test_a_misspelt_key_is_told_with_the_right_one(file: Path) -> None:
    with pytest.raises(AttributeError, match=r"`ml.parameters` has no key 'devise'.*did you mean 'device'"):
        _ = config.ml.parameters.devise
    assert getattr(config.ml.parameters, "devise", "none") == "none"
    with pytest.raises(ConfigurationError, match="did you mean 'foundation'"):
        ConfigManager().update_config("foundatoin.experiment_name", "x")
    assert config.foundation.experiment_name == "rates"


def test_a_section_that_is_held_stays_live(file: Path) -> None:
    ml, parameters = config.ml, config.ml.parameters
    ConfigManager().update_config("ml.parameters.lr", "0.5")
    ConfigManager().update_config("ml.parameters.optimizer.betas", [0.9, 0.99])
    assert parameters.lr == ml.parameters.lr == config.ml.parameters.lr == 0.5
    assert parameters.optimizer.betas == [0.9, 0.99]


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("2e-5", 2e-5), ("true", True), ("no", "no"), ("[1, 2]", [1, 2]), ("a: b", "a: b"), ("", None)],
)
def test_a_text_is_read_as_on_the_command_line(file: Path, text: str, value: object) -> None:
    ConfigManager().update_config("ml.parameters.given", text)
    assert config.ml.parameters.given == value and type(config.ml.parameters.given) is type(value)


@pytest.mark.parametrize("value", ["5", "${HOME}", 7, 0.25, None, float("inf"), [1, "2"], {"deep": {"er": "true"}}])
def test_an_attribute_gets_the_value_that_it_is_given(file: Path, value: object) -> None:
    config.ml.parameters.given = value
    assert ConfigManager().raw_config["ml"]["parameters"]["given"] == value
    assert config.ml.parameters.lr == 0.1


def test_values_of_other_kinds(file: Path) -> None:
    config.ml.parameters.folder = Path("a") / "b"
    assert config.ml.parameters.folder == "a/b"
    config.ml.parameters.rates = (0.1, SimpleNamespace(low=1))
    assert config.ml.parameters.rates[1].low == 1
    with pytest.raises(ConfigurationError, match="type object cannot stand in the configuration"):
        config.ml.parameters.thing = object()


def test_copies_and_pickles_are_plain(file: Path) -> None:
    for made in (copy.deepcopy(config.ml), copy.copy(config.ml), pickle.loads(pickle.dumps(config.ml))):
        assert type(made) is SimpleNamespace and made.parameters.lr == 0.1
        made.parameters.lr = 3
    assert config.ml.parameters.lr == 0.1


def test_no_secret_is_shown(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here.configure(FILE)
    monkeypatch.setenv("ENV_API_TOKEN", "open sesame")
    assert config.unified_data_access.token == "open sesame"
    assert "open sesame" not in repr(config.unified_data_access) + repr(ConfigManager().config)
    assert "***" in repr(config.unified_data_access)


# ---------------------------------------------------------------- the file


def test_the_file_is_changed_only_when_asked_and_keeps_its_comments(file: Path) -> None:
    ConfigManager().update_config("ml.parameters.lr", 0.2)
    assert file.read_text() == FILE
    ConfigManager().update_config("ml.parameters.lr", 0.3, update_yaml=True)
    assert file.read_text() == FILE.replace("lr: 0.1  #", "lr: 0.3  #")


def test_what_is_refused_leaves_all_as_it_was(file: Path) -> None:
    for key, value in (("ml.enabled", "maybe"), ("foundation.experiment_name", ""), ("ml.no_such", 1)):
        with pytest.raises(ConfigurationError):
            ConfigManager().update_config(key, value, update_yaml=True)
    assert file.read_text() == FILE and config.ml.enabled is False


def test_a_secret_is_never_written(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = here.configure(FILE)
    monkeypatch.setenv("ENV_API_TOKEN", "open sesame")
    manager = ConfigManager()
    attempts = {
        "unified_data_access.token": "another one",
        "ml.parameters.hub_token": "hf_1234567",
        "ml.parameters.note": "my open sesame note",
        "ml.parameters.found": "open ${ENV_API_TOKEN}",
        "ml.tracking_uri": "https://me:password@example.org",
        "ml.parameters.all": {"password": "letmein99"},
    }
    for key, value in attempts.items():
        with pytest.raises(ConfigurationError, match="is a secret, which is never written"):
            manager.update_config(key, value, update_yaml=True)
    assert file.read_text() == FILE
    assert manager.get("unified_data_access.token") == "open sesame"
    manager.update_config("ml.parameters.hub_token", "${ENV_API_TOKEN}", update_yaml=True)
    assert manager.get("ml.parameters.hub_token") == "open sesame"
    assert "hub_token: ${ENV_API_TOKEN}\n" in file.read_text() and "open sesame" not in file.read_text()


def test_a_link_stays_a_link_and_permissions_stay(here: Any) -> None:
    real = here.write("shared/base.yaml", FILE)
    real.chmod(0o640)
    (here.path / "sais_foundation.yaml").symlink_to(real)
    ConfigManager().update_config("ml.parameters.lr", 0.3, update_yaml=True)
    assert (here.path / "sais_foundation.yaml").is_symlink()
    assert "lr: 0.3" in real.read_text() and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert [path.name for path in real.parent.iterdir()] == ["base.yaml"]


WRITER = """
import sys
from sais_prism.core.config import ConfigManager
manager = ConfigManager()
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    manager.update_config(f"ml.parameters.{sys.argv[1]}", number, update_yaml=True)
"""


def test_the_file_is_whole_at_any_time_and_after_a_kill(here: Any) -> None:
    """Two processes write, one of them is killed in the middle of it: no reader ever sees half a file."""
    file = here.configure(FILE)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, times], cwd=here.path, stdout=subprocess.PIPE)
        for name, times in (("first", "20"), ("second", "100000"))
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
    seen = set()
    deadline = time.monotonic() + 100
    while writers[0].poll() is None and time.monotonic() < deadline:
        text = file.read_text()
        seen.add(text)
        assert "# the rate" in text and text.endswith("wandb: {project: ours}\n")
    os.kill(writers[1].pid, signal.SIGKILL)
    for writer in writers:
        writer.communicate(timeout=60)
    assert len(seen) > 2 and writers[0].returncode == 0
    values = YAML(typ="safe").load(file.read_text())["ml"]["parameters"]
    assert values["lr"] == 0.1 and isinstance(values["second"], int)


# ---------------------------------------------------------------- layers, and where there is none


def test_layers_stack_up(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here.write("institute.yaml", "ml: {enabled: false, parameters: {lr: 1, epochs: 1, seed: 1}}\n")
    here.write("team.yaml", "extends: [institute.yaml]\nml: {parameters: {epochs: 2, seed: 2}}\nteam: {name: blue}\n")
    here.configure("extends: [team.yaml]\nfoundation: {experiment_name: own}\nml: {parameters: {seed: 3}}\n")
    monkeypatch.setenv("PRISM__ML__PARAMETERS__BATCH", "16")
    found = config.ml.parameters
    assert (found.lr, found.epochs, found.seed, found.batch) == (1, 2, 3, 16)
    assert config.team.name == "blue"


def test_a_missing_file_is_told_as_scripts_expect_it(here: Any) -> None:
    for kind in (ConfigurationError, FileNotFoundError):
        with pytest.raises(kind, match=r"there is no sais_foundation\.yaml in .*\n  hint: `prism init`"):
            _ = config.ml
    here.configure()
    assert config.ml.parameters.lr == 0.1  # asked again it is looked for again


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        ("- a\n", "expected a mapping of sections"),
        ("foundation: {experiment_name: ''}\n", "foundation.experiment_name: expected text that is not empty"),
        ("foundation: {experiment_nam: x}\n", "did you mean 'experiment_name'"),
        ("foundatoin: {experiment_name: x}\n", "did you mean 'foundation'"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(here: Any, text: str, told: str) -> None:
    here.configure(text)
    with pytest.raises(ConfigurationError, match=r"sais_foundation\.yaml:1:\d+") as caught:

        @sais_foundation
        class Study:
            pass

    assert told in str(caught.value)


def test_the_generic_snippet_says_what_to_write(here: Any) -> None:
    here.configure()
    with pytest.raises(ConfigurationError, match="write `class ClassName:`"):

        @sais_foundation  # type: ignore[type-var]
        def ClassName() -> None:
            pass


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    "words",
    [
        ("--config", "ml.parameters.lr=0.5", "--config", "ml.parameters.device=cuda"),
        ("--config", "ml.parameters.lr=0.5", "ml.parameters.device=cuda"),
        ("--config=ml.parameters.lr=0.5", "--epochs", "3", "--config", "ml.parameters.device=cuda"),
    ],
)
def test_both_published_forms_of_overrides(file: Path, argv: Any, words: tuple[str, ...]) -> None:
    argv(*words)
    parse_cli_args("what it says")
    assert (config.ml.parameters.lr, config.ml.parameters.device) == (0.5, "cuda")
    assert str(ConfigManager().project.config.origin("ml.parameters.lr")) == "command line"
    assert file.read_text() == FILE
    parse_cli_args("what it says", True)
    assert file.read_text() == FILE.replace("lr: 0.1", "lr: 0.5").replace("device: cpu", "device: cuda")


def test_what_is_no_override_is_passed_over(file: Path, argv: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A script may have a `--config` of its own, with a file or nothing after it, and a `--help`."""
    for words in (("--config", "mine.yaml", "--help"), ("train", "--config"), ("-h", "--conf", "ml.enabled=maybe")):
        argv(*words)

        @sais_foundation
        class Study:
            pass

    assert "--config: a word that is not KEY=VALUE is passed over" in capsys.readouterr().err
    argv("--help")
    with pytest.raises(SystemExit):
        parse_cli_args("of this script")
    assert "of this script" in capsys.readouterr().out


def test_an_override_that_is_wrong_is_an_error(file: Path, argv: Any) -> None:
    argv("--config", "ml.parameter.lr=0.5")
    with pytest.raises(ConfigurationError, match="unknown key 'parameter'"):
        parse_cli_args()


SCRIPT = """
import json
from sais_prism import config, sais_foundation

@sais_foundation
class Study:
    def run(self):
        from sais_prism.core.service_locator import ServiceLocator
        held = ServiceLocator.get_ml_manager().run
        print(json.dumps([config.ml.parameters.lr, held.params.lr, self._ml_config.parameters.lr]))

if __name__ == "__main__":
    Study().run()
"""


@pytest.mark.parametrize(
    "words", [("study.py",), ("-m", "prism", "run", "study.py", "--")], ids=["python", "prism run"]
)
def test_overrides_are_of_this_run_and_in_its_record(here: Any, words: tuple[str, ...]) -> None:
    file = here.configure(FILE.replace("wandb:", "x-wandb:"))
    here.write("study.py", SCRIPT)
    before = file.read_text()
    done = here.python(*words, "--config", "ml.parameters.lr=0.7")
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")] == [[0.7, 0.7, 0.7]]
    assert "--config: ml.parameters.lr = 0.7" in done.stderr
    assert file.read_text() == before
    kept = YAML(typ="safe").load((here.run().path / "config.yaml").read_text())
    assert kept["ml"]["parameters"]["lr"] == 0.7 == here.state().params["lr"]
    told = json.loads((here.run().path / "provenance.json").read_text())["command"]
    assert told[-1] == "ml.parameters.lr=0.7" and here.state().status == "FINISHED"


def test_a_change_within_a_run_is_said_not_to_be_in_its_record(here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    here.configure()
    MLflowManager(config.ml).init_run()
    config.ml.parameters.lr = 0.9
    assert "ml.parameters.lr is changed while a run is open" in capsys.readouterr().err
    assert config.ml.parameters.lr == 0.9
