"""What GRU, transformer and GPT-2 have in common: causality, sampling with what was kept, and that they learn."""

import pytest
import torch
from torch import Tensor, nn

from lib.seq2seq import nucleus
from lib.seq2seq.gpt2 import Gpt2, Gpt2Config
from lib.seq2seq.gru import Gru, GruConfig
from lib.seq2seq.transformer import Transformer, TransformerConfig

CONFIGS = {
    Gru: GruConfig(vocabulary=11, width=32, layers=2, dropout=0.0),
    Transformer: TransformerConfig(vocabulary=11, width=32, layers=2, heads=4, inner=64, dropout=0.0),
    Gpt2: Gpt2Config(vocabulary=11, width=32, layers=2, heads=4, positions=20, dropout=0.0),
}


@pytest.fixture(params=list(CONFIGS), ids=lambda kind: kind.__name__)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(1)
    built = request.param(CONFIGS[request.param])
    for weight in built.parameters():  # away from near-uniform words
        weight.data.mul_(1.5)
    return built.eval()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    source = torch.randint(3, 11, (4, 5), generator=generator)
    target = torch.randint(3, 11, (4, 6), generator=generator)
    for row, length in enumerate((5, 3, 1, 4)):
        target[row, length], target[row, length + 1 :] = 1, 0
    return source, target


def likelihood(model: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    return model.losses(source, target, torch.Generator())["likelihood"]


def test_the_loss_of_a_sentence_does_not_depend_on_its_neighbours_or_its_padding(model: nn.Module) -> None:
    source, target = batch()
    together = likelihood(model, source, target)
    for row, length in enumerate((5, 3, 1, 4)):
        alone = likelihood(model, source[row : row + 1], target[row : row + 1, : length + 1])
        assert alone.item() == pytest.approx(together[row].item(), rel=1e-5)


def test_a_word_changes_its_own_and_later_terms_only(model: nn.Module) -> None:
    source, target = batch()
    source, target = source[:1], target[:1]
    for place in range(1, 5):
        changed = target.clone()
        changed[0, place] = 3 + (changed[0, place] - 2) % 8
        terms = [place_terms(model, source, t) for t in (target, changed)]
        assert terms[0][:place] == pytest.approx(terms[1][:place], rel=1e-5)
        assert all(a != b for a, b in zip(terms[0][place:], terms[1][place:], strict=True))


def place_terms(model: nn.Module, source: Tensor, target: Tensor) -> list[float]:
    words = target[target != 0]
    return (-full_logits(model, source, target).log_softmax(-1)[range(len(words)), words]).tolist()


def full_logits(model: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    """The logits of one whole forward pass, seen where the likelihood is taken."""
    found = []
    output = model.output
    model.output = lambda hidden: found.append(output(hidden)) or found[-1]
    try:
        likelihood(model, source, target)
    finally:
        del model.output
    return found[0].detach()


def test_the_source_matters_at_every_place(model: nn.Module) -> None:
    source, target = batch()
    for place in range(source.shape[1]):
        changed = source.clone()
        changed[:, place] = 3 + (changed[:, place] - 2) % 8
        assert not torch.isclose(likelihood(model, source, target), likelihood(model, changed, target), rtol=1e-4).any()


def test_sampling_word_by_word_sees_the_distribution_of_the_full_forward(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = batch()
    target = torch.randint(3, 11, target.shape, generator=torch.Generator().manual_seed(2))  # nothing ends early
    seen = []

    def scripted(logits: Tensor, p: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        assert p == 0.9
        seen.append(logits.log_softmax(-1))
        return target[:, len(seen) - 1], torch.tensor(True)

    monkeypatch.setattr(nucleus, "_draw", scripted)
    assert torch.equal(model.sample(source, 6, torch.Generator()), target)
    for row in range(4):
        again = full_logits(model, source[row : row + 1], target[row : row + 1])
        again[:, 0] = -torch.inf  # sampling leaves PAD out
        assert torch.allclose(again.log_softmax(-1)[:, 1:], torch.stack([s[row, 1:] for s in seen]), atol=2e-4)


@pytest.mark.parametrize("bf16", [False, True])
def test_samples_are_valid_repeatable_and_padding_after_their_end(model: nn.Module, bf16: bool) -> None:
    source = torch.randint(3, 11, (40, 5))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        drawn, again, other = (model.sample(source, 7, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert drawn.shape == (40, 7)
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)
    for row in drawn.tolist():
        words = row[: row.index(1)] if 1 in row else row
        assert all(1 <= word < 11 for word in words)
        assert row[len(words) + 1 :] == [0] * (7 - len(words) - 1)


def test_the_saved_weights_are_the_named_parameters(model: nn.Module) -> None:
    """An average of the named parameters can be loaded as it is: nothing is tied under two names or kept beside."""
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_a_few_steps_teach_to_copy(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind(CONFIGS[kind].model_copy(update={"width": 48}))
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), 4e-3, fused=True)
    for step in range(240):
        optimiser.param_groups[0]["lr"] = 4e-3 * min(1, step / 20, (240 - step) / 120)
        source = torch.randint(3, 11, (32, 3), generator=generator)
        target = torch.cat([source, torch.ones(32, 1, dtype=torch.long), torch.zeros(32, 1, dtype=torch.long)], 1)
        model.losses(source, target, generator)["likelihood"].mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    source = torch.randint(3, 11, (100, 3), generator=generator)
    drawn = model.eval().sample(source, 5, generator)
    assert (drawn[:, 3] == 1).float().mean() > 0.7
    assert (drawn[:, :3] == source).float().mean() > 0.7  # by chance 1/8
