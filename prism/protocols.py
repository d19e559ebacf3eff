"""The roles that plugins play, and the small values they exchange with the core. Types only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import field, frozen

if TYPE_CHECKING:
    from prism.runs.handle import Run

# ---------------------------------------------------------------- data


@frozen
class DatasetFile:
    """One file of a dataset: its path relative to the dataset, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@frozen
class DatasetVersion:
    """One immutable state of a dataset.

    `digest` is "sha256:<hex>" over the sorted manifest of `files`; `version` is what people call
    it (a client without versions of its own takes the first 12 hex digits of the digest); `uri`
    says where it lies.
    """

    name: str
    version: str
    uri: str
    digest: str
    files: tuple[DatasetFile, ...] = ()


class DataClient(Protocol):
    """Finds a dataset by its name and brings it here."""

    def resolve(self, reference: str) -> DatasetVersion:
        """The version that `name` or `name@version` means now. Raises `prism.errors.DataError`."""
        ...

    def fetch(self, version: DatasetVersion) -> Path:
        """The file or folder with exactly that version, whole and verified, on this machine."""
        ...


# ---------------------------------------------------------------- training


class Ranks(Protocol):
    """How the processes of one run agree. Every method but the attributes is a collective call."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    def any(self, flag: bool) -> bool:
        """True on every rank when `flag` is true on at least one."""
        ...

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value` (JSON types) on every rank."""
        ...

    def barrier(self) -> None:
        """Wait until every rank is here."""
        ...


class Task(Protocol):
    """What is trained: a model, its batches and its loss. A user's own class is one."""

    def model(self) -> Any:
        """The module to train, on the CPU."""
        ...

    def batches(self, split: str) -> Iterable[Any]:
        """A loader (or any iterable with a length) of batches for "train" or "validation"."""
        ...

    def loss(self, model: Any, batch: Any) -> Any:
        """The scalar to minimise, or a mapping with it under "loss" and further scalars to log."""
        ...


class Trainer(Protocol):
    """Turns a task and data into a model folder."""

    def train(self, task: Task | None, run: Run) -> Path:
        """Train until done or `run.stopping`, from `run.latest_checkpoint()` if there is one.

        `task` None means: the task that the options and `run.params` describe. Returns the folder
        of the finished model, written by rank 0.
        """
        ...


# ---------------------------------------------------------------- evaluation


@frozen
class Example:
    """One thing to ask: the dataset's record, and an id unique within its dataset."""

    id: str
    record: Mapping[str, Any]


@frozen
class Prediction:
    """A model's answer to the example `id`: any JSON value (text for language models).

    `tokens` were generated in `seconds` of wall time, both 0 where that has no meaning.
    """

    id: str
    output: Any
    tokens: int = 0
    seconds: float = 0.0


@frozen
class Reference:
    """The right answer to the example `id`, and the record it comes from."""

    id: str
    output: Any
    record: Mapping[str, Any] = field(factory=dict)


@frozen
class Scores:
    """What an evaluator found. `corpus`: score name → value. `samples`: id → score name → value.

    `signature` says how it was computed (library, version, tokenizer, smoothing), so that two
    figures can be told comparable or not.
    """

    corpus: Mapping[str, float]
    samples: Mapping[str, Mapping[str, float]]
    signature: str


class Predictor(Protocol):
    """Lets a model answer examples."""

    def predict(self, model: Path, examples: Sequence[Example]) -> Iterator[Prediction]:
        """Predictions in the order asked; leave out answered examples to resume."""
        ...


class Evaluator(Protocol):
    """Scores predictions against references of the same ids."""

    def score(self, predictions: Sequence[Prediction], references: Sequence[Reference]) -> Scores: ...


# ---------------------------------------------------------------- tracking


@frozen
class RunRef:
    """A run as roles name it to each other: Prism's id, its directory, and each tracker's id."""

    run_id: str
    directory: Path
    trackers: Mapping[str, str] = field(factory=dict)


@frozen
class TrackedRun:
    """What a tracker or registry is told about a run when it opens it.

    `settings` is the configuration's `ml` section as plain data with its secrets; `started` is in
    milliseconds since the epoch. `part` is "" for the run directory in which rank 0 speaks. Where nodes
    share no file system, every other node has a part of the run in a directory of its own, with a `part`
    of its own: a tracker then finds the run and does not make it, keeps a position of that part beside
    the others, and leaves the run's status alone.
    """

    ref: RunRef
    project: Path
    experiment: str
    name: str
    started: int
    description: str = ""
    settings: Mapping[str, Any] = field(factory=dict)
    part: str = ""


