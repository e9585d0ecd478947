"""Distances between hidden states of student and teacher at response tokens, and the middle-layer loss made of them.

Every state is layer-normalised first (no learnt scale): residual streams grow with depth and hold a few huge
dimensions. A distance is one number per token, of order one whatever the widths; those that compare tokens of a
sequence with one another (`cka`, `gram`) give each of its tokens the sequence's value. So sums over any split of a
batch add up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.distillation.layer_maps import LayerMap
from lib.errors import UserError
from lib.registry import Registry

EPSILON = 1e-6
CKA_TOKENS = 3  # of one or two centred tokens CKA is 1, whatever they are


class Summed(NamedTuple):
    """A loss before its mean: `total` is summed over tokens, a mean over layers and dimensions; `count` its tokens."""

    total: Tensor
    count: int  # type: ignore[assignment]  # in place of a tuple's, which nobody calls


def mse(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Return the squared difference, a mean over dimensions: two (tokens, width) to (tokens,)."""
    del lengths  # each token stands for itself
    return (student - teacher).square().mean(-1)


def cosine(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Return one minus the cosine, in [0, 2]: two (tokens, width) to (tokens,)."""
    del lengths
    return 1 - functional.cosine_similarity(student, teacher, dim=-1)


def cka(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Return one minus the linear CKA of each sequence's tokens, in [0, 1], for all its tokens: (tokens,).

    Centred over the tokens of the sequence (Kornblith et al. 2019); the widths may differ. Not the CKA of the whole
    batch, which would change with the way a batch is split. Of one or two tokens it says nothing (always 1): 0 is
    returned.
    """
    inner = [_centred(_inner_products(states, lengths), lengths) for states in (student, teacher)]
    sizes = [matrix.square().sum((1, 2)).clamp_min(EPSILON**2).sqrt() for matrix in inner]
    value = 1 - (inner[0] * inner[1]).sum((1, 2)) / (sizes[0] * sizes[1])
    return torch.where(lengths < CKA_TOKENS, 0, value).repeat_interleave(lengths)


def gram(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean squared difference of two tables of cosines, of each token with those of its sequence: (tokens,).

    Between 0 and 4; the widths may differ. Of a sequence of one token it says nothing: 0.
    """
    tables = [_inner_products(functional.normalize(states, dim=-1), lengths) for states in (student, teacher)]
    value = (tables[0] - tables[1]).square().sum((1, 2)) / lengths.clamp_min(1).square()
    return value.repeat_interleave(lengths)


@dataclass(frozen=True)
class Distance:
    """What a distance computes, the fewest tokens of a sequence that it tells anything about, and of which widths.

    `compute` takes student and teacher (tokens, width) and the sequences' lengths, and returns (tokens,).
    """

    compute: Callable[[Tensor, Tensor, Tensor], Tensor]
    least: int = 1
    any_width: bool = False

    def counted(self, lengths: Tensor) -> int:
        """Return how many tokens it is a mean over, of sequences of these lengths: for the count of a whole step."""
        return int(lengths[lengths >= self.least].sum())


# By the names that a case carries.
DISTANCES: Registry[Distance] = Registry(
    "distance",
    {
        "mse": Distance(mse),
        "cosine": Distance(cosine),
        "cka": Distance(cka, least=CKA_TOKENS, any_width=True),
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
    over the sum of counts. Raises `UserError` for a state that the map names and is not there, no tokens, and unequal
    widths.
    """
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


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Return the linear CKA in [0, 1] of two (tokens, width) of the same tokens, centred, in float64.

    ||Y'X||^2 / (||X'X|| ||Y'Y||) in Frobenius norms (Kornblith et al. 2019, equation 3 with linear kernels). For
    reading; with fewer tokens than dimensions it is large for unrelated states too. Raises `ValueError` for unequal
    tokens and `UserError` where a state is the same for all tokens.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} tokens: CKA compares the same ones")
    one, other = (states.double() - states.double().mean(0) for states in (first, second))
    scale = torch.linalg.matrix_norm(one.T @ one) * torch.linalg.matrix_norm(other.T @ other)
    if scale == 0:
        raise UserError("a hidden state that is the same for all tokens has no CKA")
    return ((other.T @ one).square().sum() / scale).item()


def cka_matrix(student_states: Mapping[int, Tensor], teacher_states: Mapping[int, Tensor]) -> Tensor:
    """Return the linear CKA of all layer-normalised states, (student states, teacher states), in ascending order.

    Both map a layer to (tokens, width) of the same tokens; raises as `linear_cka` does.
    """
    rows, columns = (
        [normalised(states[layer]) for layer in sorted(states)] for states in (student_states, teacher_states)
    )
    return torch.tensor([[linear_cka(row, column) for column in columns] for row in rows], dtype=torch.float64)


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


def _centred(products: Tensor, lengths: Tensor) -> Tensor:
    """Return H K H for each sequence, with H its own centring matrix."""
    inside = torch.arange(products.shape[-1], device=lengths.device) < lengths[:, None]
    inside = inside.to(products)
    share = inside / lengths.clamp_min(1)[:, None]
    centring = torch.diag_embed(inside) - inside[:, :, None] * share[:, None, :]
    return centring @ products @ centring
