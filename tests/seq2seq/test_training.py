"""Training: equal seeds give equal weights, a killed run resumes to the bit, and a bad loss stops it."""

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from lib import errors
from lib.diffusion.denoiser import Denoiser, DenoiserConfig
from lib.diffusion.model import DiffusionConfig, DiffusionModel
from lib.diffusion.process import ProcessConfig
from lib.diffusion.sampling import SamplingConfig
from lib.errors import UserError
from lib.seq2seq import batches, decoding, training
from lib.seq2seq.gpt2 import Gpt2Config, PretrainedConfig
from lib.seq2seq.gpvae import GPVAE, GPVAEConfig
from lib.seq2seq.gru import GruConfig
from lib.seq2seq.levenshtein import Levenshtein, LevenshteinConfig
from lib.seq2seq.transformer import TransformerConfig
from lib.text.vocabulary import Vocabulary
from tests.refusals import assert_refuses

WORDS = ["the", "a", "king", "said", "to", "his", "son", "went", "city", "they", "and", "old"]


def train(workspace: Path | None = None, seed: int = 0, steps: int = 30, **process: object) -> training.Trained:
    """A tiny run that takes a second, with dropout and loss-aware times, so that every kind of state matters."""
    torch.set_num_threads(1)
    texts = [" ".join(WORDS[(i * k + j) % 12] for j in range(4 + i % 3)) for i in range(40) for k in (1, 5)]
    vocabulary = Vocabulary.build(texts)
    encoded = batches.encode_targets(vocabulary, texts, texts[::-1], batches.Window(2.0, 2))
    config = DiffusionConfig(
        shape=DenoiserConfig(vocabulary=len(vocabulary), embedding=8, width=16, layers=1, heads=2, dropout=0.1),
        process=ProcessConfig(**{"steps": 4, "timesteps": "loss_aware", **process}),
        sampling=SamplingConfig(steps=2),
    )
    return training.train(
        lambda: DiffusionModel(config, vocabulary.information()),
        training.TrainingConfig(steps=steps, tokens=120, optimiser="muon"),
        encoded,
        seed,
        workspace=workspace,
        save_every=5,
        watch=lambda model: {"average": model.denoiser.words.detach().mean().item()},
        watch_at=(7, 14, 21),
    )


MODELS = {
    "diffusion": lambda words: DiffusionModel(
        DiffusionConfig(
            shape=DenoiserConfig(vocabulary=len(words), embedding=8, width=16, layers=2, heads=2, dropout=0.0),
            process=ProcessConfig(steps=4, timesteps="loss_aware", rounding_of="estimate"),
            sampling=SamplingConfig(steps=2),
        ),
        words.information(),
    ),
    "gpvae": lambda words: GPVAE(GPVAEConfig(vocabulary=len(words), width=16, layers=1, heads=2, dropout=0.0)),
    "levenshtein": lambda words: Levenshtein(
        LevenshteinConfig(vocabulary=len(words), width=16, layers=1, heads=2, dropout=0.0)
    ),
}


def memory_saving(
    steps: int, model: str = "diffusion", workspace: Path | None = None, **config: object
) -> training.Trained:
    """A run in float32 without dropout, on batches of 6 to 8 sentences."""
    torch.set_num_threads(1)
    texts = [" ".join(WORDS[(i * k + j) % 12] for j in range(4 + i % 3)) for i in range(60) for k in (1, 5)]
    vocabulary = Vocabulary.build(texts)
    encoded = batches.encode_targets(vocabulary, texts, texts[::-1], batches.Window(2.0, 2))
    settings = {"steps": steps, "tokens": 120, "precision": "float32", "rate": 1e-3, **config}
    told = training.TrainingConfig(**settings)
    return training.train(lambda: MODELS[model](vocabulary), told, encoded, 0, workspace=workspace, save_every=5)


