"""The options of the text metrics."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen, validators

TOKENIZERS = ("auto", "latin", "characters")


@frozen
class TextOptions:
    """`tokenizer`: "latin" words, "characters" for scripts without spaces, or "auto": by the references."""

    tokenizer: Literal["auto", "latin", "characters"] = field(default="auto", validator=validators.in_(TOKENIZERS))
