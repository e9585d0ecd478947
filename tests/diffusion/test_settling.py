"""The settling step, against a plain search."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lib.diffusion import settling


@given(arrays.arrays(np.int64, arrays.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 2)))
def test_settling_against_a_plain_search(words: np.ndarray) -> None:
    found = settling.settling_steps(words)
    for place in range(words.shape[1]):
        plain = min(k for k in range(len(words)) if all(word == words[-1, place] for word in words[k:, place]))
        assert found[place] == plain + 1


def test_a_shape_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        settling.settling_steps(np.zeros((0, 3)))


def test_unfolding_a_trace_restores_steps_and_places() -> None:
    words = np.array([["a", "b"], ["c", "b"], ["c", "d"]], dtype=object)
    rows = [(1, s + 1, p, words[s, p]) for s in (2, 0, 1) for p in (1, 0)]
    trace = pd.DataFrame(rows, columns=["item", "step", "place", "word"])
    assert (settling.unfold(trace, 1) == words).all()
    with pytest.raises(KeyError):
        settling.unfold(trace, 2)


def test_the_sentence_ends_at_the_first_end_and_skips_padding() -> None:
    final = ["god", "<pad>", "said", "<end>", "x"]
    assert settling.sentence_places(final, "<end>", "<pad>").tolist() == [0, 2]
    assert settling.sentence_places(["a", "b"], "<end>", "<pad>").tolist() == [0, 1]
