"""Checkpoints: published whole or not at all, and never a damaged one chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prism.errors import UsageError
from prism.runs.checkpoints import (
    MANIFEST,
    latest_checkpoint,
    prune_checkpoints,
    published_checkpoints,
    write_checkpoint,
)
from prism.runs.ranks import Alone


def save(folder: Path, step: int, attempt: int = 1) -> Path:
    with write_checkpoint(folder, step=step, attempt=attempt, ranks=Alone()) as target:
        (target / "model.safetensors").write_bytes(b"weights %d" % step)
        (target / "state.json").write_text(json.dumps({"step": step}))
    return target


def test_the_newest_is_found(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        save(tmp_path, step)
    found = latest_checkpoint(tmp_path, report=pytest.fail)
    assert found is not None and (found.step, found.size) == (100, len("weights 100") + len('{"step": 100}'))


def test_a_later_attempt_is_newer_than_a_higher_step(tmp_path: Path) -> None:
    save(tmp_path, 137)
    save(tmp_path, 110, attempt=2)
    assert [(c.attempt, c.step) for c in published_checkpoints(tmp_path)] == [(2, 110), (1, 137)]


def test_an_error_while_saving_publishes_nothing_and_a_second_try_may(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        write_checkpoint(tmp_path, step=1, attempt=1, ranks=Alone()) as target,
    ):
        (target / "half").write_text("half")
        raise ZeroDivisionError
    assert published_checkpoints(tmp_path) == []
    assert save(tmp_path, 1).joinpath("half").exists() is False
    with pytest.raises(UsageError, match="step 1"):
        save(tmp_path, 1)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def swap(path: Path) -> None:
    other = next(file for file in path.parent.iterdir() if file != path and file.name != MANIFEST)
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, remove, swap])
@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_a_damaged_one_is_named_and_passed_over(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    save(tmp_path, 1)
    damage(save(tmp_path, 2) / name)
    said: list[str] = []
    found = latest_checkpoint(tmp_path, report=said.append)
    assert found is not None and found.step == 1
    assert len(said) == 1 and "step-00000002-a1" in said[0] and name in said[0]


def test_without_its_manifest_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (save(tmp_path, 2) / MANIFEST).unlink()
    found = latest_checkpoint(tmp_path, report=pytest.fail)
    assert found is not None and found.step == 1


@pytest.mark.parametrize(("keep", "left"), [(2, [4, 3]), (1, [4]), (0, [4]), (9, [4, 3, 2, 1])])
def test_pruning_keeps_the_newest_and_at_least_one(tmp_path: Path, keep: int, left: list[int]) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    prune_checkpoints(tmp_path, keep=keep)
    assert [c.step for c in published_checkpoints(tmp_path)] == left
    assert len(list(tmp_path.iterdir())) == len(left)
