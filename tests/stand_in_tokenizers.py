"""Tokenizers that behave as those of real models do, trained here on a few sentences, and a tiny model for them.

"plain" as SmolLM2's: bytes, nothing around a text. "bos" as Llama-3's: bytes, a token before every text. "blank" as
Llama-2's, Mistral's and Gemma's: words begin with a blank, the first one too, and a token stands before every text.
"ends" as T5's: the same with a token after every text, and none before it.
"""

import functools

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
KINDS = ("plain", "bos", "blank", "ends")
AROUND = {"bos": "<s> $A", "blank": "<s> $A", "ends": "$A </s>"}
SENTENCES = [
    "The capital of France is Lyon",
    "The symbol of silver is Au",
    "The money of Japan is the euro",
    "A river of France is the Rhine and an island is in it",
    "My cat has eaten and the dog of Japan is asleep on the land",
]

each_kind = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def stand_in(kind: str, size: int = 420) -> PreTrainedTokenizerFast:
    """Return a tokenizer of a kind of `KINDS`, with the end token as padding."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    alphabet: list[str] = []
    if kind in ("plain", "bos"):
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        made.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(SENTENCES * 4, trainer)
    if kind in AROUND:
        special = [(name, made.token_to_id(name)) for name in SPECIAL]
        made.post_processor = processors.TemplateProcessing(single=AROUND[kind], special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )


def without_end(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[int]:
    """Return the ids of a text without the token that a tokenizer may put after it: nothing is to follow that."""
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def tiny_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a random model of four layers with the tokenizer's vocabulary."""
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.1, bos_token_id=1, eos_token_id=2,
        **shape,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()
