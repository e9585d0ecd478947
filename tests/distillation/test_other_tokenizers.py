"""Losses between tokenizers against brute force, nltk, and the formulas written out sequence by sequence."""

import dataclasses
from functools import lru_cache

import nltk
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from tokenizers import Tokenizer, models
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from lib.distillation import divergences, other_tokenizers
from lib.distillation.other_tokenizers import DualSpace, Side
from lib.errors import UserError

words = st.text(alphabet="abc ", min_size=1, max_size=4)


def tokenizer(*tokens: str) -> PreTrainedTokenizerFast:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token=tokens[0])))


def test_places_are_paired_from_the_start_of_each_response() -> None:
    found = other_tokenizers.in_order(torch.tensor([3, 1, 2]), torch.tensor([2, 4, 2]))
    assert [side.tolist() for side in found] == [[0, 1, 3, 4, 5], [0, 1, 2, 6, 7]]


def test_universal_logits_are_compared_by_rank_and_widths_may_differ() -> None:
    stream = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(5, 7, generator=stream), torch.randn(5, 12, generator=stream)
    found = other_tokenizers.universal_logit(student, teacher)
    for value, one, other in zip(found, student.softmax(-1), teacher.softmax(-1), strict=True):
        ours = sorted(one.tolist() + [0.0] * 5, reverse=True)
        theirs = sorted(other.tolist(), reverse=True)
        assert value.item() == pytest.approx(sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)), abs=1e-6)
        # It is the Wasserstein distance between the two samples of probabilities, times their number.
        assert value.item() == pytest.approx(12 * wasserstein_distance(ours, theirs), abs=1e-5)
    order = torch.randperm(12, generator=stream)
    torch.testing.assert_close(other_tokenizers.universal_logit(student, teacher[:, order]), found)
    torch.testing.assert_close(other_tokenizers.universal_logit(teacher[:, order], teacher), torch.zeros(5))
    torch.testing.assert_close(other_tokenizers.universal_logit(teacher, student), found)
    with pytest.raises(ValueError, match="5 and 4 places"):
        other_tokenizers.universal_logit(student, teacher[1:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_masked_classes_and_half_precision_leave_numbers_right(dtype: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(5, 7, generator=stream), torch.randn(5, 12, generator=stream)
    student[:, 2] = teacher[:, [0, 9]] = float("-inf")
    found = other_tokenizers.universal_logit(student.to(dtype).requires_grad_(), teacher.to(dtype))
    exact = other_tokenizers.universal_logit(student.to(dtype).double(), teacher.to(dtype).double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(other_tokenizers.universal_logit(student, teacher).sum(), student)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, 2] == 0).all()
    # A token of the student's that nothing is carried to, and a teacher's without mass: no gradient, and a number.
    nearest = torch.tensor([2, 0, 2, 3, 0, 1, 1, 6, 6, 5, 3, 0])
    carried = other_tokenizers.carried_over(teacher.to(dtype), nearest, 7)
    assert carried.dtype == torch.float32
    assert (carried[:, [4, 5]] == -float("inf")).all()
    masses = [teacher.to(dtype).double().softmax(-1)[:, nearest == place].sum(-1) for place in range(7)]
    torch.testing.assert_close(carried.exp().double(), torch.stack(masses, 1), rtol=1e-5, atol=1e-7)
    teacher.requires_grad_()
    value = divergences.forward_kl(
        student, other_tokenizers.carried_over(teacher, nearest, 7).masked_fill(torch.arange(7) == 2, -float("inf"))
    )
    for gradient in torch.autograd.grad(value.sum(), [student, teacher]):
        assert torch.isfinite(gradient).all()
    lost = teacher.detach().clone()
    lost[1, 1] = float("nan")
    assert other_tokenizers.universal_logit(student, lost).isnan().tolist() == [False, True, False, False, False]
    assert other_tokenizers.carried_over(lost, nearest, 7)[1].isnan().any()


def least_cost(student: list[str], teacher: list[str]) -> int:
    """The cost of the best monotone path, by trying every one."""

    @lru_cache(None)
    def upto(i: int, j: int) -> float:
        here = nltk.edit_distance(student[i], teacher[j])
        if i == j == 0:
            return here
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        return here + min(upto(*place) for place in before if min(place) >= 0)

    return upto(len(student) - 1, len(teacher) - 1)


def all_paths(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    if rows == columns == 1:
        return [[(0, 0)]]
    steps = [(rows - 1, columns - 1), (rows - 1, columns), (rows, columns - 1)]
    return [[*path, (rows - 1, columns - 1)] for step in steps if min(step) > 0 for path in all_paths(*step)]


@settings(max_examples=40, deadline=None)
@given(student=st.lists(words, min_size=1, max_size=4), teacher=st.lists(words, min_size=1, max_size=4))
def test_the_alignment_lies_on_a_path_of_least_cost(student: list[str], teacher: list[str]) -> None:
    found = other_tokenizers.aligned(student, teacher)
    assert len(found) == len(student)
    assert found == sorted(found)
    costs = [[nltk.edit_distance(one, other) for other in teacher] for one in student]
    best = least_cost(student, teacher)
    allowed = []
    for path in all_paths(len(student), len(teacher)):
        if sum(costs[i][j] for i, j in path) == best:
            nearest = [min((costs[i][j], j) for k, j in path if k == i)[1] for i in range(len(student))]
            allowed.append(nearest)
    assert found in allowed


def test_words_that_are_split_otherwise_are_found_again() -> None:
    student = [" the", " unbelievable", " end"]
    teacher = [" the", " unbeliev", "able", " en", "d"]
    assert other_tokenizers.aligned(student, teacher) == [0, 1, 3]
    assert other_tokenizers.aligned(teacher, teacher) == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="0 tokens of the student"):
        other_tokenizers.aligned([], teacher)


@settings(max_examples=40, deadline=None)
@given(
    teacher=st.lists(st.text(alphabet="abcdé ", max_size=6), min_size=1, max_size=8),
    student=st.lists(words, min_size=1, max_size=8, unique=True),
)
def test_each_token_goes_to_the_nearest_by_edit_distance(teacher: list[str], student: list[str]) -> None:
    found = other_tokenizers.nearest_tokens(teacher, student).tolist()
    for text, place in zip(teacher, found, strict=True):
        distances = [nltk.edit_distance(text, other) for other in student]
        assert place == distances.index(min(distances))


def test_mass_is_carried_over_and_none_lost() -> None:
    teacher = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    nearest = torch.tensor([2, 0, 2, 3, 0])
    found = other_tokenizers.carried_over(teacher, nearest, 6).exp()
    torch.testing.assert_close(found.sum(-1), torch.ones(4))
    p = teacher.softmax(-1)
    torch.testing.assert_close(found[:, [0, 1, 2]], torch.stack([p[:, 1] + p[:, 4], 0 * p[:, 0], p[:, 0] + p[:, 2]], 1))
    student = torch.randn(4, 6, requires_grad=True)
    value = divergences.forward_kl(student, other_tokenizers.carried_over(teacher.detach(), nearest, 6))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(student.grad).all()
    with pytest.raises(UserError, match="5 tokens, the alignment of vocabularies 3"):
        other_tokenizers.carried_over(teacher, nearest[:3], 6)


def side(lengths: list[int], width: int, vocabulary: int, seed: int) -> Side:
    stream = torch.Generator().manual_seed(seed)
    tokens = sum(lengths)
    states, read, predicted = torch.randn(3, tokens, width, generator=stream)
    head = torch.randn(vocabulary, width, generator=stream)
    labels = torch.randint(vocabulary, (tokens,), generator=stream)
    return Side(states.requires_grad_(), read, predicted, labels, torch.tensor(lengths), head)


def cut(whole: Side, first: int, last: int) -> Side:
    """The sequences first..last alone."""
    start, end = int(whole.lengths[:first].sum()), int(whole.lengths[:last].sum())
    parts = (value[start:end] for value in (whole.states, whole.read, whole.predicted, whole.labels))
    return Side(*parts, whole.lengths[first:last], whole.head)


def test_dual_space_is_its_formula_for_each_sequence_alone() -> None:
    student, teacher = side([3, 2, 4], 6, 5, 0), side([2, 5, 3], 8, 9, 1)
    module = DualSpace(6, 8, seed=0)
    with torch.no_grad():
        labels = student.labels
        # Some tokens must be predicted rightly for the divergence to count: take what the carried teacher says.
        module_says = module(student, teacher)
        assert module_says[0].shape == (9,)
        assert module_says[1].shape == (10,)
    ours, theirs, right = [], [], []
    for number in range(3):
        one, other = cut(student, number, number + 1), cut(teacher, number, number + 1)
        norm = [functional.layer_norm(value, (8,)) for value in (other.read, other.predicted, other.states)]
        scores = module.query(torch.cat([one.read, one.predicted], 1)) @ torch.cat(norm[:2], 1).T / 16**0.5
        there = scores.softmax(1) @ module.to_student(norm[2] + norm[1]) @ one.head.T
        for place in range(len(one.labels)):
            value = functional.cross_entropy(there[place], one.labels[place])
            right.append(bool(there[place].argmax() == one.labels[place]))
            if right[-1]:
                value = value + divergences.forward_kl((one.states @ one.head.T)[[place]], there[[place]])[0]
            ours.append(value)
        back = scores.T.softmax(1) @ module.to_teacher(one.states) @ other.head.T
        theirs.append(divergences.forward_kl(back, other.states @ other.head.T))
    assert any(right)
    assert not all(right)
    assert len(labels) == len(right)
    found = module(student, teacher)
    torch.testing.assert_close(found[0], torch.stack(ours), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], torch.cat(theirs), rtol=1e-5, atol=1e-5)


def test_dual_space_trains_projections_and_student_and_reads_the_carried_teacher_as_given() -> None:
    student, teacher = side([9, 12], 6, 3, 2), side([12, 5], 8, 9, 3)
    student.head.requires_grad_()
    module = DualSpace(6, 8, seed=0)
    first, second = module(student, teacher)
    gradient = torch.autograd.grad(first.sum(), [student.states, student.head], retain_graph=True)
    there = torch.autograd.grad(first.sum(), module.to_student.weight, retain_graph=True)[0]
    assert there.abs().sum() > 0
    # Tokens that the carried teacher predicts wrongly teach the student nothing in its own space.
    taught = gradient[0].abs().sum(1) > 0
    assert taught.any()
    assert not taught.all()
    # What the teacher is carried by learns from the cross-entropy alone: the student's states do not reach it.
    other = dataclasses.replace(student, states=-student.states.detach())
    (again,) = torch.autograd.grad(module(other, teacher)[0].sum(), module.to_student.weight)
    torch.testing.assert_close(again, there)
    # Nor does the cross-entropy reach the student's head, which is trained through the student's own states alone.
    still = dataclasses.replace(student, states=torch.zeros_like(student.states))
    assert (torch.autograd.grad(module(still, teacher)[0].sum(), student.head)[0] == 0).all()
    assert gradient[1].abs().sum() > 0
    for value in (student.states, module.to_teacher.weight, module.query.weight):
        assert torch.autograd.grad(second.sum(), value, retain_graph=True)[0].abs().sum() > 0


def test_dual_space_reads_the_students_embeddings_as_they_are() -> None:
    """As the public code, which detaches them: only the projection learns to ask, and the states to be read."""
    student, teacher = side([3, 2], 6, 5, 0), side([2, 4], 8, 9, 1)
    student.head.requires_grad_()
    for value in (student.read, student.predicted, teacher.states, teacher.read, teacher.predicted):
        value.requires_grad_()
    module = DualSpace(6, 8, seed=0)
    for loss in module(student, teacher):
        found = torch.autograd.grad(
            loss.sum(), [module.query.weight, student.read, student.predicted], retain_graph=True, allow_unused=True
        )
        assert found[0].any()
        assert found[1:] == (None, None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_dual_space_reads_half_precision_as_single(dtype: torch.dtype) -> None:
    student, teacher = side([3, 2], 6, 5, 0), side([2, 4], 8, 9, 1)
    module = DualSpace(6, 8, seed=0)
    numbers = ("states", "read", "predicted", "head")
    halves = [
        dataclasses.replace(one, **{name: getattr(one, name).to(dtype) for name in numbers})
        for one in (student, teacher)
    ]
    singles = [dataclasses.replace(one, **{name: getattr(one, name).float() for name in numbers}) for one in halves]
    for found, exact in zip(module(*halves), module(*singles), strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, exact)


def test_dual_space_needs_responses_on_both_sides() -> None:
    module = DualSpace(6, 8, seed=0)
    with pytest.raises(UserError, match="response tokens in both"):
        module(side([3, 0], 6, 5, 0), side([2, 2], 8, 9, 1))
    with pytest.raises(UserError, match="response tokens in both"):
        module(side([3], 6, 5, 0), side([2, 2], 8, 9, 1))
