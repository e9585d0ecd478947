"""Distillation between different tokenizers: sorted probabilities, minimum edit distance, and two spaces with
attention.

The tokens of a batch's responses lie row after row, on both sides; `lengths` (sequences,) says how many each row has. A
place is the one that predicts a token, so places are aligned by the tokens that they predict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lib import seeds
from lib.distillation.alignment import linear
from lib.distillation.divergences import forward_kl
from lib.distillation.hidden_states import normalised
from lib.distillation.precision import log_of_shares, raised
from lib.errors import UserError


def in_order(student_lengths: Tensor, teacher_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of both sides that are paired one by one from the start of each response, to the shorter's end.

    Two (pairs,), places among all tokens of the batch. Universal logit distillation pairs them so.
    """
    shorter = torch.minimum(student_lengths, teacher_lengths)
    within = torch.cat([torch.arange(length) for length in shorter.tolist()]).to(shorter.device)
    sides = (student_lengths, teacher_lengths)
    first, second = ((lengths.cumsum(0) - lengths).repeat_interleave(shorter) + within for lengths in sides)
    return first, second


def universal_logit(student: Tensor, teacher: Tensor) -> Tensor:
    """Return sum |p_(i) - q_(i)| over the probabilities of each side in descending order: (tokens,), in [0, 2].

    Universal logit distillation (Boizard et al. 2024), equation 4: the Wasserstein distance of distributions without
    names. Logits (tokens, student's vocabulary) and (tokens, teacher's) of paired places, read in float32 at least; the
    smaller vocabulary is filled up with zeros. Raises `ValueError` for unequal numbers of places.
    """
    if len(student) != len(teacher):
        raise ValueError(f"{len(student)} and {len(teacher)} places: pair them first, with in_order")
    widest = max(student.shape[-1], teacher.shape[-1])
    q, p = (
        functional.pad(raised(logits).softmax(-1).sort(dim=-1, descending=True).values, (0, widest - logits.shape[-1]))
        for logits in (student, teacher)
    )
    return (p - q).abs().sum(-1)


@lru_cache(maxsize=1_000_000)
def edit_distance(first: str, second: str) -> int:
    """Return the Levenshtein distance of two tokens' texts, in characters."""
    before = list(range(len(second) + 1))
    for row, one in enumerate(first, start=1):
        now = [row]
        for column, other in enumerate(second, start=1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (one != other)))
        before = now
    return before[-1]


def aligned(student: Sequence[str], teacher: Sequence[str]) -> list[int]:
    """Return for each token of the student's the teacher's that it goes with, by minimum edit distance (FuseLLM).

    A monotone path through both, from start to end, with the least sum of edit distances (dynamic time warping); where
    it gives a token several, the nearest of them, of equal ones the first. Tokens are texts, with their leading blanks.
    Raises `UserError` where one side has no tokens.
    """
    if not student or not teacher:
        raise UserError(f"{len(student)} tokens of the student and {len(teacher)} of the teacher cannot be aligned")
    costs = np.array([[edit_distance(one, other) for other in teacher] for one in student], dtype=float)
    sums = np.full((len(student) + 1, len(teacher) + 1), np.inf)
    sums[0, 0] = 0
    for i, j in np.ndindex(costs.shape):
        sums[i + 1, j + 1] = costs[i, j] + min(sums[i, j], sums[i, j + 1], sums[i + 1, j])
    i, j = len(student), len(teacher)
    found = [0] * len(student)
    best = [np.inf] * len(student)
    while i and j:
        if costs[i - 1, j - 1] <= best[i - 1]:  # the path is walked backwards, so the first of equals comes last
            found[i - 1], best[i - 1] = j - 1, costs[i - 1, j - 1]
        i, j = min([(i - 1, j - 1), (i - 1, j), (i, j - 1)], key=lambda place: sums[place])
    return found


def nearest_tokens(teacher: Sequence[str], student: Sequence[str]) -> Tensor:
    """Return for each token of the teacher's the student's with the least edit distance: (teacher's vocabulary,) ids.

    Tokens are texts, a token's place its id. Of equally near ones the first.
    """
    longest = max(map(len, student))
    lengths = np.array([len(text) for text in student])
    letters = np.array([[ord(letter) for letter in text.ljust(longest, "\0")] for text in student]).T.copy()
    places = {text: place for place, text in reversed(list(enumerate(student)))}
    found = [places[text] if text in places else int(_distances(text, letters, lengths).argmin()) for text in teacher]
    return torch.tensor(found)


def carried_over(teacher: Tensor, nearest: Tensor, vocabulary: int) -> Tensor:
    """Return the teacher's log-probabilities over the student's tokens, each mass where `nearest` carries it.

    Logits (tokens, teacher's vocabulary) to (tokens, vocabulary), in float32 at least; -inf where nothing arrives, so
    only forward divergences are finite. Raises `UserError` where `nearest` is of another tokenizer.
    """
    if teacher.shape[-1] != len(nearest):
        raise UserError(
            f"the teacher has {teacher.shape[-1]} tokens, the alignment of vocabularies {len(nearest)}: "
            "make it for this pair"
        )
    shares = raised(teacher).softmax(-1)
    summed = shares.new_zeros(len(shares), vocabulary).index_add(1, nearest.to(shares.device), shares)
    return log_of_shares(summed)


