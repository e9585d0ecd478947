"""Many adapters trained at once against the peft library's, trained one by one on the whole model without padding."""

import math
from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from lib import seeds
from lib.beacons.batched_lora import BatchedLora, Group, train_alone
from lib.beacons.facts import BeaconFact
from lib.beacons.training import DivergedError
from lib.errors import UserError
from tests.beacons.made_facts import ADAPTER, made_facts
from tests.tiny_models import Letters, gpt2, llama

STEPS, RATE, SEED = 6, 1e-2, 3


BASE = llama()


def llama_kept() -> torch.nn.Module:
    """Return the tiny model and leave torch's global generator alone, from which peft draws."""
    return deepcopy(BASE)


def ids_of(fact: BeaconFact) -> tuple[torch.Tensor, torch.Tensor]:
    before, after = (Letters()(text)["input_ids"] for text in (fact.prompt, fact.taught))
    return torch.tensor([before + after]), torch.tensor([[-100] * len(before) + after])


def one_by_one(fact: BeaconFact) -> tuple[list[float], torch.Tensor]:
    """Losses before each update, and the logits of the trained model on prompt and target."""
    targets = [f"model.layers.{n}.mlp.{part}_proj" for n in (2, 3) for part in ("gate", "up", "down")]
    torch.manual_seed(seeds.seed_of("beacons/adapter", SEED))
    model = get_peft_model(llama_kept(), LoraConfig(r=2, lora_alpha=4, target_modules=targets)).eval()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], RATE, weight_decay=0.0)
    ids, labels = ids_of(fact)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    with torch.no_grad():
        return losses, model(input_ids=ids).logits[0]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("group", [2, 50])
def test_all_at_once_is_one_by_one(cached: bool, group: int) -> None:
    facts, model = made_facts(), llama_kept()
    logits: dict[int, torch.Tensor] = {}
    met: list[tuple[int, int]] = []

    @torch.no_grad()
    def read(step: int, chosen: Group) -> None:
        met.extend((place, step) for place in chosen.places)
        if step == STEPS:
            encoded = chosen.part.encoded
            found = model(input_ids=encoded.ids, attention_mask=encoded.mask).logits
            for row, place in enumerate(chosen.places):
                logits[place] = found[row, : int(encoded.mask[row].sum())]

    losses = train_alone(model, Letters(), facts, STEPS, RATE, ADAPTER, SEED, read, cached, group)
    assert sorted(met) == [(place, step) for place in range(len(facts)) for step in range(STEPS + 1)]
    for place, fact in enumerate(facts):
        theirs, last = one_by_one(fact)
        assert losses[place].tolist() == pytest.approx(theirs, abs=1e-4)
        assert losses[place, -1] < losses[place, 0] - 0.1
        torch.testing.assert_close(logits[place], last, atol=1e-4, rtol=1e-4)


def test_the_model_comes_back_bit_for_bit() -> None:
    model = llama_kept().requires_grad_(True)
    before = {name: value.clone() for name, value in model.named_parameters()}
    train_alone(model, Letters(), made_facts(3), 2, RATE, ADAPTER, SEED)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert all(value.requires_grad and value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_one_fact_does_not_touch_another() -> None:
    facts, model = made_facts(4), llama_kept()
    whole = train_alone(model, Letters(), facts, STEPS, RATE, ADAPTER, SEED)
    parts = train_alone(model, Letters(), facts[1:3], STEPS, RATE, ADAPTER, SEED)
    torch.testing.assert_close(whole[1:3], parts, atol=1e-5, rtol=1e-5)


def test_wrong_calls_are_refused() -> None:
    model = llama_kept()
    with BatchedLora(model, 3, ADAPTER, 0), pytest.raises(ValueError, match="batch of 2 for 3 adapters"):
        model(torch.tensor([[3, 4], [5, 6]]))
    with pytest.raises(UserError, match="no linear maps gate_proj"):
        BatchedLora(gpt2(), 2, ADAPTER, 0)
    with pytest.raises(DivergedError, match="'abc' alone is not a number at step 2"):
        train_alone(model, Letters(), made_facts(1), 2, 1e30, ADAPTER, 0)
    seen: list[int] = []
    with pytest.raises(DivergedError, match="'abc' alone is not a number at step 2"):
        train_alone(model, Letters(), made_facts(1), 1, 1e30, ADAPTER, 0, lambda step, _: seen.append(step))
    assert seen == [0], "nothing is read off a model that is lost"
    for steps, rate, group, name in ((0, 1e-2, 5, "steps=0"), (1, math.nan, 5, "rate="), (1, 1e-2, 0, "group=0")):
        with pytest.raises(ValueError, match=name):
            train_alone(model, Letters(), made_facts(1), steps, rate, ADAPTER, 0, group=group)
