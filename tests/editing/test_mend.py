"""MEND on tiny models of both styles: gradient descent before training, against autograd; trained, undone."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import Encoded, encode, encode_edits
from lib.causal_lm.layers import down_projection, matrix
from lib.editing import mend as module
from lib.editing.mend import Mend, gradient_factors, projections, shapes, updated
from lib.editing.mend_network import Factors, Looks, MendConfig, Network, Transformation
from lib.errors import DivergedError, UserError
from tests.tiny_models import Words as Tokens
from tests.tiny_models import small_gpt2, small_llama

CONFIG = MendConfig.tuned(
    layers=(1, 2), rank=12, rate=1e-2, edit_rate=0.05, steps=20, accumulated=1, rate_of_rates=0.05
)
RELEASED = MendConfig(layers=(1, 2), rank=12)
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
    made = Transformation(config, [(outputs, inputs)] * len(config.layers))
    generator = torch.Generator().manual_seed(1)
    for number in range(len(config.layers)):  # some statistics, as training would take them
        made.network(number)[0].measure(
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
    made = Network(CONFIG, 3, 2, weights=2)
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
            first = made.scale[0, layer] * (made.up[0] @ (made.down[0] @ z) + made.bias[0]) + made.offset[0, layer]
            h = z + first.clamp(min=0)
            second = made.scale[1, layer] * (made.up[1] @ (made.down[1] @ h)) + made.offset[1, layer]
            g = h + second.clamp(min=0)
            # Back at the pair's scale, the result is g with its mean and deviation.
            assert torch.allclose(expected, g * made.deviation[layer] + made.mean[layer], atol=1e-4)


def test_statistics_are_those_of_the_factors() -> None:
    made = Network(CONFIG, 3, 2, weights=2)
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
    network, _ = again.network(0)
    assert all((up != 0).any() for up in network.up)
    assert (network.rates != torch.tensor(0.05).log()).all()


def test_patience_ends_after_looks_without_a_lower_loss_and_the_lowest_is_kept() -> None:
    looks, network = Looks(patience=2), nn.Linear(1, 1)
    for step, (loss, stops) in enumerate([(3.0, False), (2.0, False), (2.5, False), (2.0, True)]):
        nn.init.constant_(network.weight, step)
        assert looks.note(20 * step, loss, network) is stops  # a loss as low as the lowest is no gain
    assert looks.settled
    assert looks.best["weight"].item() == 1
    assert list(looks.losses) == [0, 20, 40, 60]


def test_validation_returns_the_network_of_its_lowest_look_and_draws_nothing_of_trainings_own() -> None:
    model, config = llama(), CONFIG.model_copy(update={"steps": 9, "look_every": 2, "patience": 2, "rate": 0.3})
    looks = Looks(config.patience)
    made, losses = Mend.train(model, Tokens(), EDITS[1:], config, EDITS[:1], looks)
    _, every = Mend.train(model, Tokens(), EDITS[1:], config)
    assert losses == every[: len(losses)]
    best = min(looks.losses, key=looks.losses.__getitem__)
    assert next(iter(looks.losses)) == 0
    assert list(looks.losses)[-1] == len(losses)
    assert looks.settled == (len(losses) < 9)
    stopped, _ = Mend.train(model, Tokens(), EDITS[1:], config.model_copy(update={"steps": max(best, 1)}))
    if best:
        assert all(torch.equal(value, stopped.state_dict()[name]) for name, value in made.state_dict().items())
    else:  # the start: gradient descent
        assert not any(up.any() for up in made.network(0)[0].up)
    weights = projections(model, config.layers, config.matrices)
    again = [module.validation_loss(model, Tokens(), weights, EDITS[:1], made) for _ in range(2)]
    assert again[0] == again[1] == looks.losses[best]
    with pytest.raises(UserError, match="no locality prompt"):
        Mend.train(model, Tokens(), EDITS, config, [Edit("a b", "c")])


@both
def test_the_two_losses_pull_where_they_should(make) -> None:
    only = {"edit": {"c_edit": 1.0, "c_loc": 0.0}, "loc": {"c_edit": 0.0, "c_loc": 1.0}}
    rates = {}
    for name, change in only.items():
        found, _ = Mend.train(make(), Tokens(), EDITS, CONFIG.model_copy(update=change | {"steps": 8, "rate": 1e-9}))
        rates[name] = found.steps()
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
        Mend(model, Tokens(), Transformation(CONFIG, [(8, 8), (8, 8)]))
    with pytest.raises(UserError, match="empty target"):
        Mend(model, Tokens(), untrained(model)).edit([Edit("a b", " ")])


class Released:
    """The authors' code, written anew from its formulas: token by token, and the weights really changed."""

    def __init__(self, model: nn.Module, made: Transformation) -> None:
        self.model, self.config = model, made.config
        parts = {llama: ("gate_proj", "up_proj", "down_proj"), gpt2: ("c_fc", "c_proj")}
        linear = parts[llama if isinstance(model, LlamaForCausalLM) else gpt2]
        self.names = [
            name
            for name, _ in model.named_modules()
            if name.split(".")[-1] in linear and "mlp" in name and name.split(".")[2] in ("1", "2")
        ]
        self.weights = {name: model.get_submodule(name).weight for name in self.names}
        # (inputs, outputs), as Conv1D stores a weight and nn.Linear does not.
        turned = not isinstance(model, GPT2LMHeadModel)
        self.turned = turned
        self.kinds = [tuple(value.shape[::-1] if turned else value.shape) for value in self.weights.values()]
        nets = {(net.inputs, net.outputs): net for net in made.networks}
        self.nets = {
            kind: {
                key: [value.detach().clone().requires_grad_() for value in values]
                for key, values in {
                    "u": net.up,
                    "v": net.down,
                    "bias": net.bias,
                    "scale": net.scale,
                    "shift": net.offset,
                }.items()
            }
            for kind, net in nets.items()
        }
        self.alphas = [torch.tensor(self.config.edit_rate).requires_grad_() for _ in self.names]
        self.seen: dict[Any, list[torch.Tensor]] = {kind: [] for kind in self.nets}

    def parameters(self) -> list[torch.Tensor]:
        return [value for net in self.nets.values() for values in net.values() for value in values] + self.alphas

    def edited(self, encoded: Encoded, training: bool) -> dict[str, torch.Tensor]:
        """The edited weights, by name."""
        noted: dict[str, Any] = {}

        def note(name: str, given: Any, output: torch.Tensor) -> None:
            output.retain_grad()
            noted[name] = given[0].detach(), output

        hooks = [
            self.model.get_submodule(name).register_forward_hook(
                lambda _, given, output, name=name: note(name, given, output)
            )
            for name in self.names
        ]
        # transformers' loss is the mean over all target tokens of a batch.
        self.model(encoded.ids, attention_mask=encoded.mask, labels=encoded.labels).loss.backward()
        for hook in hooks:
            hook.remove()
        self.model.zero_grad()
        result = {}
        for place, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            mode = self.kinds[:place].count(kind)
            given, output = noted[name]
            rows = [
                torch.cat([u, v])
                for u, v in zip(given.flatten(0, 1), output.grad.flatten(0, 1), strict=True)
                if (u != 0).any() and (v != 0).any()
            ]
            self.seen[kind] += rows if training else []
            change = 0.0
            for row in rows:
                x = self.normal(row, kind)
                for u, v, bias, scale, shift in zip(*self.nets[kind].values(), strict=True):
                    x = x + ((u @ (v @ x) + bias) * scale[mode] + shift[mode]).clamp(min=0)
                change = change + torch.outer(x[: kind[0]], x[kind[0] :])
            result[f"{name}.weight"] = self.weights[name].detach() + self.alphas[place] * (
                change.T if self.turned else change
            )
        return result

    def normal(self, row: torch.Tensor, kind: Any) -> torch.Tensor:
        if not self.seen[kind]:
            return row
        every = torch.stack(self.seen[kind])
        return (row - every.mean(0)) / (every.std(0, correction=1) + 1e-7)

    def train(self, edit: Edit) -> list[float]:
        config, parameters = self.config, self.parameters()
        adam = torch.optim.Adam(parameters, lr=config.rate)
        of_rates = torch.optim.Adam(self.alphas, lr=1e-4)
        asked = encode(self.model, Tokens(), [(edit.rephrases[0], edit.target)])
        kept = encode(self.model, Tokens(), [edit.locality])
        before = self.model(kept.ids).logits.detach().log_softmax(-1)
        losses = []
        for _ in range(config.steps):
            total = 0.0
            for _ in range(config.accumulated):
                weights = self.edited(encode_edits(self.model, Tokens(), [edit]), training=True)
                call = torch.func.functional_call
                learnt = call(self.model, weights, (asked.ids,), {"labels": asked.labels}).loss
                after = call(self.model, weights, (kept.ids,)).logits.log_softmax(-1)
                loss = config.c_edit * learnt + config.c_loc * (before.exp() * (before - after)).sum(-1).mean()
                for value, found in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                    value.grad = found / config.accumulated + (0 if value.grad is None else value.grad)
                total += loss.item() / config.accumulated
            nn.utils.clip_grad_norm_(parameters, config.clip)
            # In the code's order: what trains the network holds the rates as well, and clears their gradient.
            adam.step()
            adam.zero_grad()
            of_rates.step()
            of_rates.zero_grad()
            losses.append(total)
        return losses


