"""User code: finding what `SCRIPT.py`, `SCRIPT.py:NAME` or `MODULE:NAME` means, and running it in a run."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen

from prism.errors import UsageError
from prism.runs.handle import Run

EXPERIMENT_MARK = "__prism_experiment__"


@frozen
class Target:
    """What `prism run` was told to run: a script or a module, and the name in it ("" = the script itself)."""

    source: str
    name: str = ""

    @property
    def is_script(self) -> bool:
        return self.source.endswith(".py")

    def __str__(self) -> str:
        return f"{self.source}:{self.name}" if self.name else self.source


def parse_target(text: str) -> Target:
    """Read `SCRIPT.py`, `SCRIPT.py:NAME` or `MODULE:NAME`. Raises `UsageError`."""
    source, colon, name = text.rpartition(":")
    if not colon:
        source, name = text, ""
    target = Target(source, name)
    if target.is_script:
        if not Path(source).is_file():
            raise UsageError(f"there is no script {source} in {Path.cwd()}")
    elif not name:
        raise UsageError(f"{text!r} is neither a YAML file, nor SCRIPT.py, SCRIPT.py:NAME or MODULE:NAME")
    if name and not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} in {text!r} is no Python name")
    return target


def run_script(target: Target, arguments: Sequence[str], *, run: Run) -> None:
    """Execute a script as `__main__`; an `@prism.experiment` that it only defines is then called."""
    path = Path(target.source).absolute()
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    main = ModuleType("__main__")
    main.__file__ = str(path)
    sys.modules["__main__"] = main  # and it stays so: what the script defines can then be pickled, as without Prism
    exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(main))
    marked = {id(value): value for value in vars(main).values() if is_experiment(value)}
    experiments = [value for value in marked.values() if not getattr(value, EXPERIMENT_MARK).called]
    if len(experiments) > 1:
        found = ", ".join(sorted(value.__name__ for value in experiments))
        raise UsageError(f"{path.name} has several experiments: {found}", hint=f"prism run {path.name}:NAME")
    for experiment in experiments:
        call_experiment(experiment, run)


def load_object(target: Target, arguments: Sequence[str]) -> Any:
    """Import the object that `target` names. Raises `UsageError` when there is none."""
    sys.argv = [target.source, *arguments]
    module: Any
    if target.is_script:
        path = Path(target.source).absolute()
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, os.getcwd())
        try:
            module = importlib.import_module(target.source)
        except ModuleNotFoundError as error:
            if error.name is None or not target.source.startswith(error.name):
                raise
            raise UsageError(f"there is no module {target.source!r}", hint=f"searched from {os.getcwd()}") from error
    found: Any = module
    for part in target.name.split("."):
        if not hasattr(found, part):
            names = ", ".join(sorted(name for name, value in vars(module).items() if _is_ours(value, module)))
            raise UsageError(
                f"{target.source} has no {target.name!r}", hint=f"it defines {names or 'nothing callable'}"
            )
        found = getattr(found, part)
    return found


def is_task(found: Any) -> bool:
    """Whether an object (or class) is a Task: it has `model`, `batches` and `loss`."""
    return all(callable(getattr(found, name, None)) for name in ("model", "batches", "loss"))


def is_experiment(found: Any) -> bool:
    return hasattr(found, EXPERIMENT_MARK)


def make(found: Any, run: Run) -> Any:
    """An instance of a class, made with the run if its constructor asks for one argument."""
    return _call(found, run) if inspect.isclass(found) else found


def call_experiment(found: Any, run: Run) -> Any:
    """Call a function with the run, or `run(self, run)` of a class; without it where it takes no argument."""
    if not inspect.isclass(found) and inspect.isroutine(found):
        return _call(found, run)
    work = getattr(make(found, run), "run", None)
    if not callable(work):
        raise UsageError(f"{getattr(found, '__name__', found)!r} has no method run(self, run)")
    return _call(work, run)


def _call(function: Callable[..., Any], run: Run) -> Any:
    """Call with the run when there is a parameter for it, else without."""
    parameters = inspect.signature(function).parameters.values()
    takes_run = any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    return function(run) if takes_run else function()


def _is_ours(value: Any, module: Any) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__
