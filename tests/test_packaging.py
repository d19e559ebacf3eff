"""The distributions as wheels: what each ships, that none ships another's files, and the upgrade from the first SDK."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

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


def first_sdk(folder: Path) -> Path:
    """A wheel laid out like sais-prism-sdk 0.1.0b13, the last one before this repository."""
    files = {f"sais_prism/{name}": "old = True\n" for name in ("__init__.py", "core/__init__.py", "core/config.py")}
    files["sais_prism/ml/mlflow_integration.py"] = "old = True\n"
    info = "sais_prism_sdk-0.1.0b13.dist-info"
    files[f"{info}/METADATA"] = "Metadata-Version: 2.1\nName: sais-prism-sdk\nVersion: 0.1.0b13\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = io.StringIO()
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        csv.writer(record, lineterminator="\n").writerow([name, f"sha256={digest}", len(content)])
    files[f"{info}/RECORD"] = record.getvalue() + f"{info}/RECORD,,\n"
    wheel = folder / "sais_prism_sdk-0.1.0b13-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def test_an_upgrade_from_the_first_sdk_leaves_a_whole_package(wheels: Mapping[str, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(first_sdk(tmp_path))], check=True, timeout=120)
    subprocess.run([*pip, *map(str, wheels.values())], check=True, timeout=120)
    ask = "import sais_prism; print(sais_prism.__version__); import prism.version; print(prism.version.VERSION)"
    told = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == [VERSION, VERSION]
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    shipped = {path for path in modules(wheels["sais_prism_sdk"]) if path.endswith(".py")}
    assert {str(path.relative_to(site)) for path in site.glob("sais_prism/**/*.py")} == shipped
    assert all((site / path).read_text() != "old = True\n" for path in shipped)
