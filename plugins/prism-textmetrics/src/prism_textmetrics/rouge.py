"""The evaluator `rouge`: rouge1, rouge2 and rougeL as F-measures in 0–1.

On Latin text the values are bit-equal to the package `rouge-score` 0.1.2 without its stemmer (C.-Y.
Lin, ROUGE, 2004), which cannot be used itself: it needs nltk and scipy, drops all other scripts, and
fills a table for the longest common subsequence that costs 80 % of its time.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise

from prism.errors import DataError
from prism.evaluation.pairing import pair_texts
from prism.protocols import Prediction, Reference, Scores
from prism_textmetrics.options import TextOptions
from prism_textmetrics.scripts import UNSPACED, Script, refuse_latin, script_of

_LATIN_WORD = re.compile("[a-z0-9]+")
_CHARACTER_OR_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


class Rouge:
    """Plays the role `Evaluator`; corpus scores are the means over the samples."""

    def __init__(self, options: TextOptions | None = None) -> None:
        self._options = options or TextOptions()

    def score(self, predictions: Sequence[Prediction], references: Sequence[Reference]) -> Scores:
        """Raises `DataError` when ids do not match, an output is not text, or the tokenizer does not fit."""
        pairs = pair_texts(predictions, references)
        name = _choose(self._options.tokenizer, script_of(reference for _, _, reference in pairs))
        tokenize = tokenize_latin if name == "latin" else tokenize_characters
        samples = {key: rouge(tokenize(text), tokenize(reference)) for key, text, reference in pairs}
        corpus = {
            score: math.fsum(scores[score] for scores in samples.values()) / len(samples)
            for score in ("rouge1", "rouge2", "rougeL")
        }
        return Scores(corpus=corpus, samples=samples, signature=f"rouge|f-measure|mean|stemmer:no|tok:{name}|version:1")


def rouge(prediction: Sequence[str], reference: Sequence[str]) -> dict[str, float]:
    """The three F-measures of one pair of token lists; 0 where a side is empty."""
    pairs = list(pairwise(prediction)), list(pairwise(reference))
    return {
        "rouge1": _f_measure(_overlap(prediction, reference), len(prediction), len(reference)),
        "rouge2": _f_measure(_overlap(*pairs), len(pairs[0]), len(pairs[1])),
        "rougeL": _f_measure(longest_common_subsequence(prediction, reference), len(prediction), len(reference)),
    }


def longest_common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Its length, with a whole row of the table in one integer.

    H. Hyyrö, "Bit-parallel LCS-length computation revisited", 2004: a zero bit at i in the row says
    that the length grows at first[i].
    """
    places: dict[Hashable, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full
    for token in second:
        matches = row & places.get(token, 0)
        if matches:
            row = (row + matches | row - matches) & full
    return len(first) - row.bit_count()


def tokenize_latin(text: str) -> list[str]:
    """Lower-case runs of ASCII letters and digits, as `rouge-score` does; everything else separates."""
    return _LATIN_WORD.findall(text.lower())


def tokenize_characters(text: str) -> list[str]:
    """Each letter of a script without spaces alone, words of any other script whole; full-width forms made plain."""
    return _CHARACTER_OR_WORD.findall(unicodedata.normalize("NFKC", text).lower())


def _choose(tokenizer: str, script: Script) -> str:
    if tokenizer == "latin":
        refuse_latin(script, metric="rouge")
        if script is Script.SPACED:
            raise DataError(
                "rouge: tokenizer: latin cannot score these references: most of their letters are not Latin",
                hint="use tokenizer: auto, or tokenizer: characters, which keeps their words whole",
            )
    if tokenizer == "auto":
        return "latin" if script is Script.LATIN else "characters"
    return tokenizer


def _overlap(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """How many elements they share, each as often as in the side that has it less often."""
    left = Counter(first)
    shared = 0
    for item in second:
        if left.get(item, 0) > 0:
            left[item] -= 1
            shared += 1
    return shared


def _f_measure(shared: int, predicted: int, referenced: int) -> float:
    # from precision and recall, not 2o/(a+b): only so the last bit agrees with rouge-score
    precision, recall = shared / max(predicted, 1), shared / max(referenced, 1)
    return 2 * precision * recall / (precision + recall) if shared else 0.0
