"""Nucleus sampling against a sort, the loop over places with scripted words, and the likelihood against a plain sum."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lib.seq2seq import nucleus as nucleus_room
from lib.seq2seq.nucleus import likelihood, nucleus, sentences, shifted

DRAWS = 20_000
Draw = Callable[[Tensor, float, torch.Generator], Tensor]


def by_sorting(logits: Tensor, p: float, generator: torch.Generator) -> Tensor:
    return nucleus_room._by_sorting(logits.float().softmax(-1), p, generator)  # what other devices do


@pytest.mark.parametrize("draw", [nucleus, by_sorting])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), p=st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_words_are_drawn_in_proportion_from_the_smallest_set_that_reaches_p(draw: Draw, seed: int, p: float) -> None:
    logits = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    weights = sorted(((math.exp(value), word) for word, value in enumerate(logits.tolist())), reverse=True)
    total, kept = sum(weight for weight, _ in weights), {}
    for weight, word in weights:
        if sum(kept.values()) < p * total:
            kept[word] = weight
    drawn = draw(logits.expand(DRAWS, 7), p, torch.Generator().manual_seed(seed))
    counts = torch.bincount(drawn, minlength=7).tolist()
    for word in range(7):
        share = kept.get(word, 0.0) / sum(kept.values())
        assert abs(counts[word] / DRAWS - share) <= 5 * math.sqrt(share * (1 - share) / DRAWS)


@pytest.mark.parametrize("draw", [nucleus, by_sorting])
def test_rows_have_their_own_nucleus_and_ties_are_all_in(draw: Draw) -> None:
    logits = torch.tensor([[0.0, 9.0, 0.0], [9.0, 0.0, 0.0], [1.0, 1.0, -9.0]])
    drawn = draw(logits.repeat(200, 1), 0.4, torch.Generator().manual_seed(0)).view(200, 3)
    assert (drawn[:, 0] == 1).all()
    assert (drawn[:, 1] == 0).all()
    assert set(drawn[:, 2].tolist()) == {0, 1}


def test_what_gives_no_distribution_is_refused() -> None:
    generator = torch.Generator()
    for p in (0.0, 1.1):
        with pytest.raises(ValueError, match=r"lies in \(0, 1\]"):
            nucleus(torch.zeros(1, 2), p, generator)
    for value in (math.nan, -math.inf):
        with pytest.raises(ValueError, match="no distribution"):
            nucleus(torch.full((2, 3), value), 0.9, generator)


def test_a_row_is_padding_after_its_end_and_the_loop_stops_when_all_have_ended() -> None:
    script, seen = [[3, 4], [1, 5], [6, 1], [7, 7]], []

    def step(words: Tensor) -> Tensor:
        seen.append(words.tolist())
        logits = torch.zeros(2, 8)
        logits[:, 0] = 90.0  # PAD would win
        logits[range(2), script[len(seen) - 1]] = 50.0
        return logits

    drawn = sentences(step, torch.tensor([[2, 1], [2, 1]]), 4, pad=0, end=1, generator=torch.Generator())
    assert drawn.tolist() == [[3, 1, 0, 0], [4, 5, 1, 0]]
    assert seen == [[[2, 1], [2, 1]], [[3], [4]], [[1], [5]]]


def test_a_device_is_not_waited_for_at_each_word(monkeypatch: pytest.MonkeyPatch) -> None:
    # On the device "meta" whatever needs a number raises, as whatever would wait for a GPU.
    monkeypatch.setattr(nucleus_room, "_check", lambda whole: None)
    start = torch.zeros(4, 1, dtype=torch.long, device="meta")

    def step(words: Tensor) -> Tensor:
        return torch.zeros(len(words), 8, device=words.device)

    drawn = sentences(step, start, nucleus_room.PATIENCE - 1, pad=0, end=1, generator=None)
    assert drawn.shape == (4, nucleus_room.PATIENCE - 1)
    with pytest.raises(RuntimeError, match="meta tensors"):
        sentences(step, start, nucleus_room.PATIENCE, pad=0, end=1, generator=None)


def test_likelihood_is_the_mean_over_words_and_end() -> None:
    torch.manual_seed(0)
    hidden, target = torch.randn(3, 4, 9), torch.tensor([[5, 1, 0, 0], [3, 4, 5, 1], [1, 0, 0, 0]])
    found = likelihood(hidden, target, 0, lambda states: states)
    probability = hidden.softmax(-1)
    for row, length in enumerate((2, 4, 1)):
        terms = [-math.log(probability[row, place, target[row, place]].item()) for place in range(length)]
        assert found[row].item() == pytest.approx(sum(terms) / length, rel=1e-5)


def test_a_decoder_reads_end_and_then_the_words_before() -> None:
    assert shifted(torch.tensor([[5, 6, 1, 0]]), 1).tolist() == [[1, 5, 6, 1]]
