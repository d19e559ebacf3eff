from __future__ import annotations

import math
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag
from mlflow.store.artifact.artifact_repo import verify_artifact_path
from mlflow.utils.validation import _validate_batch_log_data, _validate_batch_log_limits

from prism.protocols import Record
from prism_mlflow.batches import cut_batches
from prism_mlflow.naming import cut, original_name, own_tag, stored_name, stored_path, stored_tag, text
from prism_mlflow.projection import project

STEADY = settings(deadline=None, derandomize=True, max_examples=300)
NAMES = st.text(max_size=400) | st.text(alphabet="a./ :[]@%é损\ud800\x00", max_size=40)


@STEADY
@given(NAMES)
@example("a//b").via("reads as another path")
@example("../up").via("leaves its folder")
@example("..0").via("begins as if it left its folder")
@example("loss\n").via("a line end")
@example(".").via("no name")
@example("").via("no name")
def test_mlflow_takes_every_stored_name(name: str) -> None:
    stored = stored_name(name)
    tags = [RunTag(stored_tag(name), ""), *(RunTag(own_tag(kind, stored), "") for kind in ("name", "nonfinite"))]
    batch = _validate_batch_log_data([Metric(stored, 1.0, 0, 0)], [Param(stored, "")], tags)
    assert all(len(tag.key) <= 250 for tag in tags) and len(stored) <= 250
    _validate_batch_log_limits(*batch)


@STEADY
@given(NAMES, NAMES)
def test_different_names_stay_different(one: str, other: str) -> None:
    assert (stored_name(one) == stored_name(other)) == (one == other)


@STEADY
@given(NAMES)
@example('"quoted"').via("looks like the tag's own JSON")
@example("x" * 249 + "é[").via("the tag's name is too long itself")
def test_the_name_as_given_comes_back(name: str) -> None:
    for kind, of in (("metrics", stored_name), ("params", stored_name), ("tags", stored_tag)):
        value: Any = 1.0 if kind == "metrics" else "v"
        found = project([record(kind, step=1, **{kind: {name: value}})])
        assert original_name(of(name), found.own) == name
        assert all(text(tag) == tag and len(value) <= 8000 for tag, value in found.own.items())


def test_names_that_are_nearly_the_same_stay_apart() -> None:
    """In letter case, in what is replaced, in what is cut off, in how a letter is composed; as metrics and as files."""
    names = ["loss", "Loss", "LOSS", "a/b", "a_b", "a//b", "a[b", "a]b", "a@b", "é", "e\u0301", "x" * 300, "x" * 301]
    names += ["損失", "损失", "a b", "a  b", "a b ", " a b"]
    assert len({stored_name(name) for name in names}) == len(names)
    assert len({stored_tag(name) for name in names}) == len(names)
    files = [name for name in names if name != "a//b"]  # which is the file a/b
    assert len({stored_path(name) for name in files}) == len(files)


@pytest.mark.parametrize("name", ["loss", "eval/drug_qa/rougeL", "lr group:0", "损失", "a.b-c_d", "x" * 250])
def test_what_mlflow_takes_stays_as_it_is(name: str) -> None:
    assert stored_name(name) == name


def test_a_user_cannot_overwrite_the_trackers_own_tags() -> None:
    assert stored_tag("prism.run_id") != "prism.run_id"
    assert stored_tag("prism.position") != "prism.position"
    assert stored_tag("prism.git.commit") == "prism.git.commit"


@STEADY
@given(st.text(max_size=300) | st.text(alphabet=string.ascii_letters + "/.?#%😀", max_size=300))
@example("..hidden/a.txt").via("begins as if it left its folder")
def test_every_artifact_path_is_one_a_store_can_name(path: str) -> None:
    stored = stored_path(path)
    verify_artifact_path(stored)
    parts = stored.split("/")
    assert all(0 < len(part.encode()) <= 255 and part not in (".", "..") for part in parts)
    assert not set(stored) & set("?#%\\")


def test_a_cut_value_says_so() -> None:
    assert cut("x" * 10, limit=100, whole="params/a.txt") == "x" * 10
    short = cut("x" * 7000, limit=6000, whole="params/a.txt")
    assert len(short) == 6000 and short.endswith(", all of them in params/a.txt]")
    assert "[cut: 7000 characters, digest " in short and short != cut(
        "x" * 6999 + "y", limit=6000, whole="params/a.txt"
    )


@STEADY
@given(st.text())
def test_every_text_can_be_stored(value: str) -> None:
    stored = text(value)
    assert "\x00" not in stored
    stored.encode()


def test_batches_keep_the_limits_and_the_order() -> None:
    entities = [Param(f"p{i}", "值" * 6000) for i in range(120)]
    entities += [Metric(f"m{i}", 1.0, 0, i) for i in range(2500)]
    entities += [RunTag(f"t{i}", "x" * 100) for i in range(250)]
    batches = list(cut_batches(entities))
    for batch in batches:
        _validate_batch_log_limits(batch.metrics, batch.params, batch.tags)
        assert batch.size <= 900_000
    assert [entity for batch in batches for entity in [*batch.params, *batch.metrics, *batch.tags]] == entities
    assert max(len(batch.metrics) for batch in cut_batches(entities, points=70)) == 70


def record(kind: str, seq: int = 1, **data: object) -> Record:
    return Record("a1-rank0.jsonl", seq, 1_700_000_000_000 + seq, kind, data)


def test_the_projection_keeps_the_records_own_time_and_marks_what_is_not_finite() -> None:
    found = project([
        record("metrics", 1, step=None, metrics={"a": 1.5}),
        record("metrics", 2, step=7, metrics={"b": math.inf, "c": math.nan}),
        record("metrics", 3, step=3, metrics={"b": math.inf}),
    ])  # fmt: skip
    assert [(m.key, m.step, m.timestamp) for m in found.metrics][:2] == [
        ("a", 0, 1_700_000_000_001),
        ("b", 7, 1_700_000_000_002),
    ]
    assert found.nonfinite == {"b": {"Infinity": 3}, "c": {"NaN": 7}}


def test_the_projection_leaves_out_kinds_it_does_not_know() -> None:
    found = project([record("heartbeat", n=1), record("from_the_future", anything=[1])])
    assert found == project([])


def test_a_name_given_otherwise_is_kept_in_a_tag() -> None:
    found = project([record("metrics", step=1, metrics={"acc[0]@k": 1.0})])
    stored = found.metrics[0].key
    assert stored.startswith("acc_0__k-") and found.own == {f"prism.name.{stored}": "acc[0]@k"}


def test_of_one_artifact_name_the_last_file_counts() -> None:
    found = project([record("file", n, name="a.txt", path=f"/kept/{n}", size=1, sha256="") for n in (1, 2)])
    assert [file.path for file in found.files.values()] == [Path("/kept/2")]
