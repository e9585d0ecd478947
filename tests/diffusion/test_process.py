"""Noising, losses and steps back: moments, a plain re-derivation, and exactness where the denoiser is known."""

import math

import pytest
import torch
from torch import Tensor

from lib.diffusion import process, sampling, schedule, tracing
from lib.diffusion.denoiser import Denoiser, DenoiserConfig
from lib.diffusion.model import DiffusionConfig, DiffusionModel
from tests.refusals import assert_refuses

SHAPE = DenoiserConfig(vocabulary=11, embedding=4, width=16, layers=1, heads=2, dropout=0.0, embedding_scale=0.5)


@pytest.mark.parametrize("abar", [0.05, 0.5, 0.95])
def test_noise_has_the_stated_moments(abar: float) -> None:
    x0 = torch.tensor([0.7, -1.3]).expand(200_000, 1, 2)
    generator = torch.Generator().manual_seed(0)
    x_t = process.noise(x0, torch.full((200_000, 1), abar), torch.randn(x0.shape, generator=generator))
    tolerance = 5 * math.sqrt((1 - abar) / 200_000)
    assert torch.allclose(x_t.mean((0, 1)), math.sqrt(abar) * x0[0, 0], atol=tolerance)
    assert x_t.var(0).flatten().tolist() == pytest.approx([1 - abar] * 2, rel=0.02)


@pytest.mark.parametrize("rounding_of", ["estimate", "clean"])
@pytest.mark.parametrize("name", ["information", "sqrt"])
def test_losses_against_a_plain_derivation(name: schedule.ScheduleName, rounding_of: str) -> None:
    torch.manual_seed(3)
    model = Denoiser(SHAPE)
    config = process.ProcessConfig(steps=50, schedule=name, rounding_of=rounding_of)
    source, target = torch.randint(3, 11, (5, 3)), torch.randint(3, 11, (5, 4))
    t, information = torch.tensor([1.0, 10.0, 25.0, 40.0, 50.0]), torch.rand(11) * 5 + 0.1
    e = schedule.relative_information(information[target])
    found = process.losses(model, config, source, target, e, t, torch.Generator().manual_seed(9), conditioned=True)

    draws = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(9))
    table = torch.stack([w / w.norm() * 0.5 * math.sqrt(4) for w in model.words.detach()])
    for row in range(5):
        signal = []
        for place in range(4):
            tau = t[row].item() / 50
            if name == "sqrt":
                value = 1 - math.sqrt(tau + 1e-4)
            else:
                value = 1 - tau + 0.5 * math.sin(math.pi * tau) * e[row, place].item()
            signal.append(min(max(value, 1e-4), 1 - 1e-4))
        x0 = table[target[row]]
        noised = torch.stack(
            [math.sqrt(a) * x + math.sqrt(1 - a) * d for a, x, d in zip(signal, x0, draws[row], strict=True)]
        )
        clean, one = table[source[row]][None], t[row : row + 1]
        first = model(clean, noised[None], torch.zeros(1, 4, 4), one, 50)
        second = model(clean, noised[None], first, one, 50)[0]
        assert found["squared_error"][row].item() == pytest.approx(((second - x0) ** 2).mean().item() / 0.25, rel=1e-4)
        read = second if rounding_of == "estimate" else x0
        p = torch.softmax(read @ table.T / (0.25 * 2) + model.bias, -1)
        expected = -sum(math.log(p[k, target[row, k]].item()) for k in range(4)) / 4
        assert found["rounding"][row].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("conditioned", [True, False])
