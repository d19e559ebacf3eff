"""The shape of the house: who imports whom, what start-up may cost, and the habits that a reader relies on."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import click
import pytest

from prism import hookspecs
from prism.cli.commands import BUILTINS
from prism.cli.main import cli
from prism.registration import HOOK_OF_KIND
from prism.version import VERSION

ROOT = Path(__file__).parents[1]
TEMPLATES = sorted((ROOT / "prism" / "templates").rglob("*.py"))  # files of projects to come, none of the core's
CORE = sorted({*(ROOT / "prism").rglob("*.py")} - {*TEMPLATES})
PLUGINS = sorted(ROOT.glob("plugins/*/src/**/*.py"))
SOURCES = CORE + PLUGINS
OTHERS = sorted(
    [*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("campaigns/**/*.py"), *ROOT.glob("examples/**/*.py"), *TEMPLATES]
)
OTHERS = [path for path in OTHERS if "artifacts" not in path.parts]  # what runs of the examples have kept
PYPROJECTS = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
FRAMEWORKS = {"torch", "transformers", "accelerate", "mlflow", "datasets", "numpy", "pandas", "sacrebleu", "lightning"}
LATE = {"cattrs", "ruamel", "rich", "msgspec", "semver", "packaging", "asyncio"}

# Each part of the core, and the parts that it may import. A part always may import its own modules.
FOUNDATIONS = {"errors", "version", "protocols", "stderr", "writing"}
RUNNING = {*FOUNDATIONS, "config", "data", "evaluation", "launch", "journal", "plugins", "project", "providers"}
MAY_IMPORT = {
    "errors": set(),
    "stderr": set(),
    "writing": set(),
    "version": set(),
    "protocols": set(),
    "providers": {"errors"},
    "hookspecs": {"providers"},
    "config": {*FOUNDATIONS, "hookspecs"},  # pure: loaders and option types are handed to it
    "data": FOUNDATIONS,
    "launch": FOUNDATIONS,
    "evaluation": {*FOUNDATIONS, "data"},
    "entrypoints": FOUNDATIONS,
    "registration": {*FOUNDATIONS, "hookspecs", "providers"},
    "plugins": {*FOUNDATIONS, "hookspecs", "providers", "config", "entrypoints", "registration"},
    "journal": FOUNDATIONS,
    "project": {*FOUNDATIONS, "config", "plugins"},
    "delivery": {*FOUNDATIONS, "config", "journal", "plugins", "project"},
    "runs": {*RUNNING, "delivery"},
    "cli": {*RUNNING, "delivery", "runs", "entrypoints"},
    "__init__": {"runs", *FOUNDATIONS},
    "__main__": {"cli"},
    "testing": {*RUNNING, "hookspecs", "delivery", "runs"},
}
PUBLIC = re.compile(
    r"prism(\.(errors|hookspecs|protocols|providers|stderr|version|config|data|evaluation|launch|testing)(\..*)?)?"
    r"|prism\.project|prism\.runs\.(datasets|handle|inside|progress|start)"
)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> Iterator[str]:
    """Every module that `path` imports when it runs, at its top or in a function; not for type checking only."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{path}: relative import"
                submodules = (f"{child.module}.{alias.name}" for alias in child.names)
                found = [name for name in submodules if is_module(name)]
                yield from found or [str(child.module)]
            else:
                yield from visit(child)

    return visit(parsed(path))


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "prism").with_suffix("").parts[0]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---------------------------------------------------------------- who imports whom


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_imports_downwards_only(path: Path) -> None:
    part = part_of(path)
    for module in imports(path):
        top, _, rest = module.partition(".")
        if top == "prism" and rest:
            other = rest.partition(".")[0]
            assert other == part or other in MAY_IMPORT[part], f"{part} may not import {module}"


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_knows_no_framework_and_no_plugin(path: Path) -> None:
    packages = {folder.name for folder in ROOT.glob("plugins/*/src/*")}
    strange = {module.partition(".")[0] for module in imports(path)} & (FRAMEWORKS | packages)
    assert not strange


