"""Decoding: what it may depend on, what a step uses, and inputs that it refuses."""

import pytest
import torch

from lib import seeds
from lib.diffusion import process, sampling, schedule
from lib.diffusion.denoiser import Denoiser, DenoiserConfig
from lib.diffusion.model import DiffusionConfig, DiffusionModel
from lib.errors import UserError
from lib.seq2seq import decoding
from lib.seq2seq.batches import Window
from lib.text.vocabulary import Vocabulary

TEXTS = ["the king said to his son", "they went to the old city", "a son said", "the old king went to a city and said"]
VOCABULARY = Vocabulary.build(TEXTS)
SHAPE = DenoiserConfig(vocabulary=len(VOCABULARY), embedding=8, width=16, layers=1, heads=2, dropout=0.0)
HOW = sampling.SamplingConfig(steps=4, sampler="ddim")
DIFFUSION = process.ProcessConfig(steps=20)


def network(how: sampling.SamplingConfig = HOW, process: process.ProcessConfig = DIFFUSION) -> DiffusionModel:
    torch.manual_seed(7)
    config = DiffusionConfig(shape=SHAPE, process=process, sampling=how)
    return DiffusionModel(config, VOCABULARY.information()).eval()


def draw(sources: list[str], seed: int = 0, candidates: int = 3, **how: object) -> list[list[str]]:
    model = network(HOW.model_copy(update=how))
    config = decoding.DecodingConfig(candidates=candidates, precision="float32")
    return decoding.decode(model.sample, config, VOCABULARY, sources, Window(1.0, 2), seed)


def test_every_source_gets_its_candidates_in_its_place() -> None:
    found = draw(TEXTS)
    assert [len(candidates) for candidates in found] == [3] * 4
    swapped = draw(TEXTS[::-1])
    # Sources of one length only share a batch; each of these has a length of its own, or a twin, in file order.
    assert found[2] == swapped[1]
    assert found[3] == swapped[0]


def test_equal_seeds_give_equal_sentences() -> None:
    assert draw(TEXTS) == draw(TEXTS)
    assert draw(TEXTS) != draw(TEXTS, seed=1)
    assert draw(TEXTS, sampler="ancestral") == draw(TEXTS, sampler="ancestral")


def test_no_sentence_is_longer_than_the_window_of_its_source() -> None:
    for source, candidates in zip(TEXTS, draw(TEXTS), strict=True):
        assert all(len(text.split()) <= len(source.split()) + 2 for text in candidates)


def test_one_e_from_the_latest_estimate_serves_both_ends(monkeypatch) -> None:
    seen: list[torch.Tensor] = []
    abar = schedule.abar

    def spy(name: str, t: torch.Tensor, steps: int, e: torch.Tensor, lam: float) -> torch.Tensor:
        seen.append(e)
        return abar(name, t, steps, e, lam)

    monkeypatch.setattr(schedule, "abar", spy)
    draw(TEXTS[:1], candidates=1)
    assert len(seen) == 8
    assert all(torch.equal(far, near) for far, near in zip(seen[::2], seen[1::2], strict=True))
    seen.clear()
    draw(TEXTS[:1], candidates=1, information="carried")
    for step in range(1, 4):
        assert torch.equal(seen[2 * step], seen[2 * step - 1])  # the far end keeps the e of the step before


def test_the_trace_ends_in_what_is_returned_without_it() -> None:
    model, source = network(), torch.tensor([VOCABULARY.encode(TEXTS[0])])
    words = [model.reverse(source, 8, torch.Generator().manual_seed(1), HOW, trace=trace) for trace in (False, True)]
    assert words[1].shape == (4, 1, 8)
    assert torch.equal(words[0], words[1][-1])


@pytest.mark.parametrize("estimate", ["network", "expected"])
def test_each_step_is_given_the_estimate_of_the_one_before(monkeypatch, estimate: str) -> None:
    given: list[torch.Tensor] = []
    made: list[torch.Tensor] = []

    def noting(self: Denoiser, clean, noised, previous, t, steps):
        given.append(previous.clone())
        made.append(forward(self, clean, noised, previous, t, steps))
        return made[-1]

    forward = Denoiser.forward
    monkeypatch.setattr(Denoiser, "forward", noting)
    source = torch.tensor([VOCABULARY.encode(TEXTS[0])])
    for share in (0.5, 0.0):
        given.clear(), made.clear()
        model = network(process=process.ProcessConfig(steps=20, self_conditioning=share, estimate=estimate))
        with torch.inference_mode():
            model.sample(source, 8, torch.Generator().manual_seed(1))
            vectors = model.denoiser.vectors()
            told = [model.denoiser.expected(model.denoiser.logits(x, vectors), vectors) for x in made]
        assert len(given) == 4
        assert not given[0].any()
        for before, after in zip(made if estimate == "network" else told, given[1:], strict=False):
            torch.testing.assert_close(after, before if share else torch.zeros_like(before))
            assert before.any()


def test_a_target_without_places_and_a_source_without_words_are_refused() -> None:
    with pytest.raises(ValueError, match="places=0"):
        network().sample(torch.tensor([VOCABULARY.encode(TEXTS[0])]), 0, torch.Generator())
    with pytest.raises(ValueError, match="source 1 has no words"):
        draw([TEXTS[0], ""])


def test_step_counts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="is 0: it must be at least 1"):
        sampling.SamplingConfig(steps=0)
    with pytest.raises(UserError, match="is 0: it must be at least 1"):
        process.ProcessConfig(steps=0)
    with pytest.raises(UserError, match="1 to T = 20 steps, not 21"):
        draw(TEXTS, steps=21)


def test_no_noise_repeats_the_draw_of_the_weights() -> None:
    """The first noise of seed 0 once was the draw of the initial word vectors."""
    weights = torch.randn(4, generator=seeds.generator("weights", 0))
    for purpose in ("decoding", "training", "tracing", "dropout"):
        for number in range(50):
            assert not torch.equal(weights, torch.randn(4, generator=seeds.generator(purpose, 0, number)))
