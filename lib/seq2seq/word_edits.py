"""Edits of word sequences by deletions and insertions, and the oracle of the Levenshtein Transformer.

A batch of sequences is a tensor of ids (sentences, words) with pad after the last word; a sequence of k words has k + 1
gaps, the first before its first word.
"""

import torch
from torch import Tensor


def oracle(current: Tensor, target: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Return which words of `current` (sentences, m) stay and which of `target` (sentences, n) they are, both boolean.

    The words that stay are a longest common subsequence, so that deleting the others and inserting what `target` has
    besides is the shortest edit; where several are, the one furthest to the right is taken (our choice).
    """
    (sentences, m), n = current.shape, target.shape[1]
    same = (current[:, :, None] == target[:, None]) & (current != pad)[:, :, None]
    # common[i][:, j] is the length of the longest subsequence common to the first i and the first j words.
    common = [current.new_zeros(sentences, n + 1)]
    for i in range(m):
        row = torch.maximum(common[i][:, 1:], common[i][:, :-1] + same[:, i])
        common.append(torch.cat([common[0][:, :1], row], 1).cummax(1).values)
    place = torch.arange(1, n + 1, device=current.device)
    # last[:, i, j] is the last place up to j, counted from 1, of word i of `current` in `target`; 0 is none.
    last = torch.cat([current.new_zeros(sentences, m, 1), (same * place)], 2).cummax(2).values
    kept = torch.zeros_like(current, dtype=torch.bool)
    matched = torch.zeros(sentences, n + 1, dtype=torch.bool, device=current.device)
    j = current.new_full((sentences, 1), n)
    for i in reversed(range(m)):
        at = last[:, i].gather(1, j)
        before = common[i].gather(1, (at - 1).clamp(min=0))
        keep = (at > 0) & (before + 1 == common[i + 1].gather(1, j))
        kept[:, i] = keep[:, 0]
        matched.scatter_(1, at * keep, True)  # place 0 takes those without a match
        j = torch.where(keep, at - 1, j)
    return kept, matched[:, 1:]


def missing_in_gaps(matched: Tensor, target: Tensor, pad: int) -> Tensor:
    """Count the words of `target` (sentences, n) to insert in each gap of its `matched` words, (sentences, gaps)."""
    gap = matched.cumsum(1)
    counts = target.new_zeros(len(target), _longest(matched.sum(1)) + 1)
    return counts.scatter_add(1, gap, ((target != pad) & ~matched).to(target.dtype))


def delete(words: Tensor, kept: Tensor, pad: int) -> Tensor:
    """Return the `kept` ones of `words`, both (sentences, m), closed up and as wide as the longest; no pad is kept."""
    width = _longest(kept.sum(1))
    place = torch.where(kept, kept.cumsum(1) - 1, width)
    return words.new_full((len(words), width + 1), pad).scatter(1, place, words)[:, :width]


def insert(words: Tensor, counts: Tensor, placeholder: int, pad: int) -> Tensor:
    """Insert `counts` (sentences, m + 1) placeholders in the gaps of `words` (sentences, m), as wide as the longest.

    A gap behind the last one of a shorter sequence must count 0.
    """
    m, lengths = words.shape[1], (words != pad).sum(1, keepdim=True) + counts.sum(1, keepdim=True)
    width = _longest(lengths)
    place = torch.arange(m, device=words.device) + counts.cumsum(1)[:, :m]
    full = torch.where(torch.arange(width + 1, device=words.device) < lengths, placeholder, pad)
    return full.scatter(1, torch.where(words != pad, place, width), words)[:, :width]


def limit(counts: Tensor, room: Tensor) -> Tensor:
    """Cut `counts` (sentences, gaps), from the last gap on, until they add up to at most `room` (sentences, 1)."""
    return counts.cumsum(1).minimum(room).diff(dim=1, prepend=torch.zeros_like(room))


def _longest(lengths: Tensor) -> int:
    return int(lengths.max()) if len(lengths) else 0
