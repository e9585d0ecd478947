"""The Levenshtein Transformer: losses and sampling against a plain derivation word by word, and toys it must learn."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lib.seq2seq.levenshtein import DELETE, Levenshtein, LevenshteinConfig, Memory

PAD, END = 0, 1
SHAPE = LevenshteinConfig(vocabulary=12, width=16, layers=2, heads=2, dropout=0.0, most=3, empty=0.3)
WORDS = [[5, 3, 7, 4, 9, 10], [8, 3], [4, 4, 11, 4, 6], [6, 7, 8, 9]]
TARGET = torch.tensor([words + [END] + [PAD] * (6 - len(words)) for words in WORDS])
SOURCE = torch.randint(3, 12, (4, 5), generator=torch.Generator().manual_seed(5))


def build(config: LevenshteinConfig = SHAPE, seed: int = 1) -> Levenshtein:
    torch.manual_seed(seed)
    model = Levenshtein(config).eval()
    with torch.no_grad():  # so that fresh weights disagree on what to delete and where to insert
        model.delete.bias.zero_()
        model.place.bias.zero_()
    return model


def common(left: list[int], right: list[int]) -> int:
    if not left or not right:
        return 0
    if left[-1] == right[-1]:
        return 1 + common(left[:-1], right[:-1])
    return max(common(left[:-1], right), common(left, right[:-1]))


def alignment(left: list[int], right: list[int]) -> dict[int, int]:
    """Which place of `left` is which of `right`, from the right end, wherever a longest common subsequence allows."""
    found: dict[int, int] = {}
    for i in reversed(range(len(left))):
        places = [j for j, word in enumerate(right) if word == left[i]]
        if places and 1 + common(left[:i], right[: places[-1]]) == common(left[: i + 1], right):
            found[i] = places[-1]
            right = right[: places[-1]]
    return found


def minus_log_p(scores: Tensor, actions: list[int]) -> float:
    return sum(-row.softmax(0)[action].log().item() for row, action in zip(scores, actions, strict=True)) / max(
        len(actions), 1
    )


def derived(model: Levenshtein, source: Tensor, words: list[int], draws: Tensor) -> dict[str, float]:
    """The losses of one sentence by itself, without any padding."""
    memory = model.remember(source[None])
    share, from_empty = draws[0].item(), draws[1].item() < model.config.empty
    start = [w for w, draw in zip(words, draws[2:].tolist(), strict=False) if draw >= share and not from_empty]
    matched = sorted(alignment(start, words).values())
    assert len(matched) == len(start)
    ends = [-1, *matched, len(words)]
    counts = [min(b - a - 1, model.config.most) for a, b in pairwise(ends)]
    missing = [place for place in range(len(words)) if place not in matched]
    opened = torch.tensor([[w if place in matched else model.placeholder for place, w in enumerate(words)]])
    scores = model.word_scores(opened, memory)
    filled = list(words)
    for place, row in zip(missing, scores, strict=True):
        filled[place] = int(row.argmax())
    kept = alignment(filled, words)
    gap_scores = model.placeholder_scores(torch.tensor([start], dtype=torch.long).view(1, -1), memory)[0]
    return {
        "deletion": minus_log_p(
            model.deletion_scores(torch.tensor([filled]), memory)[0], [int(i not in kept) for i in range(len(filled))]
        ),
        "placeholders": minus_log_p(gap_scores, counts),
        "words": minus_log_p(scores, [words[place] for place in missing]),
    }


@pytest.mark.parametrize("seed", range(6))
def test_losses_against_a_plain_derivation(seed: int) -> None:
    model = build()
    found = model.losses(SOURCE, TARGET, torch.Generator().manual_seed(seed))
    draws = torch.rand(4, 8, generator=torch.Generator().manual_seed(seed))
    for row in range(4):
        expected = derived(model, SOURCE[row], WORDS[row], draws[row])
        assert {name: value[row].item() for name, value in found.items()} == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_every_parameter_learns_and_the_share_of_empty_starts_is_beta() -> None:
    model = build(SHAPE.model_copy(update={"empty": 0.4}))
    starts: list[Tensor] = []
    original = model.placeholder_scores
    model.placeholder_scores = lambda words, memory: (starts.append(words), original(words, memory))[1]  # type: ignore[method-assign]
    source, target = SOURCE[:1].expand(1500, -1), TARGET[:1].expand(1500, -1)
    sum(model.losses(source, target, torch.Generator().manual_seed(0)).values()).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    lengths = (starts[0] != PAD).sum(1)
    # A uniform share of 6 words leaves each of 0..6 words with the same probability.
    shares = lengths.bincount(minlength=7) / 1500
    assert shares.tolist() == pytest.approx([0.4 + 0.6 / 7] + [0.6 / 7] * 6, abs=0.03)


def test_a_loss_does_not_depend_on_the_other_sentences() -> None:
    model = build()
    alone = model.losses(SOURCE[:1], TARGET[:1], torch.Generator().manual_seed(3))
    for others in (TARGET[1:], TARGET[1:].flip(0)):
        target = torch.cat([TARGET[:1], others])
        found = model.losses(SOURCE, target, torch.Generator().manual_seed(3))
        for name, value in alone.items():
            assert value[0].item() == pytest.approx(found[name][0].item(), rel=1e-4)


def plain_sample(model: Levenshtein, source: Tensor, places: int) -> list[int]:
    """Decode one sentence with plain lists."""
    memory = model.remember(source[None])
    words: list[int] = []
    for _ in range(model.config.iterations):
        before = list(words)
        if words:
            choices = model.deletion_scores(torch.tensor([words]), memory)[0].argmax(-1).tolist()
            words = [w for w, choice in zip(words, choices, strict=True) if choice != DELETE]
        ids = torch.tensor([words], dtype=torch.long).view(1, -1)
        opened: list[int] = []
        room = places - 1 - len(words)
        counts = model.placeholder_scores(ids, memory)[0].argmax(-1).tolist()
        for gap, count in enumerate(counts):
            opened += [model.placeholder] * min(count, room)
            room -= min(count, room)
            opened += words[gap : gap + 1]
        chosen = iter(model.word_scores(torch.tensor([opened], dtype=torch.long).view(1, -1), memory).argmax(-1))
        words = [int(next(chosen)) if w == model.placeholder else w for w in opened]
        if words == before:
            break
    return words + [END] + [PAD] * (places - 1 - len(words))


@pytest.mark.parametrize("seed", range(6))
def test_sampling_against_a_plain_derivation(seed: int) -> None:
    model = build(seed=seed)
    source = torch.randint(3, 12, (12, 5), generator=torch.Generator().manual_seed(seed))
    found = model.sample(source, 7, torch.Generator())
    with torch.inference_mode():
        assert found.tolist() == [plain_sample(model, row, 7) for row in source]


def test_samples_are_words_then_end_then_pad_and_equal_for_equal_sources() -> None:
    lengths = set()
    for seed in range(6):
        model = build(seed=seed)
        source = torch.randint(3, 12, (30, 4), generator=torch.Generator().manual_seed(seed))
        for places in (1, 2, 8):
            found = model.sample(torch.cat([source, source.flip(0)]), places, torch.Generator().manual_seed(seed))
            assert torch.equal(found[:30], found[30:].flip(0))
            assert found.shape == (60, places)
            for row in found.tolist():
                end = row.index(END)
                assert all(1 < word < 12 for word in row[:end])
                assert row[end + 1 :] == [PAD] * (places - end - 1)
                lengths.add(end)
    assert len(lengths) > 3


def test_losses_and_samples_in_bfloat16() -> None:
    model = build()
    with torch.autocast("cpu", torch.bfloat16):
        low = model.losses(SOURCE, TARGET, torch.Generator().manual_seed(0))
        assert model.sample(SOURCE, 6, torch.Generator()).shape == (4, 6)
    high = model.losses(SOURCE, TARGET, torch.Generator().manual_seed(0))
    assert all(value.dtype == torch.float32 for value in low.values())
    assert torch.allclose(low["placeholders"], high["placeholders"], atol=0.1)


def shifted_pairs(number: int, seed: int, shift: int) -> tuple[Tensor, Tensor]:
    """Four symbols out of five, and the symbols that stand `shift` after them in a ring."""
    source = torch.randint(2, 7, (number, 4), generator=torch.Generator().manual_seed(seed))
    return source, torch.nn.functional.pad(2 + (source - 2 + shift) % 5, (0, 1), value=END)


def train(model: Levenshtein, steps: int, shift: int, terms: list[str]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.zero_grad()
        losses = model.losses(*shifted_pairs(64, step, shift), generator)
        sum(losses[term] for term in terms).mean().backward()
        optimizer.step()


TOY = LevenshteinConfig(vocabulary=7, width=32, layers=1, heads=2, dropout=0.0, most=6, empty=0.2)


def test_it_learns_to_shift_symbols() -> None:
    torch.manual_seed(0)
    model = Levenshtein(TOY)
    train(model, 40, 1, ["deletion", "placeholders", "words"])
    source, target = shifted_pairs(200, 1000, 1)
    found = model.eval().sample(source, 9, torch.Generator())
    exact = (found == torch.nn.functional.pad(target, (0, 4), value=PAD)).all(1).float().mean().item()
    assert exact > 0.9  # by chance 1/625


def test_it_learns_to_delete_wrong_words() -> None:
    torch.manual_seed(0)
    model = Levenshtein(TOY)

    def clumsy(words: Tensor, memory: Memory) -> Tensor:  # never learns the words, so there is always one to delete
        return torch.randn(int((words == model.placeholder).sum()), 7).index_fill(1, torch.tensor([PAD, END]), -99)

    model.word_scores = clumsy  # type: ignore[method-assign]
    train(model, 50, 0, ["deletion"])
    source, _ = shifted_pairs(200, 1000, 0)
    wrong = source.clone()
    wrong[:, 1] = shifted_pairs(200, 1000, 1)[1][:, 1]
    with torch.inference_mode():
        deleted = model.deletion_scores(wrong, model.remember(source)).argmax(-1) == DELETE
    # Not always: a wrong word that equals the next one may stand for it, as in "a b b d" for "a c b d".
    assert deleted[:, 1].float().mean().item() > 0.55
    assert deleted[:, [0, 2, 3]].float().mean().item() < 0.15
