"""LEMoE as an editor: resumed bit for bit, undone to the bit, routed by given numbers, at the papers' own sizes."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from lib.causal_lm.edits import Edit
from lib.errors import UserError
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.lemoe.editor import LemoeEditor
from lib.lemoe.routing import agreement, consistency
from tests.lemoe.test_adaptor import Tokens, gpt2, ids, llama

CONFIG = AdaptorConfig(layer=1, router_width=8, rate=1e-2, steps=6)
BATCHES = [
    [Edit("a b c", "d", "b c", ("b c a",), ("n o", "p")), Edit("b b a e", "f g", "e")],
    [Edit("c k c", "h", "k"), Edit("k l", "m", "l", ("l k k", "l l"))],
    [Edit("n o", "p p", "o")],
]
UNRELATED = ["p p n", "m o m", "i j"]


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"projection": "per_expert", "expert": "lora", "top_k": 2, "gate": "softmax"},
        {"rejection": "threshold", "projection": "frozen", "keys": "mean", "anchor": "entity"},
        {"rejection": "null", "anchor": "token"},
        {"rejection": "locality_loss"},
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(make, changes: dict[str, object], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update=changes)
    whole = LemoeEditor(make(), Tokens(), config, unrelated=UNRELATED)
    for batch in BATCHES[:2]:
        whole.edit(batch)
    first = LemoeEditor(make(), Tokens(), config, unrelated=UNRELATED)
    first.edit(BATCHES[0])
    first.adaptor.save(tmp_path)
    model = make()
    again = Adaptor.load(tmp_path, model)
    assert len(again.experts) == 1
    torch.rand(3)  # what else was drawn plays no part
    losses = again.edit(Tokens(), BATCHES[1])  # the unrelated texts are not needed again
    one, two = whole.adaptor.state_dict(), again.state_dict()
    assert list(one) == list(two)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert whole.adaptor.trained == again.trained
    assert whole.adaptor.anchors.subjects == again.anchors.subjects
    text = ids("a b c d e")
    assert torch.equal(whole.model(text).logits, model(text).logits)
    assert losses == whole.losses[1]


@pytest.mark.parametrize("make", [llama, gpt2])
def test_restore_gives_the_model_back_and_lets_it_be_edited_afresh(make) -> None:
    model = make()
    before, logits = copy.deepcopy(model.state_dict()), model(ids("a b c")).logits
    editor = LemoeEditor(model, Tokens(), CONFIG)
    assert editor.memory() == 0
    editor.edit(BATCHES[0])
    inner = 32 if make is llama else 64
    router = 8 * 16 + 8 * 8 + 8 * len(BATCHES[0])  # a key for each edit
    assert editor.memory() == 4 * (2 * 16 * inner + inner + 16 + router) + 4 * 2  # and the two scalars of rejection
    losses = editor.losses
    assert not torch.equal(model(ids("a b c")).logits, logits)
    editor.restore()
    assert torch.equal(model(ids("a b c")).logits, logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    editor.edit(BATCHES[0])
    assert editor.losses == losses


def test_experts_are_counted_and_a_detached_adaptor_edits_nothing() -> None:
    editor = LemoeEditor(llama(), Tokens(), CONFIG, most=2)
    for batch in BATCHES[:2]:
        editor.edit(batch)
    with pytest.raises(UserError, match="all 2 experts are taken"):
        editor.edit(BATCHES[2])
    editor.adaptor.detach()
    with pytest.raises(UserError, match="detached"):
        editor.adaptor.edit(Tokens(), BATCHES[0])


def test_reading_and_the_oracle_decide_the_route() -> None:
    editor = LemoeEditor(llama(), Tokens(), CONFIG)
    for batch in BATCHES:
        editor.edit(batch)
    adaptor, model, text = editor.adaptor, editor.model, ids("k l m")
    prompt = torch.tensor([[1, 1, 0]])
    with editor.reading(prompt), adaptor.prompt(forced=torch.tensor([2])):
        model(text)
        assert adaptor.last.expert.tolist() == [2]
        assert torch.allclose(adaptor.last.gate, torch.ones(1))
    with editor.reading(prompt):
        model(text)
    assert adaptor.last.expert.tolist() == adaptor.routes(Tokens(), ["k l"])
    several = text.expand(3, 3)
    with adaptor.prompt(forced=torch.tensor([0, -1, 1])):
        mixed = model(several).logits
        drawn = model.generate(several, max_new_tokens=3, num_beams=2, do_sample=False, pad_token_id=0)
        assert adaptor.last.expert.tolist() == [0, 0, -1, -1, 1, 1]
    for row, number in enumerate((0, -1, 1)):
        with adaptor.prompt(forced=number):
            assert torch.allclose(model(text).logits[0], mixed[row], atol=1e-5)
            alone = model.generate(text, max_new_tokens=3, num_beams=2, do_sample=False, pad_token_id=0)
            assert torch.equal(alone[0], drawn[row])
    with adaptor.prompt(forced=torch.tensor([0, 1])), pytest.raises(UserError, match="2 prompts, asked 3"):
        model(several)


def test_the_prompts_mask_holds_the_route_without_a_cache() -> None:
    editor = LemoeEditor(gpt2(), Tokens(), CONFIG)
    for batch in BATCHES:
        editor.edit(batch)
    for prompt in ("a b c", "k l", "n o"):
        text = ids(prompt)
        with editor.reading(torch.ones_like(text)):
            options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
            slow = editor.model.generate(text, use_cache=False, **options)
            assert editor.adaptor.last.expert.tolist() == editor.adaptor.routes(Tokens(), [prompt])
            assert torch.equal(slow, editor.model.generate(text, **options))


def test_consistency_counts_by_hand() -> None:
    editor = LemoeEditor(llama(), Tokens(), CONFIG)
    for batch in BATCHES:
        editor.edit(batch)
    adaptor = editor.adaptor
    routes = {"a b c": 0, "b b a e": 0, "c k c": 0, "k l": -1, "n o": -1, "b c a": 0, "l k k": 0, "l l": 1}
    adaptor.routes = lambda _, texts: [routes[text] for text in texts]  # n o: also the prompt of a locality question
    found = consistency(adaptor, Tokens(), BATCHES)
    assert found.edits == pytest.approx(2 / 5)
    assert found.rephrases == pytest.approx(2 / 3)
    assert (found.unserved, found.unrelated) == (pytest.approx(2 / 5), 1)
    assert adaptor.trained == [[0, 0], [1, 1], [2]]
    adaptor.trained = [[0, 1], [1, 0], [2]]
    assert consistency(adaptor, Tokens(), BATCHES).agreement == pytest.approx(1 / 5)
    with pytest.raises(UserError, match="not those of the adaptor"):
        consistency(adaptor, Tokens(), BATCHES[:2])
    assert agreement(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 1], [1, 0]])) == 0.75
    with pytest.raises(UserError, match="cannot agree"):
        agreement([0], [0, 1])


@pytest.mark.parametrize("make", [LlamaForCausalLM, MistralForCausalLM])
def test_the_papers_models_take_five_experts_at_layer_18(make) -> None:
    if make is LlamaForCausalLM:
        config = LlamaConfig(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32)
        inner = 11008
    else:
        config = MistralConfig()  # the defaults are those of Mistral-7B
        inner = 14336
    with torch.device("meta"):
        model = make(config)
    adaptor = Adaptor.attach(model, AdaptorConfig.paper())
    for _ in range(5):
        adaptor.add_expert()
    assert adaptor._site[0] is model.model.layers[18].mlp
    assert all(parameter.is_meta for parameter in adaptor.parameters())
    expert = 2 * 4096 * inner + inner + 4096
    count = sum(parameter.numel() for parameter in adaptor.parameters())
    assert count == 5 * (expert + 128) + 4096 * 128 + 128 * 128
    trained = sum(parameter.numel() for parameter in adaptor.parameters() if parameter.requires_grad)
    assert trained == expert + 128 + 4096 * 128 + 128 * 128
    assert not any(parameter.requires_grad for parameter in model.parameters())
