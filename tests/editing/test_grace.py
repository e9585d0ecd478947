"""GRACE: its codebook against brute force, its decision once per sequence, its values against a hook made by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from lib.causal_lm import caches
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import encode
from lib.causal_lm.layers import down_projection
from lib.editing.grace import Codebook, Grace, GraceConfig
from lib.errors import UserError
from tests.tiny_models import Letters, both, gpt2, llama

EDITS = [Edit("a b c", "d"), Edit("b b a e", "f g"), Edit("k l", "m")]
UNRELATED = ["x y z w", "o p q"]
CONFIG = GraceConfig.tuned(layer=1, radius=0.05)


def ids(text: str) -> Tensor:
    return torch.tensor([Letters()(text)["input_ids"]])


def edited(model: PreTrainedModel, **changes: object) -> Grace:
    editor = Grace(model, Letters(), CONFIG.model_copy(update=changes))
    editor.edit(EDITS[:2])
    editor.edit(EDITS[2:])
    return editor


def padded(texts: list[str], side: str) -> tuple[Tensor, Tensor]:
    rows = [ids(text)[0].tolist() for text in texts]
    fill = [[0] * (max(map(len, rows)) - len(row)) for row in rows]
    order = list(zip(fill, rows, strict=True))
    batch = torch.tensor([pad + row if side == "left" else row + pad for pad, row in order])
    return batch, (batch != 0).long()


def by_hand(entries: list[list], key: np.ndarray, label: str, radius: float) -> None:
    """Let a key arrive in a list of [key, radius, label], told again from the paper."""
    far = [math.dist(key, entry[0]) for entry in entries]
    if not entries or min(far) > radius + entries[int(np.argmin(far))][1]:
        entries.append([key, radius, label])
        return
    nearest, distance = entries[int(np.argmin(far))], min(far)
    if nearest[2] == label:
        nearest[1] = max(nearest[1], distance)
    else:
        nearest[1] = distance / 2
        entries.append([key, distance / 2, label])


@pytest.mark.parametrize("seed", range(5))
def test_the_codebook_expands_splits_and_adds_as_brute_force_does(seed: int) -> None:
    generator = np.random.default_rng(seed)
    book, entries, kinds = Codebook(torch.zeros(0, 2), torch.zeros(0, 3), torch.zeros(0), []), [], set()
    for number in range(60):
        key, label = generator.normal(size=2) * 3, int(generator.integers(3))
        before, radii = len(entries), [entry[1] for entry in entries]
        by_hand(entries, key, label, 0.6)
        moved = [entry[1] for entry in entries[:before]] != radii
        kinds.add((len(entries) > before, moved))
        entry = book.arrive(torch.tensor(key).float(), torch.full((3,), float(number)), (label,), 0.6)
        assert len(book) == len(entries)
        assert entry == (
            len(entries) - 1 if len(entries) > before else book.nearest(torch.tensor(key)[None].float())[0]
        )
        if len(entries) > before:
            assert book.values[-1].tolist() == [number] * 3
    assert kinds == {(True, False), (True, True), (False, True), (False, False)}
    assert np.allclose(book.radii, [entry[1] for entry in entries], rtol=1e-3)
    assert book.labels == [(entry[2],) for entry in entries]
    assert np.allclose(book.keys, [entry[0] for entry in entries])
    # No two entries of different labels reach the same place by a split.
    asked = generator.normal(size=(200, 2)) * 3
    nearest, distance = book.nearest(torch.tensor(asked).float())
    expected = np.sqrt(((asked[:, None] - book.keys.numpy()) ** 2).sum(-1))
    assert np.array_equal(nearest, expected.argmin(1))
    assert np.allclose(distance, expected.min(1), rtol=1e-4)


def test_distances_stay_exact_with_many_long_keys() -> None:
    torch.manual_seed(0)
    keys = torch.randn(60, 300) * 100
    book = Codebook(keys, torch.zeros(60, 1), torch.ones(60), [(number,) for number in range(60)])
    entry, distance = book.nearest(keys + torch.eye(60, 300) * 0.5)
    assert entry.tolist() == list(range(60))
    assert torch.allclose(distance, torch.full((60,), 0.5), atol=1e-3)


def test_a_prompt_edited_again_answers_the_later_label() -> None:
    book = Codebook(torch.zeros(0, 2), torch.zeros(0, 1), torch.zeros(0), [])
    key = torch.tensor([3.0, 4.0])
    assert book.arrive(key, torch.tensor([1.0]), (1,), 0.5) == 0
    assert book.arrive(key + 1e-4, torch.tensor([2.0]), (2,), 0.5, equal=1e-3) == 0
    assert (book.labels, book.values.tolist(), book.radii.tolist()) == ([(2,)], [[2.0]], [0.5])
    model = llama()
    editor = Grace(model, Letters(), CONFIG)
    editor.edit([Edit("a b c", "d"), Edit("a b c", "e")])
    assert len(editor.codebook) == 1
    assert model.generate(ids("a b c"), max_new_tokens=1, do_sample=False)[0, 3:].tolist() == ids("e")[0].tolist()
    editor.edit([Edit("a b c", "g")])
    assert model.generate(ids("a b c"), max_new_tokens=1, do_sample=False)[0, 3:].tolist() == ids("g")[0].tolist()


@both
def test_edits_are_generated_and_all_else_is_untouched_to_the_bit(make) -> None:
    model = make()
    texts = [ids(text) for text in (*UNRELATED, "a b", "b c e")]
    mixed, mask = padded(["a b c", *UNRELATED], "right")
    before, batch = [model(text).logits for text in texts], model(mixed, attention_mask=mask).logits
    editor = edited(model, layer=0)
    assert len(editor.codebook) == 3
    for edit in EDITS:  # one vector for all tokens, in so small a model, need not write two different ones
        drawn = model.generate(ids(edit.prompt), max_new_tokens=1, do_sample=False)
        assert drawn[0, -1] == ids(edit.target)[0, 0]
    assert all(torch.equal(model(text).logits, logits) for text, logits in zip(texts, before, strict=True))
    after = model(mixed, attention_mask=mask).logits
    assert torch.equal(after[1:], batch[1:])
    assert torch.equal(after[0, :2], batch[0, :2])
    assert not torch.equal(after[0, 2], batch[0, 2])


@both
def test_the_value_stands_for_the_output_from_the_last_prompt_token_on(make) -> None:
    model = make()
    copied, editor = copy.deepcopy(model), edited(model)
    keys = []

    def replace(_: torch.nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        keys.append(arguments[0][0, 3])
        output = output.clone()
        output[0, 3:] = editor.codebook.values[1]
        return output

    down_projection(copied, 1).register_forward_hook(replace)
    whole = ids("b b a e f g x")
    expected = copied(whole).logits
    with editor.reading(torch.tensor([[1, 1, 1, 1, 0, 0, 0]])):
        assert torch.allclose(model(whole).logits, expected, atol=1e-5)
    assert not torch.allclose(model(whole).logits, expected, atol=1e-2)
    assert torch.allclose(editor.codebook.keys[1], keys[0], atol=1e-5)
    assert editor.codebook.labels == [tuple(ids(edit.target)[0].tolist()) for edit in EDITS]


@both
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_cache_and_beams_do_not_change_the_decision(make, side: str) -> None:
    model = make()
    editor = edited(model)
    texts = [edit.prompt for edit in EDITS] + UNRELATED
    batch, mask = padded(texts, side)
    logits = model(batch, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
    for row, text in enumerate(texts):
        alone = model(ids(text)).logits[0]
        assert torch.allclose(logits[row][mask[row].bool()], alone, atol=1e-3)
    if side == "right":
        return
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    cached = model.generate(batch, attention_mask=mask, **options)
    beams = model.generate(batch, attention_mask=mask, num_beams=3, **options)
    with editor.reading(mask):
        again = model.generate(batch, attention_mask=mask, use_cache=False, **options)
        beams_again = model.generate(batch, attention_mask=mask, num_beams=3, use_cache=False, **options)
    assert torch.equal(cached, again)
    assert torch.equal(beams, beams_again)
    for row, text in enumerate(texts):
        single = model.generate(ids(text), **options)[0, ids(text).shape[1] :]
        assert torch.equal(single, cached[row, batch.shape[1] :][: len(single)])


@both
def test_a_batch_learns_the_values_that_its_edits_learn_alone(make) -> None:
    model = make()
    together = Grace(model, Letters(), CONFIG.model_copy(update={"start": "warm", "steps": 3, "rate": 0.1}))
    together.edit(EDITS)
    for number, edit in enumerate(EDITS):
        single = make()
        alone = Grace(single, Letters(), together.config)
        alone.edit([edit])
        assert torch.allclose(alone.codebook.values[0], together.codebook.values[number], atol=1e-3)
        keys, outputs = alone.keys(encode(single, Letters(), [(edit.prompt, edit.target)]))
        assert torch.allclose(keys[0], together.codebook.keys[number], atol=1e-5)
        moved = (alone.codebook.values[0] - outputs[0]).abs()  # three steps of Adam from the layer's own output
        assert 0.2 < moved.max() < 0.31


@both
def test_warm_values_and_wide_radii(make) -> None:
    model, text = make(), ids("x y z w")
    before = model(text).logits
    editor = Grace(model, Letters(), CONFIG.model_copy(update={"start": "warm", "enough": 1e3, "radius": 1e6}))
    editor.edit(EDITS[:1])
    prompt = ids("a b c")
    copied = make()
    assert torch.allclose(model(prompt).logits, copied(prompt).logits, atol=1e-5)
    assert not torch.allclose(model(text).logits[0, -1], before[0, -1], atol=1e-3)
    assert torch.equal(model(text).logits[0, :-1], before[0, :-1])
    editor.edit([Edit("x y z w", "d")])
    assert len(editor.codebook) == 1
    editor.edit([Edit("o p q", "e")])
    assert len(editor.codebook) == 2
    distance = torch.dist(editor.codebook.keys[0], editor.codebook.keys[1])
    assert torch.allclose(editor.codebook.radii, distance / 2, rtol=1e-3)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restoring_is_to_the_bit(make, dtype: torch.dtype) -> None:
    model, text = make().to(dtype), ids("a b c")
    before, logits = copy.deepcopy(model.state_dict()), model(text).logits
    editor = edited(model, steps=20)
    with torch.inference_mode():
        assert not torch.equal(model(text).logits, logits)
    editor.edit([Edit("p q", "r")])
    inputs, outputs = 24, 16
    assert editor.memory() == 4 * 4 * (inputs + outputs + 1)
    editor.restore()
    assert torch.equal(model(text).logits, logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in model.parameters())
    assert editor.memory() == 0


def test_restoring_begins_anew_with_the_first_drawn_value() -> None:
    editor = edited(llama(), steps=1)
    first = {name: value.clone() for name, value in editor.saved_state()[0].items()}
    assert editor.saved_state()[1]["arrived"] == 3
    editor.restore()
    assert editor.saved_state()[1] == {"labels": [], "arrived": 0}
    editor.edit(EDITS[:2])
    editor.edit(EDITS[2:])
    assert all(torch.equal(value, first[name]) for name, value in editor.saved_state()[0].items())


@pytest.mark.parametrize("name", ["keys", "values", "radii"])
def test_a_codebook_of_another_shape_is_refused(name: str) -> None:
    tensors, told = edited(llama(), steps=1).saved_state()
    for wrong in (tensors[name][:2], tensors[name][..., None], torch.cat([tensors[name]] * 2)):
        editor = Grace(llama(), Letters(), CONFIG)
        with pytest.raises(ValueError, match=f"{name} are of another shape"):
            editor.take_state(tensors | {name: wrong}, told)
        assert editor.is_empty()
    editor = Grace(llama(), Letters(), CONFIG)
    editor.take_state(tensors, told)
    assert (len(editor.codebook), editor.saved_state()[1]) == (3, told)


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="layer 4 does not exist"):
        Grace(gpt2(), Letters(), CONFIG.model_copy(update={"layer": 4}))
    model = llama()
    editor = edited(model, steps=1)
    with pytest.raises(UserError, match="no edits"):
        editor.edit([])
    with editor.reading(torch.ones(2, 3)), pytest.raises(UserError, match="3 sequences are read with the prompts of 2"):
        model(ids("a b c").repeat(3, 1))
    with editor.off():
        cache = caches.of(model(ids("a b c"), use_cache=True))
    with pytest.raises(UserError, match="while the edits were not on"):
        model(ids("d"), **caches.argument(model, cache))


@pytest.mark.parametrize("where", ["prompt", "last", "all", "onward"])
@both
def test_released_training_replaces_the_tokens_before_the_last_prompt_token(make, where: str) -> None:
    """As released: Adam at rate 1 from a value in [0, 1) on the mean loss, all steps; the other places by name."""
    model, edit = make(), Edit("a b c d", "e f")
    config = GraceConfig(layer=1, steps=3, where=where)
    editor = Grace(model, Letters(), config)
    start = editor._drawn(torch.zeros(16))
    editor.edit([edit])
    copied, text = make(), ids("a b c d e f")
    value, last, place = start.clone().requires_grad_(), 3, torch.arange(6)
    chosen = {"prompt": place < last, "last": place == last, "all": place >= 0, "onward": place >= last}[where]
    hook = down_projection(copied, 1).register_forward_hook(
        lambda _, __, output: torch.where(chosen[: output.shape[1], None], value, output)
    )
    optimiser = torch.optim.Adam([value], 1.0)
    for _ in range(3):
        optimiser.zero_grad()
        functional.cross_entropy(copied(text).logits[0, 3:5], text[0, 4:]).backward()
        optimiser.step()
    assert torch.allclose(editor.codebook.values[0], value, rtol=1e-4, atol=1e-4)
    with editor.reading(torch.tensor([[1, 1, 1, 1, 0, 0]])):
        assert torch.allclose(model(text).logits, copied(text).logits, atol=1e-3)
    hook.remove()
    assert GraceConfig().where == "prompt"
    assert (GraceConfig().enough, GraceConfig().equal, GraceConfig().radius) == (0.0, None, 1.0)


def test_released_conflicts_halve_the_distance() -> None:
    """One key with two labels: as released, neither is reached any more; `equal` lets the later one take over."""
    empty = torch.zeros(0, 2)
    book = Codebook(empty, empty, empty[:, 0], [])
    key, value = torch.ones(2), torch.zeros(2)
    book.arrive(key, value, (1,), 1.0)
    book.arrive(key + torch.tensor([0.5, 0.0]), value, (2,), 1.0)
    assert book.radii.tolist() == pytest.approx([0.25 - 1e-5, 0.25], abs=1e-7)
    book.arrive(key, value, (3,), 1.0)
    assert book.radii.tolist() == pytest.approx([-1e-5, 0.25, 0.0], abs=1e-7)


@pytest.mark.parametrize("changes", [{"radius": -1.0}, {"rate": 0.0}, {"steps": 0}, {"equal": -1.0}, {"layer": -2}])
def test_settings_that_cannot_be_are_refused(changes) -> None:
    with pytest.raises(ValidationError):
        GraceConfig(**changes)
