"""ROUGE side by side: ours and the package rouge-score on the same pairs, in pairs per CPU second.

Run: python benchmarks/rouge.py [PAIRS]    (needs rouge-score)

The pairs are paragraphs of Python's own manual and copies of them with a third of the words gone.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from pydoc_data.topics import topics

from rouge_score.rouge_scorer import RougeScorer

from prism_textmetrics.rouge import rouge, tokenize_latin

Score = Callable[[str, str], object]


def main(pairs_wanted: int) -> None:
    peer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)

    def ours(prediction: str, reference: str) -> dict[str, float]:
        return rouge(tokenize_latin(prediction), tokenize_latin(reference))

    def theirs(prediction: str, reference: str) -> dict[str, float]:
        return {name: float(score.fmeasure) for name, score in peer.score(reference, prediction).items()}

    print("words  rouge-score  prism_textmetrics  ratio   (pairs per CPU second, equal values)")
    for words in (20, 100):
        pairs = make_pairs(pairs_wanted, words=words)
        assert all(ours(*pair) == theirs(*pair) for pair in pairs), "the values differ"
        rounds = [(rate(theirs, pairs), rate(ours, pairs)) for _ in range(5)]  # in turn: the machine may be busy
        length = statistics.median(len(text.split()) for _, text in pairs)
        their, our = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(our / their for their, our in rounds)
        print(f"{length:5.0f}  {their:11.0f}  {our:17.0f}  {ratio:5.1f}")


def make_pairs(wanted: int, *, words: int) -> list[tuple[str, str]]:
    """Pairs of (damaged copy, paragraph) with at least `words` words."""
    chance = random.Random(5)
    paragraphs = [text for topic in topics.values() for text in topic.split("\n\n") if len(text.split()) >= words]
    references = chance.choices(paragraphs, k=wanted)
    return [(" ".join(word for word in text.split() if chance.random() > 1 / 3), text) for text in references]


def rate(score: Score, pairs: list[tuple[str, str]]) -> float:
    start = time.process_time()
    for prediction, reference in pairs:
        score(prediction, reference)
    return len(pairs) / (time.process_time() - start)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
