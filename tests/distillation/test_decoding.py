"""Generation in batches writes what the model writes alone, token by token without a cache."""

import numpy as np
import pytest
import torch
from scipy import stats

from lib.distillation.decoding import DecodingConfig, generate
from tests.tiny_models import both, gpt2

END, PAD = 2, 0
PROMPTS = [[5, 9, 3], [7], [11, 4, 8, 29, 6, 13], [22, 21], [3, 3, 3, 3]]


def plain(model, prompt: list[int], tokens: int) -> list[int]:
    """Greedy, alone, without a cache or padding."""
    ids = list(prompt)
    for _ in range(tokens):
        with torch.no_grad():
            best = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if best == END:
            break
        ids.append(best)
    return ids[len(prompt) :]


@both
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_writes_what_each_prompt_alone_does(make, batch) -> None:
    model = make()
    found = generate(model, PROMPTS, DecodingConfig(tokens=7, batch=batch), END, PAD)
    assert found == [plain(model, prompt, 7) for prompt in PROMPTS]
    assert max(map(len, found)) <= 7


def test_the_end_token_ends_a_response_and_is_not_part_of_it() -> None:
    model = gpt2()
    never = len(model.transformer.wte.weight) + 1  # no token: nothing ends
    whole = generate(model, PROMPTS, DecodingConfig(tokens=9), never, PAD, seed=10)
    assert {len(ids) for ids in whole} == {9}
    end = whole[1][4]
    found = generate(model, PROMPTS, DecodingConfig(tokens=9), end, PAD, seed=10)  # the same draws
    assert found == [ids[: ids.index(end)] if end in ids else ids for ids in whole]
    assert len(found[1]) <= 4


def test_sampling_follows_the_models_distribution_and_its_seed() -> None:
    model, prompt = gpt2(), [5, 9, 3]
    config = DecodingConfig(tokens=1, batch=2000)
    found = [ids[0] if ids else END for ids in generate(model, [prompt] * 2000, config, END, PAD, seed=10)]
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1).double().numpy()
    counts = np.bincount(found, minlength=len(wanted))
    common = wanted * 2000 >= 5
    expected = [*(wanted[common] * 2000), wanted[~common].sum() * 2000]
    seen = [*counts[common], counts[~common].sum()]
    assert stats.chisquare(seen, np.array(expected) * 2000 / sum(expected)).pvalue > 1e-3
    again = generate(model, PROMPTS, DecodingConfig(tokens=8), END, PAD, seed=20)
    assert again == generate(model, PROMPTS, DecodingConfig(tokens=8), END, PAD, seed=20)
    assert again != generate(model, PROMPTS, DecodingConfig(tokens=8), END, PAD, seed=30)


def test_repeats_are_forbidden_only_where_that_is_asked_for() -> None:
    model = gpt2()
    with torch.no_grad():
        model.lm_head.weight[6] *= 40  # one token wins nearly always, and greedy decoding repeats it
    free = generate(model, PROMPTS, DecodingConfig(tokens=8), END, PAD)
    barred = generate(model, PROMPTS, DecodingConfig(tokens=8, no_repeat_ngram_size=1), END, PAD)
    assert any(len(set(ids)) < len(ids) for ids in free)
    assert all(len(set(ids)) == len(ids) for ids in barred)


def test_the_callers_random_stream_and_mode_are_left_as_they_were() -> None:
    model = gpt2().train()
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    generate(model, PROMPTS, DecodingConfig(tokens=2), END, PAD, seed=10)
    assert torch.equal(torch.rand(2), wanted)
    assert model.training
    with pytest.raises(ValueError, match="without tokens"):
        generate(model, [[1], []], DecodingConfig(tokens=2), END, PAD)
