"""From a record to token ids: the loss on the answer alone, EOS at the end, padding by length."""

from __future__ import annotations

import pytest
import torch

from prism.errors import DataError
from prism_accelerate.prompts import answer_ids, filler, prompt_ids, question
from prism_accelerate.sft import IGNORED, collate
from prism_accelerate.tokens import tokenise

RECORD = {"instruction": "What is Zinc?", "input": "", "output": "Zinc is a copper absorption inhibitor."}
CHAT = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def test_the_input_stands_below_the_instruction():
    assert question({"instruction": "Translate.", "input": "Guten Tag"}) == "Translate.\nGuten Tag"
    assert question({"instruction": "Hello?", "input": ""}) == question({"instruction": "Hello?"}) == "Hello?"


def test_labels_are_the_answer_and_eos_and_nothing_else(tokenizer, records):
    batch = collate(tokenise([RECORD, records[0]], tokenizer, max_length=None).records, filler=filler(tokenizer))
    for row, record in enumerate([RECORD, records[0]]):
        seen = batch["labels"][row][batch["labels"][row] != IGNORED].tolist()
        assert seen[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(seen[:-1]) == record["output"]
        whole = batch["input_ids"][row][batch["attention_mask"][row] == 1].tolist()
        assert tokenizer.decode(whole) == f"{record['instruction']}\n{record['output']}</s>"


def test_padding_that_shares_its_token_with_eos_is_masked_and_eos_is_not(tokenizer, make_tokenizer, records):
    shared = make_tokenizer(pad=None)
    shared.pad_token = shared.eos_token
    for each in (shared, make_tokenizer(pad=None)):
        size = len(each)
        batch = collate(tokenise([RECORD, records[1]], each, max_length=None).records, filler=filler(each))
        ends = (batch["labels"] == each.eos_token_id).sum(dim=1)
        assert ends.tolist() == [1, 1]
        assert (batch["attention_mask"] * (batch["input_ids"] == each.eos_token_id)).sum(dim=1).tolist() == [1, 1]
        assert len(each) == size  # nothing was added to the vocabulary


def test_a_chat_template_writes_prompt_and_answer(tokenizer, make_tokenizer):
    chat = make_tokenizer()
    chat.chat_template = CHAT
    assert chat.decode(prompt_ids(RECORD, chat)) == "<s>user\nWhat is Zinc?</s>\n<s>assistant\n"
    answer = answer_ids(RECORD, chat)
    assert chat.decode(answer) == RECORD["output"] + "</s>"
    assert answer.count(chat.eos_token_id) == 1


def test_a_tokenizer_that_closes_every_text_does_not_close_the_prompt():
    class Closing:
        chat_template, eos_token_id, bos_token_id = None, 2, 1

        def __call__(self, text, *, add_special_tokens):
            ids = [10 + len(word) for word in text.split()]
            return {"input_ids": [1, *ids, 2] if add_special_tokens else ids}

    assert prompt_ids(RECORD, Closing()) == [1, 14, 12, 15]
    assert answer_ids(RECORD, Closing())[-1] == 2


def test_a_prompt_is_never_empty(tokenizer):
    empty = {"instruction": "", "input": "", "output": "x"}
    assert len(prompt_ids(empty, tokenizer)) >= 1


@pytest.mark.parametrize("room", [4, 8, 12, 16, 24])
def test_cutting_keeps_some_of_the_answer_and_counts(tokenizer, room):
    long = {"instruction": "What is Zinc? " * 20, "input": "", "output": "Zinc is a copper. " * 20}
    done = tokenise([long, {**long, "output": "Zn"}, RECORD], tokenizer, max_length=room)
    for record in done.records:
        assert len(record.ids) <= room and record.answer >= 1 and record.prompt >= 1
    assert done.records[0].answer == room // 2
    assert done.cut_prompts >= 2 and done.cut_answers >= 1
    assert tokenizer.eos_token_id not in done.records[0].ids


def test_what_fits_is_not_cut(tokenizer, records):
    done = tokenise(records, tokenizer, max_length=128)
    assert (done.cut_prompts, done.cut_answers) == (0, 0)
    assert all(record.ids[-1] == tokenizer.eos_token_id for record in done.records)


def test_an_output_that_is_no_text_is_a_data_error(tokenizer):
    with pytest.raises(DataError, match="'output' of a record is 5"):
        answer_ids({"instruction": "2+3", "output": 5}, tokenizer)


def test_padding_changes_no_loss(small_model, tokenizer, records):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(small_model).eval()
    some = tokenise(records[:3], tokenizer, max_length=None).records
    with torch.no_grad():
        padded = collate(some, filler=filler(tokenizer))
        together = model(**padded).loss * (padded["labels"][:, 1:] != IGNORED).sum()
        alone = sum(model(**collate([one], filler=0)).loss * one.answer for one in some)
    assert torch.allclose(together, alone, rtol=1e-5)
