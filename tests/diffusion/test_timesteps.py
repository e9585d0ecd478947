"""Times of training: closed forms of the weights, the window of ten losses, and shares over many draws."""

import math

import pytest
import torch

from lib.diffusion.process import ProcessConfig
from lib.diffusion.timesteps import Timesteps


def seen(losses: list[list[float]], kind: str = "loss_aware") -> Timesteps:
    """After losses at each t in turn; steps is their number."""
    times = Timesteps(ProcessConfig(steps=len(losses), timesteps=kind))
    for t, values in enumerate(losses, start=1):
        for value in values:
            times.record(torch.tensor([float(t)]), torch.tensor([value]))
    return times


def drawn(times: Timesteps, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    return times.draw(count, torch.Generator().manual_seed(0))


def test_until_every_time_has_ten_losses_all_are_as_likely() -> None:
    for counts in ((9, 30), (10, 9), (0, 0)):
        t, weights = drawn(seen([[7.0] * counts[0], [1.0] * counts[1]]))
        assert (weights == 1).all()
        assert set(t.tolist()) == {1.0, 2.0}
        assert t.mean().item() == pytest.approx(1.5, abs=0.02)
    assert (drawn(seen([[0.0] * 10, [0.0] * 10]))[1] == 1).all()  # nothing says where the loss is large


def test_the_last_ten_losses_of_each_time_decide_by_their_root_mean_square() -> None:
    # The first time's ten are 3 and 4 by turns, after others that gave way; the second's are 1.
    t, weights = drawn(seen([[100.0] * 7 + [3.0, 4.0] * 5, [1.0] * 10]))
    first = math.sqrt(12.5)
    p = 0.999 * first / (first + 1) + 0.001 / 2
    for time, share in ((1, p), (2, 1 - p)):
        assert (t == time).double().mean().item() == pytest.approx(share, abs=0.015)
        assert weights[t == time].unique().tolist() == pytest.approx([1 / (2 * share)], rel=1e-4)


def test_a_loss_of_one_sentence_that_is_no_number_leaves_its_batch_out() -> None:
    times = seen([[2.0] * 10, [1.0] * 10])
    before = times.history.clone()
    for wrong in (math.nan, math.inf):
        times.record(torch.tensor([1.0, 2.0]), torch.tensor([5.0, wrong]))
    assert torch.equal(times.history, before)
    assert times.count.tolist() == [10, 10]


@pytest.mark.parametrize("kind", ["uniform", "skewed"])
def test_kinds_that_read_no_losses_keep_none(kind: str) -> None:
    times = seen([[2.0] * 12, [1.0] * 12], kind)
    assert not times.history.any()
    assert (drawn(times)[1] == 1).all()


def test_loss_aware_times_follow_the_losses_and_keep_the_expectation() -> None:
    times = Timesteps(ProcessConfig(steps=4, timesteps="loss_aware"))
    for _ in range(10):
        times.record(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    t, weights = times.draw(200_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(t.long(), minlength=5)[1:] / 200_000
    assert shares.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.01)
    assert (weights * t).mean().item() == pytest.approx(2.5, rel=0.01)


def test_skewed_times_have_the_stated_distribution() -> None:
    t, _ = Timesteps(ProcessConfig(steps=100, timesteps="skewed")).draw(200_000, torch.Generator().manual_seed(0))
    assert (t.min(), t.max()) == (1, 100)
    for quantile in (0.25, 0.5, 0.75):
        # t / T = 1 - u^2, so P(t / T <= q) = 1 - sqrt(1 - q)
        assert ((t / 100) <= quantile).float().mean().item() == pytest.approx(1 - (1 - quantile) ** 0.5, abs=0.01)
