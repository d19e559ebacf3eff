"""Registered models and their versions, brought from the journal to MLflow's registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field
from mlflow.exceptions import MlflowException

from prism.errors import WorkFailed
from prism.protocols import Record
from prism_mlflow.inside.addresses import is_journal, parse_artifact_address
from prism_mlflow.naming import text
from prism_mlflow.replay_doubles import CALL, WITHIN

if TYPE_CHECKING:
    from prism_mlflow.replay import Replay

_VERSION_NUMBERS = "mlflow.modelVersions"
_MODELS = "models:/"


@define
class ReplayedVersions:
    """The versions of one run's calls: name and the number that stood for the server's → the server's."""

    replay: Replay
    _numbers: dict[tuple[str, str], str] = field(factory=dict)

    def create_registered_model(self, given: Mapping[str, Any], record: Record) -> None:
        """Make the model unless it is there; its tags are set in both cases."""
        name, tags = given["name"], given["tags"]
        with self.replay.connection.reach(f"make the registered model {name}") as client:
            try:
                client.create_registered_model(name, tags=tags, description=given["description"] or None)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                for key, value in tags.items():
                    client.set_registered_model_tag(name, key, value)

    def create_version(self, given: Mapping[str, Any], record: Record) -> None:
        """Make the version, unless one carries our tag for it."""
        key = given["name"], given["version"]
        if self._look_up(*key):
            return
        replay = self.replay
        model = replay.find_model(given["model"]) if given["model"] else None
        run = replay.find_run(given["run"]) if given["run"] else None
        source = self._source(given["source"])
        with replay.connection.making(f"a version of {key[0]}") as client:
            client._create_model_version(
                key[0],
                source=source,
                run_id=run,
                tags={**given["tags"], CALL: given["version"], WITHIN: replay.run.ref.run_id},
                description=given["description"] or None,
                await_creation_for=0,
                model_id=model,
            )
        self._look_up(*key)  # of two that were made, all take the first

    def update_version(self, given: Mapping[str, Any], record: Record) -> None:
        """Change a version that this run has made."""
        name = given["name"]
        number = self._look_up(name, given["version"])
        if not number:
            if given.get("deleted"):
                return
            raise WorkFailed(f"the version of {name} that this is about was not made")
        with self.replay.connection.reach(f"change version {number} of {name}") as client:
            for key, value in given.get("tags", {}).items():
                client.set_model_version_tag(name, number, key, text(value))
            if "description" in given:
                client.update_model_version(name, number, given["description"])
            if "untag" in given:
                client.delete_model_version_tag(name, number, given["untag"])
            if "alias" in given:
                client.set_registered_model_alias(name, given["alias"], number)
            if given.get("deleted"):
                client.delete_model_version(name, number)

    def renumbered(self, tags: Mapping[str, str]) -> Mapping[str, str]:
        """A LoggedModel's tags, with the server's numbers in its list of registered versions."""
        if _VERSION_NUMBERS not in tags:
            return tags
        listed = json.loads(tags[_VERSION_NUMBERS])
        for entry in listed:
            found = self._look_up(entry["name"], str(entry["version"]))
            entry["version"] = int(found) if found.isdigit() else entry["version"]
        return {**tags, _VERSION_NUMBERS: json.dumps(listed)}

    def _look_up(self, name: str, ours: str) -> str:
        """The server's number of a version of ours, "" while it is not made."""
        key = name, ours
        if key not in self._numbers:
            quoted = name.replace("'", "''")
            with self.replay.connection.reach(f"look up the versions of {name}") as client:
                found = client.search_model_versions(f"name = '{quoted}' and tags.`{CALL}` = '{ours}'")
            numbers = sorted(int(version.version) for version in found)
            if not numbers:
                return ""
            self._numbers[key] = str(numbers[0])
        return self._numbers[key]

    def _source(self, source: str) -> str:
        """Where the server has what was at an address of ours."""
        replay = self.replay
        if source.startswith(_MODELS):
            return _MODELS + replay.find_model(source.removeprefix(_MODELS))
        if not is_journal(source):
            return source
        place = parse_artifact_address(source)
        with replay.connection.reach("tell where artifacts are") as client:
            if place.kind == "model":
                root = str(client.get_logged_model(replay.find_model(place.id)).artifact_location)
            elif place.kind == "run":
                root = str(client.get_run(replay.find_run(place.id)).info.artifact_uri)
            else:
                root = place.id
        return f"{root.rstrip('/')}/{place.path}" if place.path else root


VERSIONS: Mapping[str, Callable[[ReplayedVersions, Mapping[str, Any], Record], None]] = {
    "create_registered_model": ReplayedVersions.create_registered_model,
    "create_version": ReplayedVersions.create_version,
    "update_version": ReplayedVersions.update_version,
}
