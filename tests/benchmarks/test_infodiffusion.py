"""The reference of the benchmark computes what ours computes, so that only the time differs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib import paths, profiles
from lib.benchmarks import diffusion_parts, equal_bleu, infodiffusion
from lib.benchmarks.reference_denoiser import ReferenceModel, known
from lib.diffusion import sampling
from lib.diffusion.denoiser import DenoiserConfig
from lib.diffusion.model import DiffusionConfig, DiffusionModel
from lib.diffusion.process import ProcessConfig
from lib.diffusion.sampling import SamplingConfig
from lib.seq2seq import batches, decoding, training
from lib.series.infodiffusion import cases
from lib.series.infodiffusion.rows import MODELS
from lib.series.infodiffusion.run import Data, Experiment, RunConfig
from lib.text import mbr
from lib.text.vocabulary import Vocabulary

PLACES = 6, 9  # of source and target, padding included
LENGTHS = [(1, 4), (3, 6), (6, 9)]  # the last one needs no padding


ESTIMATES = ["network", "expected"]


def both(conditioned: float = 0.5, estimate: str = "network", **shape: float) -> tuple[DiffusionModel, ReferenceModel]:
    """Ours and the reference with equal weights, all of them away from their first values."""
    torch.manual_seed(0)
    layout = {"vocabulary": 13, "embedding": 6, "width": 16, "layers": 2, "heads": 2, "dropout": 0.0}
    config = DiffusionConfig(
        shape=DenoiserConfig(**(layout | {"embedding_scale": 0.3, "sharpness": 4.0} | shape)),
        process=ProcessConfig(
            steps=40,
            timesteps="skewed",
            rounding_of="estimate",
            estimate=estimate,
            squared_error_of={"network": "output", "expected": "estimate"}[estimate],
            self_conditioning=conditioned,
            squared_error=0.8,
            rounding=1.7,
        ),
        sampling=SamplingConfig(steps=4, sampler="ddim"),
    )
    values = torch.cat([torch.zeros(3), torch.rand(10) * 5 + 0.1])
    ours, reference = DiffusionModel(config, values), ReferenceModel(config, values, PLACES, 0)
    with torch.no_grad():
        for value in ours.parameters():
            value.add_(0.3 * torch.randn_like(value))
    reference.load_state_dict(ours.state_dict())
    return ours, reference


def ids(source_words: int, places: int, sentences: int = 5) -> tuple[Tensor, Tensor]:
    """Random words; the window of the target ends in END and PAD, as in training."""
    source, target = torch.randint(2, 13, (sentences, source_words)), torch.randint(2, 13, (sentences, places))
    target[:, -1], target[::2, -2:] = 1, torch.tensor([1, 0])
    return source, target


def unbiased(model: DiffusionModel | ReferenceModel) -> None:
    """Set the last biases to 0, whose direction would decide every word."""
    for bias in (model.denoiser.norm.bias, model.denoiser.leave.bias, model.denoiser.bias):
        nn.init.zeros_(bias)


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("conditioned", [0.0, 1.0])
@pytest.mark.parametrize(("source_words", "places"), LENGTHS)
def test_equal_weights_give_equal_losses_and_gradients(
    source_words: int, places: int, conditioned: float, estimate: str
) -> None:
    ours, reference = both(conditioned, estimate)
    source, target = ids(source_words, places)
    one, other = (model.losses(source, target, stream()) for model in (ours, reference))
    assert list(one) == list(other)
    for name, term in one.items():
        assert torch.allclose(term, other[name], rtol=1e-4, atol=1e-6), name
    for terms in (one, other):
        sum(terms.values()).mean().backward()
    for (name, mine), plain in zip(ours.named_parameters(), reference.parameters(), strict=True):
        assert torch.allclose(mine.grad, plain.grad, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize(("source_words", "places"), LENGTHS)
def test_the_estimate_is_ours_whatever_stands_in_the_padding(source_words: int, places: int) -> None:
    ours, reference = both()
    source, noised, previous = torch.randn(4, 6, 6), torch.randn(4, 9, 6), torch.randn(4, 9, 6)
    t = torch.tensor([1.0, 10.0, 30.0, 40.0])
    row = torch.tensor([True] * source_words + [False] * (6 - source_words) + [True] * places + [False] * (9 - places))
    with torch.no_grad():
        padded = reference.denoiser(100 * source.where(row[:6, None], 7.0), noised, previous, t, 40, row.expand(4, -1))
        cut = 100 * source[:, :source_words], noised[:, :places], previous[:, :places]
        assert torch.allclose(padded[:, :places], ours.denoiser(*cut, t, 40), atol=1e-4)


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("conditioned", [0.0, 1.0])
@pytest.mark.parametrize(("source_words", "places"), LENGTHS)
def test_equal_draws_give_equal_sentences(source_words: int, places: int, conditioned: float, estimate: str) -> None:
    ours, reference = both(conditioned, estimate, sharpness=1.0)
    for model in (ours, reference):
        unbiased(model)
    source, _ = ids(source_words, places, sentences=20)
    drawn = [model.reverse(source, places, stream(), ours.config.sampling) for model in (ours, reference)]
    assert torch.equal(*drawn)
    if (estimate, conditioned) != ("expected", 1.0):  # fed back, the mean of untrained words draws all to one
        assert len(drawn[0].unique()) > 1


def test_the_reference_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="without dropout"):
        both(dropout=0.1)


def test_the_spread_is_that_of_the_pairs() -> None:
    found = infodiffusion.compare([1.0, 2.0, 4.0], [3.0, 4.0, 20.0])
    assert found == {"ours_seconds": 2.0, "reference_seconds": 4.0, "ratio": 2.0, "lowest": 2.0, "highest": 5.0}
    for pairs in ([], []), ([1.0], []):
        with pytest.raises(ValueError, match=r"measured|zip"):
            infodiffusion.compare(*pairs)


def test_operations_count_the_passes_of_each_step() -> None:
    measured = infodiffusion.Measured(seconds=[1.0, 3.0], words=[10, 30], passes=[3, 4])
    assert measured.words_a_second() == 10
    assert measured.operations_a_second(2.0) == 2 * (30 + 120) / 4
    assert measured.bound(2.0, 5.0) == (2 * 30 / 5 + 2 * 120 / 5) / 2


def test_made_up_candidates_lose_their_share_of_words_in_order() -> None:
    text = " ".join(map(str, range(40)))
    candidates = infodiffusion.made_up([text] * 50, 10, 0.2)
    words = [[int(word) for word in candidate.split()] for row in candidates for candidate in row]
    assert all(row == sorted(row) for row in words)
    assert np.mean([len(row) for row in words]) == pytest.approx(32, abs=0.6)
    assert [infodiffusion.plain_choice(row) for row in candidates[:3]] == mbr.choose(candidates[:3])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """InfoDiffusion on made-up sentences of 2 to 6 words, in place of every profile's."""
    texts = [" ".join(f"w{(i * k) % 30}" for k in range(1, 3 + i % 5)) for i in range(120)]
    vocabulary = Vocabulary.build(texts)
    sizes = profiles.profile("smoke").diffusion
    method = known(MODELS["infodiffusion"].configure(sizes, len(vocabulary), vocabulary.end))
    config = RunConfig(
        task="made up",
        data="made up",
        train_pairs=None,
        whole=False,
        model="infodiffusion",
        vocabulary=len(vocabulary),
        test_pairs=1,
        whole_verses=0,
        watch_at=(),
        window=batches.Window(1.0, 3),
        method=method,
        training=training.TrainingConfig(steps=10, tokens=100, optimiser="muon"),
        decoding=decoding.DecodingConfig(candidates=1),
    )
    data = Data({"train": (texts, texts)}, vocabulary)
    run = Experiment(config, data)
    monkeypatch.setattr(cases, "experiment", lambda *_: run)
    return run


