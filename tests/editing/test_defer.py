"""DEFER: its gate and its replacement on tiny models of both styles, against closed forms and a hook made by hand."""

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode
from lib.causal_lm.layers import down_projection
from lib.editing.defer import Defer, DeferConfig
from lib.errors import UserError
from tests.tiny_models import Letters, both, gpt2, llama

EDITS = [Edit("a b c", "d"), Edit("b b a e", "f g"), Edit("k l", "m")]
UNRELATED = ["x y z w", "o p q", "h i", "t u v s"]
CONFIG = DeferConfig.tuned(layer=1, rate=2e-2, gate_rate=0.1)


def ids(text: str) -> Tensor:
    return torch.tensor([Letters()(text)["input_ids"]])


def defer(model: PreTrainedModel, **changes: object) -> Defer:
    return Defer(model, Letters(), CONFIG.model_copy(update=changes), UNRELATED)


def answer(model: PreTrainedModel, edit: Edit) -> bool:
    drawn = model.generate(ids(edit.prompt), max_new_tokens=ids(edit.target).shape[1], do_sample=False)
    return drawn[0].tolist() == ids(edit.prompt + edit.target)[0].tolist()


@both
def test_edits_are_served_and_the_unrelated_are_untouched_to_the_bit(make) -> None:
    model = make()
    before = [model(ids(text)).logits for text in UNRELATED]
    editor = defer(model)
    assert editor.memory() == 0
    editor.edit(EDITS)
    assert all(answer(model, edit) for edit in EDITS)
    assert all(torch.equal(model(ids(text)).logits, logits) for text, logits in zip(UNRELATED, before, strict=True))
    assert editor.memory() == 4 * (24 * 16 + 16 + 24 + 1)
    gate, replacing = editor.gate, editor.replacing
    editor.edit([Edit("r s", "j")])  # the same two parts learn on
    assert (editor.gate, editor.replacing) == (gate, replacing)
    assert answer(model, Edit("r s", "j"))
    assert editor.memory() == 4 * (24 * 16 + 16 + 24 + 1)


@both
def test_the_first_step_of_the_gate_is_that_of_a_logistic_regression(make) -> None:
    model = make()
    editor = defer(model, steps=1)
    editor.edit(EDITS)
    unedited = make()
    seen: list[Tensor] = []
    down_projection(unedited, 1).register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][0, -1]))
    for text in [edit.prompt for edit in EDITS] + UNRELATED:
        unedited(ids(text))
    keys = torch.stack(seen)
    found = editor.keys(encode(model, Letters(), [(text, "a") for text in UNRELATED]))[0]
    assert torch.allclose(found, keys[3:], atol=1e-5)
    keys = keys / keys.square().mean(1, keepdim=True).sqrt()
    # At zero the gate says one half to all: the slope is the difference of the two sides' means, over four.
    slope = (keys[3:].mean(0) - keys[:3].mean(0)) / 4
    clear = slope.abs() > 1e-5
    assert torch.allclose(editor.gate.weight[0, clear], -0.1 * slope[clear].sign(), atol=1e-3)
    open_to = torch.cat([keys, -keys])
    expected = functional.linear(open_to, editor.gate.weight, editor.gate.bias)[:, 0] >= 0
    assert torch.equal(editor.decide(3 * open_to), expected)


