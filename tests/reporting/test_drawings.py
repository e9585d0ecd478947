"""Drawings of the methods: readable, the same bytes every time, and what they draw is what the code does."""

import re

import matplotlib as mpl
import numpy as np
import pytest
import torch

mpl.use("Agg")

import matplotlib.pyplot as plt

from lib.beacons import filtering, reweighting
from lib.diffusion import schedule
from lib.distillation import layer_maps
from lib.reporting import drawings
from lib.reporting.drawings import beacons, distillation, infodiffusion, lemoe, sheet


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        yield
    plt.close("all")


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_a_drawing_can_be_read_and_the_committed_one_is_it(name):
    made = drawings.drawn(name)  # which refuses one that cannot be read
    committed = drawings.FOLDER / f"{name}.svg"
    assert not committed.exists() or committed.read_bytes() == made, "run `python -m lib.reporting.drawings`"


def test_the_same_bytes_twice_with_text_as_text_and_no_dates():
    first, second = drawings.drawn("lemoe"), drawings.drawn("lemoe")
    assert first == second
    assert b"The currency of Japan is" in first
    assert first.count(b"'DejaVu Sans'") == first.count(b"'DejaVu Sans', Verdana, Arial, sans-serif") > 0
    assert not re.search(rb"dc:date|matplotlib\.org/?</|Matplotlib v", first)


def tiny():
    paper = sheet.Sheet(30, 10)
    paper.box((8, 5), (12, 4), "box")
    paper.arrow((14, 5), (20, 5))
    return paper


def test_what_cannot_be_read_is_refused():
    sheet.check(tiny())
    for message, add in {
        "'one' and 'two' overlap": lambda s: (s.note((22, 8), "one"), s.note((23, 8), "two")),
        "'far too long for it' does not fit": lambda s: s.box((20, 8), (6, 3), "far too long for it"),
        "'beside' lies on a box": lambda s: s.note((12, 5), "beside"),
        "an arrow runs through 'under'": lambda s: s.note((15, 5), "under"),
        "'gone' leaves the canvas": lambda s: s.note((29, 5), "gone"),
    }.items():
        paper = tiny()
        add(paper)
        with pytest.raises(ValueError, match=re.escape(message)):
            sheet.check(paper)


def test_the_schedule_drawn_is_the_schedule_used():
    e = schedule.relative_information(torch.tensor(list(infodiffusion.WORDS.values()), dtype=torch.float64))
    np.testing.assert_allclose(infodiffusion.informations(), e)
    for fraction in infodiffusion.TIMES.values():
        abar = schedule.information_abar(
            torch.tensor(100 * fraction, dtype=torch.float64), 100, e, infodiffusion.LAMBDA
        )
        np.testing.assert_allclose(infodiffusion.kept(fraction), abar, atol=1e-12)


def test_the_filter_and_the_weights_drawn_are_those_used():
    distances = np.array(beacons.DISTANCES)
    for name, spread in beacons.SPREADS.items():
        kept = filtering.filter_a(distances, beacons.KEPT, spread).places
        assert kept.tolist() == np.flatnonzero(beacons.is_kept(name)).tolist()
    weights = reweighting.weights(torch.tensor(distances), beacons.ALPHA, beacons.LEAST)
    np.testing.assert_allclose(beacons.weights(), weights, atol=1e-4)


def test_the_map_drawn_is_the_uniform_rule():
    rule = layer_maps.uniform(distillation.STUDENT, distillation.TEACHER)
    assert {layer: distillation.mapped(layer) for layer in range(1, distillation.STUDENT + 1)} == rule


def test_the_expert_drawn_as_chosen_has_the_largest_score():
    assert int(np.argmax(lemoe.SCORES)) == 1  # the arrows are drawn to the second
