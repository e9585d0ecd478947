"""WISE on tiny models of both styles: its losses by hand, its masks, its routes, and the model given back."""

import copy

import pytest
import torch
from torch import nn

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode_edits
from lib.causal_lm.layers import down_projection, matrix
from lib.causal_lm.upper_layers import UpperLayers
from lib.editing.merging import ties
from lib.editing.wise import Wise, WiseConfig, difference, margin_loss
from lib.errors import UserError
from tests.tiny_models import Words as Tokens
from tests.tiny_models import small_gpt2 as gpt2
from tests.tiny_models import small_llama as llama

IRRELEVANT = ["p o n", "m m p o n", "o p"]
CONFIG = WiseConfig(layer=1, alpha=0.5, beta=3, gamma=2, optimiser="adam", rate=0.1, steps=30, density=0.5, limit=None)
EDITS = [Edit("a b c", "d"), Edit("b b a e", "f g"), Edit("c c c", "h"), Edit("k l", "m")]


def ids(text: str) -> torch.Tensor:
    return torch.tensor([Tokens()(text)["input_ids"]])


def editor(model: nn.Module, **changes: object) -> Wise:
    return Wise(model, Tokens(), IRRELEVANT, CONFIG.model_copy(update=changes))


def activations(model: nn.Module, text: str) -> torch.Tensor:
    """The down projection's inputs, (tokens, inputs), of a model without an editor."""
    found = []
    hook = down_projection(model, 1).register_forward_hook(lambda _, given, __: found.append(given[0][0].detach()))
    model(ids(text))
    hook.remove()
    return found[0]


both = pytest.mark.parametrize("make", [llama, gpt2])


def test_margin_loss_by_hand() -> None:
    edits, irrelevant = torch.tensor([12.0, 25.0]), torch.tensor([[4.0], [7.0]])
    # above 5: 0 and 2; below 20: 8 and 0; apart by 10: 10 - 8 and 0
    assert margin_loss(edits, irrelevant, 5, 20, 10).item() == pytest.approx(1 + 4 + 1)
    several = torch.tensor([[4.0, 9.0], [7.0, 19.0]])
    # above: 0, 4, 2, 14; apart: 10 - 8, 10 - 3, 0, 10 - 6
    assert margin_loss(edits, several, 5, 20, 10).item() == pytest.approx(20 / 4 + 4 + 13 / 4)
    assert margin_loss(torch.tensor([30.0]), torch.tensor([[1.0]]), 5, 20, 10).item() == 0


