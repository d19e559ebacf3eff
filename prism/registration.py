"""What one plugin must fulfil to be registered: it imports, its hooks exist, its answers have the right type."""

from __future__ import annotations

import importlib.util
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pluggy
from attrs import frozen

from prism import hookspecs
from prism.providers import Provider

HOOK_OF_KIND: Mapping[str, str] = {
    "data_client": "prism_data_clients",
    "tracker": "prism_trackers",
    "trainer": "prism_trainers",
    "evaluator": "prism_evaluators",
    "predictor": "prism_predictors",
    "launcher": "prism_launchers",
    "model_registry": "prism_model_registries",
}


class RegistrationError(Exception):
    """Why a plugin cannot be registered, in one line; the cause is chained."""


@frozen
class Offer:
    """One provider of one kind, as a plugin gave it."""

    kind: str
    provider: Provider


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows Prism's hooks and no plugin."""
    manager = pluggy.PluginManager("prism")
    manager.add_hookspecs(hookspecs)
    return manager


def load_plugin(load: Callable[[], Any]) -> object:
    """The module or object that `load` imports. `sys.exit()` in it is an error like any other."""
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise RegistrationError(_one_line(error)) from error


def offers_of(plugin: object) -> tuple[Offer, ...]:
    """What `plugin` provides, asked on a manager of its own, so that every answer is known to be its own.

    Raises `RegistrationError` for an unknown hook or argument, a hook that fails, an answer of the
    wrong type, a name given twice, and a plugin that answers no hook at all.
    """
    manager = new_manager()
    try:
        manager.register(plugin)
        _check_hooks(manager, plugin)
        return tuple(offer for kind, hook in HOOK_OF_KIND.items() for offer in _ask(manager, kind, hook))
    except RegistrationError:
        raise
    except (Exception, SystemExit) as error:
        raise RegistrationError(_one_line(error)) from error


def load_file(path: Path) -> ModuleType:
    """Import the Python file `path` under a module name of its own, which no installed module can have."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = f"prism_local_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # attrs and pickle look classes up by their module's name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def localised(offer: Offer, module: object, *, stem: str) -> Offer:
    """The offer of a local file with "stem:Attribute" read as an attribute of `module`, which that file became."""
    provider = offer.provider
    name = getattr(module, "__name__", stem)
    target, options = (_renamed(text, old=stem, new=name) for text in (provider.target, provider.options))
    return attrs.evolve(offer, provider=attrs.evolve(provider, target=target, options=options))


def _renamed(target: str, *, old: str, new: str) -> str:
    module, colon, attribute = target.partition(":")
    return f"{new}{colon}{attribute}" if module == old else target


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    callers = manager.get_hookcallers(plugin) or []
    if not callers:
        raise RegistrationError("it answers no hook of Prism (is @hookimpl missing?)")
    known = [name for name in vars(hookspecs) if name.startswith("prism_")]
    for caller in callers:
        if not caller.has_spec():
            import difflib  # only where something is wrong already

            near = difflib.get_close_matches(caller.name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RegistrationError(f"there is no hook {caller.name!r}{hint}")
    manager.check_pending()


def _ask(manager: pluggy.PluginManager, kind: str, hook: str) -> list[Offer]:
    offers: list[Offer] = []
    for answer in getattr(manager.hook, hook)():
        if isinstance(answer, (str, bytes, Mapping)) or not isinstance(answer, Iterable):
            raise RegistrationError(f"{hook} answered {type(answer).__name__}, not a list of Provider")
        offers += [Offer(kind, _checked(item, hook)) for item in answer]
    names = [offer.provider.name for offer in offers]
    for name in names:
        if names.count(name) > 1:
            raise RegistrationError(f"{hook} names {name!r} twice")
    return offers


def _checked(item: object, hook: str) -> Provider:
    if not isinstance(item, Provider):
        raise RegistrationError(f"{hook} answered a list with {type(item).__name__} in it, not Provider")
    texts = (item.name, item.target, item.options, item.summary)
    if not all(isinstance(text, str) for text in texts) or not item.name:
        raise RegistrationError(f"{hook} answered a Provider whose name, target, options or summary is not text")
    return item


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
