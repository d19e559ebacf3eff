"""`prism://name@version` as a dataset source of MLflow: found, loaded, and the same again after a round trip."""

from __future__ import annotations

from pathlib import Path

import mlflow.data.dataset_source_registry as registry
import pytest
from mlflow.exceptions import MlflowException

from prism.data.digest import digest_files, manifest_digest
from prism.errors import DataError, UsageError
from prism_mlflow.plain.dataset_source import PrismDatasetSource

NAMES = ["facts.jsonl", "a/b.nc", "größe 1.txt", "50%.txt", "what?.txt", "sharp#.txt"]
AT = "mail@home.txt"  # the data clients take such a name with a version only


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sais_foundation.yaml").write_text("foundation: {experiment_name: any}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(project: Path, name: str, content: str) -> None:
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text(content)


def resolve(raw: str) -> PrismDatasetSource:
    found = registry.resolve_dataset_source(raw)
    assert isinstance(found, PrismDatasetSource)
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")  # MLflow warns when two kinds of source could be meant
def test_any_name_survives_the_way_to_mlflow_and_back(project: Path, name: str) -> None:
    put(project, name, "content")
    first = PrismDatasetSource(name, "3f2a11", "sha256:00")
    again = registry.get_dataset_source_from_json(first.to_json(), first._get_source_type())
    assert isinstance(again, PrismDatasetSource) and again.to_dict() == first.to_dict()
    assert (again.name, again.version, again.digest) == (name, "3f2a11", "sha256:00")
    assert PrismDatasetSource.from_dict(PrismDatasetSource(AT).to_dict()).name == AT
    newest = resolve(resolve(PrismDatasetSource(name).uri).uri)
    assert newest.name == name and Path(newest.load()).read_text() == "content"


def test_a_name_alone_means_the_version_that_lies_there_now(project: Path) -> None:
    put(project, "facts.jsonl", "1")
    source = resolve("prism://facts.jsonl")
    assert source.digest.removeprefix("sha256:").startswith(source.version) and len(source.version) == 12
    put(project, "facts.jsonl", "2")
    with pytest.raises(DataError, match=source.version):
        source.load()
    with pytest.raises(DataError):
        resolve(f"prism://facts.jsonl@{source.version}").load()
    assert resolve("prism://facts.jsonl").version != source.version


def test_a_name_with_an_at_sign_needs_its_version(project: Path) -> None:
    put(project, AT, "content")
    version = manifest_digest(digest_files(project / AT)).removeprefix("sha256:")[:12]
    source = resolve(f"prism://{AT}@{version}")
    assert (source.name, source.uri) == (AT, f"prism://mail%40home.txt@{version}")
    assert resolve(source.uri).name == AT and Path(source.load()).name == AT


def test_the_digest_that_was_kept_is_held_against_what_is_found(project: Path) -> None:
    put(project, "facts.jsonl", "1")
    kept = resolve("prism://facts.jsonl").to_dict() | {"digest": "sha256:00"}
    with pytest.raises(DataError, match="not sha256:00"):
        PrismDatasetSource.from_dict(kept).load()


def test_where_names_are_paths_the_version_still_counts(project: Path) -> None:
    put(project, "facts.jsonl", "1")
    (project / "sais_foundation.yaml").write_text("unified_data_access: {enabled: false}\n")
    source = resolve("prism://facts.jsonl")
    assert source.load() == str(project / "facts.jsonl")
    put(project, "facts.jsonl", "2")
    with pytest.raises(DataError, match=f"@{source.version} is not what lies there"):
        source.load()


def test_outside_of_a_project_a_source_is_kept_and_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = resolve("prism://facts.jsonl@3f2a11")
    assert (resolve("prism://facts.jsonl").version, source.version) == ("", "3f2a11")
    with pytest.raises(UsageError, match=r"sais_foundation\.yaml"):
        source.load()


def test_what_is_no_dataset_is_refused_when_it_is_named(project: Path) -> None:
    with pytest.warns(UserWarning, match="there is no dataset 'nothing'"), pytest.raises(MlflowException):
        registry.resolve_dataset_source("prism://nothing")
    (project / "sais_foundation.yaml").write_text("foundation: {experiment_nam: any}\n")
    with pytest.warns(UserWarning, match="experiment_nam"), pytest.raises(MlflowException):
        registry.resolve_dataset_source("prism://facts.jsonl")


def test_other_addresses_are_not_ours() -> None:
    assert not any(PrismDatasetSource._can_resolve(raw) for raw in ("s3://a/b", "facts.jsonl", None, Path("a"), 3))
