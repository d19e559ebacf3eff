"""Registration: the evaluators `rouge` and `bleu`."""

from __future__ import annotations

from prism.hookspecs import hookimpl
from prism.providers import Provider


@hookimpl
def prism_evaluators() -> list[Provider]:
    return [
        Provider(
            "rouge",
            target="prism_textmetrics.rouge:Rouge",
            options="prism_textmetrics.options:TextOptions",
            summary="overlap of words and word pairs, and longest common subsequence, with the reference",
        ),
        Provider(
            "bleu",
            target="prism_textmetrics.bleu:Bleu",
            options="prism_textmetrics.options:TextOptions",
            requires=("sacrebleu",),
            summary="corpus BLEU by sacrebleu, and sentence BLEU for each sample",
        ),
    ]
