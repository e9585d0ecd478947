"""The transformer's layers against torch's with the same weights, and the positions against their formula."""

import math

import pytest
import torch
from torch import nn

from lib.seq2seq.transformer import Attention, Layer, Transformer, TransformerConfig, positions

SHAPE = TransformerConfig(vocabulary=11, width=16, layers=2, heads=4, inner=24, dropout=0.0)


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.data = torch.cat([ours.query.weight, ours.memory.weight]).detach()
    theirs.in_proj_bias.data = torch.cat([ours.query.bias, ours.memory.bias]).detach()
    theirs.out_proj.load_state_dict(ours.merge.state_dict())


def as_torch(ours: Layer, crossed: bool) -> nn.Module:
    kind = nn.TransformerDecoderLayer if crossed else nn.TransformerEncoderLayer
    theirs = kind(16, 4, 24, dropout=0.0, batch_first=True, norm_first=True)
    copy_attention(ours.own, theirs.self_attn)
    pairs = [(ours.expand, theirs.linear1), (ours.contract, theirs.linear2), (ours.norm_own, theirs.norm1)]
    if crossed:
        copy_attention(ours.cross, theirs.multihead_attn)
        pairs += [(ours.norm_cross, theirs.norm2), (ours.norm_feed_forward, theirs.norm3)]
    else:
        pairs += [(ours.norm_feed_forward, theirs.norm2)]
    for mine, other in pairs:
        other.load_state_dict(mine.state_dict())
    return theirs


@torch.no_grad()
def test_the_loss_is_that_of_torchs_layers_with_the_same_weights() -> None:
    torch.manual_seed(0)
    model = Transformer(SHAPE)
    for weight in model.parameters():
        weight.add_(torch.randn_like(weight) * 0.1)  # biases and norms count too
    source, target = torch.randint(3, 11, (3, 5)), torch.tensor([[4, 5, 6, 1], [7, 1, 0, 0], [8, 9, 1, 0]])
    read = torch.tensor([[1, 4, 5, 6], [1, 7, 1, 0], [1, 8, 9, 1]])
    memory = model.words(source) * 4 + positions(0, 5, 16)
    for layer in model.encoder:
        memory = as_torch(layer, crossed=False)(memory)
    memory = model.norm_encoder(memory)
    hidden = model.words(read) * 4 + positions(0, 4, 16)
    for layer in model.decoder:
        mask = nn.Transformer.generate_square_subsequent_mask(4)
        hidden = as_torch(layer, crossed=True)(hidden, memory, tgt_mask=mask)
    logits = model.norm_decoder(hidden) @ model.words.weight.T + model.bias
    found = model.losses(source, target, torch.Generator())["likelihood"]
    for row, length in enumerate((4, 2, 3)):
        expected = nn.functional.cross_entropy(logits[row, :length], target[row, :length])
        assert found[row].item() == pytest.approx(expected.item(), rel=1e-4)


def test_positions_are_the_published_sines_and_cosines() -> None:
    found = positions(3, 2, 6)
    for row, place in enumerate((3, 4)):
        for pair in range(3):
            angle = place / 10_000 ** (2 * pair / 6)
            assert found[row, 2 * pair : 2 * pair + 2].tolist() == pytest.approx(
                [math.sin(angle), math.cos(angle)], abs=1e-6
            )


@pytest.mark.parametrize(("width", "heads"), [(16, 3), (9, 3)])
def test_heads_that_do_not_fit_are_refused(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match="must be even and a multiple"):
        Transformer(TransformerConfig(vocabulary=11, width=width, heads=heads))
