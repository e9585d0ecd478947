"""Distances between hidden states of student and teacher at response tokens, and the middle-layer loss made of them.

Every state is layer-normalised first (no learnt scale): residual streams grow with depth and hold a few huge
dimensions. A distance is one number per token, of order one whatever the widths. `gram` compares the tokens of a
sequence with one another and gives each the sequence's value, so sums over any split of a batch add up; `cka` compares
all tokens of a batch, which is therefore taken whole.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.distillation.layer_maps import LayerMap
from lib.distillation.precision import raised
from lib.errors import UserError
from lib.registry import Registry

__all__ = [
    "CKA_AT_ONCE",
    "CKA_TOKENS",
    "DISTANCES",
    "EPSILON",
    "Distance",
    "Summed",
    "cka",
    "cka_matrix",
    "cosine",
    "debiased_cka",
    "gram",
    "middle_loss",
    "mse",
    "normalised",
]

EPSILON = 1e-6
# Between unrelated wide states debiased CKA has mean 0 and a standard deviation of about (n (n - 3) / 2) ** -1/2 over n
# tokens: .71 of 4, the fewest it is defined on, .33 of 6, .22 of 8. From 8 on it is below a quarter, so that alike and
# unrelated states (1 and 0) lie four deviations apart.
CKA_TOKENS = 8
CKA_AT_ONCE = 2048  # tokens whose inner products are held together where states are only read


class Summed(NamedTuple):
    """A loss before its mean: `total` is summed over tokens, a mean over layers and dimensions; `count` its tokens.

    Where a distance says nothing of any token (`Distance.least`), both are zero; then there is no mean to be taken.
    """

    total: Tensor
    count: int  # type: ignore[assignment]  # in place of a tuple's, which nobody calls

    @property
    def mean(self) -> Tensor:
        """Return the mean over the tokens that count, zero where none does."""
        return self.total / max(self.count, 1)


def mse(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Return the squared difference, a mean over dimensions: two (tokens, width) to (tokens,)."""
    del lengths  # each token stands for itself
    return (raised(student) - raised(teacher)).square().mean(-1)