@pytest.mark.parametrize(
    ("model", "steps", "saving"),
    [
        ("diffusion", 10, {"micro_tokens": 40}),
        ("diffusion", 2, {"micro_tokens": 1, "checkpointing": True}),
        pytest.param("gpvae", 2, {"micro_tokens": 40}, marks=pytest.mark.thorough),  # it loads transformers
        ("levenshtein", 2, {"micro_tokens": 40, "checkpointing": True}),
    ],
)
def test_what_saves_memory_changes_no_result(model: str, steps: int, saving: dict[str, object]) -> None:
    plain, other = memory_saving(steps, model), memory_saving(steps, model, **saving)
    for one, two in zip(plain.curve, other.curve, strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-6)
    for (name, one), two in zip(plain.model.named_parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-5), name
    if model == "diffusion":  # each loss was recorded, once and at its time
        for name in ("count", "history"):
            one, two = (getattr(found.model.timesteps, name) for found in (plain, other))
            assert torch.allclose(one.float(), two.float(), rtol=1e-4)
        assert one.any()


def test_checkpointing_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(UserError, match="Plain has no layer that can be computed again"):
        plain(config={"checkpointing": True})


def test_parts_keep_fewer_numbers_for_the_backward_pass() -> None:
    def kept(**config: object) -> int:
        """The most bytes that one backward pass held."""
        most = [0, 0]
        backward = torch.Tensor.backward

        def add(value: torch.Tensor) -> torch.Tensor:
            most[0] += value.nbytes
            return value

        def count(value: torch.Tensor, *rest: object) -> None:
            most[0], most[1] = 0, max(most)
            backward(value, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "backward", count)
            with torch.autograd.graph.saved_tensors_hooks(add, lambda value: value):
                memory_saving(1, **config)
        return most[1]

    whole = kept()
    assert kept(micro_tokens=40) < 0.6 * whole
    assert kept(checkpointing=True) < 0.6 * whole


def equal(a: training.Trained, b: training.Trained) -> bool:
    pairs = zip(a.model.state_dict().items(), b.model.state_dict().items(), strict=True)
    return all(m == n and torch.equal(x, y) for (m, x), (n, y) in pairs) and a.curve == b.curve


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    first = train()
    assert equal(first, train())
    assert not equal(first, train(seed=1))


def test_a_run_killed_in_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lib.seq2seq import training\n"
        "sys.path.insert(0, sys.argv[1]); import test_training as test\n"
        "slow = training.advance\n"
        "training.advance = lambda *a: (time.sleep(0.1), slow(*a))[1]\n"
        "test.train(Path(sys.argv[2]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)])
    deadline = time.monotonic() + 120
    while not (tmp_path / "state.safetensors").exists():
        assert process.poll() is None, "the run ended before it saved anything"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.25)  # somewhere between two checkpoints
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert equal(train(tmp_path), train())


def test_a_damaged_checkpoint_is_named_and_training_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, steps=10)
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert equal(train(tmp_path), train())
    assert "state.safetensors is damaged" in capsys.readouterr().err


def test_a_loss_that_is_not_a_number_stops_with_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Denoiser.forward
    calls = []

    def broken(self: Denoiser, *arguments: object, **options: object) -> torch.Tensor:
        calls.append(1)
        return forward(self, *arguments, **options) * (float("nan") if len(calls) > 12 else 1.0)

    monkeypatch.setattr(Denoiser, "forward", broken)
    with pytest.raises(training.DivergedError, match="the loss is nan at step 13; the last good weights are kept in"):
        train(tmp_path, self_conditioning=0.0)
    kept = safetensors.torch.load_file(tmp_path / "state.safetensors")
    assert all(value.isfinite().all() for value in kept.values())
    monkeypatch.setattr(Denoiser, "forward", forward)
    assert equal(train(tmp_path, self_conditioning=0.0), train(self_conditioning=0.0))  # goes on from step 12