@pytest.mark.parametrize("path", PLUGINS, ids=name)
def test_a_plugin_imports_public_modules_and_no_other_plugin(path: Path) -> None:
    own = path.relative_to(ROOT / "plugins").parts[2]
    others = {folder.name for folder in ROOT.glob("plugins/*/src/*")} - {own}
    for module in imports(path):
        assert module.partition(".")[0] not in others, f"{module} is another plugin"
        if module.partition(".")[0] == "prism":
            assert PUBLIC.fullmatch(module), f"{module} is not public"


@pytest.mark.parametrize("path", sorted(ROOT.glob("plugins/*/src/*/plugin.py")), ids=name)
def test_registration_imports_nothing_but_the_markers(path: Path) -> None:
    assert set(imports(path)) <= {"__future__", "prism.hookspecs", "prism.providers", "collections.abc"}


# ---------------------------------------------------------------- what is imported when

TELL_MODULES = """
import json, sys
before = set(sys.modules)
{code}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})), file=sys.stderr)
"""


def imported_by(code: str, *, folder: Path) -> set[str]:
    """Top-level modules that `code` imports in a fresh interpreter."""
    process = subprocess.run(
        [sys.executable, "-c", TELL_MODULES.format(code=code)], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    return set(json.loads(process.stderr.splitlines()[-1]))


def imported_by_command(arguments: Sequence[str], *, folder: Path) -> set[str]:
    code = f"from prism.cli.main import main; code = main({list(arguments)!r}); assert code in (0, 1), code"
    return imported_by(code, folder=folder)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plugins", "list"], ["plugins", "list", "--json"]])
def test_start_up_imports_nothing_heavy(arguments: Sequence[str], tmp_path: Path) -> None:
    assert not imported_by_command(arguments, folder=tmp_path) & (FRAMEWORKS | LATE)


@pytest.mark.parametrize(
    "arguments",
    [["config", "check"], ["config", "schema"], ["config", "show"], ["init"], ["init", "--template", "science"]],
)
def test_the_configuration_is_checked_without_any_framework(arguments: Sequence[str], tmp_path: Path) -> None:
    project = "trainer: accelerate\nlauncher: {name: accelerate, processes: 2}\nevaluation: {data: [a.jsonl]}\n"
    if arguments[0] != "init":
        (tmp_path / "sais_foundation.yaml").write_text(project)
    assert not imported_by_command(arguments, folder=tmp_path) & FRAMEWORKS


def test_options_of_every_provider_are_light(tmp_path: Path) -> None:
    code = (
        "from prism.plugins import KINDS, Plugins\n"
        "plugins = Plugins.load()\n"
        "[plugins.option_type(kind, name) for kind in KINDS for name in plugins.providers(kind)]"
    )
    assert not imported_by(code, folder=tmp_path) & FRAMEWORKS


def test_import_prism_is_light(tmp_path: Path) -> None:
    assert not imported_by("import prism", folder=tmp_path) & (FRAMEWORKS | {"ruamel", "rich", "click"})


# ---------------------------------------------------------------- habits


def definitions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@pytest.mark.parametrize("path", SOURCES + OTHERS, ids=name)
def test_functions_have_at_most_60_lines(path: Path) -> None:
    long = {one.name: (one.end_lineno or 0) - one.lineno + 1 for one in definitions(path)}
    assert not {function: lines for function, lines in long.items() if lines > 60}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_have_at_most_300_lines_beside_blank_ones(path: Path) -> None:
    assert sum(bool(line.strip()) for line in path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_prints_and_nothing_is_caught_in_silence(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"print in line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            broad = caught in ("Exception", "BaseException")
            silent = all(isinstance(step, (ast.Pass, ast.Continue)) for step in node.body)
            assert not (broad and silent), f"{caught} is swallowed in line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES + OTHERS, ids=name)
def test_modules_are_named_for_what_they_hold(path: Path) -> None:
    names = {part.removesuffix(".py").removesuffix("s") for part in path.relative_to(ROOT).parts}
    assert not names & {"util", "helper", "common", "base", "manager", "misc"}


def test_every_hook_is_documented_and_every_kind_has_one() -> None:
    page = (ROOT / "docs/reference/hooks.md").read_text(encoding="utf-8")
    hooks = {hook for hook in vars(hookspecs) if hook.startswith("prism_")}
    assert hooks == {"prism_load_config", *HOOK_OF_KIND.values()}
    headings = set(re.findall(r"^#+ `(prism_\w+)\(", page, re.MULTILINE))
    assert headings == hooks
    for kind in HOOK_OF_KIND:
        assert f"`{kind}`" in page


def words_of(command: click.Command, *, path: str) -> Iterator[str]:
    """What the page must hold about `command`: its full name and its long options, and those of all below it."""
    yield path
    for parameter in command.params:
        yield from (option for option in parameter.opts if option.startswith("--"))
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from words_of(below, path=f"{path} {name}")


@pytest.mark.parametrize("command", BUILTINS)
def test_every_command_and_option_is_documented(command: str) -> None:
    page = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^(## `prism {command}`\n.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
    loaded = cli.get_command(click.Context(cli), command)
    assert loaded is not None
    assert not [word for word in words_of(loaded, path=f"prism {command}") if word not in section]


# ---------------------------------------------------------------- distributions


def projects() -> dict[str, dict[str, object]]:
    return {name(path): tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in PYPROJECTS}


def test_all_distributions_have_the_one_version() -> None:
    sdk = (ROOT / "plugins/sais-prism-sdk/src/sais_prism/__init__.py").read_text(encoding="utf-8")
    assert {project["version"] for project in projects().values()} == {VERSION}
    assert f'__version__ = "{VERSION}"' in sdk
    release = ".".join(VERSION.split(".")[:2])
    for project in projects().values():
        extras = project.get("optional-dependencies", {})
        assert isinstance(extras, dict) and isinstance(project["dependencies"], list)
        wanted = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
        ours = [line for line in wanted if line.startswith("sais-prism-") and "[" not in line]
        assert all(line.endswith(f"~={release}.0") for line in ours), ours


def test_distributions_are_uniform() -> None:
    found = projects()
    for key in ("requires-python", "license", "authors"):
        assert len({json.dumps(project[key]) for project in found.values()}) == 1
    for path, project in found.items():
        points = project.get("entry-points", {})
        assert project["readme"] == "README.md" and (ROOT / path).with_name("README.md").exists()
        if path != "pyproject.toml" and points:
            (package,) = (ROOT / path).parent.glob("src/*/__init__.py")
            short = Path(path).parent.name.removeprefix("prism-")
            assert isinstance(points, dict) and points["prism"] == {short: f"{package.parent.name}.plugin"}


def test_the_sdk_requires_every_plugin_of_this_repository() -> None:
    found = projects()
    sdk = found.pop("plugins/sais-prism-sdk/pyproject.toml")["dependencies"]
    assert isinstance(sdk, list)
    assert {re.split("[~=<>]", line)[0] for line in sdk} >= {str(project["name"]) for project in found.values()}


DISTRIBUTION_OF = {
    "ruamel": "ruamel.yaml",
    "importlib_metadata": "importlib-metadata",
    "huggingface_hub": "huggingface-hub",
}


@pytest.mark.parametrize("path", PYPROJECTS, ids=name)
def test_what_is_imported_is_declared(path: Path) -> None:
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    sources = CORE if path.parent == ROOT else sorted(path.parent.glob("src/**/*.py"))
    own = "prism" if path.parent == ROOT else sources[0].parent.name
    roots = {module.partition(".")[0] for source in sources for module in imports(source)}
    foreign = {DISTRIBUTION_OF.get(root, root) for root in roots - sys.stdlib_module_names - {own, "prism"}}
    extras = [line for lines in project.get("optional-dependencies", {}).values() for line in lines]
    declared = {re.split(r"[~=<>\[]", line)[0] for line in project["dependencies"]}
    assert foreign <= declared | {re.split(r"[~=<>\[]", line)[0] for line in extras}
    if path.parent == ROOT:  # a plugin may need a distribution that its framework imports for it
        assert declared <= foreign