@pytest.mark.usefixtures("tiny")
def test_the_quick_benchmark_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    assert infodiffusion.main(["--quick"]) == 0
    found = json.loads((tmp_path / "bench_quick.json").read_text())
    printed = capsys.readouterr().out
    told = found["steps"]
    assert told["parameters"]["ours"] == told["parameters"]["reference"]
    assert (told["source_places"], told["target_places"]) == (6, 9)
    for kind in ("training", "sampling"):
        assert told[kind]["pairs"] == 1
        assert told[kind]["ratio"] == told[kind]["lowest"] == told[kind]["highest"] > 0
        assert f"{told[kind]['equal_precision']['reference_seconds']:.4f}" in printed
        assert f"{told[kind]['ours_words_a_second']:.0f}" in printed
        assert f"{told[kind]['ours_bound_seconds']:.4f}" in printed
    assert found["mbr"]["same"]
    assert "the same choices as" in printed


def test_both_sides_train_alike(tiny: Experiment) -> None:
    """After five steps in float32 on batches of several lengths, the weights of both sides are still the same."""
    ours, encoded = tiny.build(), tiny.encode()
    reference = ReferenceModel(ours.config, ours.values, (6, 9), 0)
    reference.load_state_dict(ours.state_dict())
    config = tiny.config.training.model_copy(update={"precision": "float32", "optimiser": "adamw", "rate": 1e-4})
    sides = [infodiffusion.Side(model, config) for model in (ours, reference)]
    for number, (length, rows) in enumerate(batches.order(encoded, 100, 0, 0)[:5]):
        for side in sides:
            side.step(*(part[rows] for part in encoded.groups[length]), number)
    passes = [side.kinds["training"].passes for side in sides]
    assert passes[0] == passes[1]
    assert set(passes[0]) <= {3, 4}  # with and without the first estimate
    assert sides[1].kinds["sampling"].passes == [1] * 5
    for (name, mine), plain in zip(ours.named_parameters(), reference.parameters(), strict=True):
        assert torch.allclose(mine, plain, atol=1e-4), name


