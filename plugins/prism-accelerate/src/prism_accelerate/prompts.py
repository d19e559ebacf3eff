"""How a record becomes a question, the same in training and in generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from prism.errors import DataError


def question(record: Mapping[str, Any]) -> str:
    """The instruction, and the input on lines of its own below it if there is one."""
    if "instruction" not in record:
        raise DataError(f"a record has no 'instruction': {str(record)[:80]}", hint="that is what the model is asked")
    instruction, extra = _text(record, "instruction"), _text(record, "input")
    return f"{instruction}\n{extra}" if extra else instruction


def prompt_ids(record: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids up to where the answer begins; at least one.

    With a chat template: the question as the user's turn and the start of the assistant's.
    Without: the question and a line break, after the tokenizer's own beginning (BOS) if it has one.
    """
    text = prompt_text(record, tokenizer)
    ids = list(tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"])
    if ids and not tokenizer.chat_template and ids[-1] == tokenizer.eos_token_id:
        ids.pop()  # some tokenizers close every text; the answer is still to come
    return ids or [_first(tokenizer)]


def prompt_text(record: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text that `prompt_ids` encodes."""
    if not tokenizer.chat_template:
        return question(record) + "\n"
    return str(tokenizer.apply_chat_template(_turns(record), tokenize=False, add_generation_prompt=True))


def answer_ids(record: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the record's `output`, as the chat template writes it if there is one, ending with EOS."""
    answer, eos = _text(record, "output"), tokenizer.eos_token_id
    if tokenizer.chat_template:
        turns = [*_turns(record), {"role": "assistant", "content": answer}]
        whole = str(tokenizer.apply_chat_template(turns, tokenize=False))
        prompt = prompt_text(record, tokenizer)
        if whole.startswith(prompt):
            answer = whole.removeprefix(prompt)
    ids = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    if tokenizer.chat_template and eos in ids:  # what a template writes after its EOS is never generated
        ids = ids[: len(ids) - ids[::-1].index(eos) - 1]
    return [*ids, eos]


def filler(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token id under padding. Which one makes no difference: the mask says by length what is padding."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def _turns(record: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"role": "user", "content": question(record)}]


def _text(record: Mapping[str, Any], field: str) -> str:
    value = record.get(field)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{field!r} of a record is {value!r}", hint="instruction, input and output are texts")
    return value or ""


def _first(tokenizer: PreTrainedTokenizerBase) -> int:
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return int(first or 0)
