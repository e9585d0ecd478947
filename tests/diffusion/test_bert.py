"""The released network: its layers are BERT's, it estimates what transformers' BERT does, and it learns."""

import pytest
import torch
from transformers import BertConfig, BertModel

from lib.diffusion import bert
from lib.diffusion.denoiser import DenoiserConfig
from lib.errors import UserError

SHAPE = DenoiserConfig(vocabulary=20, network="bert", embedding=8, width=16, layers=2, heads=2, dropout=0.0)


def test_a_base_network_has_the_matrices_of_bert_base() -> None:
    with torch.device("meta"):
        ours = bert.denoiser(DenoiserConfig(vocabulary=30522, network="bert"))
        theirs = BertModel(BertConfig())  # transformers' defaults are bert-base-uncased
    layers = {name.replace("layer.", "", 1): v.shape for name, v in theirs.encoder.layer.named_parameters()}
    found = {name.replace("layer.", "", 1): v.shape for name, v in ours.blocks.named_parameters()}
    assert list(found.values()) == list(layers.values())
    assert ours.places.weight.shape == theirs.embeddings.position_embeddings.weight.shape


@torch.no_grad()
def test_it_estimates_what_transformers_bert_does() -> None:
    torch.manual_seed(0)
    ours = bert.denoiser(SHAPE).eval()
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    theirs = BertModel(BertConfig(vocab_size=20, **shape), add_pooling_layer=False).eval()
    for mine, layer in zip(ours.blocks, theirs.encoder.layer, strict=True):
        layer.load_state_dict(mine.layer.state_dict())
    theirs.embeddings.position_embeddings.load_state_dict(ours.places.state_dict())
    theirs.embeddings.LayerNorm.load_state_dict(ours.norm.state_dict())
    theirs.embeddings.token_type_embeddings.weight.zero_()
    source, noised, previous = torch.randn(3, 4, 8), torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    t = torch.tensor([1.0, 7.0, 20.0])
    place = torch.arange(64) / 64
    angles = (1000 * t / 20)[:, None] * 10_000.0**-place
    time = ours.time(torch.cat([angles.cos(), angles.sin()], 1))
    rows = torch.cat([torch.cat([source, noised], 1), torch.cat([torch.zeros(3, 4, 8), previous], 1)], 2)
    entering = ours.inside(ours.enter(rows).tanh()) + time[:, None]
    wanted = ours.leave(ours.outside(theirs(inputs_embeds=entering).last_hidden_state).tanh())
    assert torch.allclose(ours(source, noised, previous, t, 20, both=True), wanted, atol=1e-5)
    assert torch.allclose(ours(source, noised, previous, t, 20), wanted[:, 4:], atol=1e-5)


def test_layers_that_are_computed_again_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    network, gradients = bert.denoiser(SHAPE), []
    inputs = torch.randn(2, 3, 8), torch.randn(2, 4, 8), torch.randn(2, 4, 8), torch.tensor([1.0, 2.0])
    for recomputed in (False, True):
        for block in network.blocks:
            block.recomputed = recomputed
        network.zero_grad()
        network(*inputs, 4).square().sum().backward()
        gradients.append(network.blocks[0].layer.intermediate.dense.weight.grad.clone())
    assert torch.equal(*gradients)


def test_places_that_bert_lacks_are_refused() -> None:
    network = bert.denoiser(SHAPE)
    with pytest.raises(UserError, match="513 words"):
        network(torch.zeros(1, 500, 8), torch.zeros(1, 13, 8), torch.zeros(1, 13, 8), torch.ones(1), 2)
