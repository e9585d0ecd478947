"""The adaptor on tiny models of both styles: inserted without a trace, trained, routed once, saved, taken off."""

import copy
from pathlib import Path

import pytest
import torch

from lib.causal_lm.encoding import encode_edits
from lib.errors import UserError
from lib.lemoe.adaptor import Adaptor, AdaptorConfig, Edit
from lib.lemoe.router import Router
from tests.tiny_models import Words as Tokens
from tests.tiny_models import small_gpt2 as gpt2
from tests.tiny_models import small_llama as llama

CONFIG = AdaptorConfig(layer=1, router_width=8, rate=1e-2, steps=100)
EDITS = [[Edit("a b c", "d"), Edit("b b a e", "f g")], [Edit("c c c", "h"), Edit("k l", "m")], [Edit("n o", "p p")]]


def ids(text: str) -> torch.Tensor:
    return torch.tensor([Tokens()(text)["input_ids"]])


def edited(model: torch.nn.Module, batches: int = 3, **changes: object) -> Adaptor:
    adaptor = Adaptor.attach(model, CONFIG.model_copy(update=changes))
    for batch in EDITS[:batches]:
        adaptor.edit(Tokens(), batch)
    return adaptor


both = pytest.mark.parametrize("make", [llama, gpt2])


@both
def test_inserting_an_expert_changes_nothing_and_detaching_gives_the_model_back(make) -> None:
    model = make()
    before, text = copy.deepcopy(model.state_dict()), ids("a b c d")
    logits = model(text).logits
    adaptor = Adaptor.attach(model, CONFIG)
    adaptor.add_expert()
    assert torch.equal(model(text).logits, logits)
    adaptor.edit(Tokens(), EDITS[0])
    assert not torch.equal(model(text).logits, logits)
    adaptor.detach()
    assert torch.equal(model(text).logits, logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@both
def test_edits_are_learnt_and_generated(make) -> None:
    model = make()
    adaptor = Adaptor.attach(model, CONFIG)
    losses = adaptor.edit(Tokens(), EDITS[0])
    assert losses[0] > 1
    assert losses[-1] < 0.3  # the last norm of so small a model bounds its logits
    for edit in EDITS[0]:
        prompt = ids(edit.prompt)
        target = ids(edit.target)
        drawn = model.generate(prompt, max_new_tokens=target.shape[1], do_sample=False, pad_token_id=0)
        assert torch.equal(drawn[:, prompt.shape[1] :], target)


@both
def test_earlier_experts_and_keys_stay_as_they_were(make) -> None:
    model = make()
    adaptor = edited(model, 1)
    frozen = {name: value.clone() for name, value in adaptor.experts.state_dict().items()}
    key = adaptor.router.keys[0].detach().clone()
    adaptor.edit(Tokens(), EDITS[1])
    assert all(torch.equal(adaptor.experts.state_dict()[name], value) for name, value in frozen.items())
    assert torch.equal(adaptor.router.keys[0], key)
    trained = [[parameter.requires_grad for parameter in expert.parameters()] for expert in adaptor.experts]
    assert trained == [[False] * 4, [True] * 4]


@both
def test_saved_and_loaded_gives_equal_logits_and_refuses_another_model(make, tmp_path: Path) -> None:
    model, text = make(), ids("a b c d e")
    adaptor = edited(model, 2)
    logits = model(text).logits
    adaptor.save(tmp_path)
    adaptor.detach()
    Adaptor.load(tmp_path, model)
    assert torch.equal(model(text).logits, logits)
    other = make()
    with torch.no_grad():
        other.get_input_embeddings().weight[3] += 1
    with pytest.raises(UserError, match="made for another model"):
        Adaptor.load(tmp_path, other)
    (tmp_path / "adaptor.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="not a whole adaptor"):
        Adaptor.load(tmp_path, make())


@both
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_cache_and_beams_do_not_change_the_route(make, side: str) -> None:
    model = make()
    adaptor = edited(model)
    prompts = [edit.prompt for batch in EDITS for edit in batch]
    alone = adaptor.routes(Tokens(), prompts)
    assert len(set(alone)) > 1
    rows = [Tokens()(text)["input_ids"] for text in prompts]
    longest = max(map(len, rows))
    fill = [[0] * (longest - len(row)) for row in rows]
    order = list(zip(fill, rows, strict=True))
    batch = torch.tensor([pad + row if side == "left" else row + pad for pad, row in order])
    mask = (batch != 0).long()
    model(batch, attention_mask=mask)
    assert adaptor.last.expert.tolist() == alone
    if side == "left":
        options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        cached = model.generate(batch, attention_mask=mask, **options)
        assert adaptor.last.expert.tolist() == alone
        beams = model.generate(batch, attention_mask=mask, num_beams=3, **options)
        assert adaptor.last.expert.tolist() == [expert for expert in alone for _ in range(3)]
        for row, words in enumerate(rows):
            for found, extra in ((cached, {}), (beams, {"num_beams": 3})):
                one = torch.tensor([words])
                single = model.generate(one, attention_mask=torch.ones_like(one), **options, **extra)[0, len(words) :]
                assert torch.equal(single, found[row, longest : longest + len(single)])


def test_without_a_cache_the_route_is_the_prompts_where_a_mask_says_so() -> None:
    model = llama()
    adaptor = edited(model)
    prompt, whole = ids("k l"), ids("k l m")
    model(prompt)
    route = adaptor.last.expert.tolist()
    with adaptor.prompt(torch.tensor([[1, 1, 0]])):
        model(whole)
    assert adaptor.last.expert.tolist() == route
    assert torch.allclose(adaptor.last.gate, torch.ones(1))


@pytest.mark.parametrize(("gate", "moves"), [("one", False), ("softmax", True), ("straight_through", True)])
@pytest.mark.parametrize("experts", [1, 2])
def test_where_the_gradient_of_the_router_comes_from(gate: str, moves: bool, experts: int) -> None:
    torch.manual_seed(0)
    router = Router(6, 4, "shared", gate)
    for _ in range(experts):
        router.add()
    router.requires_grad_(True)
    route = router.route(torch.randn(5, 6))
    value = (route.gate * torch.randn(5)).sum()
    if not moves:
        assert not value.requires_grad
        return
    value.backward()
    gradient = max(parameter.grad.abs().max().item() for parameter in router.parameters())
    # The softmax of one score is one, whatever the score.
    assert (gradient > 1e-6) == (experts > 1)
    if gate == "straight_through":
        assert torch.allclose(route.gate, torch.ones(5))


@pytest.mark.parametrize(
    ("projection", "trained"),
    [
        ("shared", [True, True]),
        ("frozen_after_first", [True, False]),
        ("per_expert", [True, True]),
        ("frozen", [False, False]),
    ],
)
def test_what_of_the_projection_is_trained(projection: str, trained: list[bool]) -> None:
    router = Router(6, 4, projection, "one")
    for expected in trained:
        router.add()
        assert [p.requires_grad for p in router.projections[-1].parameters()] == [expected] * 2
    assert len(router.projections) == (2 if projection == "per_expert" else 1)
    assert [key.requires_grad for key in router.keys] == [False, True]


def test_the_auxiliary_loss_makes_the_newest_key_win() -> None:
    torch.manual_seed(0)
    router, anchors = Router(6, 4, "frozen_after_first", "one"), torch.randn(1, 6) + 0.1 * torch.randn(3, 6)
    for _ in range(3):
        router.add()
    optimiser = torch.optim.Adam([router.keys[-1]], 0.1)
    first = router.auxiliary(anchors).item()
    for _ in range(100):
        optimiser.zero_grad()
        router.auxiliary(anchors).backward()
        optimiser.step()
    assert router.auxiliary(anchors).item() < first
    assert router.route(anchors).expert.tolist() == [2] * 3


def test_entity_anchors_use_the_subject_and_fall_back_to_the_prompt() -> None:
    model = llama()
    adaptor = Adaptor.attach(model, CONFIG.model_copy(update={"anchor": "entity"}))
    edits = [Edit("a b c d", "e", "b c"), Edit("a b c d", "e")]
    encoded = encode_edits(model, Tokens(), edits)
    assert adaptor.anchors.of_edits(Tokens(), edits, encoded).tolist() == [[0, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    assert adaptor.anchors.fallbacks == 1


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([], "no edits"),
        ([Edit("a b", " ")], "empty target"),
        ([Edit("a b", " a b")], "equals its prompt"),
        ([Edit("", "a")], "empty prompt"),
        ([Edit("a " * 40, "b")], "41 tokens, the model's context 32"),
    ],
)
def test_bad_edits_are_one_clear_line_and_leave_no_expert(edits: list[Edit], message: str) -> None:
    adaptor = Adaptor.attach(llama(), CONFIG)
    with pytest.raises(UserError, match=message):
        adaptor.edit(Tokens(), edits)
    assert len(adaptor.experts) == 0


def test_bad_models_and_layers_are_one_clear_line() -> None:
    with pytest.raises(UserError, match="layer 3 does not exist: LlamaForCausalLM has layers 0 to 2"):
        Adaptor.attach(llama(), CONFIG.model_copy(update={"layer": 3}))
    adaptor = Adaptor.attach(llama(), CONFIG.model_copy(update={"anchor": "entity"}))
    with pytest.raises(UserError, match="the subject 'z' is not in the prompt"):
        adaptor.edit(Tokens(), [Edit("a b", "c", "z")])
