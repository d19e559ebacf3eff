"""The sections of `sais_foundation.yaml` as values: every key, its type, its default and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import attrs
from attrs import field, frozen

from prism.config.parameters import Parameters
from prism.config.secrets import SECRET


@frozen
class AtLeast:
    """Marks a number that has a lowest value."""

    lowest: int


@frozen
class MayBeEmpty:
    """Marks a text for which a key without a value means the empty text."""


@frozen
class NotEmpty:
    """Marks a text that must not be empty."""


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
OWN_MODEL = "runs:/{run_id}/artifacts/model"
"""What `ml.model_repo.model_uri` says of the run's own model."""


def doc(meaning: str, *, more: Mapping[str, object] = MappingProxyType({})) -> dict[str, object]:
    """The metadata of a key: what it means, for the schema and for people."""
    return {"doc": meaning, **more}


@frozen
class Foundation:
    """`foundation`: what the experiment is called."""

    experiment_name: Annotated[str, NotEmpty()] = field(
        default="default_experiment", metadata=doc("The experiment that runs belong to.")
    )
    experiment_description: Text = field(default="", metadata=doc("What the experiment is about, for people."))


@frozen
class DataAccess:
    """`unified_data_access.data_access`: which datasets are used."""

    dataset_names: tuple[str, ...] = field(
        default=(),
        metadata=doc("Names of datasets. The first is the training data, unless `data.train` says otherwise."),
    )


@frozen
class UnifiedDataAccess:
    """`unified_data_access`: how datasets are found and brought here."""

    enabled: bool = field(default=True, metadata=doc("false: names of datasets are paths, and nothing is resolved."))
    cached: bool = field(default=True, metadata=doc("Whether the data client may keep a local copy."))
    token: Text = field(
        default="", repr=False, metadata=doc("What the data client identifies itself with.", more=SECRET)
    )
    client: Annotated[Named, Kind("data_client")] = field(
        default=Named("local"), metadata=doc("The data client: its name, or a mapping of `name` and its options.")
    )
    data_access: DataAccess = field(default=DataAccess(), metadata=doc("Which datasets are used."))


@frozen
class Data:
    """`data`: which dataset plays which part in training."""

    train: str | None = field(default=None, metadata=doc("The training data; null: the first of `dataset_names`."))
    validation: str | None = field(default=None, metadata=doc("What is evaluated during training; null: nothing."))


@frozen
class Security:
    """`ml.security`: how Prism identifies itself to the tracking server."""

    enabled: bool = field(default=False, metadata=doc("Whether user name and password are sent."))
    username: Text = field(default="", metadata=doc("The user name."))
    password: Text = field(default="", repr=False, metadata=doc("The password.", more=SECRET))


@frozen
class CustomMetric:
    """An entry of `ml.custom_metrics`: computed by an expression, or scored by an evaluator over two series."""

    name: Annotated[str, NotEmpty()] = field(metadata=doc("What it is called, as a metric or before its scores'."))
    expression: Annotated[str, NotEmpty()] | None = field(
        default=None, metadata=doc("How it is computed, whenever the metrics in it are logged.")
    )
    evaluator: Annotated[Named, Kind("evaluator")] | None = field(
        default=None, metadata=doc("What scores two series of metrics when the run has succeeded.")
    )
    predictions: Annotated[str, NotEmpty()] | None = field(
        default=None, metadata=doc("The metric whose values are the evaluator's predictions.")
    )
    references: Annotated[str, NotEmpty()] | None = field(
        default=None, metadata=doc("The metric whose values, at the same steps, are right.")
    )


@frozen
class ModelRepo:
    """`ml.model_repo`: the registered model that a successful run adds a version to."""

    model_uri: str = field(default=OWN_MODEL, metadata=doc("The run's own; any other value does not act, and warns."))
    registered: bool = field(default=True, metadata=doc("Whether the model is registered when the run has succeeded."))
    name: Text = field(default="", metadata=doc("The registered model's name; empty: nothing is registered."))
    await_registration_for: Annotated[float, AtLeast(0)] = field(
        default=300.0, metadata=doc("Seconds to wait at the end of a run until the version is there.")
    )
    tag: Mapping[str, str] = field(factory=dict, metadata=doc("Tags of the model version, text to text."))
    version: Text = field(default="", metadata=doc("The semantic version to take; empty: 1.0.0, then the next patch."))

    @property
    def registers(self) -> bool:
        """Whether a successful run registers its model."""
        return self.registered and bool(self.name)


