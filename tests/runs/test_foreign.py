"""Who belongs to one launch: the environments of several nodes and of several workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism.errors import UsageError
from prism.project import Project, open_project
from prism.runs.foreign import join_foreign_launch

WORKER = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "sais_foundation.yaml").write_text("foundation: {experiment_name: x}\nml: {enabled: false}\n")
    return open_project(tmp_path / "sais_foundation.yaml", environ={})


def test_a_process_alone_is_of_no_launch(project: Project) -> None:
    assert join_foreign_launch(project, {}) is None


@pytest.mark.parametrize(("environ", "nodes"), [({}, 2), (WORKER, 1)])
def test_several_nodes_need_a_name_in_common(project: Project, environ: dict[str, str], nodes: int) -> None:
    with pytest.raises(UsageError, match="several nodes"):
        join_foreign_launch(project, environ, nodes=nodes)
    named = {**environ, "PRISM_RUN_ID": "20260101-000000-aaaaaa"}
    places = [join_foreign_launch(project, named, nodes=nodes) for _ in range(2)]
    assert {place.directory.run_id for place in places if place} == {"20260101-000000-aaaaaa"}


def test_workers_of_one_parent_are_one_launch_and_a_restart_is_an_attempt(project: Project) -> None:
    environ = {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}
    first = join_foreign_launch(project, environ)
    again = join_foreign_launch(project, {**environ, "TORCHELASTIC_RESTART_COUNT": "1"})
    assert first and again and first.directory == again.directory
    assert (first.attempt, again.attempt) == (1, 2)