def cosine(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Return one minus the cosine, in [0, 2]: two (tokens, width) to (tokens,)."""
    del lengths
    return 1 - functional.cosine_similarity(raised(student), raised(teacher), dim=-1)


def cka(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Return one minus the debiased CKA of all tokens together, in [0, 2], for each of them: (tokens,).

    The tokens of all sequences are compared with one another, so a step's batch must not be split (`Distance.pooled`);
    the widths may differ. Of fewer than `CKA_TOKENS` tokens it says next to nothing: 0 is returned.
    """
    tokens = int(lengths.sum())
    if tokens < CKA_TOKENS:
        return 0 * raised(student).sum(-1)  # a zero that still hangs on the student, and NaN where it is NaN
    return (1 - debiased_cka(student, teacher)).expand(tokens)


def gram(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean squared difference of two tables of cosines, of each token with those of its sequence: (tokens,).

    Between 0 and 4; the widths may differ. Of a sequence of one token it says nothing: 0.
    """
    tables = [_inner_products(functional.normalize(raised(states), dim=-1), lengths) for states in (student, teacher)]
    value = (tables[0] - tables[1]).square().sum((1, 2)) / lengths.clamp_min(1).square()
    return value.repeat_interleave(lengths)


@dataclass(frozen=True)
class Distance:
    """What a distance computes, the fewest tokens that it tells anything about, and of which widths.

    `compute` takes student and teacher (tokens, width) and the sequences' lengths, and returns (tokens,). The fewest
    are those of a sequence, or of all sequences together where these are `pooled`: a step's batch is then not split.
    """

    compute: Callable[[Tensor, Tensor, Tensor], Tensor]
    least: int = 1
    any_width: bool = False
    pooled: bool = False

    def counted(self, lengths: Tensor) -> int:
        """Return how many tokens it is a mean over, of sequences of these lengths: for the count of a whole step."""
        if self.pooled:
            lengths = lengths.sum()[None]
        return int(lengths[lengths >= self.least].sum())


# By the names that a case carries.
DISTANCES: Registry[Distance] = Registry(
    "distance",
    {
        "mse": Distance(mse),
        "cosine": Distance(cosine),
        "cka": Distance(cka, least=CKA_TOKENS, any_width=True, pooled=True),
        "gram": Distance(gram, least=2, any_width=True),
    },
)


def middle_loss(
    student_states: Mapping[int, Tensor],
    teacher_states: Mapping[int, Tensor],
    mapping: LayerMap,
    modules: nn.Module,
    distance: str,
    mask: Tensor,
) -> Summed:
    """Return the sum over tokens of the mean over mapped pairs of d(A h_student, h_teacher) (sheet, "Our reading").

    States are (sequences, places, width), or (tokens, width) where the tokens of `mask`, (sequences, places), are
    already picked, row after row. `modules` is an `Alignment`. Both states are layer-normalised, the student's before
    A: were A's output normalised again, mse would be twice the cosine distance. The loss of a step is the sum of totals
    over the sum of counts. Raises `ValueError` for an empty map, `UserError` for a state that the map names and is not
    there, no tokens, and unequal widths.
    """
    if not mapping:
        raise ValueError("mapping: no pair of layers, so there is nothing to take a mean over: name one at least")
    lengths = mask.sum(1)
    if not lengths.any():
        raise UserError("no response token in this batch: shorten the prompts, or drop rows without a response")
    measured, total = DISTANCES[distance], torch.zeros((), device=mask.device)
    for student_layer, teacher_layer in mapping.items():
        student = modules(student_layer, normalised(_picked("student", student_states, student_layer, mask)))
        teacher = normalised(_picked("teacher", teacher_states, teacher_layer, mask))
        if not measured.any_width and student.shape[-1] != teacher.shape[-1]:
            raise UserError(
                f"{distance} needs equal widths, not {student.shape[-1]} (student) and {teacher.shape[-1]} (teacher): "
                "take an alignment module, or a distance of tokens from one another, such as cka or gram"
            )
        total = total + measured.compute(student, teacher, lengths).sum()
    return Summed(total / len(mapping), measured.counted(lengths))


def normalised(states: Tensor) -> Tensor:
    """Return states (..., width) with mean 0 and variance 1 over their width, in float32."""
    return functional.layer_norm(states.float(), states.shape[-1:])


def debiased_cka(first: Tensor, second: Tensor) -> Tensor:
    """Return the debiased linear CKA in [-1, 1] of two (tokens, width) of the same tokens, a scalar.

    HSIC(K, L) / (HSIC(K, K) HSIC(L, L)) ** 1/2 with the unbiased HSIC of Song et al. (2012, equation 5) and linear
    kernels (Nguyen et al. 2021): near 0 for unrelated states however few, where plain CKA (Kornblith et al. 2019) is
    near 1 of fewer tokens than dimensions. 0 where a state is the same for all tokens. Raises `ValueError` for unequal
    tokens, and for fewer than 4.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} tokens: CKA compares the same ones")
    one, other = (_centred(_sized(raised(states))) for states in (first, second))
    sizes = [matrix.square().sum().clamp_min(EPSILON**2).sqrt() for matrix in (one, other)]
    return (one * other).sum() / (sizes[0] * sizes[1])


def cka_matrix(student_states: Mapping[int, Tensor], teacher_states: Mapping[int, Tensor]) -> Tensor:
    """Return the debiased CKA of all layer-normalised states, (student states, teacher states), in ascending order.

    Both map a layer to (tokens, width) of the same tokens; in float64. More than `CKA_AT_ONCE` tokens are read in equal
    parts, over which each HSIC is a mean (Nguyen et al. 2021, equation 3). Raises as `debiased_cka` does, and
    `UserError` where a state is the same for all tokens.
    """
    ours, theirs = (
        [normalised(states[layer]).double() for layer in sorted(states)] for states in (student_states, teacher_states)
    )
    if len(tokens := {len(state) for state in (*ours, *theirs)}) != 1:
        raise ValueError(f"{' and '.join(map(str, sorted(tokens)))} tokens: CKA compares the same ones")
    places = torch.arange(*tokens, device=ours[0].device)
    together = ours[0].new_zeros(len(ours), len(theirs))
    alone = ours[0].new_zeros(len(ours)), ours[0].new_zeros(len(theirs))
    for part in places.tensor_split(max(1, -(-len(places) // CKA_AT_ONCE))):
        count = len(part) * (len(part) - 3)
        rows = [_centred(state[part]) for state in ours]
        alone[0].add_(torch.stack([row.square().sum() for row in rows]) / count)
        for number, state in enumerate(theirs):  # one at a time: each is as large as all rows
            column = _centred(state[part])
            alone[1][number] += column.square().sum() / count
            together[:, number] += torch.stack([(row * column).sum() for row in rows]) / count
    if not (alone[0].all() and alone[1].all()):
        raise UserError("a hidden state that is the same for all tokens has no CKA")
    return (together / (alone[0][:, None] * alone[1]).sqrt()).cpu()


def _picked(whose: str, states: Mapping[int, Tensor], layer: int, mask: Tensor) -> Tensor:
    """Return the state of a layer at the tokens of a mask, (tokens, width)."""
    if layer not in states:
        raise UserError(f"the layer map names state {layer} of the {whose}; there are {sorted(states)}")
    state = states[layer]
    picked = state[mask] if state.ndim == 3 else state
    if len(picked) != int(mask.sum()):
        raise ValueError(f"{whose}, state {layer}: {len(picked)} tokens where the mask has {int(mask.sum())}")
    return picked


def _inner_products(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the inner products of each sequence's tokens, (sequences, longest, longest), zero beyond its length."""
    padded = nn.utils.rnn.pad_sequence(list(states.split(lengths.tolist())), batch_first=True)
    return padded @ padded.mT


def _sized(states: Tensor) -> Tensor:
    """Return (tokens, width) from the first token on, in units in which its greatest number is between 1/2 and 1.

    The unit is a power of two, so that nothing is rounded, and takes no part in the gradient: CKA sees no size.
    """
    states = states - states[:1]
    unit = torch.frexp(states.detach().abs().amax()).exponent
    return states * torch.ldexp(torch.ones_like(states[0, 0]), -unit)


def _centred(states: Tensor) -> Tensor:
    """Return the inner products of (tokens, width) without those of a token with itself, centred without bias.

    (tokens, tokens), zero on the diagonal, rows and columns adding up to zero (Szekely and Rizzo 2014, "U-centred"):
    over n (n - 3) the sum of products of two such tables is the unbiased HSIC. Raises `ValueError` for fewer than 4.
    """
    count = len(states)
    if count < 4:
        raise ValueError(f"{count} tokens: debiased CKA needs 4 at least")
    states = states - states[:1]  # which changes nothing but rounding: a state that is the same throughout is zero now
    states = states - states.mean(0)
    itself = torch.eye(count, dtype=torch.bool, device=states.device)
    products = (states @ states.mT).masked_fill(itself, 0)
    sums = products.sum(1) / (count - 2)
    return (products - sums[:, None] - sums + sums.sum() / (count - 1)).masked_fill(itself, 0)