@frozen
class Ml:
    """`ml`: tracking, the user's parameters, and the model registry."""

    enabled: bool = field(default=True, metadata=doc("false: the run is kept in its own journal only."))
    tracking_uri: str | None = field(
        default=None,
        metadata=doc("Where the tracker is; null: `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db` in the project."),
    )
    auto_log: bool = field(
        default=True, metadata=doc("Whether parameters and metrics of known frameworks are logged by themselves.")
    )
    system_tracing: bool = field(default=True, metadata=doc("Whether the machine's own metrics are logged."))
    security: Security = field(default=Security(), metadata=doc("How Prism identifies itself to the tracking server."))
    parameters: Parameters = field(
        default=Parameters({}), metadata=doc("The user's own values; the trainer named reads them.")
    )
    ranks: Literal["all"] | tuple[Annotated[int, AtLeast(1)], ...] = field(
        default=(),
        metadata=doc("Ranks above 0 whose metrics, parameters, tags and files the trackers are told of too, or `all`."),
    )
    custom_metrics: tuple[CustomMetric, ...] = field(default=(), metadata=doc("Metrics computed from logged ones."))
    metrics: tuple[Any, ...] = field(
        default=(), metadata=doc("What sais-prism-sdk 0.1 calls `custom_metrics`. Does not act.")
    )
    artifacts: tuple[str, ...] = field(default=(), metadata=doc("Paths that rank 0 logs when the run has FINISHED."))
    model_repo: ModelRepo = field(
        default=ModelRepo(), metadata=doc("The registered model that a successful run adds a version to.")
    )


@frozen
class Evaluation:
    """`evaluation`: which data a model answers, and who scores the answers."""

    data: tuple[str, ...] = field(default=(), metadata=doc("The evaluation datasets, each reported separately."))
    predictor: Annotated[Named, Kind("predictor")] = field(
        default=Named("generate"), metadata=doc("What lets the model answer.")
    )
    evaluators: tuple[Annotated[Named, Kind("evaluator")], ...] = field(
        default=(Named("rouge"), Named("bleu")), metadata=doc("What scores the answers.")
    )
    max_samples: Count | None = field(default=None, metadata=doc("At most so many samples of each dataset; null: all."))
    max_new_tokens: Count = field(default=200, metadata=doc("The most tokens of an answer."))


@frozen
class PluginSwitches:
    """`plugins`: which plugins are switched off, and which files are plugins of this project."""

    off: tuple[str, ...] = field(default=(), metadata=doc("Names of plugins that are not loaded."))
    local: tuple[Path, ...] = field(default=(), metadata=doc("Python files of this project that are plugins."))


@frozen
class Sections:
    """The top-level sections. Others are errors, except the user's own, named `x-…`."""

    foundation: Foundation = field(default=Foundation(), metadata=doc("What the experiment is called."))
    unified_data_access: UnifiedDataAccess = field(default=UnifiedDataAccess(), metadata=doc("How datasets are found."))
    data: Data = field(default=Data(), metadata=doc("Which dataset plays which part in training."))
    ml: Ml = field(default=Ml(), metadata=doc("Tracking, parameters and the model registry."))
    trainer: Annotated[Named, Kind("trainer")] = field(default=Named("accelerate"), metadata=doc("What trains."))
    evaluation: Evaluation = field(default=Evaluation(), metadata=doc("What is evaluated, and how."))
    trackers: tuple[Annotated[Named, Kind("tracker")], ...] = field(
        default=(Named("mlflow"),), metadata=doc("Where runs are shown; none while `ml.enabled` is false.")
    )
    launcher: Annotated[Launcher, Kind("launcher")] = field(
        default=Launcher(), metadata=doc("What starts the processes.")
    )
    plugins: PluginSwitches = field(
        default=PluginSwitches(), metadata=doc("Which plugins are off, and which are local.")
    )


def fields_of(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    """The fields of an attrs class with their types resolved. Raises `NameError` for a type it cannot find."""
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(attrs.resolve_types(cls))
    return fields
