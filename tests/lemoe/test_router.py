"""Anchors, keys and several experts for a sequence, against loops."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lib.causal_lm.encoding import encode_edits
from lib.lemoe.adaptor import Adaptor, AdaptorConfig, Edit
from lib.lemoe.experts import LoraExpert, shares, with_experts
from lib.lemoe.router import Anchors, Route, Router, known_subjects, last_token, mean_embedding
from tests.lemoe.test_adaptor import Tokens, llama

CONFIG = AdaptorConfig.paper(layer=1, router_width=8, rate=1e-2, steps=4)


def test_the_anchor_is_the_mean_embedding_at_root_mean_square_one() -> None:
    table, ids = torch.randn(9, 6), torch.tensor([[1, 2, 3], [4, 5, 0]])
    found = mean_embedding(table, ids, torch.tensor([[1, 0, 1], [1, 1, 0]]))
    for row, words in zip(found, ([1, 3], [4, 5]), strict=True):
        mean = sum(table[word] for word in words) / 2
        assert torch.allclose(row, mean / mean.square().mean().sqrt(), atol=1e-5)


def test_the_last_token_of_a_prompt_padded_on_either_side() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    assert last_token(mask).tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]]


def test_the_longest_known_subject_is_found_and_the_last_of_equal_ones() -> None:
    ids = torch.tensor([[1, 2, 3, 4, 0], [5, 2, 5, 1, 2], [0, 0, 6, 7, 8], [2, 3, 9, 9, 9]])
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 0, 0, 0, 0]])
    found, missing = known_subjects(ids, mask, {(2,), (2, 3), (5,), (0,)})
    assert found.tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 1, 1, 1], [1, 0, 0, 0, 0]]
    assert missing == 1


def test_a_subject_routes_its_rephrase_as_its_edit() -> None:
    model = llama()
    adaptor = Adaptor.attach(model, CONFIG.model_copy(update={"anchor": "entity"}))
    adaptor.edit(Tokens(), [Edit("a b c", "d", "b c")])
    adaptor.edit(Tokens(), [Edit("e f", "g", "e")])
    seen = []
    route = adaptor.router.route
    adaptor.router.route = lambda anchors, *rest: seen.append(anchors) or route(anchors, *rest)
    adaptor.routes(Tokens(), ["a b c", "k b c l"])
    assert torch.allclose(seen[0][0], seen[0][1], atol=1e-6)
    assert adaptor.anchors.fallbacks == 0
    adaptor.routes(Tokens(), ["k l", "b k c"])
    assert adaptor.anchors.fallbacks == 2


@pytest.mark.parametrize("projection", ["frozen", "per_expert", "shared"])
def test_mean_keys_are_the_mean_values_of_their_batch(projection: str) -> None:
    model = llama()
    adaptor = Adaptor.attach(model, CONFIG.model_copy(update={"keys": "mean", "projection": projection}))
    batches = [[Edit("a b c", "d"), Edit("e", "f")], [Edit("k l", "m"), Edit("o n o", "p")]]
    for batch in batches:
        adaptor.edit(Tokens(), batch)
        number = len(adaptor.experts) - 1
        table = model.get_input_embeddings().weight
        values = []
        for edit in batch:
            mean = table[Tokens()(edit.prompt)["input_ids"]].mean(0)
            values.append(adaptor.router.projections[-1](mean / mean.square().mean().sqrt()))
        assert torch.allclose(adaptor.router.keys[number], torch.stack(values).mean(0), atol=1e-5)
    assert not any(key.requires_grad for key in adaptor.router.keys)


def test_with_a_key_for_each_edit_the_nearest_edit_has_the_route() -> None:
    """Brute force over all edits; a prompt of two batches is the later one's, however the sums are rounded."""
    for projection in ("frozen", "per_expert"):
        torch.manual_seed(3)
        router = Router(6, 4, projection, "one", "each")
        batches = [torch.randn(3, 6), torch.randn(1, 6), torch.randn(4, 6)]
        batches[2][1] = batches[0][2] + 1e-7
        for batch in batches:
            router.add()
            router.set_key(batch)
        asked = torch.cat([torch.randn(50, 6), *batches])
        projects = router.projections if projection == "per_expert" else [router.projections[0]] * 3
        distances = []
        for project, batch in zip(projects, batches, strict=True):
            apart = (project(asked)[:, None] - project(batch)[None]).norm(dim=-1)
            distances.append([min(row) for row in apart.tolist()])
        wanted = [
            min((round(one, 3), -number) for number, one in enumerate(row)) for row in zip(*distances, strict=True)
        ]
        assert router.route(asked).expert.tolist() == [-number for _, number in wanted]
        assert router.route(asked).expert[50:].tolist() == [0, 0, 2, 1, 2, 2, 2, 2]
        assert router.known().shape == (8, 4)
        assert not any(key.requires_grad for key in router.keys)


