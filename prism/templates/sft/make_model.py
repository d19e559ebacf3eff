"""Make ./model: a tiny Llama with random weights and a tokenizer, so that this project runs at once and offline.

It is here to try things with. For work of your own name a pretrained model in sais_foundation.yaml instead.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent

records = [json.loads(line) for line in (HERE / "capitals.jsonl").read_text(encoding="utf-8").splitlines()]
letters = pre_tokenizers.ByteLevel.alphabet()  # every byte has a token: any text can be encoded
trainer = trainers.BpeTrainer(
    vocab_size=1000, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=letters, show_progress=False
)
pieces = Tokenizer(models.BPE())
pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
pieces.decoder = decoders.ByteLevel()
pieces.train_from_iterator((text for record in records for text in record.values()), trainer)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=pieces, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=128
)

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=len(tokenizer),
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=128,
    tie_word_embeddings=True,
    pad_token_id=tokenizer.pad_token_id,
    bos_token_id=tokenizer.bos_token_id,
    eos_token_id=tokenizer.eos_token_id,
)
LlamaForCausalLM(config).save_pretrained(HERE / "model")
tokenizer.save_pretrained(HERE / "model")
