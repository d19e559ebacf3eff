"""`ServiceLocator`: its manager and its data clients, those of the configuration and the user's own."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prism.data.digest import digest_files, manifest_digest
from prism.protocols import DatasetVersion
from sais_prism.core.config import config
from sais_prism.core.decorators import sais_foundation
from sais_prism.core.exceptions import DataAccessError
from sais_prism.core.service_locator import ServiceLocator
from sais_prism.ml.mlflow_integration import MLflowManager
from sais_prism.unified_data_access.client import DataAccessClient, DataClient, initialize

YAML = """
foundation: {experiment_name: data}
unified_data_access:
  data_access: {dataset_names: [rows.jsonl]}
ml: {enabled: false, system_tracing: false}
"""
TOKEN = "tok-8c1f33aa"


class Rows:
    """A study that asks for its dataset in the ways that scripts do."""

    def run(self) -> Any:
        return ServiceLocator.get_ml_manager().run.dataset("rows.jsonl")


def used(here: Any) -> list[tuple[str, str]]:
    return [(record.data["name"], record.data["digest"]) for record in here.records("dataset")]


def digest_of(path: Path) -> str:
    return manifest_digest(digest_files(path))


@pytest.fixture
def rows(here: Any) -> Path:
    """The dataset, somewhere the project's own client does not look."""
    here.configure(YAML)
    path: Path = here.write("../elsewhere/v7/rows.jsonl", '{"a": 1}\n')
    return path.resolve()


# ---------------------------------------------------------------- managers


def test_the_manager_is_made_once_and_may_be_replaced(here: Any) -> None:
    here.configure()
    first = ServiceLocator.get_ml_manager()
    assert isinstance(first, MLflowManager) and ServiceLocator.get_ml_manager() is first
    assert (first.ml_config, first.experiment_name) == (config.ml, "seeds")

    class Own(MLflowManager):
        pass

    ServiceLocator.set_ml_manager(own := Own("mine", "text", config.ml, None))
    assert ServiceLocator.get_ml_manager() is own
    assert (own.experiment_name, own.experiment_description, own.ml_config) == ("mine", "text", config.ml)
    ServiceLocator.set_ml_manager(None)  # type: ignore[arg-type]
    assert ServiceLocator.get_ml_manager() is not own
    assert not here.runs()


# ---------------------------------------------------------------- clients of one's own


class OnlyGetDataset:
    """Has nothing but `get_dataset`, which answers in the shape that the test asks for."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get_dataset(self, dataset_names: list[str]) -> Any:
        assert dataset_names == ["rows.jsonl"]
        return self.answer


SHAPES = {
    "a list of mappings": lambda path: [{"index": "other", "path": "x"}, {"index": "rows.jsonl", "path": str(path)}],
    "a list of paths": lambda path: [path],
    "a list of objects": lambda path: [SimpleNamespace(index="rows.jsonl", path=str(path))],
    "a mapping": lambda path: {"path": path},
    "a mapping of names": lambda path: {"rows.jsonl": str(path)},
    "a mapping of names to mappings": lambda path: {"other": {"path": "x"}, "rows.jsonl": {"path": path}},
    "a path": str,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_of_a_client_in_any_shape(rows: Path, shape: str) -> None:
    from sais_prism.unified_data_access.client import as_data_client

    client = as_data_client(OnlyGetDataset(SHAPES[shape](rows)))
    version = client.resolve("rows.jsonl")
    assert (version.name, version.digest) == ("rows.jsonl", digest_of(rows)) and client.fetch(version) == rows
    assert client.resolve(f"rows.jsonl@{version.version}") == version


def test_what_a_client_may_answer_wrong(rows: Path) -> None:
    from sais_prism.unified_data_access.client import as_data_client

    def resolve(answer: Any, reference: str = "rows.jsonl") -> None:
        as_data_client(OnlyGetDataset(answer)).resolve(reference)

    for answer, told in (
        ([], "has no path for it"),
        ([{"index": "other", "path": str(rows)}], "has no path for it"),
        (None, "has no path for it"),
        ([str(rows) + ".gone"], "where nothing is"),
    ):
        with pytest.raises(DataAccessError, match=told):
            resolve(answer)
    with pytest.raises(DataAccessError, match="is not what lies at"):
        resolve([str(rows)], "rows.jsonl@abcdef")
    with pytest.raises(DataAccessError, match=r"get_dataset\(\['other'\]\) failed: AssertionError"):
        resolve([str(rows)], "other")
    with pytest.raises(DataAccessError, match="int is no data client"):
        ServiceLocator.set_data_client(3)
    version = as_data_client(client := OnlyGetDataset([str(rows)])).resolve("rows.jsonl")
    rows.write_text("changed\n")
    with pytest.raises(DataAccessError, match=r"is no longer rows\.jsonl@"):
        as_data_client(client).fetch(version)


class Own(DataClient):
    def __init__(self, path: Path) -> None:
        self.path = path

    def get_dataset(self, dataset_names: Any = None) -> list[dict[str, Any]]:
        return [{"index": name, "path": str(self.path)} for name in dataset_names or ["rows.jsonl"]]


class Versions:
    """A data client as Prism's plugins have them, with versions of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resolve(self, reference: str) -> DatasetVersion:
        files = digest_files(self.path)
        return DatasetVersion(reference, "7.0", self.path.as_uri(), manifest_digest(files), files)

    def fetch(self, version: DatasetVersion) -> Path:
        return self.path


