"""The teacher over a restricted vocabulary is the whole model given a kept token; adapting frees the upper layers."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from lib.causal_lm.layers import blocks
from lib.distillation import decoding
from lib.distillation.batches import Example, collate, order
from lib.distillation.teacher import Adaptation, Teacher, states_of
from lib.distillation.training import State, TrainingConfig, advance, recompute, train
from lib.errors import UserError
from tests.tiny_models import both, gpt2, llama

KEPT = torch.tensor([1, 2, 5, 6, 9, 11, 14, 20, 21, 29])
SMALL = len(KEPT)
PAD, END = 0, 1
EXAMPLES = [
    Example((2, 3), (4, END)),
    Example((5, 6, 7, 2), (8, 9, 3, END)),
    Example((9,), (7, 7, END)),
    Example((4, 4, 8), (2, END)),
]


@both
def test_its_distribution_is_the_whole_models_given_a_kept_token(make) -> None:
    model, batch = make(), collate(EXAMPLES, PAD)
    found = Teacher(model, KEPT).signals(batch)
    places = [(r, c - 1) for r, c in batch.response.nonzero().tolist()]
    for place, (row, column) in enumerate(places):
        ids = KEPT[batch.ids[row, : column + 1]]
        with torch.no_grad():
            whole = model(input_ids=ids[None]).logits[0, -1].softmax(-1)
        assert torch.allclose(found.output[place].exp(), whole[KEPT] / whole[KEPT].sum(), atol=1e-5)
        assert found.lost[place].item() == pytest.approx(1 - whole[KEPT].sum().item(), abs=1e-5)


@both
def test_states_are_those_between_blocks_and_the_last_is_before_the_final_norm(make) -> None:
    model, batch = make(), collate(EXAMPLES, PAD)
    layers = [0, 1, 3, 4]
    found = Teacher(model, KEPT).signals(batch, layers).states
    with torch.no_grad():
        told = model(input_ids=KEPT[batch.ids], attention_mask=batch.mask.long(), output_hidden_states=True)
    for layer in layers[:-1]:
        assert torch.allclose(found[layer], told.hidden_states[layer][batch.predicting], atol=1e-5)
    norm = getattr(model.base_model, "norm", None) or model.base_model.ln_f
    last = told.hidden_states[4][batch.predicting]
    assert torch.allclose(norm(found[4]), last, atol=1e-5)
    assert not torch.allclose(found[4], last, atol=1e-2)


def test_padding_and_company_change_nothing() -> None:
    teacher = Teacher(llama(), KEPT)
    together = teacher.signals(collate(EXAMPLES, PAD), [2])
    alone = [teacher.signals(collate([example], PAD), [2]) for example in EXAMPLES]
    assert torch.allclose(together.output, torch.cat([one.output for one in alone]), atol=1e-5)
    assert torch.allclose(together.states[2], torch.cat([one.states[2] for one in alone]), atol=1e-5)


@both
def test_read_in_half_precision_it_is_nearly_the_same(make) -> None:
    model, batch = make(), collate([Example(tuple(range(2, 10)) * 4, (3, 4, END))], PAD)
    whole, half = (Teacher(model, KEPT, dtype).signals(batch, [4]) for dtype in (torch.float32, torch.bfloat16))
    assert half.output.dtype == torch.float32
    assert torch.allclose(whole.output, half.output, atol=0.25)
    error = (whole.states[4] - half.states[4]).norm() / whole.states[4].norm()
    assert 0 < error < 0.03


def test_in_half_precision_positions_stay_exact() -> None:
    half = dict(Teacher(llama(), KEPT, torch.bfloat16).model.named_buffers())
    assert half["model.rotary_emb.inv_freq"].equal(llama().model.rotary_emb.inv_freq)


def test_a_layer_that_does_not_exist_is_named() -> None:
    teacher = Teacher(llama(), KEPT)
    with pytest.raises(UserError, match="layer 5 does not exist: LlamaForCausalLM has states 0 to 4"):
        teacher.signals(collate(EXAMPLES, PAD), [2, 5])
    with pytest.raises(UserError, match="layer 4 does not exist"):
        Adaptation(gpt2(), KEPT, 4, EXAMPLES, PAD)
    with pytest.raises(UserError, match="layer -1"), states_of(llama(), [-1]):
        pass


@both
def test_it_writes_the_restricted_models_greedy_choice(make) -> None:
    model = make()
    written = Teacher(model, KEPT).write([(2, 3), (9,)], decoding.DecodingConfig(tokens=3), END, PAD)
    for prompt, found in zip([(2, 3), (9,)], written, strict=True):
        ids = list(prompt)
        for _ in range(3):
            with torch.no_grad():
                logits = model(input_ids=KEPT[torch.tensor([ids])]).logits[0, -1]
            best = int(logits[KEPT].argmax())
            if best == END:
                break
            ids.append(best)
        assert found == ids[len(prompt) :]


@both
def test_adapting_changes_the_upper_layers_alone_and_learns(make) -> None:
    model, fresh = make(), make()
    one = Adaptation(model, KEPT, 2, EXAMPLES, PAD)
    lengths = [len(example) for example in EXAMPLES]
    config = TrainingConfig(steps=30, batch=4, rate=1e-2)
    curve = train(one, order(lengths, 4, 30, 0), config, 0).curve
    assert curve[-1]["ce"] < curve[0]["ce"] - 0.8
    before = dict(fresh.named_parameters())
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    upper = {id(value) for block in blocks(model)[2:] for value in block.parameters()}
    norm = getattr(model.base_model, "norm", None) or model.base_model.ln_f
    upper |= {id(value) for value in norm.parameters()}
    named = dict(model.named_parameters())
    assert {id(named[name]) for name in changed} <= upper
    assert len(changed) > 0.8 * len(upper)  # some biases cannot matter
    assert not any(value.requires_grad for value in blocks(model)[:2].parameters())

    Adaptation(fresh, KEPT, 2, (), PAD).take(one.weights())
    batch = collate(EXAMPLES, PAD)
    adapted, taken = (Teacher(m, KEPT, torch.bfloat16).signals(batch) for m in (model, fresh))
    assert torch.equal(adapted.output, taken.output)
    assert not any(value.requires_grad for value in fresh.parameters())


def adapted(make, frozen: torch.dtype = torch.float32, **more: object) -> tuple[Adaptation, State]:
    """Adapt in bf16 products; returns the arm and the state of its training after three steps."""
    one = Adaptation(make(), KEPT, 2, EXAMPLES, PAD, torch.bfloat16, frozen)
    state = State(one, TrainingConfig(steps=9, batch=4, rate=1e-2, **more))
    if state.config.checkpointing:
        recompute(one.module)
    one.module.train()
    state.curve = [advance(state, range(4), step) for step in range(3)]
    return one, state


@both
def test_what_saves_memory_changes_no_bit(make) -> None:
    wanted = adapted(make)[1].curve
    assert adapted(make, torch.bfloat16)[1].curve == wanted
    assert adapted(make, torch.bfloat16, checkpointing=True)[1].curve == wanted
    with pytest.raises(ValueError, match=r"frozen=torch\.float16: take float32"):
        Adaptation(make(), KEPT, 2, EXAMPLES, PAD, torch.bfloat16, torch.float16)
    with pytest.raises(UserError, match="no layer of the model can be computed again"):
        recompute(torch.nn.Linear(2, 2))


@both
def test_frozen_layers_hold_no_gradients_and_no_moments(make) -> None:
    one, state = adapted(make, torch.bfloat16)
    upper = {id(value) for value in one.upper.parameters()}
    (optimiser,) = state.optimisers
    assert {id(value) for value in optimiser.state} == upper
    assert sum(value.numel() for kept in optimiser.state.values() for value in kept.values() if value.ndim) == 2 * sum(
        value.numel() for value in one.upper.parameters()
    )
    frozen = {name: value for name, value in one._model.named_parameters() if id(value) not in upper}
    assert frozen
    assert all(value.grad is None and not value.requires_grad for value in frozen.values())
    matrices = {value.dtype for name, value in frozen.items() if value.ndim == 2 and ("mlp" in name or "attn" in name)}
    assert matrices == {torch.bfloat16}
    assert {value.dtype for value in one.upper.parameters()} == {torch.float32}
    assert one._model.get_input_embeddings().weight.dtype == torch.float32


def test_a_layer_is_computed_twice_where_it_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, norm = [], LlamaRMSNorm.forward
    monkeypatch.setattr(LlamaRMSNorm, "forward", lambda self, hidden: calls.append(self) or norm(self, hidden))
    counts = []
    for checkpointing in (False, True):
        calls.clear()
        adapted(llama, checkpointing=checkpointing)
        counts.append(len(calls))
    assert counts == [3 * (2 * 4 + 1), 3 * (2 * 4 + 1 + 2 * 2)]  # norms: two in each of 4 layers; the upper 2 again


def test_the_model_itself_is_cut_to_the_same_teacher() -> None:
    batch = collate(EXAMPLES, PAD)
    copied, itself = (Teacher(llama(), KEPT, torch.bfloat16, copied=one) for one in (True, False))
    assert torch.equal(copied.signals(batch).output, itself.signals(batch).output)
    assert torch.equal(copied.signals(batch).lost, itself.signals(batch).lost)


@both
def test_its_loss_is_over_the_whole_vocabulary(make) -> None:
    model, batch = make(), collate(EXAMPLES, PAD)
    one = Adaptation(model, KEPT, 1, EXAMPLES, PAD)
    (part,) = one.prepare(0, range(4), 1)
    with torch.no_grad():
        logs = model(input_ids=KEPT[batch.ids], attention_mask=batch.mask.long()).logits.log_softmax(-1)
    nats = [-logs[r, c - 1, KEPT[batch.ids[r, c]]].item() for r, c in batch.response.nonzero().tolist()]
    assert one.losses(part)["ce"].item() == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    half = Adaptation(model, KEPT, 1, EXAMPLES, PAD, torch.bfloat16).losses(part)["ce"].item()
    assert half != one.losses(part)["ce"].item()
    assert half == pytest.approx(sum(nats) / len(nats), rel=1e-2)
    parts = one.prepare(0, range(4), 3)
    assert sum(one.losses(part)["ce"].item() for part in parts) == pytest.approx(sum(nats) / len(nats), rel=1e-5)
