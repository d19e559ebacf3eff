"""Which script texts are written in, and so how they are cut into tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from enum import Enum

from prism.errors import DataError

HAN = "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001b000-\U0001b16f"
_HANGUL = "\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff"
_BOPOMOFO = "\u3105-\u312f\u31a0-\u31bf"
_INDOCHINA = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
UNSPACED = HAN + _KANA + _HANGUL + _BOPOMOFO + _INDOCHINA

_HAN_LETTER = re.compile(f"[{HAN}]")
_UNSPACED_LETTER = re.compile(f"[{UNSPACED}]")
_ASCII_LETTER = re.compile("[A-Za-z]")
_OTHER_LETTER = re.compile(r"[^\W\d_a-zA-Z]")


class Script(Enum):
    """What the texts of one dataset are written in."""

    LATIN = "latin"  # most letters are Latin, none is of a script without spaces
    SPACED = "spaced"  # another script with spaces between words: Cyrillic, Greek, Arabic …
    HAN = "han"  # there are Chinese characters
    UNSPACED = "unspaced"  # there are letters of another script without spaces, or Hangul


def script_of(texts: Iterable[str]) -> Script:
    """The script of a dataset's references; one Chinese character among Latin text is enough for HAN."""
    latin = other = 0
    han = False
    for text in texts:
        if text.isascii():
            latin += len(_ASCII_LETTER.findall(text))
            continue
        unspaced = set(_UNSPACED_LETTER.findall(text))
        if any(not _HAN_LETTER.match(letter) for letter in unspaced):
            return Script.UNSPACED
        han = han or bool(unspaced)
        latin += len(_ASCII_LETTER.findall(text))
        for letter in _OTHER_LETTER.findall(text):
            if unicodedata.name(letter, "").startswith("LATIN"):
                latin += 1
            else:
                other += 1
    if han:
        return Script.HAN
    return Script.SPACED if other > latin else Script.LATIN


def refuse_latin(script: Script, *, metric: str) -> None:
    """Raises `DataError` when a Latin tokenizer was forced on references that it would drop or not cut."""
    if script in (Script.HAN, Script.UNSPACED):
        raise DataError(
            f"{metric}: tokenizer: latin cannot score these references: they hold text in a script without spaces "
            "(Chinese, Japanese, Korean, Thai …)",
            hint="use tokenizer: auto, or tokenizer: characters",
        )