def test_long_prompts_that_differ_in_one_word_are_told_apart_and_rounding_is_not() -> None:
    """The mean of 341 embeddings, which share a direction, hardly moves by one; rounding moves it less."""
    torch.manual_seed(0)
    router, words = Router(576, 128, "frozen", "one", "each"), 3 + torch.randn(342, 576)
    first, second = words[:341].mean(0), words[1:].mean(0)
    anchors = functional.rms_norm(torch.stack([first, second]), (576,))
    for anchor in anchors:
        router.add()
        router.set_key(anchor[None])
    assert router.route(anchors).expert.tolist() == [0, 1]
    router.add()
    router.set_key(anchors[[0]] + 1e-7 * torch.randn(1, 576))
    assert router.route(anchors).expert.tolist() == [2, 1]


def test_unlike_edits_of_one_batch_are_not_lost_to_a_later_one() -> None:
    """The mean of two unlike prompts is farther from either than a later prompt that shares most words with one."""
    batches = [[Edit("a b c d", "k"), Edit("l m n o", "p")], [Edit("a b c e", "g")]]
    lost = {}
    for keys in ("mean", "each"):
        routes = []
        for seed in range(5):
            adaptor = Adaptor.attach(
                llama(), CONFIG.model_copy(update={"keys": keys, "seed": seed, "projection": "frozen"})
            )
            for batch in batches:
                adaptor.edit(Tokens(), batch)
            routes += adaptor.routes(Tokens(), [edit.prompt for batch in batches for edit in batch])
        lost[keys] = sum(route != wanted for route, wanted in zip(routes, [0, 0, 1] * 5, strict=True))
    assert lost["each"] == 0 < lost["mean"]


def test_values_are_two_matrices_with_silu_between_and_only_the_newest_is_trained() -> None:
    for kind in ("shared", "frozen_after_first", "per_expert", "frozen"):
        router, trained = Router(6, 4, kind, "one"), []
        for _ in range(3):
            router.add()
            trained.append([all(value.requires_grad for value in one.parameters()) for one in router.projections])
            assert [key.requires_grad for key in router.keys] == [False] * (len(router) - 1) + [True]
        assert (
            trained
            == {
                "shared": [[True]] * 3,
                "frozen_after_first": [[True], [False], [False]],
                "per_expert": [[True], [False, True], [False, False, True]],
                "frozen": [[False]] * 3,
            }[kind]
        )
        assert [name for name, _ in router.projections[-1].named_parameters()] == ["0.weight", "2.weight"]
        anchors, (down, up) = torch.randn(5, 6), router.projections[-1].parameters()
        hidden = anchors @ down.T
        values = (hidden * hidden.sigmoid()) @ up.T
        assert torch.allclose(router.values(anchors), values, atol=1e-6)
        assert torch.allclose(router.scores(anchors)[:, -1], values @ router.keys[-1], atol=1e-6)


def test_keys_are_drawn_at_length_one_however_wide() -> None:
    router = Router(2, 2500, "frozen", "one")
    router.add()
    assert router.keys[0].norm().item() == pytest.approx(1, abs=0.1)


def test_the_anchor_of_an_edit_is_its_subject_and_without_one_its_prompt() -> None:
    anchors, tokenizer = Anchors("entity"), Tokens()
    edits = [Edit("a b c", "d", "b c"), Edit("e f", "g g"), Edit("k l", "m", "l")]
    encoded = encode_edits(llama(), tokenizer, edits)
    found = anchors.of_edits(tokenizer, edits, encoded)
    assert found.tolist() == [[0, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]]
    assert anchors.fallbacks == 1
    told = torch.tensor([tokenizer("c l a b")["input_ids"]])
    assert anchors.of_prompts(told, torch.ones_like(told)).tolist() == [[0, 1, 0, 0]]  # known by now
    plain = {kind: Anchors(kind).of_edits(tokenizer, edits, encoded) for kind in ("instance", "token")}
    assert plain["instance"].tolist() == encoded.prompt.tolist()
    assert plain["token"].tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize("gate", ["one", "softmax", "straight_through"])
def test_the_best_k_experts_by_a_loop(gate: str) -> None:
    torch.manual_seed(0)
    router = Router(6, 4, "shared", gate, top_k=2)
    for _ in range(4):
        router.add()
    experts = nn.ModuleList(LoraExpert(5, 3, 7) for _ in range(4))
    for expert in experts:
        nn.init.normal_(expert.leave.weight)
    anchors, hidden, output = torch.randn(6, 6), torch.randn(6, 2, 5), torch.randn(6, 2, 7)
    route = router.route(anchors)
    assert torch.equal(route.gate, route.gates[:, 0])
    found = with_experts(experts, shares(route), hidden, output, 0.5)
    for row in range(6):
        value = router.projections[0](anchors[row])
        scores = torch.stack([key @ value for key in router.keys])
        probability = scores.exp() / scores.exp().sum()
        best = sorted(range(4), key=lambda number: -scores[number].item())[:2]
        weights = {number: probability[number] if gate == "softmax" else 0.5 for number in best}
        told = output[row] + 0.5 * sum(
            weight * (experts[number].leave.weight @ experts[number].enter.weight @ hidden[row].T).T
            for number, weight in weights.items()
        )
        assert torch.allclose(found[row], told, atol=1e-5)


