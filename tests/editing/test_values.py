"""Values and keys: against a plain, one-by-one, uncached optimisation with whole forward passes."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from lib.causal_lm.edits import Edit
from lib.causal_lm.layers import block, blocks, down_projection
from lib.editing.contexts import draw_prefixes
from lib.editing.from_subject import Upper
from lib.editing.located import locate
from lib.editing.values import ValueConfig, at_subjects, optimise
from lib.errors import UserError
from tests.tiny_models import Letters, both, gpt2, llama

PREFIXES = ("", "m n", "q r s t", "d b f")
EDITS = [
    Edit("a b c d", " e f s t", subject="b c"),  # the subject inside; the longest, so that it is sorted last
    Edit("g h i", " j", subject="g"),  # at the beginning: nothing before it, where there is no prefix
    Edit("k l m n o", " p q r", subject="m n o"),  # at the end
]
CONFIG = ValueConfig(steps=4, rate=0.3, clamp=3.0, prefixes=((3, 4), (6, 2)), openings=("a b", "c"), enough=1e-3)


def shifted(model, ids, place, layer, delta):
    """Logits of one text, with delta added to the MLP's output at one place, by an ordinary forward pass."""

    def hook(_, __, output):
        added = torch.zeros_like(output)
        added[0, place] = 1
        return output + added * delta

    handle = block(model, layer).mlp.register_forward_hook(hook)
    try:
        return model(torch.tensor([ids])).logits[0]
    finally:
        handle.remove()


def plain_losses(model, edit, layer, delta, kl_at="subject"):
    """Loss and divergence of an edit, text by text, from the definitions."""
    tokenizer, losses = Letters(), []
    target = tokenizer(edit.target)["input_ids"]
    for prefix in PREFIXES:
        text = f"{prefix}. {edit.prompt}" if prefix else edit.prompt
        prompt = tokenizer(text)["input_ids"]
        upto = text.rindex(edit.subject) + len(edit.subject)
        place = len(tokenizer(text[:upto])["input_ids"]) - 1
        logits = shifted(model, prompt + target, place, layer, delta)
        losses.append(functional.cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(target)))
    essence, last = tokenizer(f"{edit.subject} is a")["input_ids"], len(tokenizer(edit.subject)["input_ids"]) - 1
    read = last if kl_at == "subject" else -1
    after = shifted(model, essence, last, layer, delta)[read].softmax(-1)
    before = shifted(model, essence, last, layer, torch.zeros_like(delta))[read].softmax(-1).detach()
    return torch.stack(losses).mean(), (before * (before.log() - after.log())).sum()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("layer", "kl_at"), [(0, "subject"), (2, "subject"), (2, "sentence"), (3, "subject")])
