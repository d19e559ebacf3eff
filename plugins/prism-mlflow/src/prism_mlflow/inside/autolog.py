"""MLflow's autologging for the frameworks that user code imports, each enabled when it is imported.

Never `mlflow.autolog()` for everything: its import hooks can wait for each other for ever.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import wrapt
from attrs import define, field

_logger = logging.getLogger(__name__)

# models and checkpoints are kept by Prism, and by `mlflow.<flavor>.log_model` where the user calls it
_OPTIONS: Mapping[str, Any] = MappingProxyType({"log_models": False, "checkpoint": False, "silent": True})
# transformers and others import parts of scikit-learn for themselves; whoever trains with it imports one of these
_SKLEARN = (
    *("calibration", "cluster", "compose", "covariance", "cross_decomposition", "decomposition"),
    *("discriminant_analysis", "dummy", "ensemble", "feature_selection", "gaussian_process", "inspection", "isotonic"),
    *("kernel_ridge", "linear_model", "mixture", "model_selection", "multiclass", "multioutput", "naive_bayes"),
    *("neighbors", "neural_network", "pipeline", "semi_supervised", "svm", "tree"),
)
_FRAMEWORKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sklearn": tuple(f"sklearn.{part}" for part in _SKLEARN),
        "pytorch": ("lightning", "lightning.pytorch", "pytorch_lightning"),
        "keras": ("keras",),
        "lightgbm": ("lightgbm",),
        "statsmodels": ("statsmodels.api", "statsmodels.formula.api"),
        "xgboost": ("xgboost",),
    }
)


@define
class Autologging:
    """Which flavors of MLflow log by themselves in this process, and whether more may come."""

    wanted: bool = False
    enabled: set[str] = field(factory=set)

    def enable(self, flavor: str, module: Any) -> None:
        """Enable a flavor, now that `module` is imported, unless more of the framework is still on its way."""
        in_use = any(name in sys.modules for name in _FRAMEWORKS[flavor])
        if self.wanted and in_use and flavor not in self.enabled and not _is_coming(flavor, but=module):
            self.enabled.add(flavor)
            try:
                _switch(flavor, _OPTIONS)
                if flavor == "pytorch":
                    _leave_to_loggers()
            except Exception as error:  # MLflow's and the framework's code: an import must not fail because of it
                self.enabled.discard(flavor)
                _logger.warning("MLflow cannot log %s by itself: %s: %s", flavor, type(error).__name__, error)

    def disable(self) -> None:
        """Switch off what was switched on here."""
        self.wanted = False
        while self.enabled:
            flavor = self.enabled.pop()
            try:
                _switch(flavor, {"disable": True, "silent": True})
            except Exception as error:  # as above: the end of a run must not fail because of it
                _logger.warning("MLflow goes on to log %s by itself: %s: %s", flavor, type(error).__name__, error)


_here = Autologging()


def enable_autologging() -> None:
    """Enable MLflow's autologging of the frameworks imported already, and of others when they are imported."""
    _here.wanted = True
    _watch_imports()
    for flavor, modules in _FRAMEWORKS.items():
        for module in (sys.modules[name] for name in modules if name in sys.modules):
            _here.enable(flavor, module)


def disable_autologging() -> None:
    """Undo `enable_autologging`."""
    _here.disable()


def _switch(flavor: str, options: Mapping[str, Any]) -> None:
    """Call a flavor's `autolog` with those of the options that it has."""
    autolog = importlib.import_module(f"mlflow.{flavor}").autolog
    known = inspect.signature(autolog).parameters
    autolog(**{name: value for name, value in options.items() if name in known})


def _leave_to_loggers() -> None:
    """Keep out of a Lightning trainer that has MLflow's own logger, or a callback with a true `logs_to_prism`.

    These log the same metrics under the same names.
    """
    from mlflow.utils.autologging_utils import disable_autologging as without_autologging

    def fit(original: Any, trainer: Any, arguments: Any, named: Any) -> Any:
        logged = any(type(logger).__name__ == "MLFlowLogger" for logger in trainer.loggers)
        if logged or any(getattr(callback, "logs_to_prism", False) for callback in trainer.callbacks):
            with without_autologging():
                return original(*arguments, **named)
        return original(*arguments, **named)

    for name in ("lightning.pytorch", "pytorch_lightning"):
        package = sys.modules.get(name)
        if package is not None and not isinstance(package.Trainer.fit, wrapt.BoundFunctionWrapper):
            wrapt.wrap_function_wrapper(package, "Trainer.fit", fit)


@functools.cache
def _watch_imports() -> None:
    for flavor, modules in _FRAMEWORKS.items():
        for name in (*modules, f"mlflow.{flavor}"):
            if name not in sys.modules:
                wrapt.register_post_import_hook(functools.partial(_here.enable, flavor), name)


def _is_coming(flavor: str, *, but: Any) -> bool:
    """Whether a module of its library, or of MLflow, is being imported just now: its own import ends with a hook too.

    MLflow imports all of scikit-learn to patch it, which must not happen in the middle of an import of it; and some
    libraries import scikit-learn, of which MLflow's part imports MLflow's for them, while they are not there yet.
    """
    coming = {"mlflow", *(name.partition(".")[0] for name in _FRAMEWORKS[flavor])}
    names = [name for name in sys.modules if name != "mlflow" and name.partition(".")[0] in coming]
    found = (sys.modules.get(name) for name in names)
    return any(
        module is not but and getattr(getattr(module, "__spec__", None), "_initializing", False) for module in found
    )
