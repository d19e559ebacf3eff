"""Large files on their way to the artifact store: cut off, sent again, whole at last, and never in memory at once."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from campaigns import proxy
from campaigns.proxy import FaultProxy
from prism.errors import Unreachable
from prism.protocols import Record, TrackedRun
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker

JOURNAL = "a1-rank0"
SEED, SIZE = 7, 16 << 20
PATIENT = TrackerOptions(timeout=60)
Make = Callable[..., TrackedRun]


def large(tmp_path: Path, *, seq: int = 1) -> Record:
    """A record of a file of random bytes."""
    path, digest = tmp_path / "large.bin", hashlib.sha256()
    draw = random.Random(SEED)
    with path.open("wb") as content:
        for _ in range(SIZE >> 20):
            block = draw.randbytes(1 << 20)
            digest.update(block)
            content.write(block)
    data = {"name": "large.bin", "path": str(path), "size": SIZE, "sha256": digest.hexdigest()}
    return Record(JOURNAL, seq, 1_700_000_000_000, "file", data)


def test_what_is_there_is_not_sent_again(
    fault_proxy: FaultProxy, embedded: Path, make_run: Make, tmp_path: Path
) -> None:
    record = large(tmp_path)
    tracker = MlflowTracker(PATIENT)
    tracker.open(make_run(embedded, "large", settings={"tracking_uri": fault_proxy.uri}, experiment="large"))
    fault_proxy.fault("reset", method="PUT", path="large.bin", times=1)
    with pytest.raises(Unreachable, match="did not take the file large"):
        tracker.deliver([record], {JOURNAL: 1})
    tracker.deliver([record], {JOURNAL: 1})
    requests = fault_proxy.paths.total()
    tracker.deliver([record], {JOURNAL: 1})  # noted as uploaded
    assert fault_proxy.paths.total() == requests + 1


@pytest.mark.timeout(300)
def test_a_file_that_the_store_kept_in_part_is_sent_again(
    embedded: Path, make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    tracker = MlflowTracker(PATIENT)
    opened = tracker.open(make_run(embedded, "cut"))
    whole = LocalArtifactRepository.log_artifact

    def cut(self: Any, local_file: str, artifact_path: str | None = None) -> None:
        whole(self, local_file, artifact_path)
        os.truncate(Path(self.artifact_dir) / "large.bin", SIZE // 3)

    record = large(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(LocalArtifactRepository, "log_artifact", cut)
        with pytest.raises(Unreachable, match=rf"has {SIZE // 3} of the {SIZE} bytes of large.bin"):
            tracker.deliver([record], {JOURNAL: 1})
    tracker.deliver([record], {JOURNAL: 1})
    kept = embedded / "artifacts" / "mlflow" / opened.id / "artifacts" / "large.bin"
    assert kept.stat().st_size == SIZE


def test_a_slow_line_is_not_a_dead_one(fault_proxy: FaultProxy, embedded: Path, make_run: Make, tmp_path: Path) -> None:
    """The time-out holds for a moment without progress, not for the whole of a file."""
    slow = tmp_path / "slow.bin"
    slow.write_bytes(bytes(6 << 20))
    sha256 = hashlib.sha256(slow.read_bytes()).hexdigest()
    tracker = MlflowTracker(TrackerOptions(timeout=4))
    tracker.open(make_run(embedded, "slow", settings={"tracking_uri": fault_proxy.uri}, experiment="slow"))
    file = Record(JOURNAL, 1, 1, "file", {"name": "slow.bin", "path": str(slow), "sha256": sha256})
    with _slow_reading(seconds=0.065):
        tracker.deliver([file], {JOURNAL: 1})


@contextmanager
def _slow_reading(*, seconds: float) -> Iterator[None]:
    """Every block of a body that the proxy passes on takes so long: 96 blocks of 64 KB at least."""
    body_of = proxy.body_of

    def slowly(*given: Any, **named: Any) -> Iterator[bytes]:
        for block in body_of(*given, **named):
            if len(block) > 1 << 12:
                time.sleep(seconds)
            yield block

    proxy.body_of = slowly
    try:
        yield
    finally:
        proxy.body_of = body_of
