"""Second moments against numpy on the keys of whole, unpadded forward passes; their file."""

import numpy as np
import pytest
import torch

from lib.causal_lm.layers import block
from lib.editing.moments import second_moments, states
from lib.errors import UserError
from tests.stand_in_tokenizers import SENTENCES, stand_in, tiny_model
from tests.tiny_models import Letters, both, llama

TEXTS = ["a b c d e f g", "h", "i j k", "", "l m n o p q r s t u v w x y z a b", "b c"]


def keys_of(model, ids, layer):
    """What enters a down projection, computed by hand from what enters the MLP: (tokens, inner width), numpy."""
    seen = []
    handle = block(model, layer).mlp.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][0]))
    with torch.no_grad():
        model(torch.tensor([ids]))
        handle.remove()
        mlp = block(model, layer).mlp
        if hasattr(mlp, "gate_proj"):
            return (mlp.act_fn(mlp.gate_proj(seen[0])) * mlp.up_proj(seen[0])).double().numpy()
        return mlp.act(mlp.c_fc(seen[0])).double().numpy()


@pytest.mark.parametrize(("tokens", "length"), [(1000, 64), (9, 64), (1000, 5), (14, 4)])
@both
def test_second_moments_are_numpys(make, tokens: int, length: int) -> None:
    model = make()
    pieces, left = [], tokens
    for text in TEXTS:
        ids = Letters()(text)["input_ids"][:left]
        left -= len(ids)
        pieces += [ids[start : start + length] for start in range(0, len(ids), length)]
    found = second_moments(model, Letters(), TEXTS, [2, 0], tokens, batch=2, length=length)
    assert set(found) == {0, 2}
    for layer, moment in found.items():
        keys = np.concatenate([keys_of(model, ids, layer) for ids in pieces])
        assert len(keys) == min(tokens, 30)
        assert moment.dtype == torch.float64
        np.testing.assert_allclose(moment.numpy(), keys.T @ keys / len(keys), rtol=1e-4, atol=1e-5)


def test_nothing_above_the_deepest_layer_runs_and_no_hook_stays() -> None:
    model, ran = llama(), []
    handles = [
        block(model, layer).register_forward_hook(lambda *_, layer=layer: ran.append(layer)) for layer in range(4)
    ]
    second_moments(model, Letters(), TEXTS, [0, 1], batch=8)
    assert ran == [0]
    for handle in handles:
        handle.remove()
    keys, outputs = states(model, [1], [3], input_ids=torch.tensor([[3, 4, 5]]))
    assert keys[1].shape == (1, 3, 24)
    assert outputs[3].shape == (1, 3, 16)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_moments_do_not_need_gradients_and_half_precision_gives_float64() -> None:
    found = second_moments(llama().to(torch.bfloat16), Letters(), TEXTS, [1])
    wanted = second_moments(llama(), Letters(), TEXTS, [1])
    assert found[1].dtype == torch.float64
    assert not found[1].requires_grad
    assert (found[1] - wanted[1]).norm() < 0.05 * wanted[1].norm()


def test_no_text_and_no_layer_are_one_clear_line() -> None:
    with pytest.raises(UserError, match="give texts"):
        second_moments(llama(), Letters(), [""], [0])
    with pytest.raises(UserError, match="layer 7 does not exist"):
        second_moments(llama(), Letters(), TEXTS, [7])


@pytest.mark.parametrize("kind", ["plain", "bos", "blank"])
def test_every_piece_of_a_text_is_read_after_what_the_tokenizer_puts_before_a_text(kind):
    tokenizer = stand_in(kind)
    model, (text, *_) = tiny_model(tokenizer), SENTENCES
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    first = tokenizer(text)["input_ids"][: len(tokenizer(text)["input_ids"]) - len(ids)]
    total, count, room = torch.zeros(96, 96, dtype=torch.float64), 0, 4 - len(first)
    for start in range(0, len(ids), room):
        piece = torch.tensor([[*first, *ids[start : start + room]]])
        with torch.no_grad():
            keys = states(model, [1], input_ids=piece)[0][1][0].double()
        total, count = total + keys.T @ keys, count + len(keys)
    found = second_moments(model, tokenizer, [text], [1], length=4)[1]
    torch.testing.assert_close(found, total / count, atol=1e-6, rtol=1e-4)
