"""Edits against a plain dynamic programme, and against the sentences that they should make."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lib.seq2seq import word_edits

PAD, PLACEHOLDER = 0, 9
sentence = st.lists(st.integers(2, 5), max_size=8)
pairs = st.lists(st.tuples(sentence, sentence), min_size=1, max_size=5)


def padded(sentences: list[list[int]]) -> Tensor:
    width = max(map(len, sentences))
    return torch.tensor([words + [PAD] * (width - len(words)) for words in sentences], dtype=torch.long)


def distance(left: list[int], right: list[int]) -> int:
    """The fewest deletions and insertions from one to the other, row by row of the textbook's table."""
    row = list(range(len(right) + 1))
    for i, word in enumerate(left, 1):
        above, row = row, [i]
        for j, other in enumerate(right, 1):
            row.append(above[j - 1] if word == other else 1 + min(above[j], row[j - 1]))
    return row[-1]


@settings(deadline=None)
@given(pairs)
def test_the_oracle_is_the_shortest_edit_and_leads_to_the_target(batch):
    current, target = padded([left for left, _ in batch]), padded([right for _, right in batch])
    kept, matched = word_edits.oracle(current, target, PAD)
    actions = ((current != PAD) & ~kept).sum(1) + ((target != PAD) & ~matched).sum(1)
    assert actions.tolist() == [distance(left, right) for left, right in batch]

    shortened = word_edits.delete(current, kept, PAD)
    counts = word_edits.missing_in_gaps(matched, target, PAD)
    opened = word_edits.insert(shortened, counts, PLACEHOLDER, PAD)
    assert torch.equal(opened, target.masked_fill((target != PAD) & ~matched, PLACEHOLDER))
    filled = opened.masked_scatter(opened == PLACEHOLDER, target[(target != PAD) & ~matched])
    assert torch.equal(filled, target)


def test_of_two_equal_words_the_right_one_is_matched():
    kept, matched = word_edits.oracle(torch.tensor([[3, 3, 4]]), torch.tensor([[3, 4, 3, 4]]), PAD)
    assert (kept.tolist(), matched.tolist()) == ([[True, True, True]], [[True, False, True, True]])
    kept, matched = word_edits.oracle(torch.tensor([[5, 5, 2]]), torch.tensor([[5, 0, 0]]), PAD)
    assert (kept.tolist(), matched.tolist()) == ([[False, True, False]], [[True, False, False]])


@given(st.lists(st.lists(st.tuples(st.integers(2, 5), st.booleans()), max_size=6), min_size=1, max_size=4))
def test_deleting_closes_up_the_words_that_stay(batch):
    words = padded([[word for word, _ in row] for row in batch])
    kept = padded([[int(stays) for _, stays in row] for row in batch]).bool()
    assert torch.equal(
        word_edits.delete(words, kept, PAD), padded([[word for word, stays in row if stays] for row in batch])
    )


@given(st.lists(st.lists(st.tuples(st.integers(2, 5), st.integers(0, 3)), min_size=1, max_size=5), min_size=1))
def test_inserting_opens_each_gap(batch):
    # The count of a pair opens the gap behind its word, except that the first pair has no word: the gap at the front.
    words = padded([[word for word, _ in row[1:]] for row in batch])
    counts = padded([[count for _, count in row] for row in batch])
    plain = [
        [PLACEHOLDER] * row[0][1] + [w for word, count in row[1:] for w in [word] + [PLACEHOLDER] * count]
        for row in batch
    ]
    assert torch.equal(word_edits.insert(words, counts, PLACEHOLDER, PAD), padded(plain))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 10))
def test_limited_counts_are_the_first_that_find_room(counts, room):
    queue = [gap for gap, count in enumerate(counts) for _ in range(count)][:room]
    found = word_edits.limit(torch.tensor([counts]), torch.tensor([[room]]))
    assert found.tolist() == [[queue.count(gap) for gap in range(len(counts))]]


def test_no_sentences_and_no_words():
    nothing = torch.zeros(0, 3, dtype=torch.long)
    assert word_edits.delete(nothing, nothing.bool(), PAD).shape == (0, 0)
    empty = torch.zeros(2, 0, dtype=torch.long)
    kept, matched = word_edits.oracle(empty, torch.tensor([[2, 3], [4, 0]]), PAD)
    assert (kept.shape, matched.any().item()) == ((2, 0), False)
    counts = word_edits.missing_in_gaps(matched, torch.tensor([[2, 3], [4, 0]]), PAD)
    assert word_edits.insert(empty, counts, PLACEHOLDER, PAD).tolist() == [[9, 9], [9, 0]]
