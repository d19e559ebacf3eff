"""The plugins that are here: loaded one by one, each with its state, and the providers they offer."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from prism.entrypoints import EntryPoint, entry_points
from prism.errors import EnvironmentUnfit, PrismError, UsageError
from prism.providers import Provider
from prism.registration import (
    HOOK_OF_KIND,
    Offer,
    RegistrationError,
    load_file,
    load_plugin,
    localised,
    new_manager,
    offers_of,
)

if TYPE_CHECKING:
    from prism.config.document import Node

GROUP = "prism"
OFF_VARIABLE = "PRISM_PLUGINS_OFF"
KINDS = tuple(HOOK_OF_KIND)

# Which extra of the core brings a built-in; for the text of an error only, never for finding it.
EXTRAS: Mapping[tuple[str, str], str] = {
    ("tracker", "mlflow"): "mlflow",
    ("model_registry", "mlflow"): "mlflow",
    ("trainer", "accelerate"): "train",
    ("launcher", "accelerate"): "train",
    ("predictor", "generate"): "eval",
    ("data_client", "local"): "train",
    ("data_client", "cpfs"): "train",
    ("data_client", "http"): "train",
    ("evaluator", "rouge"): "eval",
    ("evaluator", "bleu"): "eval",
}


class UnknownProvider(UsageError):
    """No plugin provides what was named; the hint says which names there are."""


@frozen
class Provided:
    """One thing that a plugin provides, by kind and name."""

    kind: str
    name: str


@frozen
class PluginRecord:
    """A plugin as `prism plugins list` shows it.

    `name` is its entry-point name, or a local file's stem; `distribution` of a local file is its
    path. `state` is "ok" (it registers), "failed" (`error` says why) or "disabled".
    """

    name: str
    distribution: str
    version: str
    state: str
    error: str = ""
    provides: tuple[Provided, ...] = ()

    @property
    def origin(self) -> str:
        """The distribution and its version, as messages name them."""
        return f"{self.distribution} {self.version}".strip()


@frozen
class _Loaded:
    """A record, the plugin behind it (None unless it is ok), and its offers (kept when it is switched off)."""

    record: PluginRecord
    plugin: object | None = None
    offers: tuple[Offer, ...] = ()
    local: bool = False


class Plugins:
    """The plugins of one process or project; there is no other, hidden place where they are kept."""

    def __init__(self, *, off: Collection[str] = ()) -> None:
        self._off = set(off)
        self._loaded: list[_Loaded] = []
        self._manager = new_manager()

    @classmethod
    def load(cls, *, off: Collection[str] = (), environ: Mapping[str, str] = os.environ) -> Plugins:
        """Every installed plugin but those named in `off` and in `PRISM_PLUGINS_OFF`, which are not imported."""
        named = (name.strip() for name in environ.get(OFF_VARIABLE, "").split(","))
        plugins = cls(off={*off, *(name for name in named if name)})
        points = entry_points(GROUP)
        for point in points:
            rivals = [f"{other.distribution} {other.version}" for other in points if other.name == point.name]
            plugins._add(_load_installed(point, off=plugins._off, rivals=rivals))
        return plugins

    @property
    def records(self) -> tuple[PluginRecord, ...]:
        """One record for each plugin found, in the order of their names, local files last."""
        return tuple(loaded.record for loaded in self._loaded)

    @property
    def off(self) -> frozenset[str]:
        """The names that were switched off, also those that no plugin has."""
        return frozenset(self._off)

    def switch_off(self, names: Collection[str]) -> None:
        """Take these plugins out, as `plugins.off` in the configuration asks; unknown names are remembered."""
        self._off |= set(names)
        for index, loaded in enumerate(self._loaded):
            if loaded.record.name in names and loaded.record.state != "disabled":
                if loaded.plugin is not None:
                    self._manager.unregister(loaded.plugin)
                record = attrs.evolve(loaded.record, state="disabled", error="", provides=())
                self._loaded[index] = attrs.evolve(loaded, record=record, plugin=None)

    def add_local(self, paths: Sequence[Path]) -> None:
        """Register Python files under their stems. One that fails is recorded; see `require_local`."""
        for path in paths:
            taken = [record.origin for record in self.records if record.name == path.stem]
            self._add(_load_local(path.absolute(), off=self._off, taken=taken))

    def require_local(self) -> None:
        """Raise `EnvironmentUnfit` when a local file failed: the configuration named it."""
        broken = [loaded.record for loaded in self._loaded if loaded.local and loaded.record.state == "failed"]
        if broken:
            raise EnvironmentUnfit(
                "\n".join(f"the local plugin {record.distribution} cannot load: {record.error}" for record in broken),
                hint="mend the file, or take it out of plugins.local",
            )

    def providers(self, kind: str) -> Mapping[str, Provider]:
        """Name → provider of that kind. A name that two plugins give is left out; `find` says why."""
        names = [offer.provider.name for _, offer in self._offers(kind)]
        return {
            offer.provider.name: offer.provider
            for _, offer in self._offers(kind)
            if names.count(offer.provider.name) == 1
        }

    def find(self, kind: str, name: str) -> Provider:
        """The provider of that kind and name.

        Raises `UnknownProvider` for a name that nobody gives, `EnvironmentUnfit` when two plugins
        give it, when the plugin that would give it failed or is switched off, and when the extra
        that brings it is not installed.
        """
        found = [(record, offer.provider) for record, offer in self._offers(kind) if offer.provider.name == name]
        if len(found) > 1:
            places = " and ".join(f"{record.origin} (plugin {record.name!r})" for record, _ in found)
            raise EnvironmentUnfit(
                f"two plugins provide the {_words(kind)} {name!r}: {places}",
                hint=f"switch one off: plugins.off in the configuration, --no-plugin NAME, or {OFF_VARIABLE}=NAME",
            )
        if found:
            return found[0][1]
        raise self._missing(kind, name)

    def option_type(self, kind: str, name: str) -> type[Any] | None:
        """The options class of that provider (attrs), or None when it takes no options. Raises as `find`."""
        options = self.find(kind, name).load_options()
        if options is not None and not (isinstance(options, type) and attrs.has(options)):
            raise EnvironmentUnfit(f"the options of the {_words(kind)} {name!r} are not an attrs class: {options!r}")
        return options

    def build(self, kind: str, name: str, options: object | None = None) -> Any:
        """Import what was picked and call it with its options, with default ones when there are none given.

        Raises as `find`, and `EnvironmentUnfit` when its import or its construction fails.
        """
        provider = self.find(kind, name)
        target = provider.load_target()
        option_type = self.option_type(kind, name)
        try:
            if option_type is None:
                return target()
            return target(option_type() if options is None else options)
        except PrismError:
            raise
        except (Exception, SystemExit) as error:  # the boundary to a plugin's code
            text = f"{type(error).__name__}: {error}"
            raise EnvironmentUnfit(f"the {_words(kind)} {name!r} could not be made: {text}") from error

    def load_config(self, path: Path) -> Node:
        """The configuration file's values with their positions, from the first plugin that reads its format."""
        from prism.config.document import Node

        try:
            answer = self._manager.hook.prism_load_config(path=path)
        except PrismError:
            raise
        except (Exception, SystemExit) as error:  # the boundary to a plugin's code
            text = f"{type(error).__name__}: {error}"
            raise EnvironmentUnfit(f"a plugin failed while reading {path}: {text}") from error
        if answer is None:
            raise UsageError(f"no plugin reads {path}", hint="a configuration file is named *.yaml or *.yml")
        if not isinstance(answer, Node):
            kind = type(answer).__name__
            raise EnvironmentUnfit(f"a plugin answered prism_load_config({path}) with {kind}, not Node")
        return answer

    def _add(self, loaded: _Loaded) -> None:
        twin = next((one for one in self._loaded if one.plugin is not None and one.plugin is loaded.plugin), None)
        if twin:
            error = f"it is the same module as the plugin {twin.record.name!r} of {twin.record.origin}"
            loaded = _Loaded(attrs.evolve(loaded.record, state="failed", error=error, provides=()))
        if loaded.plugin is not None:
            self._manager.register(loaded.plugin, name=loaded.record.name)
        self._loaded.append(loaded)

    def _offers(self, kind: str) -> Iterable[tuple[PluginRecord, Offer]]:
        if kind not in HOOK_OF_KIND:
            raise ValueError(f"{kind!r} is no kind of provider; the kinds are {', '.join(KINDS)}")
        for loaded in self._loaded:
            if loaded.record.state == "ok":
                yield from ((loaded.record, offer) for offer in loaded.offers if offer.kind == kind)

    def _missing(self, kind: str, name: str) -> PrismError:
        import difflib  # only where something is wrong already

        for loaded in self._loaded:
            gave = any(offer.kind == kind and offer.provider.name == name for offer in loaded.offers)
            if loaded.record.state != "ok" and (gave or loaded.record.name == name):
                return EnvironmentUnfit(f"the {_words(kind)} {name!r} is not here: {_state(loaded.record)}")
        choices = sorted(self.providers(kind))
        near = difflib.get_close_matches(name, choices, n=1)
        failed = [record for record in self.records if record.state == "failed"]
        listed = f"the {_words(kind)}s here are: {', '.join(choices) or 'none'}"
        message = f"no plugin provides {'an' if kind[0] in 'aeiou' else 'a'} {_words(kind)} named {name!r}"
        if self.off:
            listed += f"; switched off: {', '.join(sorted(self.off))}"
        if near:
            return UnknownProvider(message, hint=f"did you mean {near[0]!r}? {listed}")
        if failed:
            return EnvironmentUnfit(f"{message}, but {'; '.join(map(_state, failed))}", hint=listed)
        extra = EXTRAS.get((kind, name))
        if extra:
            hint = f"pip install 'sais-prism-core[{extra}]'"
            return EnvironmentUnfit(message, hint=f"{hint}, unless {listed}" if self.off else hint)
        return UnknownProvider(message, hint=listed)


