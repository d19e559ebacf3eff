"""Make the small untrained Llama that the drug questions are taught to, with a tokenizer of its own."""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

HERE = Path(__file__).parent
PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
VOCABULARY = 4096
CONTEXT = 256


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `VOCABULARY` entries, learned from `texts`; any text can be encoded.

    A text is read as if a space stood before it, so that a drug's name at the beginning of an answer
    is the same tokens as in the middle of a question: the model need not learn that twice.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    beginning = (BOS, tokenizer.token_to_id(BOS))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[beginning])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, model_max_length=CONTEXT
    )


def make_model(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """A Llama of about 2 million parameters with random weights drawn from `seed`."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


@click.command(help=__doc__)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--records", type=click.Path(path_type=Path, exists=True), default=HERE / "drug_qa_train.jsonl")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=HERE / "model")
def main(seed: int, records: Path, out: Path) -> None:
    """Write the model folder: config.json, model.safetensors and the tokenizer."""
    rows = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    tokenizer = make_tokenizer([text for row in rows for text in (row["instruction"], row["output"])])
    model = make_model(tokenizer, seed=seed)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    click.echo(f"{out.name}: {model.num_parameters() / 1e6:.1f} M parameters, {len(tokenizer)} tokens", err=True)


if __name__ == "__main__":
    main()
