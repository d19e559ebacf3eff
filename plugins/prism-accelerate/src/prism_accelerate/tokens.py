"""Records as token ids: prompt and answer apart, cut to length so that some of the answer always stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from transformers import PreTrainedTokenizerBase

from prism_accelerate.prompts import answer_ids, prompt_ids


@frozen
class Tokens:
    """One record: `ids` of prompt and answer together, the first `prompt` of them the prompt."""

    ids: tuple[int, ...]
    prompt: int

    @property
    def answer(self) -> int:
        """How many tokens the loss is taken on."""
        return len(self.ids) - self.prompt


@frozen
class Tokenised:
    """All records, and how many of them lost a part of their prompt, of their answer."""

    records: tuple[Tokens, ...]
    cut_prompts: int = 0
    cut_answers: int = 0


def tokenise(
    records: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, *, max_length: int | None
) -> Tokenised:
    """Encode `records`, each to at most `max_length` tokens."""
    done, cut_prompts, cut_answers = [], 0, 0
    for record in records:
        prompt, answer = prompt_ids(record, tokenizer), answer_ids(record, tokenizer)
        short_prompt, short_answer = _cut(prompt, answer, max_length or len(prompt) + len(answer))
        cut_prompts += len(short_prompt) < len(prompt)
        cut_answers += len(short_answer) < len(answer)
        done.append(Tokens((*short_prompt, *short_answer), len(short_prompt)))
    return Tokenised(tuple(done), cut_prompts, cut_answers)


def _cut(prompt: list[int], answer: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both within `room`: the answer may have half of it, and what the prompt leaves.

    A prompt loses its beginning (the question's end is nearest to the answer), an answer its end
    and with it EOS: a text cut short does not teach to stop.
    """
    answer = answer[: max(room // 2, room - len(prompt))]
    keep = room - len(answer)
    return (prompt[-keep:] if len(prompt) > keep else prompt), answer