def test_a_gradient_that_is_not_a_number_stops_before_it_reaches_the_weights(tmp_path: Path) -> None:
    class Steep(torch.nn.Module):
        """Its loss is a number and its gradient is not: the square root at 0."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2))

        def losses(self, source: torch.Tensor, *rest: object) -> dict[str, torch.Tensor]:
            return {"likelihood": self.weight.abs().sqrt().sum().expand(len(source)) * 0}

    encoded = batches.encode_targets(Vocabulary.build(WORDS), WORDS, WORDS, batches.Window(1.0, 2))
    config = training.TrainingConfig(steps=3, tokens=8)
    with pytest.raises(UserError, match="the gradient is nan at step 1"):
        training.train(Steep, config, encoded, 0, workspace=tmp_path)
    assert safetensors.torch.load_file(tmp_path / "state.safetensors")["model/weight"].tolist() == [0, 0]


class Plain(torch.nn.Module):
    """A model of one weight and one dropout, whose mask of each step it remembers, with the mode it was in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.dropout = torch.nn.Dropout(0.5)
        self.masks: list[torch.Tensor] = []

    def losses(self, source: torch.Tensor, *rest: object) -> dict[str, torch.Tensor]:
        self.masks.append(self.dropout(torch.ones(64)))
        return {"likelihood": (self.weight**2).sum().expand(len(source))}


def plain(steps: int = 4, seed: int = 0, model: type[Plain] = Plain, **options: object) -> training.Trained:
    encoded = batches.encode_targets(Vocabulary.build(WORDS), WORDS, WORDS, batches.Window(1.0, 2))
    config = training.TrainingConfig(steps=steps, tokens=8, **options.pop("config", {}))
    return training.train(model, config, encoded, seed, **options)


def test_every_step_draws_a_dropout_of_its_own_that_follows_from_the_seed() -> None:
    masks = [mask.tolist() for mask in plain().model.masks]
    assert masks == [mask.tolist() for mask in plain().model.masks]
    others = [mask.tolist() for mask in plain(seed=1).model.masks]
    assert all(a != b for a, b in itertools.combinations([*masks, *others], 2))


def test_what_is_watched_and_what_is_left_decode_without_dropout() -> None:
    modes: list[tuple[bool, bool]] = []
    averages: list[float] = []

    def watch(model: Plain) -> dict[str, float]:
        modes.append((model.training, model.dropout.training))
        averages.append(model.weight.detach()[0].item())
        return {}

    found = plain(watch=watch, watch_at=(2, 4))
    assert modes == [(False, False)] * 2
    assert (found.model.training, found.model.dropout.training) == (False, False)
    assert all((mask == 0).any() for mask in found.model.masks)  # and training went on with it in between
    assert found.model.weight.detach()[0].item() == averages[-1]


@pytest.mark.parametrize("steps", [1, 4])
def test_a_rate_that_breaks_the_weights_leaves_no_model_and_no_checkpoint_of_them(steps: int, tmp_path: Path) -> None:
    class Lost(Plain):
        """Its loss does not tell that its weights are lost."""

        def losses(self, source: torch.Tensor, *rest: object) -> dict[str, torch.Tensor]:
            return {"likelihood": self.weight.clamp(-1, 1).sum().expand(len(source))}

    with pytest.raises(errors.DivergedError, match=r"not finite after|the loss is|the gradient is") as told:
        plain(steps, model=Lost, config={"rate": 3e38, "warm_up": 0.0}, workspace=tmp_path, save_every=1)
    assert isinstance(told.value, UserError)
    saved = tmp_path / "state.safetensors"
    if saved.exists():
        assert all(value.isfinite().all() for value in safetensors.torch.load_file(saved).values())


