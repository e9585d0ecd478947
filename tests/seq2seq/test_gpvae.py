"""GPVAE-T5: the prior and its divergence, the loss against a derivation, sampling with the cache, a toy learnt."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from transformers import AutoTokenizer, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from lib.errors import UserError
from lib.seq2seq import gpvae
from lib.seq2seq.gpvae import GPVAE, GPVAEConfig
from tests.rehearsal import models

SHAPE = {"vocabulary": 11, "width": 16, "layers": 2, "heads": 2, "dropout": 0.0}
cases = given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 5))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def build(**changes):
    """A small model whose posterior is not its prior."""
    torch.manual_seed(4)
    model = GPVAE(GPVAEConfig(**SHAPE | changes))
    for layer in (model.shift, model.log_variance):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return model.eval()


def batch(rows=3, words=5):
    source = torch.randint(2, 11, (rows, words), generator=seeded(1))
    target = torch.randint(2, 11, (rows, 6), generator=seeded(2))
    for row in range(rows):
        end = 3 + row % 3
        target[row, end], target[row, end + 1 :] = 1, 0
    return source, target


def logits_of(model, run):
    """Return the outputs of the output layer during `run`, one tensor per call."""
    seen = []
    handle = model.t5.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    run()
    handle.remove()
    return seen


@cases
@settings(max_examples=40, deadline=None)
def test_the_divergence_is_that_of_the_library(seed, words, width):
    torch.manual_seed(seed)
    mean, log_variance, prior_mean = torch.randn(3, 2, words, width, dtype=torch.float64)
    factor = torch.randn(2, words, words, dtype=torch.float64)
    prior = factor @ factor.mT + 0.1 * torch.eye(words)
    found = gpvae.kl_to_process(mean, log_variance, prior_mean, prior)
    for row in range(2):
        expected = sum(
            kl_divergence(
                MultivariateNormal(mean[row, :, d], torch.diag(log_variance[row, :, d].exp())),
                MultivariateNormal(prior_mean[row, :, d], prior[row]),
            ).item()
            for d in range(width)
        )
        assert found[row].item() == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_the_divergence_is_the_mean_of_the_log_ratio():
    torch.manual_seed(0)
    hidden = torch.randn(1, 3, 2)
    mean, log_variance = hidden + 0.3 * torch.randn(1, 3, 2), 0.2 * torch.randn(1, 3, 2) - 1
    prior = gpvae.covariance(hidden, 1.2, 0.8)
    q, p = Normal(mean[0], (log_variance[0] / 2).exp()), MultivariateNormal(hidden[0].T, prior[0])
    z = q.sample((200_000,))
    ratio = q.log_prob(z).sum((1, 2)) - p.log_prob(z.mT).sum(1)
    found = gpvae.kl_to_process(mean, log_variance, hidden, prior).item()
    assert found == pytest.approx(ratio.mean().item(), abs=5 * ratio.std().item() / math.sqrt(200_000))


@cases
@settings(max_examples=40, deadline=None)
def test_the_kernel_and_its_condition(seed, words, width):
    torch.manual_seed(seed)
    hidden = 30 * torch.randn(1, words, width)
    hidden[0, -1] = hidden[0, 0]  # the same state twice
    found = gpvae.covariance(hidden, 1.5, 0.7)[0]
    unit = [state / state.norm() for state in hidden[0]]
    for i in range(words):
        for j in range(words):
            likeness = math.exp(-((unit[i] - unit[j]).norm().item() ** 2) / (2 * 0.7**2))
            expected = 1.5**2 * (likeness + 0.1 * (i == j)) / 1.1
            assert found[i, j].item() == pytest.approx(expected, rel=1e-4)
    values = torch.linalg.eigvalsh(found)
    assert values[-1] / values[0] < (1 + 10 * words) * 1.001


def test_losses_against_a_plain_derivation():
    model = build(beta=0.3, scale=0.8)
    source, target = batch()
    found = model.losses(source, target, seeded(7))

    hidden = model.t5.encoder(source).last_hidden_state
    mean, deviation = hidden + model.shift(hidden), 0.8 * (model.log_variance(hidden) / 2).exp()
    z = mean + deviation * torch.randn(hidden.shape, generator=seeded(7))
    before = torch.cat([torch.ones(3, 1, dtype=torch.long), target[:, :-1]], 1)
    output = model.t5(encoder_outputs=BaseModelOutput(last_hidden_state=z), decoder_input_ids=before)
    log_p = output.logits.log_softmax(-1)
    for row in range(3):
        places = int((target[row] != 0).sum())
        expected = -sum(log_p[row, k, target[row, k]].item() for k in range(places)) / places
        assert found["likelihood"][row].item() == pytest.approx(expected, rel=1e-5)
        prior = gpvae.covariance(hidden, 0.8, 0.5)[row]
        divergence = sum(
            kl_divergence(
                MultivariateNormal(mean[row, :, d], torch.diag(deviation[row, :, d] ** 2)),
                MultivariateNormal(hidden[row, :, d], prior),
            ).item()
            for d in range(16)
        )
        assert found["kl"][row].item() == pytest.approx(0.3 * divergence / 16, rel=1e-4)


def test_a_later_word_and_pad_leave_earlier_places_alone():
    model = build()
    source, target = batch(1)
    changed = target.clone()
    changed[0, 2] = 2 + (target[0, 2] - 1) % 9
    first, second = (logits_of(model, lambda t=t: model.losses(source, t, seeded()))[0] for t in (target, changed))
    assert torch.allclose(first[:3], second[:3], atol=1e-6)
    assert not torch.allclose(first[3], second[3], atol=1e-3)
    longer = torch.nn.functional.pad(target, (0, 3))
    for name, value in model.losses(source, target, seeded()).items():
        assert torch.allclose(value, model.losses(source, longer, seeded())[name], atol=1e-5)


def test_a_sentence_is_independent_of_the_rest_of_its_batch():
    model = build()
    source, target = batch()
    others = source.clone(), target.clone()
    others[0][1:], others[1][1:] = source[1:].flip(1), 1 + target[1:].clamp(max=9)
    first, second = model.losses(source, target, seeded()), model.losses(*others, seeded())
    for name in ("likelihood", "kl"):
        assert first[name][0].item() == pytest.approx(second[name][0].item(), rel=1e-5)
        assert (first[name][1:] - second[name][1:]).abs().min() > 1e-3


@pytest.mark.parametrize("greedy", [True, False])
def test_samples_are_words_then_end_then_pad(greedy):
    model = build(greedy=greedy)
    source = batch(40)[0]
    found = model.sample(source, 9, seeded(3))
    assert torch.equal(found, model.sample(source, 9, seeded(3)))
    assert not torch.equal(found, model.sample(source, 9, seeded(4)))
    assert found.shape == (40, 9)
    assert found.min() >= 0
    assert found.max() < 11
    for row in found.tolist():
        length = row.index(1) + 1 if 1 in row else 9
        assert 0 not in row[:length]
        assert not any(row[length:])
    assert 1 in found


def test_decoding_with_the_cache_is_the_full_forward():
    model = build()
    source = batch(6)[0]
    drawn = []
    steps = logits_of(model, lambda: drawn.append(model.sample(source, 8, seeded(5))))

    with torch.no_grad():
        hidden = model.t5.encoder(source).last_hidden_state
        root = torch.linalg.cholesky(gpvae.covariance(hidden, 1.0, 0.5))
        z = hidden + root @ torch.randn(hidden.shape, generator=seeded(5))
        # What stands after END is not seen: there the words fed differ from those returned.
        before = torch.cat([torch.ones(6, 1, dtype=torch.long), drawn[0][:, :-1]], 1)
        output = model.t5(encoder_outputs=BaseModelOutput(last_hidden_state=z), decoder_input_ids=before).logits
    counted = drawn[0] != 0
    for place, logits in enumerate(steps):
        rows = counted[:, place]
        assert torch.allclose(logits[rows], output[rows, place], atol=1e-4)
        assert torch.equal(drawn[0][rows, place], logits[rows, 1:].argmax(-1) + 1)
    assert counted.sum() > 12


def test_sampling_draws_the_latent_from_the_prior():
    model = build(scale=0.6)
    source = batch(1, 4)[0]
    seen = []
    model.t5.decoder.register_forward_pre_hook(
        lambda module, args, named: seen.append(named["encoder_hidden_states"]), with_kwargs=True
    )
    model.sample(source.expand(3000, 4), 1, seeded(0))
    with torch.no_grad():
        hidden = model.t5.encoder(source).last_hidden_state
    off = (seen[0] - hidden).clone()
    expected = gpvae.covariance(hidden, 0.6, 0.5)[0]
    assert torch.allclose(torch.einsum("sid,sjd->ij", off, off) / (3000 * 16), expected, atol=0.01)
    assert off.mean().abs() < 0.01


def test_the_defaults_are_the_shape_of_t5_base():
    with torch.device("meta"):
        model = GPVAE(GPVAEConfig(vocabulary=32_128))
    assert sum(parameter.numel() for parameter in model.t5.parameters()) == 222_903_552


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="the width 16 must be a multiple of the number of heads, 3"):
        GPVAE(GPVAEConfig(**SHAPE | {"heads": 3}))


def test_it_learns_to_copy_and_runs_in_bfloat16():
    torch.manual_seed(0)
    generator = seeded(1)
    model = GPVAE(GPVAEConfig(vocabulary=15, width=64, layers=2, heads=4, dropout=0.0))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def pairs(rows):
        source = torch.randint(0, 3, (rows, 4), generator=generator) + torch.tensor([3, 6, 9, 12])
        return source, torch.nn.functional.pad(torch.nn.functional.pad(source, (0, 1), value=1), (0, 1))

    for _ in range(70):
        loss = sum(model.losses(*pairs(32), generator).values()).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
    source, target = pairs(200)
    # Each place has three words of its own, so a guess is right once in three.
    assert (model.sample(source, 6, generator) == target)[:, :4].float().mean() > 0.8
    plain = model.losses(source, target, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        short = model.losses(source, target, seeded())
        found = model.sample(source, 6, generator)
    assert (found == target)[:, :4].float().mean() > 0.8
    for name, value in short.items():
        assert value.dtype == torch.float32
        assert value.mean().item() == pytest.approx(plain[name].mean().item(), rel=0.1, abs=0.01)


WORDS = ("<pad>", "<end>", "<unk>", "country", "##ment", "of the", "\u00e7")  # the last has no token of its own


def test_a_checkpoint_lends_its_blocks_and_each_word_the_mean_of_its_tokens(tmp_path):
    place = str(models.write_t5(tmp_path))
    model = GPVAE(GPVAEConfig(vocabulary=len(WORDS), checkpoint=place, dropout=0.25), WORDS)
    whole, tokenizer = T5ForConditionalGeneration.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    own = {name: value for name, value in whole.named_parameters() if name != "shared.weight"}
    found = dict(model.t5.named_parameters())
    assert set(found) == {"shared.weight", *own}
    assert all(torch.equal(found[name], value) for name, value in own.items())
    table, vectors = whole.shared.weight, model.t5.shared.weight
    assert model.t5.lm_head.weight is vectors
    assert vectors.shape == (len(WORDS), 16)
    assert torch.equal(vectors[:2], table[[tokenizer.pad_token_id, tokenizer.eos_token_id]])
    for number, text in ((3, "country"), (4, "ment"), (5, "of the")):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert torch.allclose(vectors[number], table[ids].mean(0), atol=1e-6)
    assert {layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)} == {0.25}

    source, target = torch.tensor([[3, 4, 5]]), torch.tensor([[5, 3, 1, 0]])
    terms = model.train().losses(source, target, seeded())
    sum(terms.values()).mean().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())
    drawn = model.eval().sample(source.expand(4, -1), 5, seeded())
    assert drawn.shape == (4, 5)
    assert drawn.max() < len(WORDS)


def test_a_checkpoint_that_cannot_serve_is_one_line(tmp_path):
    config = GPVAEConfig(vocabulary=len(WORDS), checkpoint=str(tmp_path / "none"))
    with pytest.raises(UserError, match="cannot be loaded"):
        GPVAE(config, WORDS)
    untied = models.write_t5(tmp_path / "untied")
    told = json.loads((untied / "config.json").read_text())
    (untied / "config.json").write_text(json.dumps(told | {"tie_word_embeddings": False}))
    with pytest.raises(UserError, match="tied to its word vectors"):
        GPVAE(config.model_copy(update={"checkpoint": str(untied)}), WORDS)
    with pytest.raises(ValueError, match="2 words are given for a vocabulary of 7"):
        GPVAE(config, WORDS[:2])