@pytest.mark.parametrize("kind", [lambda path: OnlyGetDataset([str(path)]), Own, Versions], ids=["any", "own", "role"])
def test_a_client_is_used_by_the_run_that_follows(here: Any, rows: Path, kind: Any) -> None:
    ServiceLocator.set_data_client(client := kind(rows))
    assert ServiceLocator.get_data_client() is client
    found = sais_foundation(type("Study", (Rows,), {}))().run()
    assert found.path == rows and found.version == ("7.0" if kind is Versions else found.digest[7:19])
    assert used(here) == [("rows.jsonl", digest_of(rows))] * 2  # of the configuration, and of the study
    (kept,) = json.loads((here.run().path / "data.json").read_text())
    assert kept["uri"] == rows.as_uri()


def test_a_client_is_used_from_when_it_is_set(here: Any, rows: Path) -> None:
    """Also within a run; None is the configuration's again, and one for which something fails stops no run."""
    own = here.write("rows.jsonl", '{"here": 1}\n')
    run = ServiceLocator.get_ml_manager().run
    assert run.dataset("rows.jsonl").path == own
    ServiceLocator.set_data_client(Own(rows))
    assert run.dataset("rows.jsonl").path == rows
    assert ServiceLocator.get_data_client().get_dataset()[0]["path"] == str(rows)
    ServiceLocator.set_data_client(None)
    assert run.dataset("rows.jsonl").path == own
    run.finish()
    ServiceLocator.set_data_client(OnlyGetDataset(None))
    assert ServiceLocator.get_ml_manager().run.run_id != run.run_id
    assert any("is not recorded as used" in record.data["message"] for record in here.records("warning"))


def test_the_same_class_through_an_entry_point(here: Any, rows: Path) -> None:
    """Once set by the script, and once installed as a plugin that the configuration names."""
    site = here.path / "site"
    here.write("site/rows_client-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: rows-client\nVersion: 1.0\n")
    here.write("site/rows_client-1.0.dist-info/entry_points.txt", "[prism]\nrows = rows_client.plugin\n")
    here.write("site/rows_client/__init__.py", "")
    here.write(
        "site/rows_client/plugin.py",
        """
        from prism.hookspecs import hookimpl
        from prism.providers import Provider

        @hookimpl
        def prism_data_clients():
            return [Provider("rows", "rows_client.client:Rows", summary="where our rows are")]
        """,
    )
    here.write(
        "site/rows_client/client.py",
        f"""
        from sais_prism.unified_data_access.client import DataClient

        class Rows(DataClient):
            def get_dataset(self, dataset_names=None):
                return [{{"index": name, "path": {str(rows)!r}}} for name in dataset_names]
        """,
    )
    here.write(
        "study.py",
        """
        import json, sys
        from sais_prism import sais_foundation
        from sais_prism.core.service_locator import ServiceLocator

        if "set" in sys.argv:
            from rows_client.client import Rows
            ServiceLocator.set_data_client(Rows())

        @sais_foundation
        class Study:
            def run(self):
                run = ServiceLocator.get_ml_manager().run
                found = run.dataset("rows.jsonl")
                (asked,) = ServiceLocator.get_data_client().get_dataset(["rows.jsonl"])
                print(json.dumps([str(found.path), found.version, asked["index"], asked["path"]]))

        Study().run()
        """,
    )
    told, recorded = [], []
    for client, words in (("local", ["study.py", "set"]), ("rows", ["study.py"])):
        here.configure(YAML.replace("  data_access:", f"  client: {client}\n  data_access:"))
        told.append(json.loads(here.python(*words, PYTHONPATH=str(site)).stdout))
        recorded.append(set(used(here)))
    assert told[0] == told[1] and told[0][0] == told[0][3] == str(rows)
    assert recorded[0] == recorded[1] == {("rows.jsonl", digest_of(rows))}


# ---------------------------------------------------------------- the client of the configuration


