"""The upper layers alone give what the whole model gives: logits, gradients, whole methods; or they are refused."""

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel

from lib.causal_lm import packing, upper_layers
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode_edits
from lib.causal_lm.layers import block, down_projection
from lib.causal_lm.upper_layers import UpperLayers, chunked, descend, targets
from lib.editing.defer import Defer, DeferConfig
from lib.editing.fine_tuning import EwcConfig, EwcFineTuning, FineTuning, FineTuningConfig
from lib.editing.grace import Grace, GraceConfig
from lib.editing.lora import LoraConfig, LoraFineTuning
from lib.editing.wise import Wise, WiseConfig
from lib.lemoe.config import AdaptorConfig
from lib.lemoe.conventional import Conventional, ConventionalConfig
from lib.lemoe.editor import LemoeEditor
from lib.lemoe.memoe import Memoe, MemoeConfig
from tests.tiny_models import LETTERS, Letters, both, gemma2, gpt2, grouped, llama

EDITS = [Edit("a b c", "d"), Edit("b b a e", "f g h"), Edit("k l", "m n"), Edit("c", "o"), Edit("t u v w x", "y z")]
UNRELATED = ["x y z w", "o p q", "h i", "t u v s"]


def ids(text: str) -> Tensor:
    return torch.tensor([Letters()(text)["input_ids"]])


def reference_losses(model: PreTrainedModel, kind: str) -> list[Tensor]:
    """Return each edit's losses of its target tokens, one sequence after the other and without padding."""
    found = []
    for edit in EDITS:
        prompt, target = ids(edit.prompt), ids(edit.target)
        if kind == "last_position":
            logits = model(prompt).logits[0, -1:].expand(target.shape[1], -1)
        else:
            logits = model(torch.cat([prompt, target], 1)).logits[0, prompt.shape[1] - 1 : -1]
        found.append(functional.cross_entropy(logits, target[0], reduction="none"))
    return found


@both
@pytest.mark.parametrize("layer", [0, 2, 3, 4])
@pytest.mark.parametrize("kind", ["last_position", "teacher_forcing"])
def test_losses_from_the_kept_state_are_those_of_the_whole_model(make, layer: int, kind: str) -> None:
    model = make()
    upper = UpperLayers(model, encode_edits(model, Letters(), EDITS), layer)
    assert upper.is_cached
    losses, right, sequence = upper.losses(kind)
    assert torch.allclose(losses, torch.cat(reference_losses(model, kind)), atol=1e-4)
    assert sequence.tolist() == [0, 1, 1, 1, 2, 2, 3, 4, 4]
    text = ids("b b a e f g h")
    if kind == "teacher_forcing":
        best = model(text).logits[0, 3:6].argmax(-1) == text[0, 4:]
        assert right[1:4].tolist() == best.tolist()


@pytest.mark.parametrize("make", [llama, grouped, gpt2])
@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("name", ["mlp", "down"])
def test_a_change_at_the_site_is_that_of_a_hook_on_the_whole_model(make, layer: int, name: str) -> None:
    model = make()
    encoded = encode_edits(model, Letters(), EDITS)
    site = block(model, layer).mlp if name == "mlp" else down_projection(model, layer)
    inner = 16 if name == "mlp" else 24
    weight = torch.randn(inner, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
    upper, places = UpperLayers(model, encoded, layer, site), encoded.mask.bool()
    plain = upper.logits(places)
    found = upper.logits(places, lambda inputs, output: 0.5 * output + inputs @ weight)
    full = model(input_ids=encoded.ids, attention_mask=encoded.mask).logits[places]
    hook = site.register_forward_hook(lambda _, arguments, output: 0.5 * output + arguments[0] @ weight)
    changed = model(input_ids=encoded.ids, attention_mask=encoded.mask).logits[places]
    hook.remove()
    assert upper.is_cached
    assert torch.allclose(plain, full, atol=1e-5)
    assert torch.allclose(found, changed, atol=1e-4)
    assert (changed - full).abs().max() > 0.1
    ours, theirs = (torch.autograd.grad(logits.sin().sum(), weight)[0] for logits in (found, changed))
    assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3)


def _changed_losses(model, layer, packed, weight, kind):
    site = down_projection(model, layer)
    upper = UpperLayers(model, encode_edits(model, Letters(), EDITS), layer, site, packed=packed)
    losses, right, sequence = upper.losses(kind, lambda inputs, output: 0.5 * output + inputs @ weight)
    return losses, right, sequence, torch.autograd.grad(losses.sin().sum(), weight)[0], upper


