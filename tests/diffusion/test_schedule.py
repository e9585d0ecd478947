"""The noise schedules: bounds, order in t, means, and the published points."""

import math

import pytest
import torch
from hypothesis import given
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


def test_information_with_lambda_zero_is_linear() -> None:
    t, e = torch.arange(201.0), torch.randn(201, 5)
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
