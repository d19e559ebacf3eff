"""The sections of `sais_foundation.yaml` as values: every key, its type, its default and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import attrs
from attrs import field, frozen

from prism.config.parameters import Parameters


@frozen
class AtLeast:
    """Marks a number that has a lowest value."""

    lowest: int


@frozen
class MayBeEmpty:
    """Marks a text for which a key without a value means the empty text."""


@frozen
class Kind:
    """Marks what kind of provider a `Named` names ("trainer", "tracker", …)."""

    name: str


@frozen
class Named:
    """A provider that the configuration picked, and its options, structured to its own options class."""

    name: str
    options: Any = None


@frozen
class Launcher:
    """The launcher's name, how many processes it shall start (None: as many as it finds), and its options."""

    name: str = "accelerate"
    processes: int | None = None
    options: Any = None


Text = Annotated[str, MayBeEmpty()]
Count = Annotated[int, AtLeast(1)]


def key(default: Any, *, doc: str, metadata: Mapping[str, Any] | None = None) -> Any:
    """A field with a default and its meaning; one whose metadata says "secret" is never shown."""
    hidden = bool(metadata and metadata.get("secret"))
    return field(default=default, repr=not hidden, metadata={"doc": doc, **(metadata or {})})


SECRET: Mapping[str, Any] = {"secret": True}


@frozen
class Foundation:
    """`foundation`: what the experiment is called."""

    experiment_name: str = key("default_experiment", doc="The experiment that runs belong to.")
    experiment_description: Text = key("", doc="What the experiment is about, for people.")


@frozen
class DataAccess:
    """`unified_data_access.data_access`: which datasets are used."""

    dataset_names: tuple[str, ...] = key(
        (), doc="Names of datasets. The first is the training data, unless `data.train` says otherwise."
    )


@frozen
class UnifiedDataAccess:
    """`unified_data_access`: how datasets are found and brought here."""

    enabled: bool = key(True, doc="false: names of datasets are paths, and nothing is resolved.")
    cached: bool = key(True, doc="Whether the data client may keep a local copy.")
    token: Text = key("", doc="What the data client identifies itself with.", metadata=SECRET)
    client: Annotated[Named, Kind("data_client")] = key(
        Named("local"), doc="The data client: its name, or a mapping of `name` and its options."
    )
    data_access: DataAccess = key(DataAccess(), doc="Which datasets are used.")


@frozen
class Data:
    """`data`: which dataset plays which part in training."""

    train: str | None = key(None, doc="The training data; null: the first of `dataset_names`.")
    validation: str | None = key(None, doc="What is evaluated during training; null: nothing.")


@frozen
class Security:
    """`ml.security`: how Prism identifies itself to the tracking server."""

    enabled: bool = key(False, doc="Whether user name and password are sent.")
    username: Text = key("", doc="The user name.")
    password: Text = key("", doc="The password.", metadata=SECRET)


@frozen
class ModelRepo:
    """`ml.model_repo`: the registered model that a successful run adds a version to."""

    model_uri: str = key("runs:/{run_id}/artifacts/model", doc="Which model; the default is the run's own.")
    registered: bool = key(True, doc="Whether the model is registered when the run has succeeded.")
    name: Text = key("", doc="The registered model's name; empty: nothing is registered.")
    await_registration_for: Annotated[float, AtLeast(0)] = key(
        300.0, doc="Seconds to wait at the end of a run until the version is there."
    )
    tag: Mapping[str, str] = key(MappingProxyType({}), doc="Tags of the model version, text to text.")
    version: Text = key("", doc="The semantic version to take; empty: 1.0.0, then the next patch.")

    @property
    def registers(self) -> bool:
        """Whether a successful run registers its model."""
        return self.registered and bool(self.name)


@frozen
class Ml:
    """`ml`: tracking, the user's parameters, and the model registry."""

    enabled: bool = key(True, doc="false: the run is kept in its own journal only.")
    tracking_uri: str | None = key(
        None, doc="Where the tracker is; null: `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db` in the project."
    )
    auto_log: bool = key(True, doc="Whether parameters and metrics of known frameworks are logged by themselves.")
    system_tracing: bool = key(True, doc="Whether the machine's own metrics are logged.")
    security: Security = key(Security(), doc="How Prism identifies itself to the tracking server.")
    parameters: Parameters = key(Parameters({}), doc="The user's own values; the trainer named reads them.")
    custom_metrics: tuple[Any, ...] = key((), doc="Metrics computed from logged ones. Does not act yet.")
    metrics: tuple[Any, ...] = key((), doc="What sais-prism-sdk 0.1 calls `custom_metrics`. Does not act.")
    artifacts: tuple[str, ...] = key((), doc="Paths that are logged when the run ends.")
    model_repo: ModelRepo = key(ModelRepo(), doc="The registered model that a successful run adds a version to.")


@frozen
class Evaluation:
    """`evaluation`: which data a model answers, and who scores the answers."""

    data: tuple[str, ...] = key((), doc="The evaluation datasets, each reported separately.")
    predictor: Annotated[Named, Kind("predictor")] = key(Named("generate"), doc="What lets the model answer.")
    evaluators: tuple[Annotated[Named, Kind("evaluator")], ...] = key(
        (Named("rouge"), Named("bleu")), doc="What scores the answers."
    )
    max_samples: Count | None = key(None, doc="At most so many samples of each dataset; null: all.")
    max_new_tokens: Count = key(200, doc="The most tokens of an answer.")


@frozen
class PluginSwitches:
    """`plugins`: which plugins are switched off, and which files are plugins of this project."""

    off: tuple[str, ...] = key((), doc="Names of plugins that are not loaded.")
    local: tuple[Path, ...] = key((), doc="Python files of this project that are plugins.")


@frozen
class Sections:
    """The top-level sections. Others are errors, except the user's own, named `x-…`."""

    foundation: Foundation = key(Foundation(), doc="What the experiment is called.")
    unified_data_access: UnifiedDataAccess = key(UnifiedDataAccess(), doc="How datasets are found.")
    data: Data = key(Data(), doc="Which dataset plays which part in training.")
    ml: Ml = key(Ml(), doc="Tracking, parameters and the model registry.")
    trainer: Annotated[Named, Kind("trainer")] = key(Named("accelerate"), doc="What trains.")
    evaluation: Evaluation = key(Evaluation(), doc="What is evaluated, and how.")
    trackers: tuple[Annotated[Named, Kind("tracker")], ...] = key(
        (Named("mlflow"),), doc="Where runs are shown; none while `ml.enabled` is false."
    )
    launcher: Annotated[Launcher, Kind("launcher")] = key(Launcher(), doc="What starts the processes.")
    plugins: PluginSwitches = key(PluginSwitches(), doc="Which plugins are off, and which are local.")


def fields_of(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    """The fields of an attrs class with their types resolved. Raises `NameError` for a type it cannot find."""
    return attrs.fields(attrs.resolve_types(cls))