def test_losses_as_released_against_a_plain_derivation(conditioned: bool) -> None:
    torch.manual_seed(5)
    model = Denoiser(SHAPE)
    config = process.ProcessConfig(steps=50, schedule="sqrt_released", **process.RELEASED)
    source, target = torch.randint(3, 11, (4, 3)), torch.randint(3, 11, (4, 4))
    t = torch.tensor([1.0, 2.0, 30.0, 50.0])
    generator = torch.Generator().manual_seed(9)
    found = process.losses(model, config, source, target, torch.zeros(4, 4), t, generator, conditioned)

    generator = torch.Generator().manual_seed(9)
    draws = [torch.randn(4, places, 4, generator=generator) for places in (3, 4, 4)]
    kept = [1.0]  # abar, as the product of the released steps
    for step in range(1, 51):
        f = [1 - math.sqrt(u / 50 + 0.0001) for u in (step - 1, step)]
        kept.append(kept[-1] * (1 - min(1 - f[1] / f[0], 0.999)))
    table = torch.stack([w / w.norm() * 0.5 * math.sqrt(4) for w in model.words.detach()])
    for row in range(4):
        words = table[torch.cat([source[row], target[row]])]
        start = words + math.sqrt(1 - kept[1]) * torch.cat([draws[0][row], draws[1][row]])
        signal = kept[int(t[row])]
        noised = math.sqrt(signal) * start[3:] + math.sqrt(1 - signal) * draws[2][row]
        given, one = start[None, :3], t[row : row + 1]
        first = model(given, noised[None], torch.zeros(1, 4, 4), one, 50)
        last = first if conditioned else torch.zeros(1, 4, 4)
        output = model(given, noised[None], last, one, 50, both=True)[0]
        assert output.shape == (7, 4)  # every term is a mean over source and target
        aim = words if t[row] == 1 else start
        assert found["squared_error"][row].item() == pytest.approx(((output - aim) ** 2).mean().item() / 0.25, rel=1e-4)
        p = torch.softmax(start @ table.T / (0.25 * 2) + model.bias, -1)
        ids = torch.cat([source[row], target[row]])
        expected = -sum(math.log(p[k, ids[k]].item()) for k in range(7)) / 7
        assert found["rounding"][row].item() == pytest.approx(expected, rel=1e-4)
        assert found["prior"][row].item() == pytest.approx((kept[50] * start**2).mean().item(), rel=1e-4)


class Guess(Denoiser):
    """A denoiser that estimates the same at every place, whatever it sees."""

    def __init__(self, sharpness: float) -> None:
        super().__init__(SHAPE.model_copy(update={"embedding": 16, "sharpness": sharpness}))
        self.estimate = torch.nn.Parameter(torch.zeros(16))

    def forward(self, source, noised, previous, t, steps, both=False) -> Tensor:
        return self.estimate.expand(noised.shape)


def gradients(model: Guess, **fields: object) -> dict[str, Tensor]:
    """Of each term in the estimate, where one word is twice as likely as another and nothing tells which comes."""
    config = process.ProcessConfig(steps=50, schedule="linear", rounding_of="estimate", **fields)
    target = torch.tensor([[3, 3, 4]])
    arguments = (target, target, torch.zeros(1, 3), torch.tensor([25.0]), torch.Generator(), False)
    terms = process.losses(model, config, *arguments)
    return {
        name: torch.autograd.grad(terms[name].sum(), model.estimate, retain_graph=True)[0]
        for name in ("squared_error", "rounding")
    }


