"""Telling the person something, on an stderr that user code may have closed or lost by now."""

from __future__ import annotations

import sys
from contextlib import suppress


def tell(text: str) -> None:
    """Write `text` to stderr if there is one; never raises, because nobody's work may end for want of a reader."""
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, or None
        sys.stderr.write(text)
        sys.stderr.flush()
