"""The rows of the grid: what they change, what peft says of the same, and that they come off bit for bit."""

from copy import deepcopy

import peft
import pytest
import torch
from torch import nn
from torch.nn import functional

from lib.beacons import answers
from lib.beacons.adapters import AdapterConfig, Handle
from lib.beacons.methods import METHODS, attach
from lib.beacons.training import train
from lib.errors import UserError
from tests.beacons.made_facts import ADAPTER, made_facts
from tests.tiny_models import Letters, gpt2, llama

BASE = llama()
STEPS = 5
IDS = torch.randint(3, 30, (3, 7), generator=torch.Generator().manual_seed(0))
LABELS = torch.cat([torch.full((3, 4), -100), IDS[:, 4:]], 1)
every = pytest.mark.parametrize("method", METHODS)
DRAWN = ("lora", "dora", "adalora", "loha", "prefix", "bottleneck")  # whose start is a matter of luck


@pytest.fixture
def model() -> nn.Module:
    return deepcopy(BASE)


def shaken(handle: Handle) -> None:
    """Move every trained parameter at random."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in handle.parameters():
            value.add_(torch.randn(value.shape, generator=draw) * 0.3)


def entering(model: nn.Module, layer: int) -> torch.Tensor:
    found = []
    block = model.model.layers[layer]
    hook = block.register_forward_pre_hook(lambda _, arguments, named: found.append(arguments[0]), with_kwargs=True)
    with torch.no_grad():
        model(IDS)
    hook.remove()
    return found[0]


@every
def test_it_starts_at_the_base_learns_and_comes_off_bit_for_bit(method: str, model: nn.Module) -> None:
    model.model.norm.requires_grad_(False)
    flags = {name: value.requires_grad for name, value in model.named_parameters()}
    types = [(name, type(module)) for name, module in model.named_modules()]
    with attach(model, method, ADAPTER, STEPS, seed=0) as handle:
        with torch.no_grad():
            same = torch.equal(model(IDS).logits, BASE(IDS).logits)
        assert same == (method != "prefix")
        assert handle.count == sum(value.numel() for value in handle.parameters()) > 0
        trained = {id(value) for value in handle.parameters()}
        assert not any(value.requires_grad for value in model.parameters() if id(value) not in trained)
        optimiser = torch.optim.AdamW(handle.parameters(), 3e-2)
        losses = []
        for step in range(STEPS):
            optimiser.zero_grad()
            loss = model(IDS, labels=LABELS).loss + handle.parts.penalty()
            loss.backward()
            assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in handle.parameters())
            optimiser.step()
            handle.parts.after_step(step + 1)
            losses.append(loss.item())
        assert losses[-1] < losses[0]
    assert {name: value.requires_grad for name, value in model.named_parameters()} == flags
    assert [(name, type(module)) for name, module in model.named_modules()] == types
    assert all(torch.equal(value, BASE.state_dict()[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, BASE(IDS).logits)


@every
def test_only_a_prefix_reaches_below_the_first_layer(method: str, model: nn.Module) -> None:
    before = entering(model, ADAPTER.first_layer)
    with attach(model, method, ADAPTER, STEPS, seed=0) as handle:
        shaken(handle)
        assert torch.equal(entering(model, ADAPTER.first_layer), before) == handle.caches
        assert handle.caches == (method != "prefix")
        with torch.no_grad():
            assert (model(IDS).logits - BASE(IDS).logits).abs().max() > 1e-3


@every
def test_the_start_follows_from_the_seed_alone(method: str, model: nn.Module) -> None:
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(drawn))
        with attach(model, method, ADAPTER, STEPS, seed) as handle:
            drawn.append(torch.cat([value.detach().flatten() for value in handle.parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert method not in DRAWN or not torch.equal(drawn[0], drawn[2])


def test_the_penalty_is_the_one_that_peft_adds(model: nn.Module) -> None:
    with attach(model, "adalora", ADAPTER, STEPS, seed=0) as handle:
        shaken(handle)
        theirs = handle.parts.tuner(input_ids=IDS, labels=LABELS).loss - model(IDS, labels=LABELS).loss
        torch.testing.assert_close(handle.parts.penalty(), theirs)
        assert theirs > 0.1


def test_adalora_ends_with_its_budget_of_ranks(model: nn.Module) -> None:
    with attach(model, "adalora", ADAPTER, 10, seed=0) as handle:
        optimiser = torch.optim.AdamW(handle.parameters(), 1e-2)
        for step in range(10):
            optimiser.zero_grad()
            (model(IDS, labels=LABELS).loss + handle.parts.penalty()).backward()
            optimiser.step()
            handle.parts.after_step(step + 1)
        ranks = {name: value for name, value in handle.parts.parameters.items() if "lora_E" in name}
        assert sum(value.numel() for value in ranks.values()) == 3 * len(ranks)
        assert sum(int((value != 0).sum()) for value in ranks.values()) == 2 * len(ranks)


@pytest.mark.parametrize("steps", [2, 3, 4, 6])
def test_adalora_learns_in_few_steps_too(steps: int, model: nn.Module) -> None:
    with attach(model, "adalora", ADAPTER, steps, seed=0) as handle:
        losses = train(handle, Letters(), made_facts(), steps, 4, 1e-2, 0)
        assert len(losses) == steps
        assert all(value.isfinite().all() for value in handle.parameters())


def test_the_prefix_is_that_of_peft(model: nn.Module) -> None:
    theirs = peft.get_peft_model(
        deepcopy(BASE), peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=ADAPTER.rank)
    )
    with attach(model, "prefix", ADAPTER, STEPS, seed=0) as handle, torch.no_grad():
        shaken(handle)
        theirs.prompt_encoder["default"].embedding.weight.copy_(handle.parameters()[0])
        mask = torch.ones_like(IDS)
        mask[1, 5:] = 0
        found = model(input_ids=IDS, attention_mask=mask, use_cache=False).logits
        wanted = theirs(input_ids=IDS, attention_mask=mask).logits
        torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()])


def test_a_prefix_answers_in_a_padded_batch_as_alone_without_a_cache(model: nn.Module) -> None:
    prompts = ["abc", "defghij", "k"]
    with attach(model, "prefix", ADAPTER, STEPS, seed=0) as handle, torch.no_grad():
        shaken(handle)
        found = answers.greedy(model, Letters(), prompts, 5, batch_size=None)
        for prompt, answer in zip(prompts, found, strict=True):
            ids, told = torch.tensor([Letters()(prompt)["input_ids"]]), []
            for _ in range(5):
                told.append(model(ids, use_cache=False).logits[:, -1:].argmax(-1))
                ids = torch.cat([ids, told[-1]], 1)
            assert answer == Letters().decode(torch.cat(told, 1)[0]).split(".")[0].strip()
    assert len(set(found)) == 3


def test_the_bottleneck_is_its_formula(model: nn.Module) -> None:
    hidden = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(2))
    mlp = model.model.layers[3].mlp
    base = mlp(hidden)
    with attach(model, "bottleneck", ADAPTER, STEPS, seed=0) as handle:
        shaken(handle)
        named = handle.parts.parameters
        down = base @ named["1.down.weight"].T + named["1.down.bias"]
        wanted = base + functional.gelu(down) @ named["1.up.weight"].T + named["1.up.bias"]
        torch.testing.assert_close(mlp(hidden), wanted)


def test_the_state_brings_back_what_training_changed(model: nn.Module) -> None:
    with attach(model, "adalora", ADAPTER, 4, seed=0) as handle:
        (model(IDS, labels=LABELS).loss + handle.parts.penalty()).backward()
        shaken(handle)
        handle.parts.after_step(1)
        saved = {name: value.clone() for name, value in handle.parts.state().items()}
    with attach(model, "adalora", ADAPTER, 4, seed=5) as other:
        other.parts.load_state(saved)
        assert {name: value.tolist() for name, value in other.parts.state().items()} == {
            name: value.tolist() for name, value in saved.items()
        }


def test_wrong_wishes_are_refused_and_leave_the_model_alone(model: nn.Module) -> None:
    for method, adapter, steps, said in (
        ("lora2", ADAPTER, 5, "unknown method 'lora2': choose one of lora, "),
        ("lora", AdapterConfig(first_layer=4, rank=2), 5, "first_layer 4: the model has layers 0 to 3"),
        ("lora", AdapterConfig(first_layer=-1, rank=2), 5, "first_layer -1"),
        ("ia3", AdapterConfig(first_layer=2, rank=0), 5, "rank 0: give 1 or more"),
        ("adalora", ADAPTER, 0, "AdaLoRA cannot allot ranks in 0 steps: give `steps` of 2 or more"),
        ("adalora", ADAPTER, 1, "AdaLoRA cannot allot ranks in 1 steps: give `steps` of 2 or more"),
    ):
        with pytest.raises(UserError, match=said):
            attach(model, method, adapter, steps, seed=0)
    with pytest.raises(UserError, match="no linear maps"):
        attach(gpt2(), "dora", ADAPTER, 5, seed=0)
    assert all(value.requires_grad for value in model.parameters())
