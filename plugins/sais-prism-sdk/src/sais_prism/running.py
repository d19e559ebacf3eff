"""The run of a process: one for each call of a decorated `run()`, open until the next one or the end of the process."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from prism import Run
from prism.config.sections import ModelRepo
from prism.errors import DataError, EnvironmentUnfit
from prism.runs.start import hosted_project, hosted_run, say_done, start_in
from sais_prism.core.config import ConfigManager
from sais_prism.core.exceptions import of_this_package
from sais_prism.frameworks.devices import choose_device
from sais_prism.frameworks.saved import LastSaved
from sais_prism.here import here
from sais_prism.hints import hint, repeat_hints
from sais_prism.unified_data_access.client import as_data_client


def current_run(name: str = "") -> Run:
    """The run that is open, or else a new one, called `name`, that ends with the process."""
    run = here.open_run
    if run is None:
        run = _begin(name)
        here.spoken_for = False
    return run


@contextmanager
def running(name: str) -> Iterator[Run]:
    """A decorated `run()` at work: in a run of its own, within the one at work when it was called from there.

    An exception ends the run; when there is none it stays open for what is said later, until the next one begins.
    """
    if here.working:
        yield current_run()
        return
    if here.spoken_for and here.open_run is not None:  # by an earlier call
        here.saved.settle(here.open_run, hint)
        here.run = None
    run = current_run(name)
    here.working = here.spoken_for = True
    try:
        yield run
    except BaseException as error:
        run.__exit__(type(error), error, error.__traceback__)
        if isinstance(error, Exception):  # where Prism ends the run, a script that catches this changes nothing
            run.before_success(functools.partial(_raise, error))
        raise
    else:
        here.saved.keep(run)
        say_done(run)
    finally:
        here.working = False


def _begin(name: str) -> Run:
    choose_device(ConfigManager())
    with of_this_package():
        run = _joined() or start_in(ConfigManager().project, name=name)
    if here.data_client is not None:
        run.use_data_client(as_data_client(here.data_client))
    here.run = run
    repeat_hints(run)
    saved = here.saved = LastSaved()
    if (output := run.params.get("output_dir")) is not None:
        saved.add_output(output)
    run.before_success(lambda: saved.settle(run, hint))
    _record_datasets(run)
    return run


def _raise(error: Exception) -> NoReturn:
    raise error


def _joined() -> Run | None:
    """The run of `prism run`, for the first `run()` of its script and for processes that the script starts."""
    run = hosted_run()
    if run is None or run.status != "RUNNING":
        return None
    first = not here.spoken_for
    return run if first or hosted_project() is None else None


def _record_datasets(run: Run) -> None:
    """Record the datasets that the configuration names as used; what is not there is said, scripts may not need it."""
    access = run.config.unified_data_access
    if run.rank > 0 or not access.enabled:
        return
    names = access.data_access.dataset_names
    for number, name in enumerate(names):
        try:
            run.dataset(name)
        except DataError as error:
            hint(f"the dataset {name!r} is not recorded as used: {error.message}")
        except EnvironmentUnfit as error:  # and the others would be waited for in vain
            others = ", ".join(map(repr, names[number:]))
            hint(f"not recorded as used: {others}. {error.message}")
            return


def model_repo(given: Mapping[str, Any]) -> ModelRepo:
    """A `model_repo` as scripts hand it over, for one run."""
    tags = {str(key): str(value) for key, value in (given.get("tag") or given.get("tags") or {}).items()}
    more = {key: given[key] for key in ("registered", "await_registration_for") if given.get(key) is not None}
    return ModelRepo(name=str(given["name"]), version=str(given["version"] or ""), tag=tags, **more)
