"""MEMoE on tiny models of both styles: anchors, noise in training only, experts trained on, and given back."""

import copy

import pytest
import torch
from torch.nn import functional
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from lib.causal_lm.edits import Edit
from lib.editing.editor import NoEdit
from lib.editing.scoring import before, score, summary
from lib.errors import UserError
from lib.lemoe.memoe import Memoe, MemoeConfig
from tests.tiny_models import Words as Tokens
from tests.tiny_models import small_gpt2, small_llama

CONFIG = MemoeConfig(layer=1, experts=3, rate=1e-2, steps=12)
EDITS = [
    [Edit("a b c", "d", "b"), Edit("b b a e", "f g", "a e")],
    [Edit("c c c", "h"), Edit("k l", "m", "k l")],
]


def llama() -> LlamaForCausalLM:
    return small_llama(vocabulary=19)


def gpt2() -> GPT2LMHeadModel:
    return small_gpt2(vocabulary=19)


both = pytest.mark.parametrize("make", [llama, gpt2])


def ids(text: str) -> torch.Tensor:
    return torch.tensor([Tokens()(text)["input_ids"]])


def edited(model: torch.nn.Module, batches: int = 2, **changes: object) -> Memoe:
    editor = Memoe(model, Tokens(), CONFIG.model_copy(update=changes))
    for batch in EDITS[:batches]:
        editor.edit(batch)
    return editor


def mean_of(model: torch.nn.Module, text: str) -> torch.Tensor:
    """The anchor of a text, from its definition."""
    vector = model.get_input_embeddings().weight[ids(text)[0]].mean(0)
    return vector / vector.square().mean().sqrt()


@both
def test_the_layer_is_its_own_output_plus_the_experts_chosen_by_token_and_anchor(make) -> None:
    model = make()
    editor = edited(model, k=2, scale=0.7)
    mlp = model.base_model.get_submodule("layers.1.mlp" if make is llama else "h.1.mlp")
    prompt, whole, seen = "c b a e", "c b a e d d", []
    hook = mlp.register_forward_hook(lambda module, arguments, output: seen.append((arguments[0], output)))
    with editor.reading(torch.tensor([[1, 1, 1, 1, 0, 0]])):
        model(ids(whole))
    hook.remove()
    hidden, output = seen[0]
    anchor = mean_of(model, "a e").expand(1, 6, -1)  # the longest known subject in the prompt, not "b"
    weight, bias = editor.router.weight, editor.router.bias
    scores = hidden @ weight[:, :16].T + anchor @ weight[:, 16:].T + bias
    chances = scores.exp() / scores.exp().sum(-1, keepdim=True)
    kept = torch.where(chances >= chances.topk(2).values[..., -1:], chances, 0.0)
    added = sum(kept[..., i, None] * expert(hidden) for i, expert in enumerate(editor.experts))
    assert added.abs().max() > 1e-3
    editor.restore()
    assert torch.allclose(output, mlp(hidden) + 0.7 * added, atol=1e-5), prompt


@both
def test_anchors_are_the_longest_known_subject_or_the_whole_prompt(make) -> None:
    model = make()
    editor = edited(model, steps=1)
    assert (editor.anchored, editor.fallbacks) == (3, 1)
    texts = ["a b c", "b b a e", "c c c", "m k l k l", "b c b"]
    entities = ["b", "a e", "c c c", "k l", "b"]
    places = [(1, 2), (2, 4), None, (3, 5), (2, 3)]
    for text, wanted, place in zip(texts, entities, places, strict=True):
        assert editor.entity(Tokens()(text)["input_ids"]) == place
        found = editor.anchors(ids(text), torch.ones_like(ids(text)))
        assert torch.allclose(found[0], mean_of(model, wanted), atol=1e-5)
    padded = torch.cat([ids("p b"), ids("a b c")], 1)  # the mask alone says what the prompt is
    found = editor.anchors(padded, torch.tensor([[0, 0, 1, 0, 1]]))
    assert torch.allclose(found[0], mean_of(model, "a c"), atol=1e-5)
    both_rows = editor.anchors(torch.cat([ids("b b a e"), ids("m k l o")]), torch.ones(2, 4))
    assert torch.allclose(both_rows, torch.stack([mean_of(model, "a e"), mean_of(model, "k l")]), atol=1e-5)


@both
def test_an_untrained_adaptor_changes_nothing_and_restoring_gives_the_model_back(make) -> None:
    model = make()
    weights, text = copy.deepcopy(model.state_dict()), ids("a b c d")
    logits = model(text).logits
    editor = edited(model, 1, rate=0.0)
    assert torch.equal(model(text).logits, logits)
    editor.restore()
    editor = edited(model)
    assert not torch.equal(model(text).logits, logits)
    size = 3 * (2 * 16 * editor.inner + 16 + editor.inner) + 3 * 32 + 3
    assert editor.memory() == 4 * size
    editor.restore()
    assert torch.equal(model(text).logits, logits)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not model.base_model._forward_pre_hooks
    assert editor.memory() == 0


