"""Plugins by strangers: the files of docs/how-to/write-a-plugin.md, built, installed and chosen by name.

They go as wheels into a new virtual environment, with wheels of the core and of two built-in plugins.
Third-party packages are not downloaded again: the environment borrows those of the one that runs the
tests through a path file, without any distribution of ours.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="wheels are built with the hatchling that is here, without the network")

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "how-to" / "write-a-plugin.md"
FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"(sais[_-]prism|prism|__editable__|_sais_prism|_prism)", re.IGNORECASE)
BUILT_IN = ("prism-data", "prism-textmetrics")


def files_of_page() -> dict[str, str]:
    return dict(FILE.findall(PAGE.read_text(encoding="utf-8")))


class Stranger:
    """A machine of someone else: a project folder and a virtual environment with wheels."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.python = folder / "venv" / "bin" / "python"
        self._wheels = folder / "dist"
        for name, text in files_of_page().items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        venv.create(folder / "venv", with_pip=False)
        self._borrow_packages(folder / "borrowed")

    def install(self, *folders: Path) -> None:
        """Build wheels of these folders and install them, as `pip wheel` and `pip install` do."""
        sources = [str(folder) for folder in folders]
        quiet = ["--quiet", "--disable-pip-version-check"]
        self._pip([*quiet, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(self._wheels), *sources])
        wheels = [str(wheel) for wheel in self._wheels.glob("*.whl")]
        self._pip([*quiet, "--python", str(self.python), "install", "--no-deps", "--no-index", *wheels])

    def prism(self, *words: str, code: int = 0) -> str:
        """What `prism` prints on stdout."""
        command = [str(self.python), "-m", "prism", *words]
        hidden = {"PYTHONPATH", "PRISM_PLUGINS_OFF"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        done = subprocess.run(command, cwd=self.project, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def _pip(self, words: list[str]) -> None:
        done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, timeout=170)
        assert done.returncode == 0, done.stdout + done.stderr

    def _borrow_packages(self, borrowed: Path) -> None:
        borrowed.mkdir()
        for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(site).iterdir():
                if not OURS.match(entry.name) and entry.suffix != ".pth":
                    (borrowed / entry.name).symlink_to(entry)
        (sites,) = self.python.parents[1].glob("lib/python*/site-packages")
        (sites / "borrowed.pth").write_text(f"{borrowed}\n")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    machine = Stranger(tmp_path_factory.mktemp("stranger"))
    plugins = [REPOSITORY / "plugins" / name for name in BUILT_IN]
    own = [machine.project / "prism-shelf", machine.project / "prism-exact"]
    machine.install(REPOSITORY, *plugins, *own)
    return machine


@pytest.mark.parametrize("name", ["prism-shelf", "prism-exact"])
def test_the_plugins_are_as_small_as_the_page_says(name: str) -> None:
    files = files_of_page()

    def lines(file: str) -> int:
        return sum(bool(line.strip()) for line in files[f"{name}/{file}"].splitlines())

    package = name.replace("-", "_")
    assert lines("pyproject.toml") == 9
    assert lines(f"{package}/plugin.py") == 5
    assert "import torch" not in "".join(files.values())


def test_nothing_of_the_source_tree_is_used(stranger: Stranger) -> None:
    code = "import prism, prism_data, prism_shelf; print(prism.__file__, prism_data.__file__, prism_shelf.__file__)"
    command = [str(stranger.python), "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    places = done.stdout.split()
    assert len(places) == 3 and all(place.startswith(str(stranger.python.parents[1])) for place in places)


@pytest.mark.timeout(300)
def test_both_are_listed_with_their_distribution(stranger: Stranger) -> None:
    listed = {record["name"]: record for record in json.loads(stranger.prism("plugins", "list", "--json"))}
    assert set(listed) == {"yaml", "data", "textmetrics", "shelf", "exact"}
    for name, distribution, kind, given in (
        ("shelf", "prism-shelf", "data_client", "shelf"),
        ("exact", "prism-exact", "evaluator", "exact_match"),
    ):
        record = listed[name]
        assert (record["distribution"], record["version"], record["state"]) == (distribution, "1.0.0", "ok")
        assert record["provides"] == [{"kind": kind, "name": given}]


def test_the_configuration_that_names_them_is_right(stranger: Stranger) -> None:
    assert json.loads(stranger.prism("config", "check", "--json"))["ok"] is True


def test_their_options_are_checked_with_line_and_column(stranger: Stranger) -> None:
    file = stranger.project / "wrong.yaml"
    file.write_text((stranger.project / "sais_foundation.yaml").read_text().replace("root:", "rot:"))
    done = subprocess.run(
        [str(stranger.python), "-m", "prism", "config", "check", "wrong.yaml", "--json"],
        cwd=stranger.project, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    problems = json.loads(done.stdout)["problems"]
    assert done.returncode == 1
    assert any((problem["line"], problem["column"]) == (3, 25) and "root" in problem["hint"] for problem in problems)


def test_the_page_prints_what_prism_prints(stranger: Stranger) -> None:
    transcript = CONSOLE.findall(PAGE.read_text(encoding="utf-8"))[-1]
    _, _, shown = transcript.partition("$ prism evaluate --rescore answers.jsonl --data capitals\n")
    assert stranger.prism("evaluate", "--rescore", "answers.jsonl", "--data", "capitals") == shown


def test_the_configuration_uses_both_by_name(stranger: Stranger) -> None:
    newer = stranger.project / "shelf" / "capitals" / "1.1.0.jsonl"
    newer.write_text((newer.parent / "1.0.0.jsonl").read_text().replace("Lima", "Cusco"))
    words = ("evaluate", "--rescore", "answers.jsonl", "--json", "--data")
    for reference, right in (("capitals", 1.0), ("capitals@1.0.0", 0.5)):
        found = json.loads(stranger.prism(*words, reference))
        assert found["metrics"]["eval/capitals/exact_match"] == right
        assert found["signatures"] == {"exact_match": "exact_match|strip|version:1"}
    newer.unlink()
    assert "there are: 1.0.0" in stranger.prism(*words, "capitals@2.0.0", code=1)
    assert "leaves the data root" in stranger.prism(*words, "../answers", code=1)


def test_a_stranger_is_switched_off_like_a_built_in(stranger: Stranger) -> None:
    words = ("evaluate", "--rescore", "answers.jsonl", "--data", "capitals")
    message = stranger.prism("--no-plugin", "exact", *words, code=2)
    assert "named 'exact_match'" in message and "bleu, rouge" in message
