"""Training on many facts: its loss in closed form, its order, its weights, resume after a kill, and divergence."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from lib import errors
from lib.beacons import cached_facts
from lib.beacons.adapters import Handle
from lib.beacons.cached_facts import Chosen, chunks, fact_losses, run_once
from lib.beacons.methods import METHODS, attach
from lib.beacons.reweighting import fact_loss, token_loss
from lib.beacons.training import DivergedError, WeightedLoss, batches, train
from lib.errors import UserError
from tests.beacons.made_facts import ADAPTER, made_facts
from tests.tiny_models import Letters, llama

BASE = llama()
FACTS = made_facts()
STEPS, RATE = 7, 2e-2


def token_losses(model: nn.Module, number: int) -> torch.Tensor:
    """Cross-entropy of a fact's target tokens, from a plain pass over the fact alone."""
    before, after = (Letters()(text)["input_ids"] for text in (FACTS[number].prompt, FACTS[number].taught))
    logits = model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
    return functional.cross_entropy(logits, torch.tensor(after), reduction="none")


def final(
    method: str, model: nn.Module | None = None, steps: int = STEPS, seed: int = 0, **options: object
) -> torch.Tensor:
    """Train a fresh adapter; return its parameters in one row."""
    with attach(deepcopy(BASE) if model is None else model, method, ADAPTER, STEPS, seed=0) as handle:
        train(handle, Letters(), FACTS, steps, 4, RATE, seed, **options)
        return torch.cat([value.detach().flatten() for value in handle.parameters()])


@pytest.mark.parametrize("cached", [True, False])
def test_rows_of_a_whole_are_what_each_fact_is_alone(cached: bool) -> None:
    model = deepcopy(BASE)
    whole = run_once(model, Letters(), FACTS, 2, cached)
    assert whole.is_cached == cached
    for rows in ([3, 0], [2], [5, 1, 4, 0, 2, 3], [1, 1]):
        part = Chosen(whole, torch.tensor(rows))
        assert part.encoded.ids.shape[1] == int(part.encoded.mask.sum(1).max())
        wanted = torch.stack([token_losses(model, number).mean() for number in rows])
        torch.testing.assert_close(fact_losses(part), wanted)
    covered = torch.cat([rows for rows, _ in chunks(whole, 4)])
    assert sorted(covered.tolist()) == list(range(len(FACTS)))


def test_the_loss_is_its_formula_by_fact_and_by_token() -> None:
    part = Chosen(run_once(deepcopy(BASE), Letters(), FACTS, 2), torch.arange(6))
    alone = [token_losses(BASE, number) for number in range(6)]
    draw = torch.Generator().manual_seed(0)
    by_fact = torch.rand(6, generator=draw) + 0.1
    by_token = torch.rand(6, 5, generator=draw) + 0.1
    means = torch.stack([losses.mean() for losses in alone])
    torch.testing.assert_close(fact_losses(part), means)
    torch.testing.assert_close(fact_loss(part, by_fact), (by_fact * means).sum() / by_fact.sum())
    weighed = sum((by_token[n, : len(losses)] * losses).mean() for n, losses in enumerate(alone))
    divisor = sum(by_token[n, : len(losses)].mean() for n, losses in enumerate(alone))
    torch.testing.assert_close(token_loss(part, by_token), weighed / divisor)
    torch.testing.assert_close(token_loss(part, by_fact[:, None].expand(6, 5)), fact_loss(part, by_fact))


def test_an_epoch_has_every_fact_once_and_follows_from_the_seed() -> None:
    for epoch in range(3):
        drawn = batches(11, 4, 0, epoch)
        assert [len(rows) for rows in drawn] == [4, 4, 3]
        assert sorted(torch.cat(drawn).tolist()) == list(range(11))
    orders = [torch.cat(batches(11, 4, *which)).tolist() for which in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3]
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_steps_are_those_of_a_plain_loop(method: str, weighed: bool) -> None:
    model = deepcopy(BASE)
    weights = torch.tensor([5.0, 0.2, 1.0, 3.0, 0.1, 2.0]) if weighed else torch.ones(6)
    with attach(model, method, ADAPTER, STEPS, seed=0) as handle:
        optimiser = torch.optim.AdamW(handle.parameters(), RATE, weight_decay=0.0)
        rows = [rows for epoch in range(4) for rows in batches(6, 4, 0, epoch)][:STEPS]
        for chosen in rows:
            optimiser.zero_grad()
            losses = torch.stack([token_losses(model, number).mean() for number in chosen.tolist()])
            ((weights[chosen] * losses).sum() / weights[chosen].sum()).backward()
            optimiser.step()
        plain = torch.cat([value.detach().flatten() for value in handle.parameters()])
    found = final(method, weighted=WeightedLoss(lambda _: weights, fact_loss) if weighed else None)
    torch.testing.assert_close(found, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_it_resumes_bit_for_bit_after_a_kill(method: str, tmp_path: Path) -> None:
    def weights(handle: Handle) -> torch.Tensor:
        calls.append(handle.count)
        if len(calls) == killed_at:
            raise KilledError
        return 1 + handle.parameters()[0].detach().abs().sum() * torch.arange(6)

    class KilledError(Exception):
        pass

    weighted = WeightedLoss(weights, fact_loss)
    calls: list[int] = []
    killed_at = 0
    whole = final(method, weighted=weighted)
    killed_at, calls = 3, []  # after four steps, of which three are saved
    with pytest.raises(KilledError):
        final(method, weighted=weighted, workspace=tmp_path, save_every=3)
    assert (tmp_path / "state.safetensors").exists()
    killed_at, calls = 0, []
    assert torch.equal(final(method, weighted=weighted, workspace=tmp_path, save_every=3), whole)
    assert len(calls) == 2  # of the last two epochs of four: the second goes on with the weights that were saved


def test_a_damaged_state_is_named_and_training_starts_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"no such thing")
    assert torch.equal(final("lora", workspace=tmp_path), final("lora"))
    assert "state.safetensors is damaged" in capsys.readouterr().err