@both
def test_edits_are_learnt_generated_and_scored(make) -> None:
    model = make()
    told = before(NoEdit(model, Tokens()), EDITS[0])
    editor = edited(model, 1, steps=80)
    assert editor.losses[-1] < 0.5 < editor.losses[0]
    frame = score(editor, EDITS[0], told, generate=True)
    assert summary(frame)["Rel"] == 1
    assert frame["rel_free"].mean() == 1


def test_all_experts_are_trained_on_and_none_is_added() -> None:
    editor = edited(llama(), 1, k=3)
    first = copy.deepcopy(editor.parts().state_dict())
    editor.edit(EDITS[1])
    assert len(editor.experts) == 3
    assert all(not torch.equal(value, first[name]) for name, value in editor.parts().state_dict().items())


def test_noise_is_in_training_only_and_comes_from_the_seed() -> None:
    text = ids("a b c d")

    def learnt(**changes: object) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model = llama()
        editor, seen = Memoe(model, Tokens(), CONFIG.model_copy(update=changes)), []
        scores = editor.scores
        editor.scores = lambda hidden: seen.append(scores(hidden).detach()) or seen[-1]
        editor.edit(EDITS[0])
        asked = [model(text).logits for _ in range(3)]
        assert torch.equal(asked[0], asked[1])
        assert torch.equal(asked[0], asked[2])
        return asked[0], seen[1:-3]  # the first is of the cached prefix

    logits, noisy = learnt(rate=0.0, noise=1.0)
    _, quiet = learnt(rate=0.0, noise=0.0)
    assert all(torch.equal(scores, quiet[0]) for scores in quiet)  # nothing is learnt at rate 0
    drawn = torch.stack(noisy) - torch.stack(quiet)
    assert len(drawn) == CONFIG.steps
    assert abs(drawn.std() - 1) < 0.15
    assert abs(drawn.mean()) < 0.15
    assert not torch.allclose(drawn[0], drawn[1])  # another draw at every step
    assert torch.equal(learnt(rate=0.0, noise=1.0)[0], logits)
    assert torch.allclose(torch.stack(learnt(rate=0.0, noise=0.5)[1]) - torch.stack(quiet), drawn / 2, atol=1e-5)
    one, other, again = learnt()[0], learnt(seed=1)[0], learnt()[0]
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)


@both
def test_generation_with_and_without_a_cache_beams_and_padding(make) -> None:
    model = make()
    editor = edited(model, k=2)
    prompts = [Tokens()(edit.prompt)["input_ids"] for batch in EDITS for edit in batch] + [Tokens()("n o")["input_ids"]]
    longest = max(map(len, prompts))
    batch = torch.tensor([[0] * (longest - len(row)) + row for row in prompts])
    mask, options = (batch != 0).long(), {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with editor.reading(mask):
        cached = model.generate(batch, attention_mask=mask, **options)
        bare = model.generate(batch, attention_mask=mask, use_cache=False, **options)
        beams = model.generate(batch, attention_mask=mask, num_beams=3, **options)
        slow = model.generate(batch, attention_mask=mask, num_beams=3, use_cache=False, **options)
    unread = model.generate(batch, attention_mask=mask, **options)  # the prompt is what is not masked at the start
    assert cached.tolist() == bare.tolist() == unread.tolist()
    assert beams.tolist() == slow.tolist()
    for row, prompt in enumerate(prompts):
        alone = model.generate(torch.tensor([prompt]), **options)[0, len(prompt) :].tolist()
        assert cached[row, longest : longest + len(alone)].tolist() == alone


def test_embeddings_and_bad_edits_are_one_clear_line() -> None:
    model = llama()
    editor = Memoe(model, Tokens(), CONFIG)
    for edits, message in (
        ([], "no edits"),
        ([Edit("a b", " ")], "empty target"),
        ([Edit("a b", "c", "z")], "is not in the prompt"),
        ([Edit("a " * 40, "b", "a")], "41 tokens"),
    ):
        with pytest.raises(UserError, match=message):
            editor.edit(edits)
    assert len(editor.experts) == 0
    assert editor.entity([3]) is None
    editor.edit(EDITS[0])
    with pytest.raises(UserError, match="call the model with input_ids"):
        model(inputs_embeds=functional.embedding(ids("a b"), model.get_input_embeddings().weight))


def test_a_model_in_bfloat16_is_edited() -> None:
    model = llama().to(torch.bfloat16)
    editor = edited(model)
    assert editor.losses[-1] < editor.losses[0]
    assert model(ids("a b")).logits.dtype == torch.bfloat16
