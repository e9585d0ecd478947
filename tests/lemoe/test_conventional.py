"""The conventional adaptor on tiny models of both styles: against brute force, frozen, cached, and given back."""

import copy

import pytest
import torch
from torch.nn import functional
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode_edits
from lib.causal_lm.upper_layers import UpperLayers
from lib.editing.editor import NoEdit
from lib.editing.scoring import before, score, summary
from lib.errors import UserError
from lib.lemoe.conventional import Conventional, ConventionalConfig, Router, mixed, top_k
from lib.lemoe.experts import Expert
from tests.tiny_models import Words as Tokens
from tests.tiny_models import small_gpt2, small_llama

CONFIG = ConventionalConfig(layer=1, router_width=8, rate=1e-2, steps=12)
EDITS = [[Edit("a b c", "d"), Edit("b b a e", "f g")], [Edit("c c c", "h"), Edit("k l", "m")], [Edit("n o", "p p")]]


def llama() -> LlamaForCausalLM:
    return small_llama(vocabulary=19)


def gpt2() -> GPT2LMHeadModel:
    return small_gpt2(vocabulary=19)


both = pytest.mark.parametrize("make", [llama, gpt2])


def ids(text: str) -> torch.Tensor:
    return torch.tensor([Tokens()(text)["input_ids"]])


def edited(model: torch.nn.Module, batches: int = 3, **changes: object) -> Conventional:
    editor = Conventional(model, Tokens(), CONFIG.model_copy(update=changes))
    for batch in EDITS[:batches]:
        editor.edit(batch)
    return editor


def experts(count: int, width: int = 6) -> torch.nn.ModuleList:
    made = torch.nn.ModuleList([Expert(width, 5) for _ in range(count)])
    for expert in made:
        torch.nn.init.normal_(expert.leave.weight)
        torch.nn.init.normal_(expert.leave.bias)
    return made


@pytest.mark.parametrize(("count", "k"), [(1, 1), (4, 1), (4, 2), (4, 4), (2, 3)])
def test_top_k_routing_is_brute_force_over_all_experts(count: int, k: int) -> None:
    torch.manual_seed(count + k)
    made, hidden, scores = experts(count), torch.randn(3, 5, 6), torch.randn(3, 5, count)
    route = top_k(scores, k)
    found = mixed(made, hidden, route)
    for row in range(3):
        for token in range(5):
            chances = scores[row, token].exp() / scores[row, token].exp().sum()
            best = sorted(range(count), key=lambda i, chances=chances: -chances[i])[:k]
            assert route.expert[row, token].tolist() == best
            wanted = sum(chances[i] * made[i](hidden[row, token]) for i in best)
            assert torch.allclose(found[row, token], wanted, atol=1e-6)


def test_gradients_reach_the_chosen_experts_and_the_scores() -> None:
    torch.manual_seed(0)
    made, hidden, scores = experts(3), torch.randn(2, 4, 6), torch.randn(2, 4, 3, requires_grad=True)
    weights = torch.randn(2, 4, 6)
    route = top_k(scores, 2)
    (mixed(made, hidden, route) * weights).sum().backward()
    ours = [value.grad.clone() for value in made.parameters()], scores.grad.clone()
    made.zero_grad()
    scores.grad = None
    chances = scores.softmax(-1) * functional.one_hot(route.expert, 3).sum(-2)
    every = sum(chances[..., i, None] * made[i](hidden) for i in range(3))
    (every * weights).sum().backward()
    assert all(
        torch.allclose(one, value.grad, atol=1e-5) for one, value in zip(ours[0], made.parameters(), strict=True)
    )
    assert torch.allclose(ours[1], scores.grad, atol=1e-5)


@both
@pytest.mark.parametrize("k", [1, 2])
def test_the_layer_is_its_own_output_plus_lambda_times_the_experts(make, k: int) -> None:
    model = make()
    editor = edited(model, scale=0.7, k=k)
    text, seen = ids("a b c d"), []
    hook = model.base_model.get_submodule("layers.1.mlp" if make is llama else "h.1.mlp").register_forward_hook(
        lambda module, arguments, output: seen.append((arguments[0], output))
    )
    model(text)
    hook.remove()
    hidden, output = seen[0]
    scores = editor.router.rows
    inner = functional.silu(editor.router.enter(hidden))
    chances = torch.stack([inner @ row for row in scores], -1).softmax(-1)
    kept = torch.where(chances >= chances.topk(k).values[..., -1:], chances, 0.0)
    added = sum(kept[..., i, None] * expert(hidden) for i, expert in enumerate(editor.experts))
    editor.restore()
    plain = model.base_model.get_submodule("layers.1.mlp" if make is llama else "h.1.mlp")(hidden)
    assert torch.allclose(output, plain + 0.7 * added, atol=1e-5)