def test_only_chosen_experts_are_run() -> None:
    class Counted(nn.Module):
        runs = 0

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            self.runs += 1
            return hidden * 2

    experts = nn.ModuleList(Counted() for _ in range(64))
    route = Route(torch.tensor([[7], [-1], [7], [60]]), torch.tensor([[1.0], [0.0], [1.0], [0.5]]))
    hidden = torch.randn(4, 3, 2)
    found = with_experts(experts, shares(route), hidden, hidden, 1.0)
    assert [number for number, expert in enumerate(experts) if expert.runs] == [7, 60]
    assert torch.allclose(found, hidden * torch.tensor([3.0, 1.0, 3.0, 2.0])[:, None, None])
    assert sum(expert.runs for expert in experts) == 2


def test_without_forcing_an_unchosen_expert_is_not_trained() -> None:
    adaptor = Adaptor.attach(
        llama(), CONFIG.model_copy(update={"force_new_expert": False, "auxiliary_weight": 0.0, "gate": "one"})
    )
    adaptor.edit(Tokens(), [Edit("a b", "c")])
    adaptor.router.route = lambda anchors, forced, null: Route(
        *(torch.zeros(len(anchors), 1, dtype=kind) for kind in (torch.long, torch.float))
    )
    adaptor.edit(Tokens(), [Edit("a b", "c")])
    assert adaptor.experts[1].leave.weight.abs().max() == 0
    assert adaptor.trained == [[0], [0]]


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("rejection", [None, "null"])
def test_the_auxiliary_loss_has_the_gradient_of_its_definition(weight: float, rejection: str | None) -> None:
    """d/dk of -log softmax is (p - 1) v for the newest key and the batch, p v for it and unrelated texts."""
    changes = {"auxiliary_weight": weight, "rejection": rejection, "projection": "frozen", "router_width": 5}
    adaptor = Adaptor.attach(llama(), CONFIG.model_copy(update=changes))
    adaptor.add_expert()
    adaptor.add_expert()
    anchors, unrelated = torch.randn(6, 16), torch.randn(4, 16)
    adaptor.rejection.unrelated = unrelated
    adaptor._calibrate(anchors)
    loss, router = adaptor._auxiliary_loss(anchors), adaptor.router
    keys = [key.detach() for key in router.keys] + ([adaptor.rejection.null] if rejection else [])
    values, others = router.values(anchors).detach(), router.values(unrelated).detach()
    chances = (values @ torch.stack(keys).T).softmax(-1)
    wanted, total = (chances[:, 1:2] - 1) * values / 6, -chances[:, 1].log().mean()
    slope = wanted.sum(0)
    if rejection:
        away = (others @ torch.stack(keys).T).softmax(-1)
        slope, total = slope + (away[:, 1:2] * others / 4).sum(0), total - away[:, 2].log().mean()
    assert torch.allclose(loss, weight * total, atol=1e-5)
    found = torch.autograd.grad(loss, router.keys[-1])[0]
    assert torch.allclose(found, weight * slope, atol=1e-5)


def test_where_nothing_else_trains_the_key_an_edit_moves_it_by_the_auxiliary_loss() -> None:
    """One step of AdamW from the drawn key: the first is the rate in the direction of the gradient."""
    changes = {"gate": "one", "projection": "frozen", "steps": 1, "rate": 1e-3}
    adaptor, twin = (Adaptor.attach(llama(), CONFIG.model_copy(update=changes)) for _ in range(2))
    for one in (adaptor, twin):
        one.edit(Tokens(), [Edit("a b", "c")])
    twin.add_expert()
    drawn = twin.router.keys[1].detach()
    adaptor.edit(Tokens(), [Edit("k l m", "n"), Edit("o o", "p")])
    values = adaptor.values(Tokens(), ["k l m", "o o"])
    chances = (values @ torch.stack([twin.router.keys[0].detach(), drawn]).T).softmax(-1)
    slope = ((chances[:, 1:] - 1) * values).mean(0)
    assert torch.allclose(adaptor.router.keys[1], drawn * (1 - 1e-5) - 1e-3 * slope.sign(), atol=1e-6)
    assert torch.equal(adaptor.router.keys[0], twin.router.keys[0])