@both
def test_losses_and_gradients_of_the_upper_blocks_are_those_of_whole_passes(make, layer, kl_at, attention) -> None:
    model = make(attention).requires_grad_(False)
    upper = Upper(model, locate(model, Letters(), EDITS, PREFIXES, kl_at=kl_at), layer)
    _, first = upper.losses(torch.zeros(3, 16))
    assert torch.allclose(first, torch.zeros(3), atol=1e-6)
    delta = torch.randn(3, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    loss, divergence = upper.losses(delta)
    gradients = torch.autograd.grad((loss + 0.3 * divergence).sum(), delta)[0]
    for number, edit in enumerate(EDITS):
        own = delta[number].detach().requires_grad_()
        wanted, wanted_divergence = plain_losses(model, edit, layer, own, kl_at)
        assert torch.allclose(loss[number], wanted, rtol=1e-4)
        assert torch.allclose(divergence[number], wanted_divergence, rtol=1e-3, atol=1e-6)
        gradient = torch.autograd.grad(wanted + 0.3 * wanted_divergence, own)[0]
        assert torch.allclose(gradients[number], gradient, rtol=1e-3, atol=1e-5)
    chosen = torch.tensor([True, False, True])
    fewer = upper.only(chosen).losses(delta[chosen])
    assert torch.allclose(fewer[0], loss[chosen], rtol=1e-4)
    assert torch.allclose(fewer[1], divergence[chosen], rtol=1e-3, atol=1e-6)


@both
def test_the_block_of_the_change_is_run_once(make) -> None:
    model, layer = make().requires_grad_(False), 2
    upper = Upper(model, locate(model, Letters(), EDITS, PREFIXES), layer)
    runs: list[int] = []
    hooks = [one.register_forward_hook(lambda *_, n=n: runs.append(n)) for n, one in enumerate(blocks(model))]
    delta = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    found = upper.losses(torch.zeros(3, 16)), upper.losses(delta)
    assert runs == [3, 3]
    for hook in hooks:
        hook.remove()
    upper._parted = None  # a block that is built otherwise is run in every step
    wanted = upper.losses(torch.zeros(3, 16)), upper.losses(delta)
    assert all(torch.equal(one, two) for one, two in zip(sum(found, ()), sum(wanted, ()), strict=True))


@pytest.mark.parametrize("averaged", ["keys", "all"])
@pytest.mark.parametrize("start", ["mlp", "block"])
@both
def test_the_optimisation_is_adam_on_the_whole_loss_bounded_after_each_step(make, start: str, averaged: str) -> None:
    """As released: no step follows the last loss, and the bound is the norm at the bare prompt."""
    model, layer, edit = make().requires_grad_(False), 2, EDITS[0]
    config = CONFIG.model_copy(update={"start": start, "averaged": averaged, "clamp": 0.4, "decay": 2.0, "kl": 0.5})
    located = locate(model, Letters(), [edit], PREFIXES)
    found = optimise(model, located, layer, config)
    # Independently: hooks on whole passes give the output of the MLP or the block at the subject's last token.
    outputs = []
    module = block(model, layer).mlp if start == "mlp" else block(model, layer)
    for row in located[0].texts:
        handle = module.register_forward_hook(lambda _, __, output, row=row: outputs.append(output[0, row.place]))
        model(torch.tensor([row.ids]))
        handle.remove()
    norm = (torch.stack(outputs).mean(0) if averaged == "all" else outputs[0]).norm()
    delta = torch.zeros(16, requires_grad=True)
    optimiser = torch.optim.Adam([delta], 0.3)
    for _ in range(3):
        loss, divergence = plain_losses(model, edit, layer, delta)
        total = loss + 0.5 * divergence + 2.0 * delta.norm() / norm**2
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        with torch.no_grad():
            if delta.norm() > 0.4 * norm:
                delta *= 0.4 * norm / delta.norm()
    assert torch.allclose(found.deltas[0].float(), delta, rtol=1e-4, atol=1e-4)
    one = optimise(model, located, layer, config.model_copy(update={"steps": 1}))
    assert not one.deltas.any()
    assert found.deltas[0].norm() <= 0.4 * norm * 1.001


@pytest.mark.parametrize("averaged", ["keys", "all"])
def test_values_come_with_mean_keys_and_what_is_measured_at_the_bare_prompt_or_the_mean(averaged: str) -> None:
    model = llama().requires_grad_(False)
    located = locate(model, Letters(), EDITS, PREFIXES)
    found = optimise(model, located, 1, CONFIG.model_copy(update={"averaged": averaged, "steps": 1}))
    for bare in (False, True):
        keys, outputs = at_subjects(model, located, [1], [1], bare=bare)
        assert torch.equal(found.keys, keys[1]) is not bare
        assert torch.equal(found.measured, keys[1]) is (bare == (averaged == "keys"))
        assert torch.equal(found.outputs, outputs[1]) is (bare == (averaged == "keys"))


@pytest.mark.parametrize("at_once", [2, 16])
@both
def test_edits_together_give_what_each_gives_alone(make, at_once: int) -> None:
    model = make().requires_grad_(False)
    # A loss at which the edits stop at different steps, so that the batch shrinks on the way.
    config = CONFIG.model_copy(update={"steps": 12, "enough": 3.2 if make is llama else 4.8, "at_once": at_once})
    located = locate(model, Letters(), EDITS, PREFIXES)
    together = optimise(model, located, 1, config)
    alone = [optimise(model, [one], 1, config) for one in located]
    for name in ("keys", "measured", "outputs", "deltas"):
        joined = torch.cat([getattr(one, name) for one in alone])
        assert torch.allclose(getattr(together, name), joined, rtol=1e-3, atol=1e-3), name
    full = optimise(model, located, 1, config.model_copy(update={"enough": 0.0}))
    moved = (full.deltas - together.deltas).norm(dim=1) > 0.1
    assert moved.any()
    assert not moved.all()


@both
def test_a_delta_makes_the_target_likely(make) -> None:
    model = make().requires_grad_(False)
    located = locate(model, Letters(), EDITS, PREFIXES)
    found = optimise(model, located, 1, CONFIG.model_copy(update={"steps": 25}))
    upper = Upper(model, located, 1)
    before, _ = upper.losses(torch.zeros(3, 16))
    after, _ = upper.losses(found.deltas.float())
    assert (after < before - 0.1).all()  # random blocks above leave a single vector little say
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("mean_over", ["texts", "groups"])
@both
def test_keys_and_outputs_are_means_over_the_texts_or_over_groups_of_them(make, mean_over: str) -> None:
    """MEMIT: the mean of a group's mean; the bare prompt, first, is a group of its own."""
    model = make().requires_grad_(False)
    located = locate(model, Letters(), EDITS, ("", ("m n", "q r s t", "d b f"), ("k l", "o")), mean_over)
    keys, outputs = at_subjects(model, located, [0, 2], [1, 3], at_once=2)
    bare, bare_outputs = at_subjects(model, located, [0, 2], [1, 3], at_once=2, bare=True)
    for number, edit in enumerate(located):
        seen: dict[tuple[str, int], list[torch.Tensor]] = {}

        def watch(name, place, seen=seen):
            return lambda _, arguments, output: seen.setdefault(name, []).append(
                (arguments[0] if name[0] == "k" else output)[0, place]
            )

        for row in edit.texts:
            hooks = []
            for layer in range(4):
                hooks.append(down_projection(model, layer).register_forward_hook(watch(("k", layer), row.place)))
                hooks.append(blocks(model)[layer].register_forward_hook(watch(("h", layer), row.place)))
            model(torch.tensor([row.ids]))
            for hook in hooks:
                hook.remove()
        for kind, found, first in (("k", keys, bare), ("h", outputs, bare_outputs)):
            for layer, value in found.items():
                texts = torch.stack(seen[kind, layer])
                grouped = torch.stack([texts[:1].mean(0), texts[1:4].mean(0), texts[4:].mean(0)]).mean(0)
                expected = texts.mean(0) if mean_over == "texts" else grouped
                assert torch.allclose(value[number].float(), expected, atol=1e-4)
                assert torch.allclose(first[layer][number].float(), texts[0], atol=1e-4)
    assert set(keys) == {0, 2}
    assert set(outputs) == {1, 3}


@both
def test_prefixes_are_the_models_own_the_same_each_time_and_disturb_no_stream(make) -> None:
    model = make()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn = draw_prefixes(model, Letters(), CONFIG)
    assert torch.equal(torch.rand(3), expected)
    assert drawn == draw_prefixes(model, Letters(), CONFIG)
    assert drawn != draw_prefixes(model, Letters(), CONFIG.model_copy(update={"seed": 1}))
    assert drawn[0] == ""
    assert [len(group) for group in drawn[1:]] == [4, 2]
    for group, most in zip(drawn[1:], (3, 6), strict=True):  # tokens with the opening; ids below 3 are no letters
        lengths = [len(Letters()(text)["input_ids"]) for text in group]
        assert max(lengths) in (most - 1, most)
        assert sorted(text.split()[0] for text in group) == ["a"] * (len(group) // 2) + ["c"] * (len(group) // 2)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([], "no edits"),
        ([Edit("a b", " c")], "names no subject"),
        ([Edit("a b", " c", subject="z")], "is not in the prompt"),
        ([Edit("a b", " c", subject="")], "empty subject"),
        ([Edit("a " * 60, " c", subject="a")], "has 65 tokens with a prefix, the model's context 64"),
    ],
)
def test_bad_edits_are_one_clear_line(edits: list[Edit], message: str) -> None:
    with pytest.raises(UserError, match=message):
        locate(llama(), Letters(), edits, ["", "b c d"])


def test_half_precision_models_give_finite_deltas() -> None:
    model = gpt2().to(torch.bfloat16).requires_grad_(False)
    found = optimise(model, locate(model, Letters(), EDITS, PREFIXES), 1, CONFIG)
    assert found.deltas.isfinite().all()
    assert found.deltas.dtype == torch.float64


def test_groups_of_prefixes_are_not_empty() -> None:
    for prefixes in ((), ("", ())):
        with pytest.raises(UserError, match="give at least the empty one"):
            locate(llama(), Letters(), EDITS, prefixes)


@pytest.mark.parametrize(
    "changes",
    [
        *({"steps": 0}, {"rate": 0.0}, {"rate": float("inf")}, {"kl": -1.0}, {"decay": float("nan")}),
        *({"clamp": -0.1}, {"at_once": 0}, {"prefixes": ((0, 4),)}, {"kl_at": "end"}, {"enough": -1.0}),
    ],
)
def test_settings_that_cannot_be_are_refused(changes) -> None:
    with pytest.raises(ValidationError):
        ValueConfig(**changes)