@both
def test_training_runs_from_the_models_own_logits_and_gradients(make) -> None:
    model = make()
    editor = edited(model, 2)
    read = encode_edits(model, Tokens(), [edit for batch in EDITS for edit in batch])
    upper = UpperLayers(model, read, 1)
    whole = model(input_ids=read.ids, attention_mask=read.mask).logits[:, :-1]
    labels = read.labels[:, 1:]
    newest = list(editor.experts[-1].parameters())
    ours = torch.autograd.grad(upper.losses()[0].mean(), newest)
    theirs = torch.autograd.grad(functional.cross_entropy(whole.transpose(1, 2), labels), newest)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, theirs, strict=True))


@both
def test_an_untrained_adaptor_changes_nothing_and_restoring_gives_the_model_back(make) -> None:
    model = make()
    weights, text = copy.deepcopy(model.state_dict()), ids("a b c d")
    logits = model(text).logits
    editor = Conventional(model, Tokens(), CONFIG.model_copy(update={"rate": 0.0}))
    assert editor.memory() == 0
    editor.edit(EDITS[0])
    assert torch.equal(model(text).logits, logits)
    assert editor.last.expert.shape == (1, 4, 1)
    editor.restore()
    editor = edited(model, 2)
    assert not torch.equal(model(text).logits, logits)
    assert editor.memory() == 4 * (2 * (2 * 16 * editor.inner + 16 + editor.inner) + 17 * 8 + 2 * 8)
    assert editor.inner == (32 if make is llama else 64)
    editor.restore()
    assert torch.equal(model(text).logits, logits)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not model.base_model._forward_pre_hooks
    assert editor.memory() == 0


@both
def test_edits_are_learnt_generated_and_scored(make) -> None:
    model = make()
    told = before(NoEdit(model, Tokens()), EDITS[0])
    editor = edited(model, 1, steps=60)
    assert editor.losses[0] > 1
    assert editor.losses[-1] < 0.3
    frame = score(editor, EDITS[0], told, generate=True)
    assert summary(frame)["Rel"] == 1
    assert frame["rel_free"].mean() == 1


@both
def test_experts_of_earlier_batches_keep_their_bits(make) -> None:
    editor = edited(make(), 1)
    frozen = copy.deepcopy(editor.experts.state_dict())
    router = editor.router.enter.weight.clone()
    editor.edit(EDITS[1])
    editor.edit(EDITS[2])
    assert len(editor.experts) == len(editor.router.rows) == 3
    assert all(torch.equal(editor.experts.state_dict()[name], value) for name, value in frozen.items())
    assert not torch.equal(editor.router.enter.weight, router)
    assert [expert.enter.weight.requires_grad for expert in editor.experts] == [False, False, True]


def test_every_batch_is_counted_and_draws_an_expert_of_its_own() -> None:
    editor = edited(llama(), rate=0.0)
    assert editor.learnt == 3
    first, *others = (expert.enter.weight for expert in editor.experts)
    assert not any(torch.equal(first, other) for other in others)


def test_chunks_do_not_change_what_is_learnt_and_seeds_do() -> None:
    batch = [edit for batch in EDITS for edit in batch]

    def learnt(**changes: object) -> torch.Tensor:
        model = llama()
        torch.manual_seed(int(changes.get("chunk", 7)))  # the stream of the caller does not matter, nor is it moved
        state = torch.get_rng_state()
        editor = Conventional(model, Tokens(), CONFIG.model_copy(update={"steps": 3, **changes}))
        editor.edit(batch)
        assert torch.equal(torch.get_rng_state(), state)
        return model(ids("a b c d")).logits

    whole = learnt()
    assert torch.equal(learnt(), whole)
    assert torch.allclose(learnt(chunk=2), whole, atol=2e-3)
    assert not torch.allclose(learnt(seed=1), whole, atol=2e-3)


