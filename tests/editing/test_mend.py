"""MEND on tiny models of both styles: gradient descent before training, against autograd; trained, undone."""

import copy

import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode_edits
from lib.causal_lm.layers import down_projection, matrix
from lib.editing.mend import Factors, Mend, MendConfig, Transformation, gradient_factors, projections, updated
from lib.errors import UserError
from tests.tiny_models import Words as Tokens
from tests.tiny_models import small_gpt2, small_llama

CONFIG = MendConfig(layers=(1, 2), rank=12, rate=1e-2, edit_rate=0.05, steps=20, accumulated=1, rate_of_rates=0.05)
EDITS = [
    Edit("a b c", "d", rephrases=("c b a",), locality=("o p n", "m")),
    Edit("b b a e", "f g", rephrases=("b a e", "e b"), locality=("n n", "o p")),
    Edit("c c c", "h", locality=("p", "p o")),
]


def llama() -> LlamaForCausalLM:
    return small_llama(spread=0.3)


def gpt2() -> GPT2LMHeadModel:
    return small_gpt2(spread=0.3)


def ids(text: str) -> torch.Tensor:
    return torch.tensor([Tokens()(text)["input_ids"]])


def untrained(model: nn.Module, config: MendConfig = CONFIG) -> Transformation:
    outputs, inputs = matrix(down_projection(model, 1)).shape
    made = Transformation(config, inputs, outputs)
    generator = torch.Generator().manual_seed(1)
    for number in range(len(config.layers)):  # some statistics, as training would take them
        made.measure(
            [Factors(torch.randn(9, inputs, generator=generator), 1e-3 * torch.randn(9, outputs, generator=generator))],
            number,
        )
    return made


def gradients(model: nn.Module, edits: list[Edit]) -> list[torch.Tensor]:
    """Autograd's gradients of layers 1 and 2, each edit by itself, summed."""
    total = [torch.zeros_like(matrix(down_projection(model, layer))) for layer in (1, 2)]
    for edit in edits:
        encoded = encode_edits(model, Tokens(), [edit])
        loss = model(encoded.ids, labels=encoded.labels).loss
        weights = [down_projection(model, layer).weight for layer in (1, 2)]
        for place, (part, weight) in enumerate(zip(torch.autograd.grad(loss, weights), weights, strict=True)):
            total[place] += part if isinstance(down_projection(model, 1), nn.Linear) else part.T
            assert part.shape == weight.shape
    return total


both = pytest.mark.parametrize("make", [llama, gpt2])


@both
def test_factors_rebuild_the_gradient(make) -> None:
    expected = gradients(make(), EDITS)
    model = make().requires_grad_(False)
    found = gradient_factors(model, projections(model, (1, 2)), encode_edits(model, Tokens(), EDITS))
    for factors, gradient in zip(found, expected, strict=True):
        assert torch.allclose(factors.deltas.T @ factors.inputs, gradient, atol=1e-6, rtol=1e-4)
    # Layer 2 is the last: its outputs matter where a target token is predicted; those of layer 1 before that as well.
    assert [len(factors.inputs) for factors in found] == [3 + 5 + 3, 1 + 2 + 1]


@both
@pytest.mark.parametrize("normalised", [True, False])
def test_untrained_it_is_gradient_descent(make, normalised: bool) -> None:
    model, before = make(), make()
    config = CONFIG.model_copy(update={"normalised": normalised})
    expected = gradients(make(), EDITS)
    mend = Mend(model, Tokens(), untrained(model, config))
    mend.edit(EDITS)
    for layer, gradient in zip((1, 2), expected, strict=True):
        step = matrix(down_projection(before, layer)) - 0.05 * gradient
        assert torch.allclose(matrix(down_projection(model, layer)), step, atol=1e-6)
        assert not torch.equal(step, matrix(down_projection(before, layer)))
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before.state_dict()[name])]
    assert (
        changed
        == [name for name, _ in model.named_parameters() if "down_proj.weight" in name or "mlp.c_proj.w" in name][1:]
    )


def test_the_untrained_transformation_returns_its_factors_to_the_bit() -> None:
    made = untrained(llama())
    generator = torch.Generator().manual_seed(2)
    factors = Factors(torch.randn(5, 32, generator=generator), 1e-4 * torch.randn(5, 16, generator=generator))
    for number in (0, 1):
        found = made(factors, number)
        assert torch.equal(found.inputs, factors.inputs)
        assert torch.equal(found.deltas, factors.deltas)


def test_the_transformation_is_the_papers_network() -> None:
    made = Transformation(CONFIG, 3, 2)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(torch.randn(value.shape, generator=generator))
        made.mean.copy_(torch.randn(2, 5, generator=generator))
        made.deviation.copy_(torch.rand(2, 5, generator=generator) + 0.5)
    pair = torch.randn(4, 5, generator=generator)
    for layer in (0, 1):
        found = torch.cat(made(Factors(pair[:, :3], pair[:, 3:]), layer), -1)
        for row, expected in zip(pair, found, strict=True):
            z = (row - made.mean[layer]) / made.deviation[layer]
            first = made.scale[0, layer] * (made.up[0] @ (made.down[0] @ z) + made.bias) + made.offset[0, layer]
            h = z + first.clamp(min=0)
            second = made.scale[1, layer] * (made.up[1] @ (made.down[1] @ h)) + made.offset[1, layer]
            g = h + second.clamp(min=0)
            # Back at the pair's scale, the result is g with its mean and deviation.
            assert torch.allclose(expected, g * made.deviation[layer] + made.mean[layer], atol=1e-4)


