"""Times of training: closed forms of the weights, the window of ten losses, and shares over many draws."""

import math

import pytest
import torch

from lib.causal_lm.processes import Portion, Team
from lib.diffusion.process import ProcessConfig
from lib.diffusion.timesteps import Timesteps
from lib.seq2seq import draws


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


def test_a_batch_of_losses_is_recorded_as_one_after_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    together, alone = (Timesteps(ProcessConfig(steps=5, timesteps="loss_aware")) for _ in range(2))
    for sentences in (1, 3, 40, 200):  # of 200 some times have more than ten
        t = torch.randint(1, 6, (sentences,), generator=generator).float()
        losses = torch.rand(sentences, generator=generator)
        together.record(t, losses)
        for one, loss in zip(t.long() - 1, losses, strict=True):
            alone.history[one, alone.count[one] % 10] = loss
            alone.count[one] += 1
        assert torch.equal(together.history, alone.history)
        assert torch.equal(together.count, alone.count)


def test_parts_of_a_batch_draw_from_the_history_before_the_step_and_are_recorded_at_its_end() -> None:
    times = seen([[2.0] * 10, [1.0] * 10])
    before = times.history.clone()
    whole = times.draw(6, torch.Generator().manual_seed(3))
    parts = []
    for first in (0, 4):
        rows = slice(first, min(first + 4, 6))
        t, weights = times.draw(len(range(6)[rows]), draws.Part(torch.Generator().manual_seed(3), rows, 6))
        parts.append((t, weights))
        times.note(t, 10 + torch.arange(6.0)[rows])
    assert torch.equal(times.history, before)
    assert all(torch.equal(torch.cat(part), all_) for part, all_ in zip(zip(*parts, strict=True), whole, strict=True))
    times.end_step(Team(), Portion(slice(0, 6)))
    expected = seen([[2.0] * 10, [1.0] * 10])
    expected.record(whole[0], 10 + torch.arange(6.0))
    assert torch.equal(times.history, expected.history)
    times.end_step(Team(), Portion(slice(0, 6)))
    assert torch.equal(times.count, expected.count)
