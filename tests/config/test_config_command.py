"""`prism config check`, `show` and `schema` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def prism(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    from prism.cli.main import main

    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(argv))
        return code, *capsys.readouterr()

    return call


def test_a_right_configuration_is_ok(configs: Any, prism: Any) -> None:
    configs.write("ml: {enabled: false, parameters: {torch_dtype: float16}}\n")
    code, out, err = prism("config", "check")
    assert (code, out) == (0, "")
    assert "ok" in err
    assert "torch_dtype" in err
    code, out, _ = prism("config", "check", "--json")
    report = json.loads(out)
    assert (code, report["ok"], report["problems"]) == (0, True, [])
    assert report["warnings"][0]["key"] == "ml.parameters.torch_dtype"


def test_problems_go_to_stdout_and_the_exit_code_is_one(configs: Any, prism: Any) -> None:
    file = configs.write("ml:\n  enabld: true\n", name="other.yaml")
    code, out, _ = prism("config", "check", str(file))
    assert (code, out) == (1, f"{file}:2:3  ml.enabld: unknown key 'enabld'\n    hint: did you mean 'enabled'?\n")
    code, out, _ = prism("config", "check", str(file), "--json")
    assert code == 1
    assert json.loads(out)["problems"] == [
        {
            "file": str(file),
            "line": 2,
            "column": 3,
            "key": "ml.enabld",
            "message": "unknown key 'enabld'",
            "hint": "did you mean 'enabled'?",
        }
    ]


def test_a_file_that_is_not_yaml_is_a_problem_too(configs: Any, prism: Any) -> None:
    configs.write("ml: [\n")
    code, out, _ = prism("config", "check", "--json")
    assert (code, json.loads(out)["problems"][0]["line"]) == (1, 2)


def test_a_missing_configuration_is_a_usage_error(tmp_path: Path, prism: Any) -> None:
    code, out, err = prism("config", "check")
    assert (code, out) == (2, "")
    assert str(tmp_path) in err
    assert "prism init" in err
    code, _, err = prism("config", "show", "none.yaml")
    assert code == 2
    assert "none.yaml" in err


def test_show_prints_the_resolved_values_without_secrets(configs: Any, prism: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cret-value")
    configs.write("unified_data_access: {token: '${MY_TOKEN}'}\nml: {enabled: false, parameters: {lr: 1}}\n")
    for argv in (["show"], ["show", "--json"], ["show", "--origin"], ["show", "--origin", "--json"]):
        code, out, err = prism("config", *argv)
        assert code == 0
        assert "s3cret-value" not in out + err
    _, out, _ = prism("config", "show", "--json", "ml.parameters.lr=2e-5")
    assert json.loads(out)["ml"]["parameters"] == {"lr": 2e-5}


def test_show_says_where_values_come_from(configs: Any, prism: Any) -> None:
    configs.write("ml:\n  parameters:\n    lr: 1\n")
    _, out, _ = prism("config", "show", "--origin", "ml.auto_log=false")
    lines = [line.split("  #") for line in out.splitlines()]
    origins = {key.strip(): place.strip() for key, place in lines}
    assert origins["ml.parameters.lr = 1"] == f"{configs.file}:3:9"
    assert origins["ml.auto_log = false"] == "command line"
    assert origins["ml.enabled = true"] == "default"
    _, out, _ = prism("config", "show", "--origin", "--json")
    entry = next(one for one in json.loads(out) if one["key"] == "ml.parameters.lr")
    origin = {"file": str(configs.file), "line": 3, "column": 9, "text": "1"}
    assert entry == {"key": "ml.parameters.lr", "value": 1, "origin": origin}


def test_the_schema_is_printed_with_every_plugin(prism: Any) -> None:
    code, out, _ = prism("config", "schema")
    schema = json.loads(out)
    assert code == 0
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "trainer" in schema["properties"]


def test_a_local_plugin_is_seen_and_a_broken_one_is_an_unfit_environment(configs: Any, prism: Any) -> None:
    (configs.folder / "mine.py").write_text(
        "from prism.hookspecs import hookimpl\nfrom prism.providers import Provider\n"
        "@hookimpl\ndef prism_evaluators():\n    return [Provider('exact', target='mine:Exact')]\n"
    )
    configs.write("plugins: {local: [mine.py]}\nevaluation: {evaluators: [exact]}\n")
    assert prism("config", "check")[0] == 0
    (configs.folder / "mine.py").write_text("import no_such_module_at_all\n")
    configs.write("plugins: {local: [mine.py]}\n")
    code, _, err = prism("config", "check")
    assert code == 4
    assert "no_such_module_at_all" in err


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys\nfrom prism.cli.main import main\nmain(['config', 'schema'])\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'datasets', 'numpy', 'pandas'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_and_the_list_of_plugins_read_no_yaml() -> None:
    program = (
        "import sys\nfrom prism.cli.main import main\nmain([sys.argv[1], *sys.argv[2:]])\n"
        "late = {'cattrs', 'ruamel.yaml', 'prism.config.loading'} & set(sys.modules)\n"
        "sys.exit(str(late) if late else 0)\n"
    )
    for argv in (["--help"], ["plugins", "list"]):
        command = [sys.executable, "-c", program, *argv]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd="/")
        assert (done.returncode, done.stderr) == (0, "")


def test_show_is_what_a_run_would_have(configs: Any, prism: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configs.write("ml: {}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    code, out, _ = prism("config", "show", "--json")
    assert (code, json.loads(out)["ml"]["tracking_uri"]) == (0, "http://mlflow.example:5000")
    code, out, _ = prism("config", "show", "--origin")
    (line,) = [line for line in out.splitlines() if line.startswith("ml.tracking_uri")]
    assert line.endswith("# environment")
