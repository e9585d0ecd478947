"""The low-rank adaptor: inserted without a trace, equal to weights changed by hand, learning on, taken off."""

import copy

import peft
import pytest
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from lib import seeds
from lib.causal_lm.edits import Edit
from lib.editing.lora import LoraConfig, LoraFineTuning
from lib.errors import UserError
from tests.tiny_models import Letters, both, gpt2, llama

EDITS = [Edit("a b c", "d"), Edit("b b a e", "f g")]


def ids(text: str) -> torch.Tensor:
    return torch.tensor([Letters()(text)["input_ids"]])


def settings(make, **changes: object) -> LoraConfig:
    modules = ("q_proj", "down_proj") if make is llama else ("c_attn", "c_fc")
    return LoraConfig.tuned(**({"rank": 2, "alpha": 3.0, "modules": modules, "layers": (1, 3), "steps": 100} | changes))


def parts(adaptor) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of one of the library's layers."""
    return adaptor.lora_A["default"].weight, adaptor.lora_B["default"].weight


def weights(model: PreTrainedModel, make) -> list[str]:
    """Name the adapted weights in the unedited model, in the order of the adaptors."""
    if make is llama:
        parts = ("self_attn.q_proj", "mlp.down_proj")
        return [f"model.layers.{layer}.{part}.weight" for layer in (1, 3) for part in parts]
    return [f"transformer.h.{layer}.{part}.weight" for layer in (1, 3) for part in ("attn.c_attn", "mlp.c_fc")]


@both
def test_an_adaptor_that_is_enough_from_the_start_changes_nothing(make) -> None:
    model, text = make(), ids("a b c d e")
    before = model(text).logits
    editor = LoraFineTuning(model, Letters(), settings(make, enough=1e3))
    editor.edit(EDITS)
    assert len(editor.adaptors) == 4
    assert all(parts(adaptor)[0].std() > 0.05 for adaptor in editor.adaptors)
    assert torch.equal(model(text).logits, before)


@both
def test_the_first_step_is_adams_on_the_gradient_of_b(make) -> None:
    model = make()
    copied = copy.deepcopy(model)
    editor = LoraFineTuning(model, Letters(), settings(make, steps=1, rate=0.01))
    editor.edit(EDITS[1:])
    text = ids("b b a e f g")
    functional.cross_entropy(copied(text).logits[0, 3:5], text[0, 4:]).backward()
    slopes = dict(copied.named_parameters())
    for adaptor, name in zip(editor.adaptors, weights(model, make), strict=True):
        slope = slopes[name].grad if make is llama else slopes[name].grad.T
        down, up = parts(adaptor)
        expected = 1.5 * slope @ down.T  # d loss / d B = alpha / rank G A'; A's is zero while B is
        clear = expected.abs() > 1e-4
        assert clear.float().mean() > 0.5
        assert torch.allclose(up[clear], -0.01 * expected[clear].sign(), atol=1e-4)


@both
def test_it_learns_on_and_equals_weights_changed_by_hand(make) -> None:
    model = make()
    copied = copy.deepcopy(model)
    editor = LoraFineTuning(model, Letters(), settings(make, rate=2e-2))
    editor.edit(EDITS[:1])
    adaptors, first = list(editor.adaptors), parts(editor.adaptors[0])[1].clone()
    drawn = model.generate(ids("a b c"), max_new_tokens=1, do_sample=False)
    assert drawn[0].tolist() == ids("a b c d")[0].tolist()
    editor.edit(EDITS[1:])
    assert all(now is then for now, then in zip(editor.adaptors, adaptors, strict=True))
    assert not torch.equal(parts(editor.adaptors[0])[1], first)
    drawn = model.generate(ids("b b a e"), max_new_tokens=2, do_sample=False)
    assert drawn[0].tolist() == ids("b b a e f g")[0].tolist()
    with torch.no_grad():
        for adaptor, name in zip(adaptors, weights(model, make), strict=True):
            down, up = parts(adaptor)
            change = 3.0 / 2 * up @ down
            copied.get_parameter(name).add_(change if make is llama else change.T)
    assert torch.allclose(model(ids("a b e")).logits, copied(ids("a b e")).logits, atol=1e-4)
    sizes = (16 + 16, 24 + 16) if make is llama else (16 + 48, 16 + 24)
    assert editor.memory() == 4 * 2 * 2 * sum(sizes)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restoring_is_to_the_bit_and_the_draw_is_repeatable(make, dtype: torch.dtype) -> None:
    model, text = make().to(dtype), ids("a b c d")
    before, logits = copy.deepcopy(model.state_dict()), model(text).logits
    seen = []
    for seed in (0, 0, 1):
        editor = LoraFineTuning(model, Letters(), settings(make, steps=3, seed=seed))
        editor.edit(EDITS)
        seen.append(model(text).logits.detach())
        editor.restore()
        assert editor.memory() == 0
        assert model.state_dict().keys() == before.keys()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert torch.equal(model(text).logits, logits)
        assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], logits)


