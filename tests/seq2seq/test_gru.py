"""The attention GRU against torch's own modules and a plain loop."""

import pytest
import torch

from lib.seq2seq.gru import Gru, GruConfig, attend

SHAPE = GruConfig(vocabulary=11, width=8, layers=2, dropout=0.0)


def test_attention_is_a_plain_weighted_sum() -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    found = attend(query, keys, values)
    for row in range(2):
        for place in range(3):
            weights = [torch.exp(sum(query[row, place] * keys[row, j])) for j in range(5)]
            expected = sum(w * values[row, j] for j, w in enumerate(weights)) / sum(weights)
            assert torch.allclose(found[row, place], expected, atol=1e-5)


@torch.no_grad()
def test_the_loss_is_that_of_cells_and_a_loop() -> None:
    torch.manual_seed(0)
    model = Gru(SHAPE)
    source, target = torch.tensor([[3, 4, 5]]), torch.tensor([[6, 7, 1, 0]])
    cells = [torch.nn.GRUCell(8, 8) for _ in range(2)]
    for layer, cell in enumerate(cells):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({name: getattr(model.decoder, f"{name}_l{layer}") for name in names})
    states, last = model.encoder(model.words(source) * 8**0.5)  # torch's: forward and backward of each layer
    carried = [torch.cat([last[2 * k, 0], last[2 * k + 1, 0]]) for k in range(2)]
    carried = [torch.tanh(model.bridge(both)) for both in carried]
    terms = []
    for read, wanted in zip((1, 6, 7), (6, 7, 1), strict=True):
        below = model.words.weight[read] * 8**0.5
        for k, cell in enumerate(cells):
            below = carried[k] = cell(below, carried[k])
        weights = torch.softmax(torch.stack([below @ model.match.weight @ state for state in states[0]]), 0)
        merged = torch.tanh(model.merge(torch.cat([weights @ states[0], below])))
        terms.append(-torch.log_softmax(model.words.weight @ merged + model.bias, 0)[wanted].item())
    found = model.losses(source, target, torch.Generator())["likelihood"]
    assert found.tolist() == pytest.approx([sum(terms) / 3], rel=1e-5)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match="must be even"):
        Gru(GruConfig(vocabulary=11, width=7))