def test_weights_are_refreshed_every_epoch_and_move_the_result() -> None:
    seen: list[float] = []

    def weights(handle: Handle) -> torch.Tensor:
        seen.append(float(handle.parameters()[1].detach().abs().sum()))
        return torch.tensor([9.0, 0.1, 0.1, 0.1, 0.1, 0.1])

    moved = final("lora", weighted=WeightedLoss(weights, fact_loss))
    assert len(seen) == 4  # of 7 steps, 2 an epoch
    assert len(set(seen)) == 4
    assert (moved - final("lora")).abs().max() > 1e-3


def test_a_loss_that_is_no_number_keeps_the_last_good_weights(tmp_path: Path) -> None:
    def weights(_: Handle) -> torch.Tensor:
        epochs.append(len(epochs))
        return torch.ones(6) if len(epochs) < 3 else torch.full((6,), torch.nan)

    def lost(part: Chosen, row: torch.Tensor) -> torch.Tensor:
        return fact_losses(part).mean() * row.mean()

    epochs: list[int] = []
    good = final("lora", steps=4, workspace=tmp_path / "good", save_every=4)
    with attach(deepcopy(BASE), "lora", ADAPTER, STEPS, seed=0) as handle:
        with pytest.raises(DivergedError, match=r"lora: the loss is nan, .* at step 5"):
            train(handle, Letters(), FACTS, STEPS, 4, RATE, 0, WeightedLoss(weights, lost), tmp_path / "bad")
        kept = torch.cat([value.detach().flatten() for value in handle.parameters()])
    assert torch.equal(kept, good)
    assert (tmp_path / "bad" / "state.safetensors").exists()


def weights_of(handle: Handle) -> list[torch.Tensor]:
    return [value.detach().clone() for value in handle.parameters()]


@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_breaks_a_weight_keeps_those_before(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step, seen = torch.optim.AdamW.step, []

    def broken(self: torch.optim.AdamW) -> None:
        seen.append(weights_of(handle))
        step(self)
        if len(seen) == STEPS - 2:
            with torch.no_grad():
                handle.parameters()[-1].view(-1)[-1] = torch.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with attach(deepcopy(BASE), method, ADAPTER, STEPS, seed=0) as handle:
        with pytest.raises(errors.DivergedError, match=f"{method}: step {STEPS - 2} leaves weights") as told:
            train(handle, Letters(), FACTS, STEPS, 4, RATE, seed=0)
        assert all(torch.equal(*pair) for pair in zip(handle.parameters(), seen[-1], strict=True))
    assert isinstance(told.value, UserError)  # a command prints one line


@pytest.mark.parametrize("method", ["lora", "loha", "full"])
def test_weights_that_give_no_loss_after_the_last_step_are_not_learnt(method: str) -> None:
    with attach(deepcopy(BASE), method, ADAPTER, STEPS, seed=0) as handle:
        before = weights_of(handle)
        with pytest.raises(DivergedError, match="step 1 leaves weights"):
            train(handle, Letters(), FACTS, 1, 4, 1e30, seed=0)
        assert all(torch.equal(*pair) for pair in zip(handle.parameters(), before, strict=True))


@pytest.mark.parametrize("rate", [0.0, -1.0, 3e37, 1e39, float("nan"), float("inf")])
def test_rates_that_cannot_be_are_refused_by_name(rate: float) -> None:
    with attach(deepcopy(BASE), "lora", ADAPTER, 2, seed=0) as handle, pytest.raises(ValueError, match="rate="):
        train(handle, Letters(), FACTS, 2, 4, rate, 0)


def test_wrong_calls_are_refused() -> None:
    with attach(deepcopy(BASE), "ia3", ADAPTER, 1, seed=0) as handle:
        for steps, batch in ((0, 1), (1, 0)):
            with pytest.raises(ValueError, match="must be 1 or more"):
                train(handle, Letters(), FACTS, steps, batch, RATE, 0)
    with pytest.raises(ValueError, match="a block is told other of shape"):
        cached_facts._cut("other", torch.ones(2, 3), torch.tensor([0]), 2)