@both
@pytest.mark.parametrize("side", ["left", "right"])
def test_generation_with_and_without_a_cache_and_with_padding(make, side: str) -> None:
    model = make()
    edited(model, k=2)
    prompts = [Tokens()(edit.prompt)["input_ids"] for batch in EDITS for edit in batch]
    longest = max(map(len, prompts))
    rows = [[0] * (longest - len(row)) + row if side == "left" else row for row in prompts]
    for row, prompt in zip(rows, prompts, strict=True):
        batch, mask = torch.tensor([row]), torch.tensor([[int(token > 0) for token in row]])
        options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        cached = model.generate(batch, attention_mask=mask, **options)[0, len(row) :]
        bare = model.generate(batch, attention_mask=mask, use_cache=False, **options)[0, len(row) :]
        alone = model.generate(torch.tensor([prompt]), **options)[0, len(prompt) :]
        assert cached.tolist() == bare.tolist() == alone.tolist()


def test_routes_are_recorded_in_training_and_compared_later() -> None:
    model = llama()
    editor = edited(model, 1)
    assert editor.agreement(EDITS[0]) == 1  # there is but one expert
    editor.edit(EDITS[1])
    editor.edit(EDITS[2])
    every = [edit for batch in EDITS for edit in batch]
    asked = [(edit.prompt, edit.target) for edit in every]
    now = editor.routes(asked, batch_size=2)
    for pair, route in zip(asked, now, strict=True):
        model(ids(" ".join(pair)))
        assert torch.equal(editor.last.expert[0], route)
        assert editor.trained[pair].shape == route.shape
    same = [
        one == two
        for pair, two in zip(asked, now, strict=True)
        for one, two in zip(editor.trained[pair], two, strict=True)
    ]
    assert editor.agreement(every) == pytest.approx(sum(map(bool, same)) / len(same))
    rows = editor.route_agreement(EDITS)
    assert rows == [{"batch": number, "agreement": editor.agreement(batch)} for number, batch in enumerate(EDITS)]
    editor.trained[asked[0]] = torch.full_like(editor.trained[asked[0]], 9)
    assert editor.agreement(EDITS[0][:1]) == 0
    with pytest.raises(UserError, match="was not learnt"):
        editor.agreement([Edit("a", "b")])
    for wrong in (0, -1, 2.0, None):
        with pytest.raises(ValueError, match=r"batch_size=.*: give a whole number, at least 1"):
            editor.routes(asked, batch_size=wrong)


def test_a_router_scores_each_expert_by_its_row() -> None:
    torch.manual_seed(0)
    wide = Router(2, 10_000)
    wide.add()
    assert wide.rows[0].norm().item() == pytest.approx(1, abs=0.05)  # so that scores do not grow with the width
    router, hidden = Router(6, 4), torch.randn(2, 3, 6)
    for _ in range(3):
        router.add()
    inner = functional.silu(hidden @ router.enter.weight.T + router.enter.bias)
    for number, row in enumerate(router.rows):
        assert torch.allclose(router(hidden)[..., number], (inner * row).sum(-1), atol=1e-6)


@pytest.mark.parametrize(
    ("edits", "message"),
    [([], "no edits"), ([Edit("a b", " ")], "empty target"), ([Edit("a " * 40, "b")], "41 tokens")],
)
def test_bad_edits_are_one_clear_line_and_leave_no_expert(edits: list[Edit], message: str) -> None:
    editor = Conventional(llama(), Tokens(), CONFIG)
    with pytest.raises(UserError, match=message):
        editor.edit(edits)
    assert len(editor.experts) == 0
    with pytest.raises(UserError, match="edit first"):
        editor.routes([("a", "b")])


def test_a_layer_that_is_not_there_leaves_the_model_as_it_was() -> None:
    model = llama()
    with pytest.raises(UserError, match="layer 3 does not exist"):
        Conventional(model, Tokens(), CONFIG.model_copy(update={"layer": 3}))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_model_in_bfloat16_is_edited() -> None:
    model = llama().to(torch.bfloat16)
    editor = edited(model, 2)
    assert editor.losses[-1] < editor.losses[0]
    assert model(ids("a b")).logits.dtype == torch.bfloat16