@pytest.mark.parametrize("make", [llama, grouped, gpt2])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["last_position", "teacher_forcing"])
def test_without_padding_losses_and_gradients_are_the_same(make, attention: str, kind: str) -> None:
    model = make()
    model.set_attn_implementation(attention)
    weight = torch.randn(24, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
    *padded, _ = _changed_losses(model, 1, False, weight, kind)
    *without, upper = _changed_losses(model, 1, True, weight, kind)
    assert upper._packed is not None
    assert len(upper._packed.used) == int(upper.encoded.mask.sum()) < upper.encoded.mask.numel()
    for one, other in zip(padded, without, strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def test_padding_stays_where_leaving_it_out_is_more_work_or_cannot_be_known(monkeypatch) -> None:
    def packed(model, edits=EDITS, site=True):
        where = down_projection(model, 1) if site else None
        return UpperLayers(model, encode_edits(model, Letters(), edits), 1, where, packed=True)._packed

    model = llama()
    assert packed(model) is not None
    assert packed(model, [Edit("a b", "c"), Edit("d e", "f")]) is None  # no padding
    assert packed(model, site=False) is None
    hook = block(model, 3).mlp.register_forward_hook(lambda *_: None)
    assert packed(model) is None  # a hook that may want the batch as it is
    hook.remove()
    plain = block(model, 2).forward

    def forward(hidden_states, attention_mask=None, **named):
        return plain(hidden_states, attention_mask=None if len(hidden_states) == 1 else attention_mask, **named)

    monkeypatch.setattr(block(model, 2), "forward", forward)
    assert packed(model) is None  # a block in which the texts of one row see each other


def test_logits_of_padding_are_those_of_the_padded_batch() -> None:
    model = llama()
    encoded, site = encode_edits(model, Letters(), EDITS), down_projection(model, 1)
    everywhere = torch.ones_like(encoded.ids, dtype=torch.bool)
    one, other = (UpperLayers(model, encoded, 1, site, packed=packed).logits(everywhere) for packed in (False, True))
    assert torch.equal(one, other)


@both
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("kind", ["last_position", "teacher_forcing"])
def test_chunks_have_the_gradient_of_the_whole_batch(make, size: int, kind: str) -> None:
    model = make().requires_grad_(False)
    chunks = chunked(model, encode_edits(model, Letters(), EDITS), 2, size)
    assert len(chunks) == -(-5 // size)
    assert targets(chunks) == 9
    weight = down_projection(model, 2).weight.requires_grad_()
    loss, right = descend(chunks, kind)
    whole = torch.cat(reference_losses(model, kind)).mean()
    assert loss == pytest.approx(whole.item(), abs=1e-5)
    assert not right
    assert torch.allclose(weight.grad, torch.autograd.grad(whole, weight)[0], atol=1e-5)


def test_all_targets_are_right_only_if_those_of_every_chunk_are() -> None:
    model = llama()
    best = [int(model(ids(text)).logits[0, -1].argmax()) for text in ("a b", "c d")]
    letters = [LETTERS[number - 3] for number in best]
    other = "q" if letters[0] != "q" else "r"
    for asked, expected in ((letters, True), ([other, letters[1]], False), ([letters[0], "."], letters[1] == ".")):
        edits = [Edit("a b", asked[0]), Edit("c d", asked[1])]
        assert descend(chunked(model, encode_edits(model, Letters(), edits), 1, 1))[1] is expected


def test_parts_of_a_batch_have_no_needless_padding() -> None:
    model = llama()
    encoded = encode_edits(model, Letters(), EDITS)
    parts = encoded.split(2)
    assert [part.ids.shape for part in parts] == [(2, 7), (2, 4), (1, 7)]
    for number, edit in enumerate(EDITS):
        alone, part = encode_edits(model, Letters(), [edit]), parts[number // 2]
        length = alone.ids.shape[1]
        for name in ("ids", "mask", "prompt", "labels"):
            assert torch.equal(getattr(part, name)[number % 2, :length], getattr(alone, name)[0])
        assert not part.mask[number % 2, length:].any()


@pytest.mark.parametrize("with_site", [False, True])
def test_another_architecture_is_run_in_full_and_said_so(with_site: bool) -> None:
    model = gemma2()
    encoded = encode_edits(model, Letters(), EDITS)
    site = down_projection(model, 1) if with_site else None
    with pytest.warns(UserWarning, match="Gemma2ForCausalLM: layer 1 cannot be cached"):
        upper = UpperLayers(model, encoded, 1, site)
    assert not upper.is_cached
    assert torch.allclose(upper.losses()[0], torch.cat(reference_losses(model, "teacher_forcing")), atol=1e-4)
    if with_site:
        zero = upper.losses(change=lambda _, output: 0 * output)[0]
        assert torch.equal(upper.losses()[0], upper.losses()[0])  # the hook is gone again
        with torch.no_grad():
            site.weight.zero_()
        assert torch.allclose(zero, torch.cat(reference_losses(model, "teacher_forcing")), atol=1e-4)


def test_dropout_is_drawn_at_every_step() -> None:
    model = gpt2().train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upper = UpperLayers(model, encode_edits(model, Letters(), EDITS), 1)
    assert not upper.is_cached
    assert not torch.equal(upper.losses()[0], upper.losses()[0])


@both
def test_half_precision_gives_float32_logits_near_those_of_float32(make) -> None:
    model = make()
    encoded = encode_edits(model, Letters(), EDITS)
    exact = UpperLayers(model, encoded, 1, down_projection(model, 1)).losses()[0]
    model = make().to(torch.bfloat16)
    upper = UpperLayers(model, encoded, 1, down_projection(model, 1))
    assert upper.is_cached
    found = upper.losses()[0]
    assert found.dtype == torch.float32
    assert torch.allclose(found, exact, atol=0.5)


def _fine_tuning(model: PreTrainedModel, **changes: int) -> FineTuning:
    return FineTuning(model, Letters(), FineTuningConfig(layer=1, rate=1e-2, radius=0.03, steps=4, **changes))


def _ewc(model: PreTrainedModel, **changes: int) -> EwcFineTuning:
    return EwcFineTuning(model, Letters(), EwcConfig(layer=1, steps=4, **changes))


def _lora(model: PreTrainedModel, **changes: int) -> LoraFineTuning:
    names = ("q_proj", "v_proj") if isinstance(model, LlamaForCausalLM) else ("c_attn",)
    return LoraFineTuning(model, Letters(), LoraConfig.tuned(modules=names, layers=(1, 3), steps=4, **changes))


def _grace(model: PreTrainedModel, **changes: int) -> Grace:
    return Grace(model, Letters(), GraceConfig.tuned(layer=1, steps=4, **changes))


def _defer(model: PreTrainedModel, **changes: int) -> Defer:
    return Defer(model, Letters(), DeferConfig.tuned(layer=1, rate=2e-2, gate_rate=0.1, steps=4, **changes), UNRELATED)


def _wise(model: PreTrainedModel, **changes: int) -> Wise:
    bounds = {"alpha": 0.5, "beta": 3, "gamma": 2, "optimiser": "adam", "rate": 0.1, "limit": None, "together": 5}
    config = WiseConfig.tuned(layer=1, steps=4, irrelevant=2, **bounds, **changes)
    return Wise(model, Letters(), UNRELATED, config, prefixes=("p q",))


def _conventional(model: PreTrainedModel, **changes: int) -> Conventional:
    return Conventional(model, Letters(), ConventionalConfig(layer=1, expert_width=8, rate=1e-2, steps=4, **changes))


def _memoe(model: PreTrainedModel, **changes: int) -> Memoe:
    return Memoe(model, Letters(), MemoeConfig(layer=1, expert_width=8, rate=1e-2, noise=0, steps=4, **changes))


def _lemoe(model: PreTrainedModel, **changes: int) -> LemoeEditor:
    config = AdaptorConfig(layer=1, expert_width=8, router_width=4, rate=1e-2, steps=4, **changes)
    return LemoeEditor(model, Letters(), config)


METHODS = [_fine_tuning, _ewc, _lora, _grace, _defer, _wise, _conventional, _memoe]


def _answers(made, model: PreTrainedModel, **changes: int) -> Tensor:
    """Return what a model says after two batches of edits, to edits and to other texts."""
    editor = made(model, **changes)
    editor.edit(EDITS)
    editor.edit([Edit("r s", "j k"), Edit("g", "e"), Edit("p o n", "q")])
    encoded = encode_edits(model, Letters(), [*EDITS, Edit("r s", "j k"), Edit("y u o", "a")])
    with torch.no_grad(), editor.reading(encoded.prompt):
        return model(input_ids=encoded.ids, attention_mask=encoded.mask).logits[encoded.mask.bool()]


@both
@pytest.mark.parametrize("made", METHODS)
def test_the_size_of_a_chunk_plays_no_part_in_any_method(make, made) -> None:
    whole = _answers(made, make(), chunk=64)
    assert torch.allclose(_answers(made, make(), chunk=2), whole, atol=2e-3, rtol=1e-3)
    with torch.no_grad():
        plain = make()
        encoded = encode_edits(plain, Letters(), [*EDITS, Edit("r s", "j k"), Edit("y u o", "a")])
        before = plain(input_ids=encoded.ids, attention_mask=encoded.mask).logits[encoded.mask.bool()]
    assert (whole - before).abs().max() > 0.1


@both
@pytest.mark.parametrize("made", METHODS)
def test_full_passes_train_any_method_as_the_upper_layers_do(make, made, monkeypatch) -> None:
    cached = _answers(made, make())
    monkeypatch.setattr(upper_layers, "_run", lambda *_: None)
    with pytest.warns(UserWarning, match="cannot be cached"):
        full = _answers(made, make())
    assert torch.allclose(full, cached, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("made", [_fine_tuning, _ewc, _grace, _defer, _wise, _lemoe])
def test_leaving_padding_out_plays_no_part_in_any_method(make, made, monkeypatch) -> None:
    used: list[object] = []
    of = packing.Packed.of
    monkeypatch.setattr(packing.Packed, "of", lambda *args: used.append(found := of(*args)) or found)
    plain, packed = _answers(made, make()), _answers(made, make(), packed=True)
    assert any(one is not None for one in used)
    assert torch.allclose(plain, packed, atol=2e-3, rtol=1e-3)
