"""A walk out of the noise as text: when a word is out for good, and what a line shows of it."""

import torch

from lib.series.infodiffusion import denoising

ROWS = [["a", "b", "c"], ["x", "b", "d"], ["x", "q", "d"], ["x", "b", "d"]]


def test_a_word_is_out_from_the_step_on_from_which_it_stays():
    assert denoising.came_out(ROWS) == {0: 1, 1: 3, 2: 1}


def test_a_line_hides_words_that_still_change():
    dot = denoising.HIDDEN
    assert denoising.page(ROWS, (0, 2, 3)).splitlines() == [
        f"   0  {dot} {dot} {dot}",
        f"   2  x {dot} d",
        "   3  x b d",
    ]


def test_the_first_and_the_last_words_are_told():
    told = denoising.told(ROWS, "sqrt")
    assert told == 'First out under the sqrt schedule: "x" and "d", after 1 of 3 steps; last: "b", after 3.'


def test_states_are_noted_as_the_network_is_given_them():
    seen: list[torch.Tensor] = []
    state = torch.ones(1)
    denoising._note(seen, torch.nn.Identity(), (torch.zeros(1), state, None))
    assert seen == [state]
