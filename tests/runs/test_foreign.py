"""Who belongs to one launch: the environments of several nodes and of several workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism.errors import EnvironmentUnfit, UsageError
from prism.journal.directory import RunDirectory, create_run_directory
from prism.journal.identity import ProcessIdentity
from prism.journal.opening import open_journal
from prism.journal.writer import JournalWriter
from prism.launch.topology import detect
from prism.project import Project, open_project
from prism.protocols import Topology
from prism.runs.foreign import join_foreign_launch

WORKER = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "sais_foundation.yaml").write_text("foundation: {experiment_name: x}\nml: {enabled: false}\n")
    return open_project(tmp_path / "sais_foundation.yaml", environ={})


def test_a_process_alone_is_of_no_launch(project: Project) -> None:
    assert join_foreign_launch(project, {}) is None


@pytest.mark.parametrize(("environ", "topology"), [({}, Topology("pet", "", nodes=2)), (WORKER, None)])
def test_several_nodes_need_a_name_in_common(
    project: Project, environ: dict[str, str], topology: Topology | None
) -> None:
    with pytest.raises(UsageError, match="several nodes"):
        join_foreign_launch(project, environ, topology=topology)
    named = {**environ, "PRISM_RUN_ID": "20260101-000000-aaaaaa"}
    places = [join_foreign_launch(project, named, topology=topology) for _ in range(2)]
    assert {place.directory.run_id for place in places if place} == {"20260101-000000-aaaaaa"}


def write_worker(directory: RunDirectory, stem: str, *, world_size: int = 2, status: str = "") -> None:
    """The journal of a worker that has died, or has ended with `status`."""
    writer = JournalWriter(directory.journal / f"{stem}.jsonl")
    dead = {**ProcessIdentity.mine().dump(), "started": 1}
    writer.write("start", {"format": 1, "role": "worker", "process": dead, "world_size": world_size})
    if status:
        writer.write("end", {"status": status, "exit_code": 0, "error": ""})
    writer.close()


def named(rank: int, run_id: str = "20260101-000000-aaaaaa", **more: str) -> dict[str, str]:
    return {
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "PRISM_RUN_ID": run_id,
        **more,
    }


def test_a_name_that_was_launched_before_is_refused(project: Project) -> None:
    first = join_foreign_launch(project, named(0))
    assert first is not None
    write_worker(first.directory, "a1-rank0", status="FINISHED")
    late = join_foreign_launch(project, named(1))  # the other rank of the same launch, that was slow
    assert late == first
    with pytest.raises(UsageError, match="launched before"):
        join_foreign_launch(project, named(0))
    again = join_foreign_launch(project, named(0, TORCHELASTIC_RESTART_COUNT="1"))
    assert again and again.attempt == 2


def test_further_runs_of_a_launch_are_others_in_each_attempt_of_prism_run(project: Project) -> None:
    first = join_foreign_launch(project, named(0, PRISM_ATTEMPT="1"), ordinal=2)
    assert first is not None
    write_worker(first.directory, "a1-rank0", status="FINISHED")
    again = [join_foreign_launch(project, named(rank, PRISM_ATTEMPT="2"), ordinal=2) for rank in (0, 1)]
    assert again[0] == again[1] and again[0] is not None
    assert again[0].directory != first.directory and again[0].attempt == 1


def test_a_node_whose_workers_were_counted_on_the_command_line_has_other_ranks(project: Project) -> None:
    environ = {"PRISM_RUN_ID": "20260101-000000-aaaaaa", "PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1"}
    places = []
    for node in ("0", "1"):
        topology = detect({**environ, "PET_NODE_RANK": node}, processes=4)
        place = join_foreign_launch(project, environ, topology=topology)
        assert place is not None
        places.append(place)
        for rank in (0, 1, 2, 3):
            write_worker(place.directory, f"a1-rank{rank + 4 * int(node)}", world_size=8)
    assert places[0] == places[1]


@pytest.mark.parametrize("status", ["FAILED", ""])
def test_nodes_that_resume_a_run_by_its_own_name_make_one_attempt(
    project: Project, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = join_foreign_launch(project, named(0))
    assert first is not None
    directory = first.directory
    for rank in (0, 1):
        write_worker(directory, f"a1-rank{rank}", status=status)
    keys = iter(["node0", "node1", "node0", "next0"])
    monkeypatch.setattr("prism.runs.foreign._launcher_key", lambda: next(keys))
    zero = join_foreign_launch(project, named(0), resume=directory)
    assert zero and zero.attempt == 2
    open_journal(directory, "a2-rank0", role="worker", facts={"world_size": 2})  # it runs by now
    one = join_foreign_launch(project, named(1), resume=directory)
    assert one == zero  # and not "still running"
    restarted = join_foreign_launch(project, named(0, TORCHELASTIC_RESTART_COUNT="1"), resume=directory)
    assert restarted and restarted.attempt == 3
    with pytest.raises(UsageError, match="still running"):
        join_foreign_launch(project, named(0), resume=directory)


def test_a_rank_that_comes_when_the_others_are_done_still_belongs_to_their_attempt(project: Project) -> None:
    first = join_foreign_launch(project, named(0))
    assert first is not None
    for stem, status in (("a1-rank0", "FAILED"), ("a1-rank1", "KILLED"), ("a2-rank0", "FINISHED")):
        write_worker(first.directory, stem, status=status)
    place = join_foreign_launch(project, named(1), resume=first.directory)
    assert place and place.attempt == 2
    write_worker(first.directory, "a2-rank1", status="FINISHED")


def test_workers_of_one_parent_are_one_launch_and_a_restart_is_an_attempt(project: Project) -> None:
    environ = {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}
    first = join_foreign_launch(project, environ)
    again = join_foreign_launch(project, {**environ, "TORCHELASTIC_RESTART_COUNT": "1"})
    assert first and again and first.directory == again.directory
    assert (first.attempt, again.attempt) == (1, 2)


def test_the_directory_of_a_run_is_never_made_anew(tmp_path: Path) -> None:
    first = create_run_directory(tmp_path, "20261123-1")
    with pytest.raises(EnvironmentUnfit, match="is there already"):
        create_run_directory(tmp_path, "20261123-1")
    assert first.summary.is_file()