def test_statistics_are_those_of_the_factors() -> None:
    made = Transformation(CONFIG, 3, 2)
    generator = torch.Generator().manual_seed(4)
    parts = [
        Factors(5 + torch.randn(n, 3, generator=generator), torch.randn(n, 2, generator=generator)) for n in (3, 4)
    ]
    made.measure(parts, 1)
    whole = torch.cat([torch.cat(part, -1) for part in parts])
    assert torch.allclose(made.mean[1], whole.mean(0), atol=1e-6)
    assert torch.allclose(made.deviation[1], whole.std(0, correction=0), atol=1e-6)
    assert torch.equal(made.deviation[0], torch.ones(5))


@both
def test_a_batch_is_the_sum_of_its_edits_and_batches_follow_each_other(make) -> None:
    transformation, _ = Mend.train(make(), Tokens(), EDITS, CONFIG.model_copy(update={"steps": 3}))
    start, steps = make(), []
    for edits in (EDITS[:1], EDITS[1:2], EDITS[:2]):
        model = make()
        Mend(model, Tokens(), transformation).edit(edits)
        steps.append(matrix(down_projection(model, 2)) - matrix(down_projection(start, 2)))
    assert torch.allclose(steps[0] + steps[1], steps[2], atol=1e-5)
    model, fresh = make(), make()
    mend = Mend(model, Tokens(), transformation)
    mend.edit(EDITS[:1])
    fresh.load_state_dict(model.state_dict())
    mend.edit(EDITS[1:2])
    Mend(fresh, Tokens(), transformation).edit(EDITS[1:2])
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())


@both
def test_acting_as_updated_is_being_updated(make) -> None:
    model, other = make(), make()
    weights = projections(model, (1, 2))
    factors = gradient_factors(model.requires_grad_(False), weights, encode_edits(model, Tokens(), EDITS))
    rates = torch.tensor([0.3, 0.7])
    for layer, found, rate in zip((1, 2), factors, rates, strict=True):
        with torch.no_grad():
            matrix(down_projection(other, layer)).sub_(rate * found.deltas.T @ found.inputs)
    with updated(weights, factors, rates):
        inside = model(ids("a b c")).logits
    assert torch.allclose(inside, other(ids("a b c")).logits, atol=1e-5)
    assert torch.equal(model(ids("a b c")).logits, make()(ids("a b c")).logits)


@both
def test_training_lowers_its_loss_and_leaves_the_model(make) -> None:
    model = make()
    before = copy.deepcopy(model.state_dict())
    # One edit with one rephrase: nothing is drawn, so that every step has the same loss to lower.
    config = CONFIG.model_copy(update={"accumulated": 1, "c_edit": 1.0})
    transformation, losses = Mend.train(model, Tokens(), EDITS[:1], config)
    assert len(losses) == 20
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in transformation.parameters())
    again, repeated = Mend.train(model, Tokens(), EDITS[:1], config.model_copy(update={"steps": 2}))
    assert repeated == losses[:2]
    assert all((up != 0).any() for up in again.up)
    assert (again.log_rates != torch.tensor(0.05).log()).all()


@both
def test_the_two_losses_pull_where_they_should(make) -> None:
    only = {"edit": {"c_edit": 1.0, "c_loc": 0.0}, "loc": {"c_edit": 0.0, "c_loc": 1.0}}
    rates = {}
    for name, change in only.items():
        found, _ = Mend.train(make(), Tokens(), EDITS, CONFIG.model_copy(update=change | {"steps": 8, "rate": 1e-9}))
        rates[name] = found.log_rates.exp()
    # Learning alone wants larger steps, staying alone smaller ones.
    assert (rates["edit"] > 0.05).all()
    assert (rates["loc"] < 0.05).all()


@both
def test_restoring_is_to_the_bit_and_the_transformation_edits_alike_again(make) -> None:
    model = make()
    before, logits = copy.deepcopy(model.state_dict()), model(ids("a b c")).logits
    transformation, _ = Mend.train(model, Tokens(), EDITS, CONFIG.model_copy(update={"steps": 3}))
    mend = Mend(model, Tokens(), transformation)
    mend.edit(EDITS[:2])
    mend.edit(EDITS[2:])
    edited = model(ids("a b c")).logits
    assert not torch.equal(edited, logits)
    assert mend.memory() == 0
    mend.restore()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    other = Mend(model, Tokens(), transformation)
    other.edit(EDITS[:2])
    other.edit(EDITS[2:])
    assert torch.equal(model(ids("a b c")).logits, edited)


def test_half_precision_is_taken() -> None:
    model = llama().to(torch.bfloat16)
    transformation, _ = Mend.train(model, Tokens(), EDITS, CONFIG.model_copy(update={"steps": 1}))
    mend = Mend(model, Tokens(), transformation)
    mend.edit(EDITS)
    assert down_projection(model, 1).weight.dtype == torch.bfloat16
    assert torch.isfinite(model(ids("a b")).logits).all()


def test_bad_input_is_one_clear_line() -> None:
    model = llama()
    with pytest.raises(UserError, match="no edits"):
        Mend.train(model, Tokens(), [], CONFIG)
    with pytest.raises(UserError, match="'a b' has no locality prompt"):
        Mend.train(model, Tokens(), [EDITS[0], Edit("a b", "c")], CONFIG)
    with pytest.raises(UserError, match="layer 31 does not exist"):
        Mend.train(model, Tokens(), EDITS, CONFIG.model_copy(update={"layers": (31,)}))
    with pytest.raises(UserError, match="name one twice"):
        Mend.train(model, Tokens(), EDITS, CONFIG.model_copy(update={"layers": (1, 1)}))
    with pytest.raises(UserError, match="not this model's"):
        Mend(model, Tokens(), Transformation(CONFIG, 8, 8))
    with pytest.raises(UserError, match="empty target"):
        Mend(model, Tokens(), untrained(model)).edit([Edit("a b", " ")])