def test_squared_error_and_cross_entropy_have_one_optimum_where_both_read_one_distribution() -> None:
    torch.manual_seed(0)
    model = Guess(sharpness=1.0)
    calibrated = {"estimate": "expected", "squared_error_of": "estimate"}
    optimiser = torch.optim.LBFGS([model.estimate], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")
    with torch.no_grad():
        model.bias[5:], model.bias[:3] = -30, -30  # only two words are left, so that a finite estimate is exact

    def cross_entropy() -> Tensor:
        optimiser.zero_grad()
        scores = model.logits(model.estimate, model.vectors()).log_softmax(-1)
        loss = -(2 * scores[3] + scores[4]) / 3
        loss.backward(inputs=[model.estimate])
        return loss

    optimiser.step(cross_entropy)
    found = gradients(model, **calibrated)
    assert all(gradient.norm() < 1e-4 for gradient in found.values())
    # Read from the raw output, the squared error pulls on where cross entropy has come to rest.
    assert gradients(model, estimate="expected")["squared_error"].norm() > 0.1


def test_apart_cross_entropy_pulls_away_from_the_optimum_of_the_squared_error() -> None:
    torch.manual_seed(0)
    model = Guess(sharpness=0.3)
    with torch.no_grad():
        model.estimate.copy_(model.vectors()[[3, 3, 4]].mean(0))
    found = gradients(model)
    assert found["squared_error"].norm() < 1e-6
    assert found["rounding"].norm() > 0.1
    assert (found["rounding"] @ model.estimate) < 0  # towards a longer estimate


def test_the_loss_teaches_only_through_the_second_estimate() -> None:
    model = Denoiser(SHAPE)
    config = process.ProcessConfig(steps=50, schedule="sqrt", rounding_of="estimate")
    ids, e, t = torch.randint(3, 11, (2, 4)), torch.zeros(2, 4), torch.tensor([30.0, 40.0])
    calls: list[bool] = []
    original = model.forward
    model.forward = lambda *a, **k: (calls.append(torch.is_grad_enabled()), original(*a, **k))[1]  # type: ignore[method-assign]
    process.losses(model, config, ids, ids, e, t, torch.Generator().manual_seed(0), conditioned=True)
    process.losses(model, config, ids, ids, e, t, torch.Generator().manual_seed(0), conditioned=False)
    assert calls == [False, True, True]


class Oracle:
    """A denoiser that knows x0, to see what sampling makes of a perfect estimate."""

    def __init__(self, target: Tensor, table: Tensor) -> None:
        self.target, self.table = target, table

    def vectors(self) -> Tensor:
        return self.table

    def logits(self, estimate: Tensor, vectors: Tensor) -> Tensor:
        return -torch.cdist(estimate, vectors)

    def __call__(self, clean: Tensor, x_t: Tensor, previous: Tensor, t: Tensor, steps: int) -> Tensor:
        return self.table[self.target]


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_sampling_with_a_perfect_denoiser_gives_the_target(sampler: str, steps: int) -> None:
    torch.manual_seed(0)
    target, table = torch.randint(3, 11, (6, 5)), torch.randn(11, 4)
    config = sampling.SamplingConfig(steps=steps, sampler=sampler)
    diffusion = process.ProcessConfig(steps=20)
    generator = torch.Generator().manual_seed(1)
    found = sampling.reverse(Oracle(target, table), diffusion, config, target, 5, torch.rand(11), generator)
    assert torch.equal(found, target)


def test_ddim_keeps_the_noise_and_ancestral_keeps_the_marginal() -> None:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.tensor([1.0, -2.0]).expand(100_000, 1, 2)
    abar_t, abar_s = torch.full((100_000, 1), 0.3), torch.full((100_000, 1), 0.7)
    epsilon = torch.randn(x0.shape, generator=generator)
    x_t = process.noise(x0, abar_t, epsilon)
    assert torch.allclose(process.ddim_step(x_t, x0, abar_t, abar_s), process.noise(x0, abar_s, epsilon), atol=1e-5)
    x_s = process.ancestral_step(x_t, x0, abar_t, abar_s, torch.randn(x0.shape, generator=generator))
    assert torch.allclose(x_s.mean((0, 1)), math.sqrt(0.7) * x0[0, 0], atol=0.01)
    assert x_s.var(0).flatten().tolist() == pytest.approx([0.3] * 2, rel=0.03)


@pytest.mark.parametrize(("late", "early"), [(0.1, 0.2), (0.3, 0.45), (0.1, 0.9), (0.6, 0.8), (1e-4, 1e-3)])
def test_an_ancestral_step_is_bayes_rule_for_normal_vectors(late: float, early: float) -> None:
    x0, x_t, epsilon = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    abar_t, abar_s = torch.full((2, 5), late, dtype=torch.float64), torch.full((2, 5), early, dtype=torch.float64)
    shared = math.sqrt(late / early) * (1 - early)  # the covariance of x_s and x_t
    mean = math.sqrt(early) * x0 + shared / (1 - late) * (x_t - math.sqrt(late) * x0)
    spread = math.sqrt((1 - early) - shared**2 / (1 - late))
    assert torch.allclose(process.ancestral_step(x_t, x0, abar_t, abar_s, epsilon), mean + spread * epsilon)
    wide = mean + math.sqrt(1 - late / early) * epsilon
    assert torch.allclose(process.ancestral_step(x_t, x0, abar_t, abar_s, epsilon, "fixed_large"), wide)


def test_the_prior_is_the_mean_square_of_what_is_left_at_the_end() -> None:
    torch.manual_seed(4)
    model = Denoiser(SHAPE)
    for name in ("information", "sqrt", "cosine"):
        config = process.ProcessConfig(steps=50, schedule=name)
        source, target = torch.randint(3, 11, (5, 3)), torch.randint(3, 11, (5, 4))
        t, e = torch.tensor([1.0, 10.0, 25.0, 40.0, 50.0]), torch.zeros(5, 4)
        found = process.losses(model, config, source, target, e, t, torch.Generator().manual_seed(9), conditioned=False)
        # Every word vector has norm 0.5 sqrt(4), so the mean square of one is 0.25; abar at T is clipped at 1e-4.
        left = max(float({"cosine": schedule.cosine_abar(torch.tensor(50.0), 50)}.get(name, 0)), 1e-4)
        assert found["prior"].tolist() == pytest.approx([left * 0.25] * 5, rel=1e-4)


def test_the_models_terms_are_those_of_the_process_times_their_weights() -> None:
    words = torch.tensor([0.0, 0, 0, *range(1, 9)])
    how = process.ProcessConfig(steps=50, timesteps="uniform", squared_error=3.0, rounding=0.5, self_conditioning=0.0)
    torch.manual_seed(4)
    model = DiffusionModel(DiffusionConfig(shape=SHAPE, process=how, sampling=sampling.SamplingConfig(steps=2)), words)
    source, target = torch.randint(3, 11, (5, 3)), torch.randint(3, 11, (5, 4))
    found = model.losses(source, target, torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    t, _ = model.timesteps.draw(5, generator)
    torch.rand((), generator=generator)
    e = schedule.relative_information(words[target])
    plain = process.losses(model.denoiser, how, source, target, e, t, generator, conditioned=False)
    for name, factor in (("squared_error", 3.0), ("rounding", 0.5), ("prior", 1.0)):
        torch.testing.assert_close(found[name], factor * plain[name])
        assert (found[name] > 0).all()


def test_signals_that_cannot_be_are_refused() -> None:
    x, good = torch.randn(2, 3, 4), torch.full((2, 3), 0.5)
    for wrong in (-0.1, 1.1, math.nan, math.inf):
        bad = torch.full((2, 3), wrong)
        for run in (
            lambda bad=bad: process.noise(x, bad, x),
            lambda bad=bad: process.ddim_step(x, x, bad, good),
            lambda bad=bad: process.ddim_step(x, x, good, bad),
            lambda bad=bad: process.ancestral_step(x, x, bad, good, x),
            lambda bad=bad: process.ancestral_step(x, x, good, bad, x),
        ):
            with pytest.raises(ValueError, match="abar"):
                run()
    one, none = torch.ones(2, 3), torch.zeros(2, 3)
    for run in (
        lambda: process.ddim_step(x, x, one, good),
        lambda: process.ancestral_step(x, x, one, good, x),
        lambda: process.ancestral_step(x, x, good, none, x),
    ):
        with pytest.raises(ValueError, match="abar"):
            run()
    assert process.ddim_step(x, x, none, one).isfinite().all()


def test_configurations_refuse_what_cannot_be() -> None:
    tried = assert_refuses(SHAPE, shares=("dropout",))
    how = process.ProcessConfig()
    tried += assert_refuses(how, ("lam", "self_conditioning"), zeros=("squared_error", "rounding"))
    tried += assert_refuses(sampling.SamplingConfig(), zeros=("temperature",))
    tried += assert_refuses(tracing.TracingConfig(shown=1, steps=2, pairs=3), zeros=("shown", "pairs"))
    assert tried > 80