@pytest.mark.parametrize("part", ["reading", "attention"])
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_a_step_without_a_part_computes_the_same(part: str, estimate: str) -> None:
    found = []
    for without in (False, True):
        model, _ = both(1.0, estimate)
        if without:
            diffusion_parts.PARTS[part].without(model)
            kinds = {type(model.denoiser), *(type(block) for block in model.denoiser.blocks)}
            assert kinds & {diffusion_parts.PlainReading, diffusion_parts.PlainBlock}
        torch.manual_seed(3)
        terms = model.losses(*ids(3, 6), stream())
        sum(terms.values()).mean().backward()
        found.append([*terms.values(), *(value.grad for value in model.parameters())])
    for mine, plain in zip(*found, strict=True):
        assert torch.allclose(mine, plain, rtol=1e-4, atol=1e-6 * max(1.0, plain.abs().max().item()))


def test_parts_are_measured_on_equal_words(tiny: Experiment) -> None:
    source, target = diffusion_parts.padded((torch.ones(2, 3), torch.ones(2, 4)), (5, 6), 7)
    assert (source.shape, target.shape) == ((2, 5), (2, 6))
    assert (source[:, 3:] == 7).all()
    found = diffusion_parts.measure_parts(tiny, 1)
    assert set(found) == set(diffusion_parts.PARTS)
    assert all(one["ratio"] > 0 for one in found.values())
    assert len(diffusion_parts.report({"parts": found}).splitlines()) == 1 + len(found)


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_the_released_walk_is_that_of_our_sampler_with_the_plain_network(estimate: str) -> None:
    """Padding, mask and float32 change no word."""
    ours, _ = both(0.5, estimate, sharpness=1.0)
    unbiased(ours)
    source, _ = ids(3, 6, sentences=8)
    process = ours.config.process.model_copy(update={"steps": 12})
    how = sampling.SamplingConfig(steps=12, **sampling.RELEASED)
    expected = sampling.reverse(ours.eval().denoiser, process, how, source, 6, ours.values, stream())
    assert torch.equal(equal_bleu.released(ours, PLACES, 12)(source, 6, stream()), expected)
    assert len(expected.unique()) > 1


def test_equal_bleu_is_reached_by_the_quickest_walk_that_is_not_below() -> None:
    ways = [{"bleu": 0.2, "seconds": 1.0}, {"bleu": 0.31, "seconds": 3.0}, {"bleu": 0.3, "seconds": 2.0}]
    assert equal_bleu.fewest(ways, 0.3) == ways[2]
    assert equal_bleu.fewest(ways, 0.32) is None


def test_both_walks_are_timed(tiny: Experiment) -> None:
    texts = tiny.data.splits["train"][0]
    run = replace(tiny, data=replace(tiny.data, splits={**tiny.data.splits, "test": (texts, texts)}))
    sizes = equal_bleu.Sizes(sentences=3, released_steps=4, steps=(1, 2))
    told = equal_bleu.compare(run, run.build().eval(), sizes, 0)
    assert [way["steps"] for way in told["ours"]] == [1, 2]
    assert told["released"]["seconds"] > 0
    for equal, ratio in ((told["ours"][0], 3.0), (None, None)):
        found = {"task": "made up", "equal_bleu": {**told, "equal": equal, "ratio": ratio}}
        assert len(equal_bleu.report(found).splitlines()) == 6
