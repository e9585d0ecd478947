"""What experts add to a layer's output, held against the sum written out row by row."""

import pytest
import torch

from lib.causal_lm.edits import Edit
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.lemoe.experts import Expert, LoraExpert, shares, with_experts
from lib.lemoe.rejection import Rejection
from lib.lemoe.router import NONE, Route
from tests.tiny_models import Words, small_llama


def experts(count: int) -> torch.nn.ModuleList:
    torch.manual_seed(0)
    made = torch.nn.ModuleList(Expert(4, 6) for _ in range(count))
    for one in made:
        torch.nn.init.normal_(one.leave.weight)  # it starts at zero, which would hide everything
        torch.nn.init.normal_(one.leave.bias)
    return made


def test_a_lora_expert_is_two_matrices_and_starts_as_nothing() -> None:
    one, hidden = LoraExpert(7, 3, 5), torch.randn(4, 2, 7)
    assert not one(hidden).any()
    assert [name for name, _ in one.named_parameters()] == ["enter.weight", "leave.weight"]
    torch.nn.init.normal_(one.leave.weight)
    assert torch.allclose(one(hidden), hidden @ one.enter.weight.T @ one.leave.weight.T, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize(
    "chosen",
    [
        [[0], [0], [0], [0]],
        [[2], [2], [2], [2]],
        [[0], [2], [NONE], [1]],
        [[0], [NONE], [0], [0]],
        [[0, 1], [1, 2], [2, 0], [1, 0]],
        [[NONE], [NONE], [NONE], [NONE]],
    ],
)
def test_every_expert_is_scaled_by_lambda_and_its_gate(chosen: list[list[int]], scale: float) -> None:
    made, route = experts(3), torch.tensor(chosen)
    hidden, output = torch.randn(4, 5, 4), torch.randn(4, 5, 4)
    gates = torch.rand(route.shape) * (route != NONE)
    found = with_experts(made, shares(Route(route, gates)), hidden, output, scale)
    for row, numbers in enumerate(chosen):
        wanted = output[row].clone()
        for number, gate in zip(numbers, gates[row], strict=True):
            if number != NONE:
                wanted += scale * gate * made[number](hidden[row])
        assert torch.allclose(found[row], wanted, atol=1e-6)


@pytest.mark.parametrize("expert", ["ffn", "lora"])
def test_lambda_reaches_the_model_for_one_expert_and_for_several(expert: str) -> None:
    """Twice lambda moves the layer's output twice as far, in every row and however many experts serve."""
    model = small_llama()
    adaptor = Adaptor.attach(model, AdaptorConfig(layer=1, router_width=8, expert=expert, rank=2, gate="one"))
    for _ in range(3):
        adaptor.add_expert()
    for value in adaptor.experts.parameters():
        torch.nn.init.normal_(value)
    ids = torch.tensor([Words()(text)["input_ids"] for text in ("a b c", "k l m", "n o p", "b b b")])
    site, seen = adaptor._site[0], []
    site.register_forward_hook(lambda module, arguments, output: seen.append(output.detach()))
    for forced in (1, torch.tensor([0, 2, -1, 1])):
        outputs = []
        for scale in (0.0, 0.5, 1.0):
            adaptor.config = adaptor.config.model_copy(update={"scale": scale})
            with adaptor.prompt(forced=forced), torch.no_grad():
                model(ids)
            outputs.append(seen[-1])
        plain, half, whole = outputs
        moved = whole - plain
        assert torch.allclose(half - plain, moved / 2, atol=1e-4)
        served = torch.as_tensor(forced).expand(4) != NONE
        assert (moved.abs().amax((1, 2)) > 1e-3).tolist() == served.tolist()


def test_the_locality_loss_sees_what_lambda_lets_through() -> None:
    (one,) = experts(1)
    rejection = Rejection("locality_loss", "anchor", 0.05, 0)
    rejection.states, rejection.size = torch.randn(7, 4), torch.tensor(3.0)
    wanted = (one(rejection.states) ** 2).mean() / 3
    assert torch.allclose(rejection.loss(one, 1.0), wanted)
    assert torch.allclose(rejection.loss(one, 0.3), 0.09 * wanted)


@pytest.mark.parametrize("chosen", [[[1], [1], [1]], [[0], [NONE], [1]], [[0, 1], [1, 0], [0, 1]]])
def test_what_an_expert_adds_is_no_longer_than_a_share_of_the_layers_own_output(chosen: list[list[int]]) -> None:
    made, route = experts(2), torch.tensor(chosen)
    served = shares(Route(route, (route != NONE).float() / route.shape[1]))
    hidden, output = 5 * torch.randn(3, 4, 4), torch.randn(3, 4, 4)
    free = with_experts(made, served, hidden, output, 1.0)
    bound = with_experts(made, served, hidden, output, 1.0, limit=0.25)
    if route.shape[1] == 1:  # of several each is bounded by itself
        longest = torch.minimum((free - output).norm(dim=-1), 0.25 * output.norm(dim=-1))
        assert torch.allclose((bound - output).norm(dim=-1), longest, atol=1e-5)
        inside = torch.nn.functional.cosine_similarity(bound - output, free - output, dim=-1)[route[:, 0] != NONE]
        assert torch.allclose(inside, torch.ones_like(inside), atol=1e-4)
    assert ((bound - output).norm(dim=-1) <= 0.25 * route.shape[1] * output.norm(dim=-1) + 1e-5).all()
    assert torch.equal(with_experts(made, served, hidden, output, 1.0, limit=1e6), free)


def test_a_bound_on_a_fresh_expert_leaves_it_a_finite_gradient() -> None:
    adaptor = Adaptor.attach(small_llama(), AdaptorConfig(layer=1, router_width=8, steps=5, norm_limit=0.5, rate=1e-2))
    losses = adaptor.edit(Words(), [Edit("a b c", "d"), Edit("c c c", "h")])
    assert losses[-1] < losses[0]