def _load_installed(point: EntryPoint, *, off: Collection[str], rivals: Sequence[str]) -> _Loaded:
    record = PluginRecord(point.name, point.distribution, point.version, "ok")
    if point.name in off:
        return _Loaded(attrs.evolve(record, state="disabled"))
    if len(rivals) > 1:
        error = f"two distributions give a plugin of this name: {' and '.join(rivals)}; uninstall one"
        return _Loaded(attrs.evolve(record, state="failed", error=error))
    return _registered(record, point.load)


def _load_local(path: Path, *, off: Collection[str], taken: Sequence[str]) -> _Loaded:
    record = PluginRecord(path.stem, str(path), "", "ok")
    if path.stem in off:
        return _Loaded(attrs.evolve(record, state="disabled"), local=True)
    if taken:
        error = f"there is a plugin of this name already, from {taken[0]}; rename the file"
        return _Loaded(attrs.evolve(record, state="failed", error=error), local=True)
    loaded = _registered(record, partial(load_file, path))
    offers = tuple(localised(offer, loaded.plugin, stem=path.stem) for offer in loaded.offers)
    return attrs.evolve(loaded, offers=offers, local=True)


def _registered(record: PluginRecord, load: Callable[[], Any]) -> _Loaded:
    try:
        plugin = load_plugin(load)
        offers = offers_of(plugin)
    except RegistrationError as error:  # the boundary to a plugin's code: kept, shown, raised when it is named
        return _Loaded(attrs.evolve(record, state="failed", error=str(error)))
    provides = tuple(Provided(offer.kind, offer.provider.name) for offer in offers)
    return _Loaded(attrs.evolve(record, provides=provides), plugin, offers)


def _state(record: PluginRecord) -> str:
    if record.state == "disabled":
        return f"the plugin {record.name!r} is switched off"
    return f"the plugin {record.name!r} ({record.origin}) cannot load: {record.error}"


def _words(kind: str) -> str:
    return kind.replace("_", " ")