@frozen
class Record:
    """One record of a run's journal: the file and number it stands under, time in ms, kind, content.

    The kinds and their content are in `docs/reference/journal.md`.
    """

    file: str
    seq: int
    time: int
    kind: str
    data: Mapping[str, Any]


@frozen
class TrackerRun:
    """The run at the destination: its id there, and an address for people ("" if none)."""

    id: str
    url: str = ""


class Tracker(Protocol):
    """A projection of the journal at some destination.

    Every method may raise `prism.errors.Unreachable`: the call is then made again later.
    """

    def open(self, run: TrackedRun) -> TrackerRun:
        """Find the run at the destination by Prism's id, or make it: never a second one."""
        ...

    def position(self) -> Mapping[str, int]:
        """Journal file → number of its last record delivered, as kept at the destination."""
        ...

    def deliver(self, records: Sequence[Record], position: Mapping[str, int]) -> None:
        """Bring records there and then keep `position`. The same records again change nothing.

        Raise `prism.errors.WorkFailed` only for what will never be taken: that is not tried again. Called with
        no records to learn whether anything gets through: then only `position` is kept.
        """
        ...

    def close(self, status: str, ended: int) -> None:
        """Set the terminal status (FINISHED, FAILED, KILLED) at `ended` ms, or RUNNING (0) again.

        Also called with the status that it has, some time after `prism.errors.Unanswered`: what the destination
        made twice, because it carried out a request later than it was made again, is removed then.
        """
        ...


@runtime_checkable
class SystemMonitor(Protocol):
    """What a tracker may be besides: able to measure the machine that it runs on."""

    def system_metrics(self) -> Mapping[str, float]:
        """Figures of this machine now, by name; asked every ten seconds of a tracker that was never opened."""
        ...


@frozen
class ModelVersion:
    """A registered model version: semantic `version`, digest of its files, and who made it.

    `created` is in milliseconds since the epoch; `uri` says where its files lie; `url` is for people.
    """

    name: str
    version: str
    digest: str = ""
    run_id: str = ""
    created: int = 0
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(factory=dict)
    uri: str = ""
    url: str = ""


class ModelRegistry(Protocol):
    """Where finished models become named versions. Methods may raise `prism.errors.Unreachable`."""

    def open(self, project: Path, settings: Mapping[str, Any]) -> None:
        """Told once before anything else: the project's folder and its `ml` section."""
        ...

    def register(
        self, files: Path, *, name: str, version: str, digest: str, tags: Mapping[str, str], run: TrackedRun
    ) -> ModelVersion:
        """Register a model folder. `version` "" takes 1.0.0, then the next patch.

        The same run and digest again returns the version it already has. Raises
        `prism.errors.GateRefused` when `version` is taken by another digest.
        """
        ...

    def names(self) -> Sequence[str]:
        """The names of all registered models."""
        ...

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """All versions of `name`, lowest first; empty if there is no such model."""
        ...

    def alias(self, name: str, alias: str, version: str) -> None:
        """Let `name@alias` mean that version."""
        ...

    def fetch(self, version: ModelVersion, into: Path) -> Path:
        """Bring the version's files into the folder `into` and return it."""
        ...


# ---------------------------------------------------------------- launching


@frozen
class Job:
    """What is launched: Python arguments of one worker ("-m", "prism.runs.worker", …) and its environment."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(factory=dict)


@frozen
class Topology:
    """Where a job runs. `source` names the row of the detection order that matched, `reason` says why.

    `launched` is true in a process that a foreign launcher has already started as one worker.
    """

    source: str
    reason: str
    processes: int = 1
    nodes: int = 1
    node_rank: int = 0
    master_address: str = ""
    master_port: int = 0
    launched: bool = False


@frozen
class LaunchPlan:
    """Pure data: the command, what its environment has beyond ours, and files to write first."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(factory=dict)
    files: Mapping[str, str] = field(factory=dict)


class Launcher(Protocol):
    """Turns a job into a command; starts nothing."""

    def plan(self, job: Job, topology: Topology) -> LaunchPlan: ...