@both
def test_the_replacement_starts_as_the_module_and_stands_from_the_last_prompt_token_on(make) -> None:
    model, whole = make(), ids("a b c d x")
    unedited = model(whole).logits
    editor = defer(model, enough=1e3)
    editor.edit(EDITS)
    assert torch.equal(editor.decide(torch.randn(3, 24)), torch.ones(3, dtype=torch.bool))  # the gate is at one half
    assert torch.allclose(model(whole).logits, unedited, atol=1e-5)
    copied = make()
    with torch.no_grad():
        editor.replacing.weight.normal_()

    def replace(_: torch.nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output.clone()
        output[0, 2:] = arguments[0][0, 2:] @ editor.replacing.weight.T + editor.replacing.bias
        return output

    down_projection(copied, 1).register_forward_hook(replace)
    with editor.reading(torch.tensor([[1, 1, 1, 0, 0]])):
        assert torch.allclose(model(whole).logits, copied(whole).logits, atol=1e-4)
    assert torch.equal(model(whole).logits[0, :4], unedited[0, :4])


@both
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_cache_do_not_change_the_decision(make, side: str) -> None:
    model = make()
    editor = defer(model)
    editor.edit(EDITS)
    texts = [edit.prompt for edit in EDITS] + UNRELATED
    rows = [ids(text)[0].tolist() for text in texts]
    fill = [[0] * (4 - len(row)) for row in rows]
    batch = torch.tensor([pad + row if side == "left" else row + pad for pad, row in zip(fill, rows, strict=True)])
    mask = (batch != 0).long()
    logits = model(batch, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
    assert editor.served.tolist() == [True] * 3 + [False] * 4
    for row, text in enumerate(texts):
        assert torch.allclose(logits[row][mask[row].bool()], model(ids(text)).logits[0], atol=1e-3)
    if side == "left":
        options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        cached = model.generate(batch, attention_mask=mask, **options)
        with editor.reading(mask):
            assert torch.equal(cached, model.generate(batch, attention_mask=mask, use_cache=False, **options))


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restoring_is_to_the_bit(make, dtype: torch.dtype) -> None:
    model, text = make().to(dtype), ids("a b c")
    before, logits = copy.deepcopy(model.state_dict()), model(text).logits
    editor = defer(model, steps=20)
    editor.edit(EDITS[:2])
    with torch.inference_mode():
        assert not torch.equal(model(text).logits, logits)
    editor.edit(EDITS[2:])
    editor.restore()
    assert torch.equal(model(text).logits, logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in model.parameters())
    assert editor.memory() == 0


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="no unrelated texts"):
        Defer(llama(), Letters(), CONFIG, [])
    with pytest.raises(UserError, match="layer 4 does not exist"):
        defer(gpt2(), layer=4)
    editor = defer(llama())
    with pytest.raises(UserError, match="no edits"):
        editor.edit([])
    assert editor.is_empty()


@both
def test_the_default_trains_and_answers_as_the_released_code(make) -> None:
    """Both parts mixed by the gate in training, on all tokens; the replacement alone where it is open; one rate."""
    model, copied, edit = make(), make(), Edit("a b c", "d e")
    editor = Defer(model, Letters(), DeferConfig(layer=1, steps=3, rate=1e-2, gate_rate=1e-2))
    editor._insert()
    gate, linear = copy.deepcopy(editor.gate), copy.deepcopy(editor.replacing)
    assert linear.weight.abs().max() <= 24**-0.5
    text, seen = torch.tensor([Letters()("a b c d e")["input_ids"]]), {"train": True}

    def replaced(_, given, output):
        query = given[0][:, 2]
        opened, value = gate(query).sigmoid(), linear(query)
        if seen["train"]:
            return opened * value[:, None] + (1 - opened) * output
        return torch.where(opened >= 0.5, value, output)

    down_projection(copied, 1).register_forward_hook(replaced)
    optimiser = torch.optim.Adam([*gate.requires_grad_().parameters(), *linear.requires_grad_().parameters()], 1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        functional.cross_entropy(copied(text).logits[0, 2:4], text[0, 3:]).backward()
        optimiser.step()
    editor.edit([edit])
    for found, wanted in ((editor.gate, gate), (editor.replacing, linear)):
        assert (found.weight - wanted.weight).norm() < 1e-4 * wanted.weight.norm()
    seen["train"] = False
    with torch.no_grad(), editor.reading(torch.tensor([[1, 1, 1, 0, 0]])):
        assert torch.allclose(model(text).logits, copied(text).logits, atol=1e-3)
    editor.restore()
    assert editor.gate is None
    assert (DeferConfig().rate, DeferConfig().gate_rate, DeferConfig().steps) == (0.1, 0.1, 100)


@pytest.mark.parametrize("changes", [{"rate": 0.0}, {"gate_rate": -1.0}, {"steps": 0}, {"threshold": 1.5}])
def test_settings_that_cannot_be_are_refused(changes) -> None:
    with pytest.raises(ValidationError):
        DeferConfig(**changes)
