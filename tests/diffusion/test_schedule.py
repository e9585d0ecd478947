"""The noise schedules: bounds, order in t, means, and the published points."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lib.diffusion import schedule
from lib.errors import UserError

values = st.lists(st.floats(0.01, 20), min_size=1, max_size=12)


@given(values, st.sampled_from(["information", "sqrt", "linear", "cosine"]), st.floats(0, 1), st.integers(2, 300))
def test_abar_is_bounded_and_never_rises(information: list[float], name: str, lam: float, steps: int) -> None:
    h = torch.tensor([information], dtype=torch.float64)
    e = schedule.relative_information(h).expand(steps + 1, -1)
    t = torch.arange(steps + 1, dtype=torch.float64)
    abar = schedule.abar(name, t, steps, e, lam)
    assert abar.isfinite().all()
    assert abar.min() >= schedule.FLOOR
    assert abar.max() <= 1 - schedule.FLOOR
    assert (abar.diff(dim=0) <= 1e-12).all()


@pytest.mark.parametrize("steps", [2, 20, 200, 2000])
@pytest.mark.parametrize("name", ["sqrt_released", "cosine_released"])
def test_released_schedules_are_the_product_of_their_steps(name: schedule.ScheduleName, steps: int) -> None:
    def curve(share: float) -> float:
        if name == "sqrt_released":
            return 1 - math.sqrt(share + 0.0001)
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    product = [1.0]
    for t in range(1, steps + 1):
        beta = min(1 - curve(t / steps) / curve((t - 1) / steps), 0.999)
        product.append(product[-1] * (1 - beta))
    found = schedule.abar(name, torch.arange(steps + 1, dtype=torch.float64), steps, torch.zeros(steps + 1, 1), 0.5)
    assert found[:, 0].tolist() == pytest.approx(product, rel=1e-9)


def test_what_the_released_construction_changes_at_two_hundred_steps() -> None:
    t, e = torch.tensor([1.0, 2.0, 100.0], dtype=torch.float64), torch.zeros(3, 1)
    ours, theirs = (schedule.abar(name, t, 200, e, 0.5)[:, 0] for name in ("sqrt", "sqrt_released"))
    assert (ours / theirs).tolist() == pytest.approx([0.99] * 3)
    assert (1 - theirs[0]).sqrt().item() == pytest.approx(0.249, abs=5e-4)  # of the noise on x0
    # beta_t over the posterior's variance is (1 - abar_t) / (1 - abar_(t - 1))
    assert ((1 - theirs[1]) / (1 - theirs[0])).item() == pytest.approx(1.47, abs=5e-3)


@given(values, st.floats(0, 1), st.floats(0, 1))
def test_mean_over_the_sentence_is_linear(information: list[float], lam: float, fraction: float) -> None:
    h = torch.tensor([information], dtype=torch.float64)
    e = schedule.relative_information(h)
    t = torch.tensor([[fraction * 100]], dtype=torch.float64)
    assert schedule.information_abar(t, 100, e, lam).mean().item() == pytest.approx(1 - fraction, abs=1e-6)


@given(values, st.data())
def test_relative_information_against_plain_python(information: list[float], data: st.DataObject) -> None:
    counted = data.draw(st.lists(st.booleans(), min_size=len(information), max_size=len(information)))
    shown = torch.tensor(information, dtype=torch.float64) * torch.tensor(counted)
    found = schedule.relative_information(shown)
    kept = [h for h, keep in zip(information, counted, strict=True) if keep]
    for h, keep, e in zip(information, counted, found.tolist(), strict=True):
        if not keep or max(kept) == min(kept):
            assert e == 0
        else:
            assert e == pytest.approx((h - math.fsum(kept) / len(kept)) / (max(kept) - min(kept)), abs=1e-9)


def test_relative_information_of_many_sentences_is_that_of_each() -> None:
    h = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)) * 5
    h[1, 2] = 0
    h[:, :, 3:][h[:, :, 3:] < 2] = 0
    found = schedule.relative_information(h)
    for first in range(3):
        for second in range(4):
            assert torch.equal(found[first, second], schedule.relative_information(h[first, second]))


def test_information_with_lambda_zero_is_linear() -> None:
    t, e = torch.arange(201.0), 2 * torch.rand(201, 5) - 1
    assert torch.equal(schedule.abar("information", t, 200, e, 0.0), schedule.abar("linear", t, 200, e, 0.5))
    expected = (1 - t / 200).clamp(1e-4, 1 - 1e-4)
    assert torch.allclose(schedule.abar("linear", t, 200, e, 0.0), expected[:, None].expand(-1, 5))


def test_published_points_of_figure_3() -> None:
    e = torch.tensor([[0.64, -0.60]])
    abar = schedule.abar("information", torch.tensor([1000.0]), 2000, e, 0.5)
    assert abar.tolist()[0] == pytest.approx([0.82, 0.20], abs=0.005)
    assert schedule.abar("information", torch.tensor([1000.0]), 2000, e, 0.0).tolist()[0] == pytest.approx([0.5, 0.5])


def test_ends_have_no_nan_and_sqrt_is_floored() -> None:
    t = torch.tensor([0.0, 2000.0])
    for name in ("information", "sqrt", "linear", "cosine"):
        abar = schedule.abar(name, t, 2000, torch.tensor([[1.0, -1.0]]).expand(2, 2), 0.5)
        assert abar.isfinite().all()
        assert abar[1].max() == pytest.approx(1e-4, abs=1e-3)
    assert schedule.sqrt_abar(torch.tensor(2000.0), 2000) < 0


def test_unknown_schedule_is_an_error() -> None:
    with pytest.raises(UserError, match="unknown schedule 'info': choose one of information, linear"):
        schedule.abar("info", torch.ones(1), 10, torch.zeros(1, 1), 0.5)


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(["information", "sqrt", "linear", "cosine"]))
@example(-1.0, "linear")
@example(1e9, "sqrt")
@example(50.000001, "cosine")
@example(float("nan"), "cosine")
def test_no_time_outside_the_process_has_an_answer(t: float, name: str) -> None:
    e, times = torch.zeros(2, 3), torch.tensor([25.0, t], dtype=torch.float64)
    if 0 <= t <= 50:
        assert schedule.abar(name, times, 50, e, 0.5).isfinite().all()
    else:
        with pytest.raises(ValueError, match=r"t lies outside \[0, T = 50\], at "):
            schedule.abar(name, times, 50, e, 0.5)


@pytest.mark.parametrize("wrong", [-0.5, 9.0, math.nan, math.inf])
def test_lambda_e_and_information_that_cannot_be_are_refused(wrong: float) -> None:
    t, e = torch.tensor([5.0]), torch.zeros(1, 2)
    with pytest.raises(ValueError, match="lambda lies in"):
        schedule.abar("information", t, 10, e, wrong)
    with pytest.raises(ValueError, match="T is at least 1"):
        schedule.abar("information", t * 0, 0, e, 0.5)
    with pytest.raises(ValueError, match="e holds"):
        schedule.abar("information", t, 10, torch.tensor([[0.0, 3 * wrong]]), 0.5)
    if wrong != 9:
        with pytest.raises(ValueError, match="information holds"):
            schedule.relative_information(torch.tensor([[1.0, wrong, 2.0]]))