@dataclass(frozen=True)
class Side:
    """What dual-space distillation reads of one model at the places that predict response tokens.

    `states` (tokens, width): what the head reads; `read` and `predicted` (tokens, width): the embeddings of the token
    read there and of the one predicted; `labels` (tokens,): the latter's ids; `lengths` (sequences,); `head`
    (vocabulary, width).
    """

    states: Tensor
    read: Tensor
    predicted: Tensor
    labels: Tensor
    lengths: Tensor
    head: Tensor

    def raised(self) -> "Side":
        """Return the same in float32 at least."""
        numbers = {name: raised(getattr(self, name)) for name in ("states", "read", "predicted", "head")}
        return replace(self, **numbers)


class DualSpace(nn.Module):
    """Dual-space distillation with cross-model attention (Zhang et al. 2024, DSKD): each side's states in the other's
    space.

    Attention of the student's tokens over the teacher's (and back) pairs them, whatever the tokenizers; carried states
    are read by the head of the side that they come to, so both distributions are over one vocabulary. As in the public
    code the student's embeddings are read as they are: they do not learn to be good queries, only the projection does.
    Teacher states and embeddings are layer-normalised where the public code divides by a batch's standard deviation
    (our choice: the split of a batch then does not matter).
    """

    def __init__(self, student_width: int, teacher_width: int, seed: int) -> None:
        """Draw the three projections: queries, teacher to student, student to teacher."""
        super().__init__()
        stream = seeds.generator("dual space", seed)
        self.query = linear(2 * student_width, 2 * teacher_width, stream)
        self.to_student = linear(teacher_width, student_width, stream)
        self.to_teacher = linear(student_width, teacher_width, stream)

    def forward(self, student: Side, teacher: Side) -> tuple[Tensor, Tensor]:
        """Return the loss in the student's space (student's tokens,) and in the teacher's (teacher's tokens,), in nats.

        The former: cross-entropy of the carried teacher, which trains the projections, and where that predicts rightly
        KL(carried teacher || student). The latter: KL(teacher || carried student). Each is to be divided by its own
        count of tokens. Raises `UserError` where a sequence has no response tokens on one side.
        """
        if len(student.lengths) != len(teacher.lengths) or not (student.lengths.all() and teacher.lengths.all()):
            raise UserError("dual-space distillation: every sequence needs response tokens in both tokenizers")
        student, teacher = student.raised(), teacher.raised()
        keys = torch.cat([normalised(teacher.read), normalised(teacher.predicted)], dim=-1)
        asked = torch.cat([student.read, student.predicted], dim=-1).detach()
        queries = _padded(self.query(asked), student.lengths)
        scores = queries @ _padded(keys, teacher.lengths).mT / keys.shape[-1] ** 0.5
        carried = self.to_student(normalised(teacher.states) + normalised(teacher.predicted))
        there = functional.linear(_attended(scores, carried, student, teacher), student.head.detach())
        right = there.argmax(-1) == student.labels
        first = functional.cross_entropy(there, student.labels, reduction="none")
        first = first + right * forward_kl(functional.linear(student.states, student.head), there.detach())
        leaving = _attended(scores.mT, self.to_teacher(student.states), teacher, student)
        second = forward_kl(*(functional.linear(states, teacher.head) for states in (leaving, teacher.states)))
        return first, second


def _attended(scores: Tensor, values: Tensor, to: Side, of: Side) -> Tensor:
    """Return the values (tokens of one side, width) averaged for each token of the other: (its tokens, width)."""
    inside = [torch.arange(int(side.lengths.max()), device=scores.device) < side.lengths[:, None] for side in (to, of)]
    shares = scores.masked_fill(~inside[1][:, None, :], float("-inf")).softmax(-1)
    return (shares @ _padded(values, of.lengths))[inside[0]]


def _padded(states: Tensor, lengths: Tensor) -> Tensor:
    """Return (tokens, width) as (sequences, longest, width), zero beyond each length."""
    return nn.utils.rnn.pad_sequence(list(states.split(lengths.tolist())), batch_first=True)


def _distances(text: str, letters: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the edit distance of a text from many at once: letters (longest, texts), lengths (texts,)."""
    before = np.repeat(np.arange(len(letters) + 1)[:, None], letters.shape[1], axis=1)
    for number, letter in enumerate(text, start=1):
        here = np.empty_like(before)
        here[0] = number
        swapped = before[:-1] + (letters != ord(letter))
        for place in range(len(letters)):
            here[place + 1] = np.minimum(np.minimum(before[place + 1], here[place]) + 1, swapped[place])
        before = here
    return before[lengths, np.arange(letters.shape[1])]