@both
def test_the_layers_are_the_peft_librarys_and_training_is_adam_edit_by_edit_with_its_dropout(make) -> None:
    """As released: every edit is a step of its own; independently, on the library's own model around a copy."""
    config = settings(make, dropout=0.3, together=1, enough=0.0, steps=2, rate=1e-2)
    model, copied = make().double(), make().double()
    editor = LoraFineTuning(model, Letters(), config)
    editor.edit(EDITS)
    assert all(isinstance(adaptor, peft.tuners.lora.LoraLayer) for adaptor in editor.adaptors)
    names = [name.removesuffix(".weight") for name in weights(copied, make)]
    flipped = make is not llama
    made = peft.LoraConfig(r=2, lora_alpha=3.0, lora_dropout=0.3, target_modules=names, fan_in_fan_out=flipped)
    plain = peft.get_peft_model(copied, made).eval()
    layers = [plain.base_model.model.get_submodule(name) for name in names]
    other = LoraFineTuning(make().double(), Letters(), config)
    other._insert()
    trained = []
    for layer, drawn in zip(layers, other.adaptors, strict=True):
        parts(layer)[0].data.copy_(parts(drawn)[0])
        layer.lora_dropout.train()
        trained += parts(layer)
    optimiser = torch.optim.Adam(trained, 1e-2)
    torch.manual_seed(seeds.seed_of("LoRA dropout", 0, 0))
    for _ in range(2):
        for edit in EDITS:
            text, start = ids(f"{edit.prompt} {edit.target}"), ids(edit.prompt).shape[1]
            labels = torch.where(torch.arange(text.shape[1]) >= start, text, -100)
            optimiser.zero_grad()
            plain(input_ids=text, labels=labels).loss.backward()
            optimiser.step()
    for layer, adaptor in zip(layers, editor.adaptors, strict=True):
        # In double precision, since Adam's first step is rounding where a gradient is next to nothing.
        assert (parts(adaptor)[1] - parts(layer)[1]).norm() < 1e-8 * parts(layer)[1].norm()
        assert parts(layer)[1].any()


def test_all_layers_are_adapted_without_a_choice() -> None:
    editor = LoraFineTuning(gpt2(), Letters(), LoraConfig(modules=("c_attn",), steps=1))
    editor.edit(EDITS)
    assert len(editor.adaptors) == 4
    assert all(parts(adaptor)[1].any() for adaptor in editor.adaptors)


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="layer 0 has no module 'q_proj' for LoRA"):
        LoraFineTuning(gpt2(), Letters(), LoraConfig())
    with pytest.raises(UserError, match="layer 4 does not exist"):
        LoraFineTuning(llama(), Letters(), LoraConfig(layers=(4,)))
    with pytest.raises(UserError, match="no layers or no modules"):
        LoraFineTuning(llama(), Letters(), LoraConfig(layers=()))
    editor = LoraFineTuning(llama(), Letters(), LoraConfig())
    with pytest.raises(UserError, match="no edits"):
        editor.edit([])
    assert not editor.adaptors
