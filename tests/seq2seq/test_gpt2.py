"""GPT-2 against transformers' own language-model loss; the fine-tuned model against plain calls. Needs `make setup`."""

import pytest
import torch

from lib.causal_lm import backbones
from lib.errors import UserError
from lib.seq2seq import nucleus
from lib.seq2seq.gpt2 import Gpt2, Gpt2Config, Pretrained, PretrainedConfig

SOURCES, TARGETS = ["he wept .", "they went up into the hill ."], ["he cried .", "they climbed ."]


@torch.no_grad()
def test_the_loss_is_that_of_transformers() -> None:
    from transformers import GPT2LMHeadModel

    torch.manual_seed(0)
    model = Gpt2(Gpt2Config(vocabulary=11, width=16, layers=2, heads=2, positions=8, dropout=0.0))
    theirs = GPT2LMHeadModel(model.body.config)
    theirs.transformer.load_state_dict(model.body.state_dict())
    source, target = torch.tensor([[3, 4, 5], [6, 7, 8]]), torch.tensor([[9, 3, 1], [4, 1, 0]])
    found = model.losses(source, target, torch.Generator())["likelihood"]
    for row, length in enumerate((3, 2)):
        ids = torch.cat([source[row], torch.tensor([1]), target[row, :length]])[None]
        labels = ids.clone()
        labels[:, :4] = -100
        assert found[row].item() == pytest.approx(theirs(ids, labels=labels).loss.item(), rel=1e-5)


def test_too_many_words_are_one_readable_line() -> None:
    model = Gpt2(Gpt2Config(vocabulary=11, width=16, layers=1, heads=2, positions=8))
    model.sample(torch.full((1, 4), 3), 4, torch.Generator())
    with pytest.raises(UserError, match=r"4 words and 5 target places need 9 positions, GPT-2 has 8; shorten"):
        model.sample(torch.full((1, 4), 3), 5, torch.Generator())


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return Pretrained(PretrainedConfig(layers=2, trained_layers=1)).eval()


def test_only_the_upper_layer_and_the_norm_learn(pretrained: Pretrained) -> None:
    pretrained.losses_of_text(SOURCES, TARGETS)["likelihood"].sum().backward()
    learning = {name for name, weight in pretrained.named_parameters() if weight.grad is not None}
    assert learning == {n for n, _ in pretrained.named_parameters() if n.startswith(("body.layers.1.", "body.norm."))}
    assert pretrained.state_dict().keys() == dict(pretrained.named_parameters()).keys()


@torch.no_grad()
def test_text_is_scored_and_sampled_as_by_the_whole_model(
    pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, tokenizer = backbones.load_causal_lm(backbones.SMOLLM2, "float32", 2)
    found = pretrained.losses_of_text(SOURCES, TARGETS)["likelihood"]
    for row, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        prompt = tokenizer(source + "\n")["input_ids"]
        ids = torch.tensor([[*prompt, *tokenizer(target)["input_ids"], tokenizer.eos_token_id]])
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        assert found[row].item() == pytest.approx(whole(ids, labels=labels).loss.item(), rel=1e-4)
    monkeypatch.setattr(nucleus, "_draw", lambda logits, p, generator: (logits.argmax(-1), torch.tensor(True)))
    drawn = pretrained.sample_text([*SOURCES, SOURCES[0]], 2, 5, torch.Generator())
    for source, texts in zip([*SOURCES, SOURCES[0]], drawn, strict=True):
        inputs = tokenizer(source + "\n", return_tensors="pt")
        ids = whole.generate(**inputs, do_sample=False, max_new_tokens=5)[0, inputs["input_ids"].shape[1] :]
        assert texts == [" ".join(tokenizer.decode(ids, skip_special_tokens=True).split())] * 2


def test_more_trained_layers_than_there_are() -> None:
    with pytest.raises(UserError, match="trained_layers=3, but it has 2"):
        Pretrained(PretrainedConfig(layers=2, trained_layers=3))


def test_without_a_number_of_layers_all_weights_are_trained_word_vectors_too() -> None:
    whole, upper = (Pretrained(PretrainedConfig(layers=2, trained_layers=trained)) for trained in (None, 2))
    assert all(value.requires_grad for value in whole.parameters())
    assert not upper.body.get_input_embeddings().weight.requires_grad
    whole.losses_of_text(SOURCES, TARGETS)["likelihood"].mean().backward()
    assert all(value.grad is not None for value in whole.parameters())
