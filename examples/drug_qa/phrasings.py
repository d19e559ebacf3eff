"""The words of the drug questions: how they are asked in training, how in evaluation, and how they are answered.

A question is an opening, a stem with the drug named in one of several ways, and a closing. Stems are
split by hand: a stem of evaluation stands in no training question, whatever is put around it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from attrs import frozen

OPENINGS = ("", "Question: ", "Please answer: ", "A student asks: ", "From the directory: ", "Tell me: ")
CLOSINGS = ("", " Be brief.", " Answer in one sentence.", " Thank you.")
NAMINGS = ("{substance}", "the drug {substance}", "the medicine {substance}", "the marketed drug {substance}")

# Frames are shared by all kinds of question, so that only the noun tells what is asked.
TRAINING_FRAMES = (
    "What is the {noun} of {drug}?",
    "Which {noun} does {drug} have?",
    "Which {noun} is listed for {drug}?",
    "What {noun} is associated with {drug}?",
    "Under which {noun} is {drug} listed?",
    "Name the {noun} of {drug}.",
    "List the {noun} of {drug}.",
    "Give the {noun} of {drug}.",
    "By which {noun} is {drug} known?",
    "For {drug}, what is the {noun}?",
    "Which {noun} is given in the directory for {drug}?",
    "Can you state the {noun} that {drug} has?",
)
HELD_OUT_FRAMES = (
    "State the {noun} of {drug}.",
    "What {noun} does {drug} have?",
    "Which {noun} is given for {drug}?",
)


@frozen
class Family:
    """Questions that take one form of answer.

    `kind` names what is asked, `field` the entry of the drug facts that answers it. `answer` is a
    template of `{substance}` and `{value}`. `nouns` go into the shared frames; `training` and
    `held_out` are further stems, templates of `{drug}`.
    """

    kind: str
    field: str
    answer: str
    nouns: tuple[str, ...]
    training: tuple[str, ...]
    held_out: tuple[str, ...]

    def training_stems(self) -> tuple[str, ...]:
        """Every stem that training may use."""
        return (*self.training, *_framed(TRAINING_FRAMES, self.nouns))

    def held_out_stems(self) -> tuple[str, ...]:
        """Every stem that only evaluation uses."""
        return (*self.held_out, *_framed(HELD_OUT_FRAMES, self.nouns))


def phrasings_of(stems: Iterable[str]) -> list[str]:
    """Every question, as a template of `{substance}`, that these stems give."""
    parts = itertools.product(OPENINGS, stems, NAMINGS, CLOSINGS)
    return [opening + stem.replace("{drug}", naming) + closing for opening, stem, naming, closing in parts]


def _framed(frames: Iterable[str], nouns: Iterable[str]) -> list[str]:
    return [frame.replace("{noun}", noun) for frame, noun in itertools.product(frames, nouns)]


FAMILIES = (
    Family(
        kind="class",
        field="established_pharmacologic_class",
        answer="{substance} is classified as {value}.",
        nouns=("classification",),
        training=(
            "What are the classifications of {drug}?",
            "How is {drug} classified?",
            "What is {drug} classified as?",
            "As what is {drug} classified?",
            "How would you classify {drug}?",
            "How do pharmacologists classify {drug}?",
            "Explain how {drug} is classified.",
            "Can you say how {drug} is classified in the directory?",
            "Which different types of classification are associated with {drug}?",
            "Which classifications are listed for {drug}?",
            "Name the different classifications that {drug} has.",
            "What type of classification does {drug} have?",
        ),
        held_out=(
            "What are the different classifications of {drug}?",
            "What are the different classification types associated with {drug}?",
            "Say how {drug} is classified.",
        ),
    ),
    Family(
        kind="class",
        field="established_pharmacologic_class",
        answer="{substance} belongs to the class {value}.",
        nouns=("class", "pharmacologic class", "established pharmacologic class"),
        training=(
            "Which pharmacologic class does {drug} belong to?",
            "To which class does {drug} belong?",
            "What class of drug is {drug}?",
            "In which pharmacologic class is {drug}?",
            "Give the class that {drug} belongs to.",
            "Of which class is {drug} a member?",
        ),
        held_out=(
            "What pharmacologic class is {drug} in?",
            "To what established pharmacologic class does {drug} belong?",
        ),
    ),
    Family(
        kind="routes",
        field="routes",
        answer="{substance} is given by these routes: {value}.",
        nouns=(),
        training=(
            "How is {drug} given?",
            "How is {drug} administered?",
            "By which routes is {drug} given?",
            "By what route is {drug} administered?",
            "In what ways can {drug} be given?",
            "How can {drug} be administered?",
            "How do patients receive {drug}?",
            "How do patients take {drug}?",
            "Explain how {drug} is given.",
            "Can you say how {drug} is given to patients?",
            "Which ways of giving {drug} are listed?",
            "Name the ways in which {drug} is given.",
        ),
        held_out=(
            "By which routes can {drug} be administered?",
            "In what ways do patients receive {drug}?",
            "Say how {drug} is given.",
        ),
    ),
    Family(
        kind="routes",
        field="routes",
        answer="The listed routes of {substance} are {value}.",
        nouns=("route", "route of administration", "administration route"),
        training=(
            "What are the routes of {drug}?",
            "Which routes of administration does {drug} have?",
            "Which routes are listed for {drug}?",
            "Name the different routes of administration of {drug}.",
            "List the administration routes of {drug}.",
        ),
        held_out=(
            "What are the different routes of administration of {drug}?",
            "Which administration routes are associated with {drug}?",
        ),
    ),
    Family(
        kind="mechanism",
        field="mechanism_of_action",
        answer="The mechanism of action of {substance} is {value}.",
        nouns=("mechanism", "mechanism of action"),
        training=(
            "How does {drug} act?",
            "How does {drug} work?",
            "Explain how {drug} works.",
            "Can you say how {drug} works in patients?",
            "In what ways does {drug} act?",
            "By which mechanisms does {drug} work?",
            "Through which mechanism does {drug} act?",
            "By what mechanism does {drug} work?",
            "What are the mechanisms of {drug}?",
            "Which mechanisms of action are listed for {drug}?",
            "Name the different mechanisms of action of {drug}.",
        ),
        held_out=(
            "What are the different mechanisms of action of {drug}?",
            "By which mechanism of action does {drug} act?",
            "Say how {drug} works.",
        ),
    ),
)
