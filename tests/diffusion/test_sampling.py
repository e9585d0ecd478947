"""Decoding: what it may depend on, what a step uses, and inputs that it refuses."""

import math

import pytest
import torch

from lib import seeds
from lib.diffusion import process, sampling, schedule
from lib.diffusion.denoiser import Denoiser, DenoiserConfig
from lib.diffusion.model import DiffusionConfig, DiffusionModel
from lib.errors import UserError
from lib.seq2seq import decoding, draws
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


def test_noise_is_drawn_on_the_device_by_its_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    streams, devices, stream, randn = [], [], draws.stream, torch.randn

    def noting_streams(device: torch.device, purpose: str, *numbers: int) -> torch.Generator:
        streams.append((device, purpose, *numbers))
        return stream(device, purpose, *numbers)

    def noting_noise(*shape: object, **how: object) -> torch.Tensor:
        devices.extend([how.get("device")] if "generator" in how else [])
        return randn(*shape, **how)

    plain = draw(TEXTS[:1], sampler="ancestral", seed=3)
    monkeypatch.setattr(draws, "stream", noting_streams)
    monkeypatch.setattr(torch, "randn", noting_noise)
    assert draw(TEXTS[:1], sampler="ancestral", seed=3) == plain
    assert streams == [(torch.device("cpu"), "decoding", 3, 0)]
    assert devices == [torch.device("cpu")] * 4  # x_T and three steps; the last one draws nothing
    drawn = stream("cpu", "decoding", 3, 0).get_state()
    assert torch.equal(drawn, seeds.generator("decoding", 3, 0).get_state())  # a CPU's stream is what it was


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


def test_the_nearest_word_is_that_of_the_least_distance_whatever_the_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 6, generator=generator) * torch.rand(40, 1, generator=generator) * 3
    estimates = torch.randn(5, 7, 6, generator=generator)
    expected = torch.cdist(estimates.double(), vectors.double().expand(5, -1, -1)).argmin(-1)
    assert torch.equal(sampling.nearest(estimates, vectors), expected)


def released(model: DiffusionModel, source: torch.Tensor, places: int, steps: int, seed: int) -> list[torch.Tensor]:
    """The words after every step of the authors' sampler, written from its definition by betas."""
    betas, curve = [], [1 - math.sqrt(t / steps + 0.0001) for t in range(steps + 1)]
    betas = [min(1 - curve[t] / curve[t - 1], 0.999) for t in range(1, steps + 1)]
    kept = [math.prod(1 - beta for beta in betas[:t]) for t in range(steps + 1)]  # abar at 0..T
    vectors, generator = model.denoiser.vectors(), torch.Generator().manual_seed(seed)
    clean = vectors[source]
    x = torch.randn(len(source), places, vectors.shape[1], generator=generator)
    words = []
    for t in range(steps, 0, -1):
        time = torch.full((len(source),), float(t))
        output = model.denoiser(clean, x, torch.zeros_like(x), time, steps)
        words.append(torch.cdist(output, vectors.expand(len(source), -1, -1)).argmin(-1))
        beta, before, after = betas[t - 1], kept[t], kept[t - 1]
        mean = beta * math.sqrt(after) / (1 - before) * vectors[words[-1]]
        mean += (1 - after) * math.sqrt(1 - beta) / (1 - before) * x
        x = mean + (math.sqrt(beta) * torch.randn(x.shape, generator=generator) if t > 1 else 0)
    assert torch.allclose(x, vectors[words[-1]], atol=1e-5)  # the last step ends in the word vectors themselves
    return words


@torch.inference_mode()
def test_the_released_sampler_against_its_definition() -> None:
    how = sampling.SamplingConfig(steps=20, **sampling.RELEASED)
    model = network(how, process.ProcessConfig(steps=20, schedule="sqrt_released", self_conditioning=0.0))
    source = torch.randint(3, len(VOCABULARY), (6, 5), generator=torch.Generator().manual_seed(3))
    found = model.reverse(source, 7, torch.Generator().manual_seed(4), how, trace=True)
    assert torch.equal(found, torch.stack(released(model, source, 7, 20, 4)))
    assert len({tuple(step.flatten().tolist()) for step in found}) > 5  # the words change on the way


@torch.inference_mode()
def test_a_clamped_step_goes_towards_word_vectors_and_the_network_gets_its_own_estimate_back(monkeypatch) -> None:
    given, made, aims = [], [], []
    forward, step = Denoiser.forward, process.ddim_step

    def noting(self: Denoiser, clean, noised, previous, t, steps):
        given.append(previous.clone())
        made.append(forward(self, clean, noised, previous, t, steps))
        return made[-1]

    monkeypatch.setattr(Denoiser, "forward", noting)
    monkeypatch.setattr(process, "ddim_step", lambda x, aim, *abar: (aims.append(aim), step(x, aim, *abar))[1])
    for estimate in ("network", "expected"):
        given.clear(), made.clear(), aims.clear()
        model = network(process=process.ProcessConfig(steps=20, estimate=estimate))
        clamped = HOW.model_copy(update={"clamp": "nearest"})
        source = torch.tensor([VOCABULARY.encode(TEXTS[0])])
        words = model.reverse(source, 8, torch.Generator().manual_seed(1), clamped, trace=True)
        vectors = model.denoiser.vectors()
        for number, aim in enumerate(aims):
            assert torch.equal(aim, vectors[words[number]])
            own = made[number]
            if estimate == "expected":
                own = model.denoiser.expected(model.denoiser.logits(own, vectors), vectors)
            if number + 1 < len(given):
                torch.testing.assert_close(given[number + 1], own)


def test_the_temperature_scales_the_noise_of_ancestral_steps_alone() -> None:
    model, source = network(), torch.tensor([VOCABULARY.encode(TEXTS[0])] * 2)
    x, estimate, low, high = (
        torch.randn(1, 2, 3),
        torch.randn(1, 2, 3),
        torch.full((1, 2), 0.3),
        torch.full((1, 2), 0.6),
    )
    seen: list[torch.Tensor] = []
    step = process.ancestral_step

    def noting(*arguments):
        seen.append(arguments[4])
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "ancestral_step", noting)
        for temperature in (1.0, 0.25):
            how = HOW.model_copy(update={"sampler": "ancestral", "temperature": temperature})
            model.reverse(source, 8, torch.Generator().manual_seed(1), how)
    assert len(seen) == 6
    assert torch.allclose(seen[3], 0.25 * seen[0])
    beta = step(x, estimate, low, high, torch.ones_like(x), "fixed_large") - step(x, estimate, low, high, 0 * x)
    assert beta.flatten().tolist() == pytest.approx([math.sqrt(1 - 0.3 / 0.6)] * 6, rel=1e-5)


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


def test_the_likeliest_word_is_the_first_of_equals() -> None:
    scores = torch.randint(5, (40, 300), generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    first = [row.index(max(row)) for row in scores.tolist()]
    assert sampling.likeliest(scores).tolist() == first
    assert sampling.likeliest(scores.float().view(4, 10, 300)).flatten().tolist() == first
