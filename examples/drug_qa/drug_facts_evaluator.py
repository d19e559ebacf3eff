"""The evaluator `drug_facts`, a local plugin: what was learned beyond the wording of the answers.

Answers of a template look alike, so text overlap alone says little. This evaluator puts beside it
what a model that knows no fact would score.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import frozen

from prism.errors import DataError
from prism.evaluation.pairing import pair_texts
from prism.hookspecs import hookimpl
from prism.protocols import Prediction, Reference, Scores
from prism.providers import Provider
from prism_textmetrics.rouge import rouge, tokenize_latin

SHUFFLE_SEED = 0
FIELDS = ("substance", "kind", "answer", "form")


@hookimpl
def prism_evaluators() -> list[Provider]:
    return [
        Provider(
            "drug_facts",
            target="drug_facts_evaluator:DrugFacts",
            requires=("prism_textmetrics",),
            summary="exact facts beside the majority answer, ROUGE-L beside a constant answer and shuffled references",
        )
    ]


@frozen
class Question:
    """One question with the model's answer `text`, the `reference` text and the record's fact.

    `answer` is the value asked for, `form` the template of `{substance}` and `{value}` it stands in.
    """

    id: str
    text: str
    reference: str
    substance: str
    kind: str
    answer: str
    form: str


class DrugFacts:
    """Plays the role `Evaluator` for records of `make_records.py`.

    For each kind of question, `<kind>_exact` is the share of answers with exactly the right value about
    the right substance, `<kind>_majority` the share that the set's most frequent value would get.
    Two figures stand beside the evaluator `rouge`'s `rougeL` and are computed as it is: `rougeL_constant`
    is that of the best constant answer, `rougeL_shuffled` that of the model's answers against the
    references of other questions of the same kind.
    """

    def score(self, predictions: Sequence[Prediction], references: Sequence[Reference]) -> Scores:
        """Raises `DataError` when ids do not match or a record lacks what `make_records.py` writes."""
        questions = questions_of(predictions, references)
        kinds = {kind: [one for one in questions if one.kind == kind] for kind in sorted({q.kind for q in questions})}
        samples = {
            one.id: {"exact": float(is_exact(one, forms={other.form for other in kinds[one.kind]}))}
            for one in questions
        }
        corpus: dict[str, float] = {}
        for kind, asked in kinds.items():
            corpus[f"{kind}_exact"] = mean(samples[one.id]["exact"] for one in asked)
            corpus[f"{kind}_majority"] = max(Counter(one.answer for one in asked).values()) / len(asked)
        corpus["rougeL_constant"] = mean(score for asked in kinds.values() for score in constant_scores(asked))
        corpus["rougeL_shuffled"] = mean(score for asked in kinds.values() for score in shuffled_scores(asked))
        signature = f"drug_facts|exact:value+substance|constant:best-of-kind|shuffle:{SHUFFLE_SEED}|tok:latin|version:1"
        return Scores(corpus=corpus, samples=samples, signature=signature)


def questions_of(predictions: Sequence[Prediction], references: Sequence[Reference]) -> list[Question]:
    """Predictions and references of the same ids as questions, in the order of the references."""
    pairs = pair_texts(predictions, references)
    records = {reference.id: reference.record for reference in references}
    return [
        Question(id=key, text=text.strip(), reference=wanted, **_fact(key, records[key])) for key, text, wanted in pairs
    ]


def is_exact(question: Question, *, forms: Collection[str]) -> bool:
    """Whether the answer says the right value about the right substance, in whichever of `forms`."""
    return any(question.text == fill(form, question, question.answer) for form in forms)


def constant_scores(asked: Sequence[Question]) -> list[float]:
    """ROUGE-L of each question under the best constant answer to questions of one kind.

    A constant answer repeats the question's substance and gives one of the most frequent values: in one of the
    forms for all questions, or, as the strictest, each time in the form that the reference has.
    """
    counts = Counter(one.answer for one in asked)
    values = [value for value, times in counts.items() if times == max(counts.values())]
    forms = [None, *sorted({one.form for one in asked})]
    tried = [
        [rouge_l(fill(form or one.form, one, value), one.reference) for one in asked]
        for value in values
        for form in forms
    ]
    return max(tried, key=mean)


def shuffled_scores(asked: Sequence[Question]) -> list[float]:
    """ROUGE-L of each answer against the reference of another question of the same kind, drawn by a fixed seed."""
    order = list(asked)
    random.Random(SHUFFLE_SEED).shuffle(order)
    return [rouge_l(one.text, other.reference) for one, other in zip(order, [*order[1:], order[0]], strict=True)]


def fill(form: str, question: Question, value: str) -> str:
    """The answer that says `value` about the question's substance."""
    return form.format(substance=question.substance, value=value)


def rouge_l(text: str, reference: str) -> float:
    """The F-measure of the longest common subsequence of words, 0 to 1."""
    return rouge(tokenize_latin(text), tokenize_latin(reference))["rougeL"]


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)


def _fact(key: str, record: Mapping[str, object]) -> dict[str, str]:
    missing = [field for field in FIELDS if not isinstance(record.get(field), str)]
    if missing:
        raise DataError(
            f"drug_facts: the record of {key!r} has no text under {', '.join(missing)}",
            hint="this evaluator scores the records that examples/drug_qa/make_records.py writes",
        )
    return {field: str(record[field]) for field in FIELDS}
