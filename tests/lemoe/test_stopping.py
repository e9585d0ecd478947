"""When a batch counts as learnt: training that stops is training of as many steps, for each kind of adaptor."""

import pytest
import torch

from lib.causal_lm.edits import Edit
from lib.editing.editor import NoEdit
from lib.editing.scoring import before, score
from lib.lemoe.adaptor import AdaptorConfig
from lib.lemoe.config import Stopping
from lib.lemoe.conventional import Conventional, ConventionalConfig, TokenMixture
from lib.lemoe.editor import LemoeEditor
from lib.lemoe.memoe import Memoe, MemoeConfig
from tests.tiny_models import Words, small_gpt2, small_llama

BATCHES = [[Edit("a b c", "d"), Edit("b b a e", "f g")], [Edit("c c c", "h"), Edit("k l", "m")]]
KINDS = {
    "lemoe": (LemoeEditor, AdaptorConfig(layer=1, router_width=8, rate=1e-2, steps=300)),
    "paper": (LemoeEditor, AdaptorConfig.paper(layer=1, router_width=8, rate=1e-2, steps=300)),
    "conventional": (Conventional, ConventionalConfig(layer=1, router_width=8, rate=1e-2, steps=300)),
    "memoe": (Memoe, MemoeConfig(layer=1, experts=3, rate=1e-2, steps=300, noise=0.0)),
}


def state(editor) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in editor.saved_state()[0].items()}


@pytest.mark.parametrize("rule", [{"until_right": True}, {"enough": 0.5}])
@pytest.mark.parametrize("kind", KINDS)
def test_training_that_stops_is_training_of_as_many_steps(kind: str, rule: dict) -> None:
    build, config = KINDS[kind]
    taken, stopped = [], build(small_llama(), Words(), config.model_copy(update=rule))
    for batch in BATCHES:
        stopped.edit(batch)
        losses = stopped.losses if isinstance(stopped, TokenMixture) else stopped.losses[-1]
        taken.append(len(losses) - 1)
    assert all(0 < steps < 100 for steps in taken)
    if "enough" in rule:
        assert losses[-1] < rule["enough"] <= min(losses[:-1])
    plain = build(small_llama(), Words(), config)
    for batch, steps in zip(BATCHES, taken, strict=True):
        plain.config = config.model_copy(update={"steps": steps})
        if isinstance(plain, LemoeEditor) and plain.adaptor is not None:
            plain.adaptor.config = plain.config
        plain.edit(batch)
    found, wanted = state(stopped), state(plain)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


@pytest.mark.parametrize("make", [small_llama, small_gpt2])
@pytest.mark.parametrize("kind", ["lemoe", "conventional"])
def test_a_batch_that_is_right_is_right_when_it_is_scored(kind: str, make) -> None:
    build, config = KINDS[kind]
    model = make()
    told = before(NoEdit(model, Words()), BATCHES[0])
    editor = build(model, Words(), config.model_copy(update={"until_right": True, "chunk": 1}))
    editor.edit(BATCHES[0])
    assert (score(editor, BATCHES[0], told)["rel"] == 1).all()


def test_neither_rule_holds_by_default_and_a_cap_ends_what_is_not_learnt() -> None:
    assert not Stopping().is_learnt(0.0, right=True)
    assert Stopping(until_right=True).is_learnt(9.0, right=True)
    assert not Stopping(until_right=True).is_learnt(0.0, right=False)
    assert Stopping(enough=0.1).is_learnt(0.09, right=False)
    assert not Stopping(enough=0.1).is_learnt(0.1, right=False)
    editor = Conventional(small_llama(), Words(), ConventionalConfig(layer=1, steps=2, rate=1e-6, until_right=True))
    editor.edit(BATCHES[0])
    assert len(editor.losses) == 2
