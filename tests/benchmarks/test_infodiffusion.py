"""The reference of the benchmark computes what ours computes, so that only the time differs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib import paths, profiles
from lib.benchmarks import infodiffusion
from lib.benchmarks.reference_denoiser import ReferenceModel, known
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


def both(conditioned: float = 0.5, **shape: float) -> tuple[DiffusionModel, ReferenceModel]:
    """Ours and the reference with equal weights, all of them away from their first values."""
    torch.manual_seed(0)
    layout = {"vocabulary": 13, "embedding": 6, "width": 16, "layers": 2, "heads": 2, "dropout": 0.0}
    config = DiffusionConfig(
        shape=DenoiserConfig(**(layout | {"embedding_scale": 0.3, "sharpness": 4.0} | shape)),
        process=ProcessConfig(
            steps=40,
            timesteps="skewed",
            rounding_of="estimate",
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


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("conditioned", [0.0, 1.0])
@pytest.mark.parametrize(("source_words", "places"), LENGTHS)
def test_equal_weights_give_equal_losses_and_gradients(source_words: int, places: int, conditioned: float) -> None:
    ours, reference = both(conditioned)
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


@pytest.mark.parametrize("conditioned", [0.0, 1.0])
@pytest.mark.parametrize(("source_words", "places"), LENGTHS)
def test_equal_draws_give_equal_sentences(source_words: int, places: int, conditioned: float) -> None:
    ours, reference = both(conditioned)
    for model in (ours, reference):
        nn.init.zeros_(model.denoiser.leave.bias)  # or its direction would decide every word
        nn.init.zeros_(model.denoiser.bias)
    source, _ = ids(source_words, places, sentences=20)
    drawn = [model.reverse(source, places, stream(), ours.config.sampling) for model in (ours, reference)]
    assert torch.equal(*drawn)
    assert len(drawn[0].unique()) > 1  # not one word everywhere


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