def disturbed(model: nn.Module, config: MendConfig) -> Transformation:
    made = Transformation(config, shapes(projections(model, (1, 2), "all")))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if not name.endswith(".rates"):
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return made


@both
def test_an_edit_is_that_of_the_released_code(make) -> None:
    model, start = make(), make()
    config = RELEASED.model_copy(update={"edit_rate": 1e-3})
    made = disturbed(model, config)
    released = Released(make(), made)
    encoded = encode_edits(released.model, Tokens(), EDITS[:2])
    generator = torch.Generator().manual_seed(6)
    for kind in released.nets:  # some that training would have seen, for all weights of a shape together
        rows = torch.randn(9, sum(kind), generator=generator)
        net = next(net for net in made.networks if (net.inputs, net.outputs) == kind)
        for part in (rows[:2], rows[2:]):
            net.observe(Factors(part[:, : kind[0]], part[:, kind[0] :]))
        released.seen[kind] = list(rows)
    expected = released.edited(encoded, training=False)
    Mend(model, Tokens(), made).edit(EDITS[:2])
    found = model.state_dict()
    assert len(expected) == (6 if make is llama else 4)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-4, rtol=1e-4)
        assert (value - start.state_dict()[name]).abs().max() > 1e-2
    unequal = [name for name, value in start.state_dict().items() if not torch.equal(value, found[name])]
    assert set(unequal) == set(expected)


