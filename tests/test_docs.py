"""The documentation says what the code does: links, configurations, commands, records, roles and the run handle."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

import prism.protocols
from prism.cli.main import cli
from prism.config import load
from prism.journal.directory import RunDirectory
from prism.journal.state import read_state, write_run_summary
from prism.plugins import Plugins
from prism.project import open_project
from prism.runs.beginning import begin_run, describe_run, enter_attempt
from prism.runs.handle import Run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OF_THEIR_OWN_TEST = {"write-a-plugin.md", "configuration.md", "share-settings.md"}
"""Pages whose examples name plugins, variables or files that are not here; they have tests of their own."""

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def sections(page: Path) -> dict[str, str]:
    """Heading → the text below it, up to the next heading; a heading's code mark is left out."""
    parts = re.split(r"^##+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {title.replace("`", ""): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=page_id)
def test_links_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page_id(page)}: {link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{page_id(page)}: {link}: no such heading"


def test_the_index_names_every_page() -> None:
    linked = {
        (DOCS / link.partition("#")[0]).resolve() for link in LINK.findall((DOCS / "index.md").read_text("utf-8"))
    }
    missing = [page_id(page) for page in PAGES if page not in linked and page.name != "index.md"]
    assert not missing, f"docs/index.md does not link {missing}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in OF_THEIR_OWN_TEST], ids=page_id)
def test_configurations_load_and_python_compiles(page: Path, tmp_path: Path) -> None:
    plugins = Plugins.load()
    for number, text in enumerate(blocks(page, "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text, encoding="utf-8")
        load(file, read=plugins.load_config, option_type=plugins.option_type, environ={})
    for text in blocks(page, "python"):
        compile(text, page_id(page), "exec")


def written_commands(page: Path) -> Iterator[list[str]]:
    for text in blocks(page, "sh", "bash", "console"):
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            at = next((place for place, word in enumerate(words) if Path(word).name == "prism"), None)
            if at is not None and words[0] != "pip":
                yield words[at + 1 :]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=page_id)
def test_written_commands_exist(page: Path) -> None:
    for words in written_commands(page):
        command: click.Command = cli
        context = click.Context(cli)
        options = {name for parameter in cli.params for name in parameter.opts}
        for word in words[: words.index("--") if "--" in words else None]:
            found = command.get_command(context, word) if isinstance(command, click.Group) else None
            if found is not None:
                command, options = found, {name for parameter in found.params for name in parameter.opts}
            elif word.startswith("-"):
                assert word in options | {"-h", "--help"}, f"{page_id(page)}: prism {shlex.join(words)}: no {word}"
        assert not isinstance(command, click.Group) or {"--help", "--version"} & set(words), (
            f"{page_id(page)}: prism {shlex.join(words)} is no command"
        )


# ---------------------------------------------------------------- the run handle and the roles


def test_every_public_member_of_the_run_is_documented() -> None:
    documented = {title.partition("(")[0] for title in sections(DOCS / "reference" / "run-handle.md")}
    tree = ast.parse(inspect.getsource(Run.__init__).lstrip())
    attributes = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    public = {name for name in {*vars(Run), *attributes} if not name.startswith("_")}
    assert public <= documented, f"run-handle.md does not document {sorted(public - documented)}"
    known = {"What it is", "Saying", "Data and checkpoints", "Stopping and ending"}
    assert documented - known <= public, (
        f"run-handle.md documents what is not there: {sorted(documented - known - public)}"
    )


@pytest.mark.parametrize("name", [n for n, c in vars(Run).items() if inspect.isfunction(c) and not n.startswith("_")])
def test_documented_parameters_are_those_of_the_method(name: str) -> None:
    title = next(t for t in sections(DOCS / "reference" / "run-handle.md") if t.startswith(f"{name}("))
    documented = set(re.findall(r"[\w]+(?=[=,)]|$)", title.partition("(")[2].replace('"', "")))
    parameters = set(inspect.signature(getattr(Run, name)).parameters) - {"self"}
    assert parameters <= documented, f"{title}: the method has {sorted(parameters)}"


def _classes() -> list[type[Any]]:
    return [c for c in vars(prism.protocols).values() if inspect.isclass(c) and c.__module__ == "prism.protocols"]


ROLES = [c for c in _classes() if getattr(c, "_is_protocol", False)]
VALUES = [c for c in _classes() if attrs.has(c)]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.__name__)
def test_every_role_and_its_methods_are_documented(role: type[Any]) -> None:
    found = sections(DOCS / "reference" / "roles.md")
    assert role.__name__ in found, f"roles.md has no {role.__name__}"
    for name in vars(role):
        if not name.startswith("_"):
            assert re.search(rf"(def )?{name}\b", found[role.__name__]), f"roles.md: {role.__name__} lacks {name}"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_every_value_and_its_fields_are_documented(value: type[Any]) -> None:
    text = (DOCS / "reference" / "roles.md").read_text(encoding="utf-8")
    sentence = re.search(rf"`{value.__name__}` has (.*?)(?:\.\s|\.$|\n\n)", text, re.DOTALL | re.MULTILINE)
    assert sentence, f"roles.md does not say what {value.__name__} has"
    missing = [field.name for field in attrs.fields(value) if f"`{field.name}`" not in sentence[1]]
    assert not missing, f"roles.md: {value.__name__} has {missing} too"


# ---------------------------------------------------------------- the journal


def kinds_in_the_code() -> dict[str, str]:
    """Kind → where it is written: calls of `say` and `write` with a kind and its data."""
    found = {}
    for path in [*(ROOT / "prism").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_saying = isinstance(node, ast.Call) and len(node.args) == 2
            if is_saying and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("say", "write"):
                kind = node.args[0]
                if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                    found[kind.value] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found


def test_every_environment_variable_is_documented() -> None:
    said = sections(DOCS / "reference" / "command-line.md")["Environment variables"]
    code = [*(ROOT / "prism").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]
    named = {name for path in code for name in re.findall(r"\bPRISM_[A-Z][A-Z_]*", path.read_text(encoding="utf-8"))}
    assert "PRISM_RUN_ID" in named
    assert not (missing := {name for name in named if f"`{name}`" not in said}), f"undocumented: {sorted(missing)}"


def test_every_kind_of_record_is_documented() -> None:
    found, documented = kinds_in_the_code(), sections(DOCS / "reference" / "journal.md")
    assert {"start", "end", "metrics", "tracker", "registration"} <= found.keys()  # the search itself works
    missing = {kind: place for kind, place in found.items() if kind not in documented}
    assert not missing, f"journal.md does not document {missing}"


def documented_fields(kind: str) -> set[str]:
    table = sections(DOCS / "reference" / "journal.md")[kind]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_field_of_every_record_is_documented(tmp_path: Path) -> None:
    (tmp_path / "sais_foundation.yaml").write_text("ml: {enabled: false, model_repo: {name: m}}\n", encoding="utf-8")
    (tmp_path / "data.csv").write_text("x\n1\n", encoding="utf-8")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.txt").write_text("1", encoding="utf-8")
    directory = _say_everything(tmp_path)
    seen = set()
    for file in directory.journal_files():
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            fields = record.keys() - {"seq", "time", "kind", "crc"}
            seen.add(record["kind"])
            undocumented = fields - documented_fields(record["kind"])
            assert not undocumented, f"journal.md: {record['kind']} has {undocumented} too"
    beyond_one_process = {"heartbeat", "tracker", "registration"}
    assert seen == kinds_in_the_code().keys() - beyond_one_process


def _say_everything(project_folder: Path) -> RunDirectory:
    project = open_project(start=project_folder)
    directory = begin_run(project)
    with enter_attempt(directory, project=project, attempt=1) as run:
        describe_run(run.say, project, tags={"a": "b"})
        run.log_metrics({"loss": float("nan")}, step=1)
        run.dataset("data.csv")
        run.log_text("text", name="a.txt")
        run.warn("warning")
        run.say("call", {"tracker": "mlflow", "method": "log_batch", "arguments": {"run": "r"}})
        run.log_model(project_folder / "model")
        run.log_evaluation("data.csv", metrics={"m": 1.0}, signatures={"e": "s"}, samples_file="f")
        with run.checkpoint(step=1) as folder:
            (folder / "state.json").write_text("{}", encoding="utf-8")
    return directory


def test_every_key_of_a_run_shown_as_json_is_documented(tmp_path: Path) -> None:
    (tmp_path / "sais_foundation.yaml").write_text("ml: {enabled: false}\n", encoding="utf-8")
    (tmp_path / "data.csv").write_text("x\n1\n", encoding="utf-8")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.txt").write_text("1", encoding="utf-8")
    directory = _say_everything(tmp_path)
    state = read_state(directory)
    text = sections(DOCS / "reference" / "exit-codes-and-json.md")["prism runs show"]
    shown = state.as_json()
    keys = {*shown, *shown["model"], *shown["datasets"][0], *shown["checkpoints"][0], *shown["evaluations"][0]}
    assert not [key for key in keys if f"`{key}`" not in text]
    write_run_summary(state)
    summary = json.loads(directory.summary.read_text(encoding="utf-8"))
    page = (DOCS / "reference" / "run-directory.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in page for key in summary.keys() - shown.keys())


def test_every_path_in_a_run_directory_is_documented() -> None:
    page = (DOCS / "reference" / "run-directory.md").read_text(encoding="utf-8")
    directory = RunDirectory(Path("artifacts/runs/run"))
    properties = [name for name, member in vars(RunDirectory).items() if isinstance(member, property)]
    paths = [getattr(directory, name) for name in properties if name not in ("run_id", "project")]
    missing = [path.name for path in paths if f"`{path.name}`" not in page and f"`{path.name}/`" not in page]
    assert not missing, f"run-directory.md does not name {missing}"
