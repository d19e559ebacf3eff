"""The distributions as wheels: what each ships, that none ships another's files, and the upgrade from the first SDK."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import json
import py_compile
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest

from prism.version import VERSION

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "sais_prism_core": ROOT,
    **{
        ("" if path.name.startswith("sais-") else "sais_") + path.name.replace("-", "_"): path
        for path in sorted(ROOT.glob("plugins/*"))
        if (path / "pyproject.toml").exists()
    },
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Distribution → its wheel, built from this tree."""
    out = tmp_path_factory.mktemp("wheels")
    for folder in FOLDERS.values():
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
        process = subprocess.run(build, cwd=folder, capture_output=True, text=True, timeout=120)
        assert process.returncode == 0, process.stderr
    return {path.name.split("-")[0]: path for path in out.glob("*.whl")}


def modules(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_there_is_a_wheel_of_each_distribution(wheels: Mapping[str, Path]) -> None:
    assert set(wheels) == set(FOLDERS)
    assert {path.name.split("-")[1] for path in wheels.values()} == {VERSION}


def test_no_two_wheels_ship_one_path_and_sais_prism_is_the_sdk_s_alone(wheels: Mapping[str, Path]) -> None:
    owners: dict[str, list[str]] = {}
    for distribution, wheel in wheels.items():
        for package in {name.split("/")[0] for name in modules(wheel)}:
            owners.setdefault(package, []).append(distribution)
    assert all(len(found) == 1 for found in owners.values()), owners
    assert owners["sais_prism"] == ["sais_prism_sdk"]
    assert owners["prism"] == ["sais_prism_core"]


def test_a_wheel_ships_its_whole_package_and_no_test(wheels: Mapping[str, Path]) -> None:
    for distribution, folder in FOLDERS.items():
        source = folder / ("prism" if folder == ROOT else "src")
        base = ROOT if folder == ROOT else source
        files = {str(path.relative_to(base)) for path in source.rglob("*") if path.is_file()}
        shipped = modules(wheels[distribution])
        assert shipped == {name for name in files if "__pycache__" not in name}
        assert any(name.endswith("/py.typed") for name in shipped)


OLD = "old = True\n"
FIRST_SDK = (
    *("sais_prism/__init__.py", "sais_prism/core/config.py", "sais_prism/core/decorators.py"),
    *("sais_prism/core/exceptions.py", "sais_prism/core/service_locator.py", "sais_prism/core/gone.py"),
    *("sais_prism/ml/mlflow_integration.py", "sais_prism/unified_data_access/client.py"),
)


def first_sdk(folder: Path) -> Path:
    """A wheel laid out like sais-prism-sdk 0.1.0b13, the last one before this repository.

    As in that one, subpackages have no `__init__.py`, and compiled modules are in it; `gone` is a module too many.
    """
    files = {name: OLD.encode() for name in FIRST_SDK}
    source = folder / "old.py"
    source.write_text(OLD)
    for name in FIRST_SDK:  # which Python would take for its source, whatever that is, if it were left
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(source), str(folder / "old.pyc"), dfile=name, invalidation_mode=unchecked)
        files[str(PurePosixPath(importlib.util.cache_from_source(name)))] = (folder / "old.pyc").read_bytes()
    info = "sais_prism_sdk-0.1.0b13.dist-info"
    files[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: sais-prism-sdk\nVersion: 0.1.0b13\n"
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/top_level.txt"] = b"sais_prism\n"
    record = io.StringIO()
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        csv.writer(record, lineterminator="\n").writerow([name, f"sha256={digest}", len(content)])
    files[f"{info}/RECORD"] = (record.getvalue() + f"{info}/RECORD,,\n").encode()
    wheel = folder / "sais_prism_sdk-0.1.0b13-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


ASK = """
import importlib, json, sys
found = {name: importlib.import_module(name) for name in json.loads(sys.argv[1])}
print(json.dumps({name: [module.__file__, hasattr(module, "old")] for name, module in found.items()}))
"""


def test_an_upgrade_from_the_first_sdk_leaves_a_whole_package(wheels: Mapping[str, Path], tmp_path: Path) -> None:
    """Whatever is imported afterwards is of today; of the old one nothing is left, nor of what it had compiled."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}  # what is third-party, and none of ours
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sorted(borrowed)))

    def ask(*names: str) -> dict[str, tuple[str, bool]]:
        told = subprocess.run(
            [str(python), "-I", "-c", ASK, json.dumps(names)], capture_output=True, text=True, timeout=60
        )
        assert told.returncode == 0, told.stderr
        return {name: tuple(found) for name, found in json.loads(told.stdout).items()}

    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(first_sdk(tmp_path))], check=True, timeout=120)
    assert ask("sais_prism.core.config")["sais_prism.core.config"][1]
    subprocess.run([*pip, *map(str, wheels.values())], check=True, timeout=120)
    shipped = {path for path in modules(wheels["sais_prism_sdk"]) if path.endswith(".py")}
    assert {*FIRST_SDK} - shipped == {"sais_prism/core/gone.py"}  # all that scripts import is there today
    assert {str(path.relative_to(site)) for path in site.glob("sais_prism/**/*.py")} == shipped
    names = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in sorted(shipped)]
    for file, is_old in ask(*names, "prism.version").values():
        assert file.startswith(str(site)) and not is_old
    compiled = {importlib.util.source_from_cache(str(path)) for path in site.glob("sais_prism/**/*.pyc")}
    assert {str(Path(path).relative_to(site)) for path in compiled} <= shipped
    assert [path.name for path in site.glob("sais_prism_sdk-*")] == [f"sais_prism_sdk-{VERSION}.dist-info"]