def test_difference_is_the_mean_norm_over_the_masked_tokens() -> None:
    shift = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [60.0, 80.0]], [[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert torch.allclose(difference(shift, mask), torch.tensor([3.0, 1.0]))


@both
def test_edits_are_learnt_routed_and_generated_and_others_keep_their_bits(make) -> None:
    model = make()
    others = ["p o n", "o n m", "m m p"]
    before = [model(ids(text)).logits for text in others]
    wise = editor(model)
    wise.edit(EDITS[:2])
    for edit in EDITS[:2]:
        prompt, target = ids(edit.prompt), ids(edit.target)
        found = model.generate(prompt, max_new_tokens=target.shape[1], do_sample=False, pad_token_id=0)
        assert torch.equal(found[:, prompt.shape[1] :], target)
        assert wise.route.tolist() == [0]
    kept = 0
    for text, logits in zip(others, before, strict=True):
        now = model(ids(text)).logits
        shift = activations_shift(wise, make(), text)
        outside = difference(shift[None], torch.ones(1, len(shift)))[0] < wise.threshold
        assert wise.route.tolist() == [-1 if outside else 0]
        assert torch.equal(now, logits) == bool(outside)
        kept += int(outside)
    assert kept >= 2


def activations_shift(wise: Wise, untouched: nn.Module, text: str) -> torch.Tensor:
    return activations(untouched, text) @ wise.memories[0].T


@both
def test_the_side_memory_answers_as_a_model_that_holds_it(make) -> None:
    model, other = make(), make()
    wise = editor(model)
    wise.edit(EDITS[:2])
    with torch.no_grad():
        matrix(down_projection(other, 1)).add_(wise.memories[0])
        assert torch.allclose(model(ids("a b c")).logits, other(ids("a b c")).logits, atol=1e-4)


@both
def test_a_mixed_batch_is_routed_row_by_row_and_the_threshold_decides(make) -> None:
    model = make()
    rows, mask = torch.cat([ids("a b c"), ids("p o n")]), torch.ones(2, 3, dtype=torch.long)
    before = model(rows, attention_mask=mask).logits
    wise = editor(model)
    wise.edit(EDITS[:1])
    now = model(rows, attention_mask=mask).logits
    assert wise.route.tolist() == [0, -1]
    assert torch.equal(now[1], before[1])
    assert not torch.equal(now[0], before[0])
    wise.config = wise.config.model_copy(update={"threshold": 1e9})
    assert torch.equal(model(rows, attention_mask=mask).logits, before)
    wise.config = wise.config.model_copy(update={"threshold": 0.0})
    model(rows, attention_mask=mask)
    assert wise.route.tolist() == [0, 0]


@both
def test_the_threshold_is_the_smallest_difference_of_the_edits_prompts(make) -> None:
    model = make()
    wise = editor(model)
    wise.edit(EDITS[:2])
    found = [
        difference(activations_shift(wise, make(), edit.prompt)[None], torch.ones(1, len(edit.prompt.split())))[0]
        for edit in EDITS[:2]
    ]
    assert wise.smallest == pytest.approx(min(found).item(), rel=1e-4)
    assert wise.threshold == pytest.approx(0.88 * wise.smallest)
    first = wise.smallest
    wise.edit(EDITS[2:])
    assert wise.smallest <= first


@both
def test_the_route_is_the_prompts_and_stays_with_a_cache(make) -> None:
    model = make()
    wise = editor(model)
    wise.edit(EDITS[:1])
    with wise.reading(torch.tensor([[0, 0, 0, 1, 1, 1]])):
        model(ids("p o n a b c"))
        alone = wise.route.tolist()
    start = model(ids("a b c"), use_cache=True)
    assert wise.route.tolist() == [0]
    wise.config = wise.config.model_copy(update={"threshold": 1e9})
    model(ids("p"), past_key_values=start.past_key_values, use_cache=True)
    assert wise.route.tolist() == [0]  # decided again, it would be the main memory
    model(ids("a b c"))
    assert wise.route.tolist() == [-1]
    wise.config = wise.config.model_copy(update={"threshold": None})
    model(ids("p o n a b c"))
    whole = activations_shift(wise, make(), "p o n a b c")[None]
    for mask, route in ((torch.ones(1, 6), wise.route.tolist()), (torch.tensor([[0, 0, 0, 1, 1, 1]]), alone)):
        assert route == [0 if difference(whole, mask)[0] >= wise.threshold else -1]
    with wise.reading(torch.ones(1, 3)):  # beams, and tokens generated without a cache
        model.generate(ids("a b c"), max_new_tokens=3, do_sample=False, pad_token_id=0, num_beams=2, use_cache=False)
    assert wise.route.tolist() == [0, 0]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_change_the_route(side: str) -> None:
    model = gpt2() if side == "right" else llama()
    wise = editor(model)
    wise.edit(EDITS[:2])
    rows = [ids("a b c")[0].tolist(), ids("p o n m l")[0].tolist()]
    alone = []
    for row in rows:
        model(torch.tensor([row]))
        alone += wise.route.tolist()
    padded = [[0, 0, *rows[0]] if side == "left" else [*rows[0], 0, 0], rows[1]]
    batch = torch.tensor(padded)
    model(batch, attention_mask=(batch != 0).long())
    assert wise.route.tolist() == alone == [0, -1]


@both
def test_masks_have_their_density_and_what_they_cover_moves_alone(make) -> None:
    wise = editor(make(), density=0.2, shard=2, shards=3, memories="retrieve")
    masks = []
    for start in (0, 2):
        wise._open_shard()
        masks.append(wise.free)
        number = wise.free.numel()
        deviation = (number * 0.2 * 0.8) ** 0.5
        assert abs(int(wise.free.sum()) - 0.2 * number) < 4 * deviation
        wise._train(EDITS[start : start + 2])
        assert not wise.open[~wise.free].any()
        assert wise.open[wise.free].any()
        weight = matrix(wise._projection)
        assert torch.equal((weight + wise.open)[~wise.free], weight[~wise.free])
    assert not torch.equal(*masks)


@both
def test_training_from_the_block_on_has_the_whole_models_gradient(make) -> None:
    model = make()
    wise = editor(model)
    encoded = encode_edits(model, Tokens(), EDITS[:2])
    inputs = matrix(wise._projection).shape[1]
    upper = UpperLayers(model, encoded, 1, wise._projection)
    change = (0.1 * torch.randn(16, inputs, generator=torch.Generator().manual_seed(1))).requires_grad_()
    drawn = [torch.randn(length, inputs) for length in (3, 5)]
    target, margin = wise._losses(upper, change, drawn)
    loss = target / 3
    entering = wise._activations(encoded.ids, encoded.mask)
    edits = [(entering[row, :length] @ change.T).norm(dim=-1).mean() for row, length in enumerate((3, 4))]
    others = [(text @ change.T).norm(dim=-1).mean() for text in drawn]
    bounds = CONFIG.alpha, CONFIG.beta, CONFIG.gamma
    expected = margin_loss(torch.stack(edits), torch.stack(others)[:, None], *bounds)
    assert margin.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    other = make()
    module = down_projection(other, 1)
    with torch.no_grad():
        matrix(module).add_(change)
    expected = other(encoded.ids, attention_mask=encoded.mask, labels=encoded.labels).loss
    expected.backward()
    gradient = module.weight.grad if isinstance(module, nn.Linear) else module.weight.grad.T
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(change.grad, gradient, atol=1e-5, rtol=1e-3)


@both
def test_full_shards_are_merged_and_the_next_ones_wait(make) -> None:
    wise = editor(make(), shard=2, shards=2, together=4, kept=0.4)
    wise.edit(EDITS[:3])
    assert (len(wise.waiting), wise.open is not None, wise.merged is None) == (1, True, True)
    first = wise.waiting[0]
    wise._train(EDITS[3:])
    second = wise.open
    wise._close_shard()
    assert torch.equal(wise.merged, ties([first, second], 0.4))
    assert (len(wise.memories), wise.memory()) == (1, first.numel() * 4)
    wise.edit(EDITS[:1])
    assert len(wise.memories) == 2
    assert wise.memory() == first.numel() * 9  # and the open shard's mask


@both
def test_the_strongest_side_memory_is_retrieved(make) -> None:
    model = make()
    wise = editor(model, shard=1, memories="retrieve")
    wise.edit(EDITS)
    assert (len(wise.memories), wise.merged) == (4, None)
    assert wise.memory() == 4 * wise.memories[0].numel() * 4
    untouched = make()
    for edit in EDITS:
        model(ids(edit.prompt))
        inputs = activations(untouched, edit.prompt)
        found = [(inputs @ memory.T).norm(dim=-1).mean().item() for memory in wise.memories]
        assert wise.route.tolist() == [found.index(max(found))]


@both
def test_restoring_gives_the_model_back_and_editing_again_repeats(make) -> None:
    model = make()
    before = copy.deepcopy(model.state_dict())
    logits = model(ids("a b c")).logits
    wise = editor(model)
    wise.edit(EDITS[:2])
    edited = model(ids("a b c")).logits
    wise.restore()
    assert torch.equal(model(ids("a b c")).logits, logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert wise.memory() == 0
    wise.edit(EDITS[:2])
    assert torch.equal(model(ids("a b c")).logits, edited)


def test_half_precision_and_prefixes_are_taken() -> None:
    model = llama().to(torch.bfloat16)
    wise = Wise(model, Tokens(), IRRELEVANT, CONFIG.model_copy(update={"limit": 0.3}), prefixes=["i j "])
    wise.edit(EDITS[:1])
    assert wise.memories[0].dtype == torch.float32
    assert wise.memories[0].abs().max().item() <= 0.3 + 1e-6
    assert model(ids("a b c")).logits.dtype == torch.bfloat16


def test_bad_input_is_one_clear_line_and_changes_nothing() -> None:
    model = llama()
    with pytest.raises(UserError, match="no irrelevant texts"):
        Wise(model, Tokens(), [" "], CONFIG)
    with pytest.raises(UserError, match="layer 5 does not exist"):
        editor(model, layer=5)
    wise = editor(model)
    for batch, message in (([], "no edits"), ([EDITS[0], Edit("a b", " ")], "empty target")):
        with pytest.raises(UserError, match=message):
            wise.edit(batch)
    assert (wise.memories, wise._hooks) == ([], [])