@both
def test_training_is_that_of_the_released_code(make) -> None:
    # The edit rates move at the network's rate here, whatever the rate of their own optimiser.
    change = {"steps": 3, "accumulated": 2, "edit_rate": 1e-3, "rate": 1e-4, "rate_of_rates": 1e-4, "clip": 0.5}
    config = RELEASED.model_copy(update=change)
    released = Released(make(), Transformation(config, shapes(projections(make(), (1, 2), "all"))))
    expected = released.train(EDITS[0])
    made, losses = Mend.train(make(), Tokens(), EDITS[:1], config)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert abs(losses[2] - losses[0]) > 1e-3 * losses[0]
    for network in made.networks:
        theirs = released.nets[network.inputs, network.outputs]
        # Each of Adam's steps is as long as the rate: 1e-4 in three steps of it.
        for ours, name in ((network.up, "u"), (network.bias, "bias"), (network.scale, "scale")):
            for one, other in zip(ours, theirs[name], strict=True):
                assert (one - other).abs().mean() < 1e-6
        assert (network.up[0] != 0).any()
    rates = -made.steps()
    assert torch.allclose(rates, torch.stack(released.alphas), atol=1e-6)
    assert ((rates - 1e-3).abs() > 5e-5).any()


def test_the_released_start() -> None:
    config = MendConfig(layers=(1, 2))
    network = Network(config, 30, 20, weights=2)
    for value in network.down:
        assert value.shape == (50, 50)  # 1,920 at most
        assert value.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(network.rates, torch.full((2,), 1e-4))
    assert torch.equal(network.steps(), torch.full((2,), -1e-4))
    factors = Factors(torch.randn(4, 30), torch.randn(4, 20))
    network.observe(factors)
    pair = torch.cat(factors, -1)
    for number in (0, 1):
        found = torch.cat(network(factors, number), -1)
        assert torch.allclose(found, (pair - pair.mean(0)) / pair.std(0), atol=1e-4)


def test_what_is_seen_part_by_part_is_as_if_seen_at_once() -> None:
    network = Network(RELEASED, 3, 2, weights=2)
    pairs = 1e3 + torch.randn(40, 5, generator=torch.Generator().manual_seed(7)) * torch.tensor([1.0, 5, 1e-3, 20, 0])
    for part in pairs.split([1, 0, 7, 20, 12]):
        network.observe(Factors(part[:, :3], part[:, 3:]))
    assert torch.allclose(network.mean[0], pairs.mean(0))
    assert torch.allclose(network.deviation[0], pairs.double().std(0).float() + 1e-7, rtol=1e-3)


@pytest.mark.parametrize(("drawn", "turns"), [("in turn", True), ("any", False)])
def test_edits_come_in_turn_or_any(drawn: str, turns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noting(model: Any, tokenizer: Any, weights: Any, chosen: Sequence[Edit], made: Any, stream: Any) -> Any:
        seen.extend(edit.prompt for edit in chosen)
        return made.networks[0].bias.sum()

    monkeypatch.setattr(module, "_loss", noting)
    change = {"drawn": drawn, "together": 2, "accumulated": 3, "steps": 4}
    Mend.train(llama(), Tokens(), EDITS, CONFIG.model_copy(update=change))
    assert len(seen) == 24
    assert all(len(set(seen[start : start + 3])) == 3 for start in range(0, 24, 3)) == turns


def test_training_that_diverges_says_so() -> None:
    with pytest.raises(DivergedError, match="not finite"):
        Mend.train(llama(), Tokens(), EDITS, CONFIG.model_copy(update={"rate": 1e30}))
