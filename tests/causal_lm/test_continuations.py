"""Continuations against writing each one alone, token by token, without a cache."""

import pytest
import torch
from scipy import stats

from lib.causal_lm.continuations import Prompts, likeliest, sampled
from tests.tiny_models import both, gpt2

ROWS = [[5, 9, 3], [7], [11, 4, 8, 29, 6, 13], [22, 21], [3, 3, 3, 3], [17, 2]]
ENDS = torch.tensor([4, 11, 19])


def padded(rows):
    longest = max(map(len, rows))
    ids = torch.tensor([[1] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


@torch.no_grad()
def alone(model, prompt, longest, choose):
    """Write after one prompt; `choose` takes the step and the logits (vocabulary,)."""
    ids = list(prompt)
    for step in range(longest):
        ids.append(choose(step, model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]))
        if ids[-1] in ENDS:
            break
    return ids[len(prompt) :]


@both
@pytest.mark.parametrize("longest", [1, 2, 9])
def test_greedy_continuations_are_those_of_each_prompt_alone(make, longest):
    model = make()
    found = Prompts(model, *padded(ROWS)).continued(longest, ENDS, likeliest)
    assert found == [alone(model, row, longest, lambda _, logits: int(logits.argmax())) for row in ROWS]


@both
def test_every_copy_is_drawn_by_its_own_numbers_whenever_others_end(make):
    """The numbers of all rows and steps are drawn first; then each copy is written alone with its own."""
    model, copies, longest = make(), 5, 12
    found = Prompts(model, *padded(ROWS)).continued(longest, ENDS, chosen, copies, torch.Generator().manual_seed(3))
    stream = torch.Generator().manual_seed(3)
    numbers = torch.stack([torch.rand(len(ROWS) * copies, generator=stream) for _ in range(longest)])
    wanted = []
    for row in range(len(ROWS) * copies):
        one = numbers[:, row]
        wanted.append(
            alone(
                model,
                ROWS[row // copies],
                longest,
                lambda step, x, one=one: int(chosen(None, x[None], one[step : step + 1])),
            )
        )
    assert found == wanted
    assert len({len(row) for row in found}) > 3  # they end at many places


@both
@pytest.mark.parametrize("every", [2, 3, 16])
@pytest.mark.parametrize("whole", [False, True])
def test_looking_seldom_at_who_has_ended_changes_no_token_and_no_number(make, every, whole, monkeypatch):
    """Reading back is counted: once a look, where it was twice a token."""
    prompts, copies, longest, reads = Prompts(make(), *padded(ROWS)), 3, 24, []
    read = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: reads.append(self) or read(self))
    ends = torch.arange(4, 19)  # so many that all rows have ended before the longest, in the midst of a look
    told = []
    for looks in (1, every):
        stream = torch.Generator().manual_seed(3)
        torch.manual_seed(5)
        reads.clear()
        rows = [
            prompts.continued(longest, ends, chosen, copies, given, whole, looks) for given in (stream, stream, None)
        ]
        tokens = [max(map(len, one)) for one in rows]
        assert len(reads) == sum(1 + -(-most // looks) for most in tokens)  # and one for the ends
        told.append((rows, stream.get_state(), torch.get_rng_state()))
    assert max(tokens) < longest
    assert any(most % every for most in tokens)
    (first, *states), (second, *others) = told
    assert first == second
    assert all(torch.equal(*pair) for pair in zip(states, others, strict=True))


def chosen(_, logits, uniform):
    return sampled(logits.softmax(-1), uniform)


def test_prompts_can_be_continued_again():
    model = gpt2()
    prompts = Prompts(model, *padded(ROWS))
    once = prompts.continued(6, ENDS, likeliest)
    assert prompts.continued(6, ENDS, likeliest, 2)[::2] == once == prompts.continued(6, ENDS, likeliest)
    for longest, copies, every in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            prompts.continued(longest, ENDS, likeliest, copies, every=every)


def test_tokens_are_sampled_by_their_chances():
    chances = torch.tensor([0.0, 2.0, 0.0, 5.0, 1.0, 0.0])
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    counts = sampled(chances.expand(len(uniform), -1), uniform).bincount(minlength=6)
    assert counts[[0, 2, 5]].sum() == 0
    assert stats.chisquare(counts[[1, 3, 4]], len(uniform) * chances[[1, 3, 4]] / 8).pvalue > 1e-3
    edges = sampled(chances.expand(2, -1), torch.tensor([0.0, 1 - 2**-24]))
    assert edges.tolist() == [1, 4]
