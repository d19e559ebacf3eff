"""Something of MLflow's, with every call of it in somebody's hands: to take turns, or to end in time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from attrs import frozen

Around: TypeAlias = Callable[[str, Callable[[], Any]], Any]


@frozen
class Guarded:
    """`guarded`, whose methods are called by `around(name, call)`."""

    guarded: Any
    around: Around

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.guarded, name)
        if not callable(found):
            return found

        def call(*given: Any, **named: Any) -> Any:
            return self.around(name, partial(found, *given, **named))

        return call
