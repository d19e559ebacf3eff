"""The evaluator `bleu`: corpus BLEU by sacrebleu in 0–1, and smoothed sentence BLEU for each sample."""

from __future__ import annotations

from collections.abc import Sequence

from sacrebleu.metrics.bleu import BLEU

from prism.evaluation.pairing import pair_texts
from prism.protocols import Prediction, Reference, Scores
from prism_textmetrics.options import TextOptions
from prism_textmetrics.scripts import Script, refuse_latin, script_of


class Bleu:
    """Plays the role `Evaluator`. The signature is sacrebleu's own; sentence scores use effective order."""

    def __init__(self, options: TextOptions | None = None) -> None:
        self._options = options or TextOptions()

    def score(self, predictions: Sequence[Prediction], references: Sequence[Reference]) -> Scores:
        """Raises `DataError` when ids do not match, an output is not text, or the tokenizer does not fit."""
        pairs = pair_texts(predictions, references)
        tokenizer = _choose(self._options.tokenizer, script_of(reference for _, _, reference in pairs))
        # `force`: texts that end in " ." are no reason for a warning about tokenization here
        corpus = BLEU(tokenize=tokenizer, force=True)
        sentence = BLEU(tokenize=tokenizer, force=True, effective_order=True)
        score = corpus.corpus_score([text for _, text, _ in pairs], [[reference for _, _, reference in pairs]])
        samples = {
            key: {"bleu": _fraction(sentence.sentence_score(text, [reference]).score)} for key, text, reference in pairs
        }
        signature = corpus.get_signature().format()
        return Scores(corpus={"bleu": _fraction(score.score)}, samples=samples, signature=signature)


def _fraction(percent: float) -> float:
    return min(percent / 100, 1.0)  # sacrebleu gives 100.00000000000004 for equal texts


def _choose(tokenizer: str, script: Script) -> str:
    """sacrebleu's name of the tokenizer: `13a` cuts words of any spaced script, `zh` also Chinese characters."""
    if tokenizer == "latin":
        refuse_latin(script, metric="bleu")
    if script is Script.UNSPACED:
        return "char"
    return "zh" if script is Script.HAN or tokenizer == "characters" else "13a"
