"""Plugins: every way in which one can be broken, each with a real dist-info folder on `sys.path`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prism.errors import EnvironmentUnfit, UsageError
from prism.plugins import PluginRecord, Plugins, Provided, UnknownProvider

Install = Callable[..., Path]

GOOD = """
from prism.hookspecs import hookimpl
from prism.providers import Provider

@hookimpl
def prism_evaluators():
    return [Provider("length", target="{module}:Length", options="{module}:Options", summary="counts")]
"""

CLASSES = """
from attrs import frozen

@frozen
class Options:
    unit: str = "words"

class Length:
    def __init__(self, options):
        self.options = options
"""


def record(plugins: Plugins, name: str) -> PluginRecord:
    (found,) = [one for one in plugins.records if one.name == name]
    return found


def test_a_good_plugin_says_what_it_provides_and_is_built(install: Install) -> None:
    install("acme-length", version="3.1", points="acme = acme_good", acme_good=GOOD.format(module="acme_good_parts"))
    (Path(sys.path[0]) / "acme_good_parts.py").write_text(CLASSES)
    plugins = Plugins.load(environ={})
    assert record(plugins, "acme") == PluginRecord(
        "acme", "acme-length", "3.1", "ok", provides=(Provided("evaluator", "length"),)
    )
    assert "acme_good_parts" not in sys.modules  # what was not picked is not imported
    option_type = plugins.option_type("evaluator", "length")
    assert option_type is not None
    assert plugins.build("evaluator", "length", option_type(unit="letters")).options.unit == "letters"
    assert plugins.build("evaluator", "length").options.unit == "words"
    assert plugins.providers("evaluator")["length"].summary == "counts"
    assert "length" not in plugins.providers("tracker")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import module_that_is_nowhere", "ModuleNotFoundError: No module named 'module_that_is_nowhere'"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("def f(:\n", "SyntaxError"),
        ("x = 1", "answers no hook"),
        (
            "from prism.hookspecs import hookimpl\n@hookimpl\ndef prism_trakers(): return []",
            "there is no hook 'prism_trakers'; did you mean 'prism_trackers'?",
        ),
        ("from prism.hookspecs import hookimpl\n@hookimpl\ndef prism_trackers(config): return []", "PluginValidation"),
        ("from prism.hookspecs import hookimpl\n@hookimpl\ndef prism_trackers(): return 'mlflow'", "answered str"),
        ("from prism.hookspecs import hookimpl\n@hookimpl\ndef prism_trackers(): return 5", "answered int"),
        ("from prism.hookspecs import hookimpl\n@hookimpl\ndef prism_trackers(): return ['mlflow']", "with str in it"),
        ("from prism.hookspecs import hookimpl\n@hookimpl\ndef prism_trackers(): 1 / 0", "ZeroDivisionError"),
        ("from prism.hookspecs import hookimpl\n@hookimpl\ndef prism_trackers(): raise SystemExit(0)", "SystemExit"),
        (
            "from prism.hookspecs import hookimpl\nfrom prism.providers import Provider\n"
            "@hookimpl\ndef prism_trackers(): return [Provider('x', target='no-colon')]",
            "is not of the form",
        ),
        (
            "from prism.hookspecs import hookimpl\nfrom prism.providers import Provider\n"
            "@hookimpl\ndef prism_trackers(): return [Provider('x', target='a:b'), Provider('x', target='a:c')]",
            "names 'x' twice",
        ),
    ],
)
def test_a_broken_plugin_is_failed_with_its_cause_and_hides_no_other(install: Install, source: str, told: str) -> None:
    install("acme-aaa-broken", points="aaa_broken = acme_broken", acme_broken=source)
    install("acme-zzz", points="zzz = acme_zzz", acme_zzz=GOOD.format(module="acme_zzz_parts"))
    plugins = Plugins.load(environ={})
    broken = record(plugins, "aaa_broken")
    assert (broken.state, broken.distribution, broken.provides) == ("failed", "acme-aaa-broken", ())
    assert told in broken.error
    assert "\n" not in broken.error
    assert record(plugins, "zzz").state == "ok"


def test_naming_a_failed_plugin_is_an_error_with_the_cause(install: Install) -> None:
    install("acme-broken", version="2.0", points="acme = acme_broken2", acme_broken2="import nowhere_to_be_found")
    plugins = Plugins.load(environ={})
    with pytest.raises(EnvironmentUnfit, match=r"'acme' \(acme-broken 2\.0\) cannot load: .*nowhere_to_be_found"):
        plugins.find("tracker", "acme")
    with pytest.raises(EnvironmentUnfit, match=r"named 'other', but the plugin 'acme'"):
        plugins.find("tracker", "other")


def test_two_distributions_with_one_plugin_name_are_both_named(install: Install) -> None:
    source = GOOD.format(module="acme_rival_parts")
    install("acme-first", points="acme = acme_first", acme_first=source)
    install("acme-second", version="2.0", points="acme = acme_second", acme_second=source)
    failed = [one for one in Plugins.load(environ={}).records if one.name == "acme"]
    assert [one.state for one in failed] == ["failed", "failed"]
    assert all("acme-first 1.0 and acme-second 2.0" in one.error for one in failed)


def test_two_plugins_with_one_provider_name_are_an_error_that_names_both(install: Install) -> None:
    source = GOOD.format(module="acme_rival_parts")
    install("acme-first", points="first = acme_first", acme_first=source)
    install("acme-second", version="2.0", points="second = acme_second", acme_second=source)
    plugins = Plugins.load(environ={})
    with pytest.raises(EnvironmentUnfit) as caught:
        plugins.find("evaluator", "length")
    assert "acme-first 1.0" in str(caught.value) and "acme-second 2.0" in str(caught.value)
    assert "length" not in plugins.providers("evaluator")
    plugins.switch_off(["first"])
    assert plugins.find("evaluator", "length").name == "length"


def test_one_module_under_two_names_does_not_stop_the_others(install: Install) -> None:
    install("acme-twice", points="one = acme_twice\ntwo = acme_twice", acme_twice=GOOD.format(module="x"))
    plugins = Plugins.load(environ={})
    assert record(plugins, "one").state == "ok"
    assert "same module as the plugin 'one'" in record(plugins, "two").error


def test_switched_off_by_argument_or_environment_is_never_imported(install: Install) -> None:
    install("acme-one", points="one = acme_one", acme_one="raise RuntimeError('imported')")
    install("acme-two", points="two = acme_two", acme_two="raise RuntimeError('imported')")
    plugins = Plugins.load(off=["one"], environ={"PRISM_PLUGINS_OFF": "two, absent"})
    assert {record(plugins, name).state for name in ("one", "two")} == {"disabled"}
    assert record(plugins, "one").error == ""
    assert not {"acme_one", "acme_two"} & set(sys.modules)
    assert plugins.off == {"one", "two", "absent"}
    with pytest.raises(EnvironmentUnfit, match="'one' is switched off"):
        plugins.find("evaluator", "one")


def test_switched_off_later_its_providers_are_gone_and_the_error_says_why(install: Install) -> None:
    install("acme-length", points="acme = acme_off", acme_off=GOOD.format(module="acme_off_parts"))
    plugins = Plugins.load(environ={})
    plugins.switch_off(["acme"])
    assert record(plugins, "acme").state == "disabled" and record(plugins, "acme").provides == ()
    assert "length" not in plugins.providers("evaluator")
    with pytest.raises(EnvironmentUnfit, match="the plugin 'acme' is switched off"):
        plugins.find("evaluator", "length")


def test_an_unknown_name_lists_the_choices(install: Install) -> None:
    install("acme-length", points="acme = acme_names", acme_names=GOOD.format(module="acme_names_parts"))
    plugins = Plugins.load(environ={})
    with pytest.raises(UnknownProvider, match="did you mean 'length'") as caught:
        plugins.find("evaluator", "lenght")
    assert caught.value.exit_code == 2
    with pytest.raises(ValueError, match="no kind of provider"):
        plugins.find("evaluators", "length")


def test_a_built_in_that_is_not_installed_names_its_extra() -> None:
    with pytest.raises(EnvironmentUnfit, match=r"pip install 'sais-prism-core\[mlflow\]'"):
        Plugins().find("tracker", "mlflow")


def test_a_damaged_entry_points_file_is_that_distribution_s_failure_alone(install: Install) -> None:
    install("acme-damaged", points="this line has no sign")
    install("acme-length", points="acme = acme_beside", acme_beside=GOOD.format(module="acme_beside_parts"))
    plugins = Plugins.load(environ={})
    assert record(plugins, "acme").state == "ok"
    assert record(plugins, "acme-damaged").state == "failed"
    assert "entry_points.txt" in record(plugins, "acme-damaged").error


def test_a_distribution_without_metadata_is_still_shown(install: Install) -> None:
    site = install("acme-torn", points="torn = acme_torn", acme_torn=GOOD.format(module="acme_torn_parts"))
    next(site.glob("*.dist-info/METADATA")).unlink()
    torn = record(Plugins.load(environ={}), "torn")
    assert torn.state == "ok" and "acme_torn" in torn.distribution


def test_options_must_be_an_attrs_class(install: Install) -> None:
    install("acme-length", points="acme = acme_dict", acme_dict=GOOD.format(module="acme_dict_parts"))
    (Path(sys.path[0]) / "acme_dict_parts.py").write_text("Options = dict\nLength = print\n")
    with pytest.raises(EnvironmentUnfit, match="not an attrs class"):
        Plugins.load(environ={}).option_type("evaluator", "length")


def test_a_class_that_cannot_be_made_is_an_error_of_the_environment(install: Install) -> None:
    install("acme-length", points="acme = acme_raise", acme_raise=GOOD.format(module="acme_raise_parts"))
    parts = CLASSES.replace("self.options = options", "raise SystemExit(0)")
    (Path(sys.path[0]) / "acme_raise_parts.py").write_text(parts)
    with pytest.raises(EnvironmentUnfit, match="evaluator 'length' could not be made: SystemExit: 0"):
        Plugins.load(environ={}).build("evaluator", "length")


LOCAL = GOOD.format(module="mine") + CLASSES


def test_a_local_file_is_a_plugin_under_its_stem(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(LOCAL)
    plugins = Plugins()
    plugins.add_local([tmp_path / "mine.py"])
    assert record(plugins, "mine").state == "ok"
    assert record(plugins, "mine").distribution == str(tmp_path / "mine.py")
    assert plugins.build("evaluator", "length").options.unit == "words"
    assert "mine" not in sys.modules
    plugins.require_local()


def test_two_projects_may_have_local_files_of_one_name(tmp_path: Path) -> None:
    built = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(LOCAL.replace('"words"', f'"{name}"'))
        plugins = Plugins()
        plugins.add_local([tmp_path / name / "mine.py"])
        built.append(plugins)
    assert [plugins.build("evaluator", "length").options.unit for plugins in built] == ["a", "b"]


@pytest.mark.parametrize(("source", "told"), [(None, "there is no file"), ("1 / 0", "ZeroDivisionError")])
def test_a_broken_local_file_is_recorded_and_required(tmp_path: Path, source: str | None, told: str) -> None:
    path = tmp_path / "mine.py"
    if source is not None:
        path.write_text(source)
    plugins = Plugins()
    before = set(sys.modules)
    plugins.add_local([path])
    assert told in record(plugins, "mine").error
    assert not [name for name in set(sys.modules) - before if name.startswith("prism_local")]
    with pytest.raises(EnvironmentUnfit, match=told):
        plugins.require_local()


def test_a_local_file_can_be_switched_off(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("1 / 0")
    plugins = Plugins(off=["mine"])
    plugins.add_local([tmp_path / "mine.py"])
    assert record(plugins, "mine").state == "disabled"
    plugins.require_local()


def test_a_local_file_may_not_take_the_name_of_a_plugin(install: Install, tmp_path: Path) -> None:
    install("acme-length", points="mine = acme_taken", acme_taken=GOOD.format(module="acme_taken_parts"))
    (tmp_path / "mine.py").write_text(LOCAL)
    plugins = Plugins.load(environ={})
    plugins.add_local([tmp_path / "mine.py"])
    assert [one.state for one in plugins.records if one.name == "mine"] == ["ok", "failed"]
    with pytest.raises(EnvironmentUnfit, match=r"acme-length 1\.0; rename the file"):
        plugins.require_local()


CONFIG_READER = """
from prism.hookspecs import hookimpl

@hookimpl
def prism_load_config(path):
    {body}
"""


@pytest.mark.parametrize(
    ("body", "expected", "told"),
    [
        ("return {'ml': 1}", EnvironmentUnfit, "with dict, not Node"),
        ("return 1 / 0", EnvironmentUnfit, "ZeroDivisionError"),
        ("return None", UsageError, "no plugin reads"),
    ],
)
def test_the_configuration_hook_is_checked_too(
    install: Install, tmp_path: Path, body: str, expected: type[Exception], told: str
) -> None:
    install("acme-toml", points="acme = acme_toml", acme_toml=CONFIG_READER.format(body=body))
    with pytest.raises(expected, match=told):
        Plugins.load(off=["yaml"], environ={}).load_config(tmp_path / "prism.toml")