def test_the_client_of_the_configuration(here: Any) -> None:
    here.configure(YAML)
    path = here.write("rows.jsonl", '{"a": 1}\n')
    client = ServiceLocator.get_data_client()
    digest = digest_of(path)
    expected = {"index": "rows.jsonl", "path": str(path), "version": digest[7:19], "digest": digest}
    assert isinstance(client, DataAccessClient) and client.get_dataset() == [expected]
    assert not here.runs()  # asking begins no run
    for access in ({"dataset_names": ["rows.jsonl"]}, [{"dataset_names": ["rows.jsonl"]}], ["rows.jsonl"]):
        assert DataAccessClient("", True, True, access).get_dataset() == [expected]  # type: ignore[arg-type]
    assert initialize(**vars(config.unified_data_access)).get_dataset() == [expected]
    assert client.get_dataset("rows.jsonl") == client.get_dataset(["rows.jsonl"]) == [expected]
    with pytest.raises(DataAccessError, match=r"gone\.jsonl"):
        client.get_dataset(["gone.jsonl"])


def test_what_is_asked_for_within_a_run_is_recorded_as_used(here: Any) -> None:
    here.configure(YAML)
    here.write("rows.jsonl", '{"a": 1}\n')
    more = here.write("more.jsonl", '{"b": 1}\n')

    @sais_foundation
    class Study:
        def run(self) -> None:
            ServiceLocator.set_data_client(ServiceLocator.get_data_client())  # as sais-prism-sdk 0.1 did itself
            assert ServiceLocator.get_ml_manager().run.dataset("more.jsonl").path == more
            ServiceLocator.get_data_client().get_dataset(["more.jsonl"])

    Study().run()
    assert [name for name, _ in used(here)] == ["rows.jsonl", "more.jsonl", "more.jsonl"]


def test_switched_off_a_name_is_a_path(here: Any, rows: Path) -> None:
    here.configure(YAML.replace("unified_data_access:", "unified_data_access:\n  enabled: false"))
    (found,) = ServiceLocator.get_data_client().get_dataset([str(rows)])
    assert found["path"] == str(rows)
    sais_foundation(type("Study", (), {"run": lambda self: None}))().run()
    assert used(here) == []  # what the configuration names is not looked for
    here.configure(YAML)
    (found,) = DataAccessClient(enabled=False).get_dataset([str(rows)])
    assert found["path"] == str(rows)


@pytest.fixture
def catalogue(rows: Path) -> Iterator[tuple[str, list[str | None]]]:
    """The address of a server that knows where the rows are, and the tokens that it was shown."""
    tokens: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["auth_token"])
            body = json.dumps([{"index": "rows.jsonl", "path": str(rows)}]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/api/v1", tokens
    server.shutdown()
    server.server_close()


def test_datasets_of_a_catalogue_on_a_server(
    here: Any, rows: Path, catalogue: tuple[str, list[str | None]], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    url, tokens = catalogue
    here.configure(
        YAML.replace(
            "  data_access:",
            f"  token: ${{ENV_API_TOKEN}}\n  client: {{name: http, url: {url!r}, cache: ./cache}}\n  data_access:",
        )
    )
    monkeypatch.setenv("ENV_API_TOKEN", TOKEN)
    client = ServiceLocator.get_data_client()
    assert tokens == []  # nothing is contacted before a dataset is asked for
    (found,) = client.get_dataset()
    assert hashlib.sha256(Path(found["path"]).read_bytes()).digest() == hashlib.sha256(rows.read_bytes()).digest()
    assert set(tokens) == {TOKEN} and client.token == TOKEN

    @sais_foundation
    class Study:
        def run(self) -> None:
            assert client.get_dataset() == [found]
            print(client, config.unified_data_access, self._unified_data_access_config)  # type: ignore[attr-defined]

    Study().run()
    assert set(used(here)) == {("rows.jsonl", digest_of(rows))}
    ServiceLocator.get_ml_manager().run.finish()
    files = [path for path in here.path.rglob("*") if path.is_file() and path.name != "sais_foundation.yaml"]
    assert files and not [path for path in files if TOKEN.encode() in path.read_bytes()]
    told = capfd.readouterr()
    assert TOKEN not in told.out + told.err and "***" in told.out
    tokens.clear()
    DataAccessClient(token="another-1", cached=False, data_access=[{"dataset_names": ["rows.jsonl"]}]).get_dataset()
    assert set(tokens) == {"another-1"}


def test_a_server_out_of_reach_is_an_error_with_data(
    here: Any, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.configure(YAML.replace("  data_", f"  client: {{name: http, url: 'http://127.0.0.1:{free_port}'}}\n  data_"))
    monkeypatch.setattr("prism_data.transport.time.sleep", lambda seconds: None)  # between one try and the next
    with pytest.raises(DataAccessError, match="Connection refused"):
        ServiceLocator.get_data_client().get_dataset()
    with pytest.raises(DataAccessError, match="Connection refused"):
        DataAccessClient().resolve("rows.jsonl")
