"""Training from what is cached: the losses and weights of full passes, in chunks of any size, in both styles."""

import pytest
import torch
from transformers import LlamaForCausalLM

from lib.causal_lm.edits import Edit
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from tests.tiny_models import Words as Tokens
from tests.tiny_models import gemma2
from tests.tiny_models import small_gpt2 as gpt2
from tests.tiny_models import small_llama as llama

EDITS = [Edit("a b c", "d"), Edit("b b a e", "f g"), Edit("c", "h"), Edit("k l o o p", "m a b")]


def grouped() -> LlamaForCausalLM:
    return llama(heads=1)


@pytest.mark.parametrize("make", [llama, grouped, gpt2])
@pytest.mark.parametrize("expert", ["ffn", "lora"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_training_from_the_prefix_is_training_by_full_passes(make, expert: str, layer: int) -> None:
    found = []
    for cached in (True, False):
        config = AdaptorConfig(layer=layer, expert=expert, router_width=8, rate=1e-2, steps=4, chunk=3, cached=cached)
        adaptor = Adaptor.attach(make(), config)
        losses = [adaptor.edit(Tokens(), EDITS[:2]), adaptor.edit(Tokens(), EDITS)]
        found.append((torch.tensor(losses), adaptor.state_dict()))
    (losses, weights), (full, others) = found
    assert losses[0, -1] < losses[0, 0]
    assert torch.allclose(losses, full, atol=1e-5, rtol=0)
    assert all(torch.allclose(value, others[name], atol=1e-4) for name, value in weights.items())


def test_the_frozen_part_is_run_once_only() -> None:
    model = llama()
    adaptor = Adaptor.attach(model, AdaptorConfig(layer=1, router_width=8, steps=7, chunk=4))
    runs = {layer: 0 for layer in range(3)}
    for layer, block in enumerate(model.model.layers):
        block.register_forward_hook(lambda *_, layer=layer: runs.update({layer: runs[layer] + 1}))
    adaptor.edit(Tokens(), EDITS)
    assert runs == {0: 1, 1: 1, 2: 8}


def test_another_architecture_is_run_in_full_and_said_so() -> None:
    model = gemma2()
    adaptor = Adaptor.attach(model, AdaptorConfig(layer=1, router_width=8, rate=1e-2, steps=3))
    with pytest.warns(UserWarning, match="layer 1 cannot be cached"):
        losses = adaptor.edit(Tokens(), EDITS)
    assert losses[-1] < losses[0]


def test_the_size_of_a_chunk_plays_no_part() -> None:
    found = []
    for chunk in (1, 3, 64):
        config = AdaptorConfig(layer=1, router_width=8, rate=1e-2, steps=4, chunk=chunk)
        found.append(torch.tensor(Adaptor.attach(llama(), config).edit(Tokens(), EDITS)))
    assert torch.allclose(found[0], found[1], atol=1e-4)
    assert torch.allclose(found[0], found[2], atol=1e-4)
