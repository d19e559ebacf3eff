"""Greedy answers: the same in any batch, in the order asked, counted without padding and EOS."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prism.errors import UsageError
from prism.protocols import Example
from prism_accelerate.generate import GeneratePredictor
from prism_accelerate.options import GenerateOptions
from prism_accelerate.trainer import AccelerateTrainer


@pytest.fixture(scope="module")
def examples(records):
    longer = [{**record, "instruction": record["instruction"] * (1 + at % 3)} for at, record in enumerate(records)]
    return [Example(f"q{at}", record) for at, record in enumerate(longer)]


def answers(folder, examples, **options):
    return list(GeneratePredictor(GenerateOptions(device="cpu", **options)).predict(folder, examples))


def test_a_batch_gives_what_one_at_a_time_gives_and_what_generate_gives(small_model, examples):
    together = answers(small_model, examples, batch_size=4, max_new_tokens=12)
    alone = answers(small_model, examples, batch_size=1, max_new_tokens=12)
    assert [each.id for each in together] == [example.id for example in examples]
    assert [each.output for each in together] == [each.output for each in alone]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(small_model), AutoTokenizer.from_pretrained(small_model)
    ids = tokenizer(examples[1].record["instruction"] + "\n", return_tensors="pt")["input_ids"]
    plain = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)[
        0, ids.shape[1] :
    ]
    assert together[1].output == tokenizer.decode(plain, skip_special_tokens=True).strip()
    assert together[1].tokens == int((plain != tokenizer.eos_token_id).sum())


def test_answers_come_in_the_order_asked_over_several_windows(small_model, examples):
    many = [Example(f"{at}", examples[at % len(examples)].record) for at in range(30)]
    got = answers(small_model, many, batch_size=2, max_new_tokens=2)
    assert [each.id for each in got] == [example.id for example in many]
    assert all(each.tokens <= 2 and each.seconds > 0 for each in got)


def test_eos_ends_an_answer_and_is_not_counted(start_run, small_model, records):
    run = start_run({"num_train_epochs": 40, "per_device_train_batch_size": 4, "learning_rate": 3e-3})
    folder = AccelerateTrainer().train(None, run)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for answer, record in zip(answers(folder, [Example(r["instruction"], r) for r in records]), records, strict=True):
        assert answer.output == record["output"]
        assert answer.tokens == len(tokenizer(record["output"])["input_ids"])


def test_a_chat_model_is_asked_as_it_was_trained(start_run, small_model, records, tmp_path, project_folder):
    few = records[:4]
    (project_folder / "few.jsonl").write_text("".join(json.dumps(record) + "\n" for record in few), encoding="utf-8")
    chat = tmp_path / "chat"
    AutoModelForCausalLM.from_pretrained(small_model).save_pretrained(chat)
    tokenizer = AutoTokenizer.from_pretrained(small_model)
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(chat)
    parameters = {"base_model": str(chat), "num_train_epochs": 80, "learning_rate": 3e-3, "save_strategy": "no"}
    run = start_run(parameters, data={"train": "few.jsonl"})
    folder = AccelerateTrainer().train(None, run)
    got = answers(folder, [Example(record["instruction"], record) for record in few])
    assert [answer.output for answer in got] == [record["output"] for record in few]


def test_nothing_asked_nothing_answered(small_model):
    assert answers(small_model, []) == []


def test_a_folder_that_is_no_model_is_said(tmp_path, examples):
    with pytest.raises(UsageError, match=r"no tokenizer|does not load"):
        answers(tmp_path, examples)


def test_a_prompt_that_is_too_long_keeps_its_end_and_leaves_room_to_answer(small_model, caplog):
    long = Example("long", {"instruction": "What is Zinc? " * 40})
    short = Example("short", {"instruction": "What is Zinc?"})
    both = answers(small_model, [long, short], max_new_tokens=100)
    assert "1 of 2 prompts were cut" in caplog.text
    assert both[0].tokens <= 64  # of the model's 128 positions the prompt has half
    assert both[1].output == answers(small_model, [short], max_new_tokens=100)[0].output
