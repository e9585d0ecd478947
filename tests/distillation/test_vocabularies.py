"""Restricted vocabularies against brute force on a softmax; trained ones by what they give back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lib.distillation.vocabularies import RestrictedVocabulary, TrainedVocabulary
from lib.errors import UserError

SPECIAL = {"unk_token": "<unk>", "eos_token": "<end>"}


def bytewise(**special: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes, whose special tokens stand in the middle of its ids."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters[:100], *special.values(), *letters[100:]]
    backend = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


TOKENIZER = bytewise(**SPECIAL)


@given(st.text("abc déz", min_size=1, max_size=20), st.text("abc déz", max_size=20))
def test_a_text_comes_back_and_kept_ids_ascend(known, asked):
    vocabulary = RestrictedVocabulary.of(TOKENIZER, [known])
    kept = vocabulary.kept.tolist()
    assert kept == sorted(set(TOKENIZER(known)["input_ids"]) | {TOKENIZER.eos_token_id, TOKENIZER.unk_token_id})
    assert len(vocabulary) == len(kept)
    ids = vocabulary.encode(known)
    assert vocabulary.decode(ids) == known
    assert vocabulary.to_large(torch.tensor(ids)).tolist() == TOKENIZER(known)["input_ids"]
    large = TOKENIZER(asked)["input_ids"]
    expected = [kept.index(number) if number in kept else vocabulary.unknown for number in large]
    assert vocabulary.encode(asked) == expected
    if large:
        assert vocabulary.coverage([asked]) == pytest.approx(sum(number in kept for number in large) / len(large))


def test_special_tokens_are_the_tokenizers_own():
    vocabulary = RestrictedVocabulary.of(TOKENIZER, ["ab"])
    assert TOKENIZER.convert_ids_to_tokens(vocabulary.kept.tolist())[vocabulary.end] == "<end>"
    assert TOKENIZER.convert_ids_to_tokens(vocabulary.kept.tolist())[vocabulary.pad] == "<unk>"
    assert vocabulary.decode([*vocabulary.encode("ab"), vocabulary.end, vocabulary.pad]) == "ab"


def test_content_hash_tells_other_tokens_and_other_ids_apart():
    hashes = {RestrictedVocabulary.of(TOKENIZER, [text]).content_hash() for text in ("ab", "ba", "abc")}
    assert len(hashes) == 2
    moved = bytewise(more="<more>", **SPECIAL)
    assert RestrictedVocabulary.of(moved, ["ab"]).content_hash() not in hashes


def test_errors_of_restricted_vocabularies():
    with pytest.raises(ValueError, match="no tokens to build"):
        RestrictedVocabulary.of(TOKENIZER, ["", ""])
    with pytest.raises(ValueError, match="ids from 3 to 9999"):
        RestrictedVocabulary(TOKENIZER, [3, 9999])
    with pytest.raises(ValueError, match="no tokens to cover"):
        RestrictedVocabulary.of(TOKENIZER, ["a"]).coverage([])
    for special in ({"unk_token": "<unk>"}, {"eos_token": "<end>"}):
        with pytest.raises(UserError, match="no end token, or no unknown or padding token"):
            RestrictedVocabulary(bytewise(**special), [1])


def test_smollm2_keeps_words_with_their_blanks_and_single_digits():
    from lib.causal_lm import backbones

    _, tokenizer = backbones.load_causal_lm(backbones.SMOLLM2, "bfloat16", layers=1)
    vocabulary = RestrictedVocabulary.of(tokenizer, ["Response: in 1867 god spoke"])
    assert vocabulary.decode(vocabulary.encode(" god spoke in 76")) == " god spoke in 76"
    assert vocabulary.end != vocabulary.pad
    assert vocabulary.encode(" zebra") == [vocabulary.unknown] * len(tokenizer(" zebra")["input_ids"])


TRAINED = TrainedVocabulary(["the lord said to moses, ", "and moses said to the lord in 1867"] * 5, 300)


@given(st.text(max_size=30))
def test_a_trained_vocabulary_gives_every_text_back(text):
    ids = TRAINED.encode(text)
    if not {TRAINED.pad, TRAINED.end} & set(ids):
        assert TRAINED.decode(ids) == text


def test_a_trained_vocabulary_learns_words_and_leaves_digits_single():
    assert len(TRAINED.encode(" moses said")) <= 3 < len(" moses said")
    assert [TRAINED.decode([number]) for number in TRAINED.encode("1867")] == ["1", "8", "6", "7"]
    assert TRAINED.decode([TRAINED.end, *TRAINED.encode("moses"), TRAINED.pad]) == "moses"
    assert 258 < len(TRAINED) <= 300
    again = TrainedVocabulary(["the lord said to moses, ", "and moses said to the lord in 1867"] * 5, 300)
    assert again.content_hash() == TRAINED.content_hash() != TrainedVocabulary(["other words"], 300).content_hash()


def test_errors_of_trained_vocabularies():
    for texts, size in ((["a"], 258), ([], 300), ([""], 300)):
        with pytest.raises(ValueError, match="give text, and more than 258 tokens"):
            TrainedVocabulary(texts, size)