def test_nothing_to_train_on_is_one_line() -> None:
    encoded = batches.encode_targets(Vocabulary.build(WORDS), ["the"], ["a son went to"], batches.Window(1.0, 2))
    with pytest.raises(UserError, match="no pair to train on, 1 do not fit"):
        training.train(Plain, training.TrainingConfig(steps=1), encoded, 0)
    with pytest.raises(ValueError, match="1 sources for 2 targets"):
        batches.encode_targets(Vocabulary.build(WORDS), ["the"], ["a", "a"], batches.Window())
    with pytest.raises(ValueError, match="the target 'a' has no words"):
        batches.encode_targets(Vocabulary.build(WORDS), [""], ["a"], batches.Window())


def test_configurations_refuse_what_cannot_be() -> None:
    config = training.TrainingConfig(steps=2)
    tried = assert_refuses(config, ("warm_up", "average"), zeros=("weight_decay",))
    tried += assert_refuses(decoding.DecodingConfig())
    ids = ("pad", "end")
    for shape in (Gpt2Config, GPVAEConfig, GruConfig, LevenshteinConfig, TransformerConfig):
        tried += assert_refuses(shape(vocabulary=9), ("dropout", "empty"), zeros=(*ids, "beta"))
    tried += assert_refuses(PretrainedConfig(layers=4))
    assert tried > 200
    for name in ("optimiser", "precision"):
        with pytest.raises(ValidationError):
            training.TrainingConfig(steps=2, **{name: "best"})
    for wrong in ((-1.0, 3, 9), (math.nan, 3, 9), (math.inf, 3, 9), (1.0, 0, 9), (1.0, 3, 0), (1.0, -1, 9)):
        with pytest.raises(ValueError, match=r"1 or more|0 or more"):
            batches.Window(*wrong)


def test_a_budget_below_one_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="is 0: it must be at least 1"):
        training.TrainingConfig(steps=0)


def test_the_average_follows_its_rule() -> None:
    seen = []
    torch_lerp = torch._foreach_lerp_
    try:
        torch._foreach_lerp_ = lambda a, b, w: (seen.append(w), torch_lerp(a, b, w))[1]
        train(steps=3)
    finally:
        torch._foreach_lerp_ = torch_lerp
    assert seen == pytest.approx([1 - 1 / 10, 1 - 2 / 11, 1 - 3 / 12])


def test_rate_warms_up_and_falls_to_zero() -> None:
    config = training.TrainingConfig(steps=100, warm_up=0.1)
    rates = [training.rate_factor(step, config) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert 0 < rates[-1] < 0.001


def test_the_released_rate_falls_along_a_line_from_the_first_step() -> None:
    config = training.TrainingConfig(steps=50, **training.RELEASED)
    rates = [training.rate_factor(step, config) for step in range(50)]
    assert rates == pytest.approx([1 - step / 50 for step in range(50)])
    weight = torch.nn.Linear(1, 1)
    (group,) = training.optimisers(weight, config)[0].param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 0.0)


def test_every_pair_is_seen_once_in_an_epoch_and_epochs_differ() -> None:
    texts = [" ".join(WORDS[: 3 + i % 4]) for i in range(64)]
    encoded = batches.encode_targets(Vocabulary.build(texts), texts, texts, batches.Window(1.0, 2))
    first = batches.order(encoded, 40, seed=0, epoch=0)
    for length, (source, _) in encoded.groups.items():
        rows = [row for found, part in first for row in part.tolist() if found == length]
        assert len(rows) == len(set(rows))
        assert len(source) - len(rows) < max(1, 40 // (2 * length + 2))
    assert str(first) != str(batches.order(encoded, 40, seed=0, epoch=1))
    assert str(first) == str(batches.order(encoded, 40, seed=0, epoch=0))


def test_a_target_that_does_not_fit_is_left_out_and_counted() -> None:
    vocabulary = Vocabulary.build(WORDS)
    encoded = batches.encode_targets(
        vocabulary, ["the king"] * 2, ["a son", "a son went to the old city"], batches.Window(1.0, 2)
    )
    assert (encoded.pairs, encoded.left_out) == (1, 1)
    assert encoded.groups[2][1].tolist() == [[vocabulary.index["a"], vocabulary.index["son"], vocabulary.end, 0]]
