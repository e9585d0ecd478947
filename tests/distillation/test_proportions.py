"""Proportions of losses: closed forms, fixed points on toys, and what a resumed run needs."""

import math
from collections.abc import Callable

import pytest
import torch

from lib.distillation import proportions
from lib.errors import UserError

START = {"ce": 1.0, "output": 2.0, "middle": 0.5}
NAMES = tuple(proportions.PROPORTIONS)


def observe(rule: proportions.Fixed, losses: dict[str, float], norms: dict[str, float], times: int = 1) -> None:
    for _ in range(times):
        rule.observe(losses, norms)


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_starts_from_the_given_weights_and_leaves_zeros_out(name: str) -> None:
    rule = proportions.rule(name, START, steps=10)
    assert rule.weights() == pytest.approx(START)
    losses = {key: torch.tensor(value, requires_grad=True) for key, value in zip(START, (3.0, 5.0, 7.0), strict=True)}
    rule.combine(losses).backward()
    assert [losses[key].grad.item() for key in START] == pytest.approx(list(START.values()))
    alone = proportions.rule(name, {"ce": 1.0, "output": 0.0, "middle": 0.0}, steps=10)
    assert alone.names == ("ce",)
    assert alone.combine({"ce": torch.tensor(3.0)}).item() == pytest.approx(3)


def test_only_gradnorm_asks_for_norms() -> None:
    assert [name for name in NAMES if proportions.rule(name, START, 10).needs_norms] == ["gradnorm"]


def test_fixed_weights_stay() -> None:
    rule = proportions.Fixed(START)
    observe(rule, START, START, times=5)
    assert rule.weights() == START
    assert rule.combine({"ce": torch.tensor(1.0), "output": torch.tensor(1.0), "middle": torch.tensor(1.0)}) == 3.5


def test_the_linear_schedule_goes_straight_to_its_end_and_stays() -> None:
    rule, seen = proportions.rule("linear", START, steps=4), []
    for _ in range(7):
        seen.append(rule.weights()["middle"])
        rule.observe(START)
    assert seen == pytest.approx([0.5, 0.375, 0.25, 0.125, 0, 0, 0])
    assert rule.weights()["ce"] == 1


def test_uncertainty_weighting_ends_at_half_the_inverse_of_each_loss() -> None:
    rule = proportions.Uncertainty(START)
    losses = {"ce": torch.tensor(2.0), "output": torch.tensor(0.5), "middle": torch.tensor(0.01)}
    for _ in range(400):  # gradient descent by hand
        (gradient,) = torch.autograd.grad(rule.combine(losses), rule.scaled)
        rule.scaled.data -= 0.01 * gradient
    assert rule.weights() == pytest.approx({"ce": 0.25, "output": 1.0, "middle": 50.0}, rel=1e-3)
    # The form of the paper, with s = log of the standard deviation: L / (2 sigma^2) + log sigma, up to a constant.
    logs = [-0.5 * math.log(2 * weight) for weight in rule.weights().values()]
    expected = sum(
        loss.item() / (2 * math.exp(2 * log)) + log + 0.5 * math.log(2)
        for loss, log in zip(losses.values(), logs, strict=True)
    )
    assert rule.combine(losses).item() == pytest.approx(expected)


def test_dynamic_averaging_follows_the_formula_of_the_paper() -> None:
    rule = proportions.DynamicAverage({"ce": 1.0, "output": 1.0}, window=2, temperature=2.0)
    for ce, output in [(4.0, 1.0), (2.0, 1.0), (1.0, 1.0)]:
        rule.observe({"ce": ce, "output": output})
        assert rule.weights() == {"ce": 1.0, "output": 1.0}
    rule.observe({"ce": 0.5, "output": 1.0})
    rates = [1.5 / 6, 1.0]
    shares = [math.exp(rate / 2) for rate in rates]
    assert list(rule.weights().values()) == pytest.approx([2 * share / sum(shares) for share in shares])
    assert rule.weights()["output"] > rule.weights()["ce"]  # the slower one
    observe(rule, {"ce": 0.5, "output": 1.0}, {}, times=4)
    assert list(rule.weights().values()) == pytest.approx([1, 1])  # both stand still; older losses are forgotten


def test_a_window_of_one_step_compares_the_last_two_and_less_than_one_is_refused() -> None:
    rule = proportions.DynamicAverage({"ce": 1.0, "output": 1.0}, window=1, temperature=1.0)
    for ce, output in [(8.0, 1.0), (4.0, 1.0), (1.0, 1.0)]:
        rule.observe({"ce": ce, "output": output})
    shares = [math.exp(1 / 4), math.exp(1)]
    assert list(rule.weights().values()) == pytest.approx([2 * share / sum(shares) for share in shares])
    for wrong in ({"window": 0}, {"temperature": 0.0}, {"temperature": -1.0}, {"temperature": math.inf}):
        with pytest.raises(ValueError, match="both must be above 0"):
            proportions.DynamicAverage({"ce": 1.0}, **wrong)


def test_the_fixed_point_of_gradnorm_on_a_toy() -> None:
    """Losses that fall alike: weights in inverse proportion to the gradients' norms, in the sum of the start."""
    rule, sizes = proportions.GradNorm(START, rate=0.01), {"ce": 1.0, "output": 4.0, "middle": 0.5}
    observe(rule, {"ce": 2.0, "output": 1.0, "middle": 3.0}, sizes, times=600)
    inverse = {name: 1 / size for name, size in sizes.items()}
    expected = {name: 3.5 * value / sum(inverse.values()) for name, value in inverse.items()}
    assert rule.weights() == pytest.approx(expected, rel=0.1)
    assert sum(rule.weights().values()) == pytest.approx(3.5)


def test_gradnorm_gives_larger_gradients_to_losses_that_fall_slowly() -> None:
    rule, sizes = proportions.GradNorm({"ce": 1.0, "middle": 1.0}, alpha=1.0, rate=0.01), {"ce": 1.0, "middle": 2.0}
    observe(rule, {"ce": 4.0, "middle": 4.0}, sizes)
    observe(rule, {"ce": 1.0, "middle": 3.0}, sizes, times=200)  # of their first: 1/4 and 3/4
    weights = rule.weights()
    # G in the proportion of r^alpha: 1 to 3.
    assert weights["middle"] * 2 / weights["ce"] == pytest.approx(3, rel=0.05)
    with pytest.raises(ValueError, match="norm of each"):
        rule.observe({"ce": 1.0, "middle": 1.0})


def test_a_step_of_gradnorm_descends_along_its_own_loss() -> None:
    """One step against autograd on the loss of equation 2, where its target is held constant."""
    rule = proportions.GradNorm({"ce": 1.0, "middle": 1.0}, alpha=0.5, rate=0.01)
    sizes, first, now = torch.tensor([1.2, 0.8]).double(), torch.tensor([4.0, 4.0]), torch.tensor([1.0, 3.0])
    rule.observe({"ce": 4.0, "middle": 4.0}, {"ce": 1.0, "middle": 1.0})  # equal: nothing moves
    weights = torch.ones(2, dtype=torch.float64, requires_grad=True)
    assert list(rule.weights().values()) == [1.0, 1.0]
    norms = weights * sizes
    rates = (now / first) / (now / first).mean()
    (norms - (norms.mean() * rates**0.5).detach()).abs().sum().backward()
    moved = weights.detach() - 0.01 * weights.grad
    rule.observe(
        dict(zip(("ce", "middle"), now.tolist(), strict=True)), dict(zip(("ce", "middle"), sizes.tolist(), strict=True))
    )
    assert list(rule.weights().values()) == pytest.approx((2 * moved / moved.sum()).tolist())


@pytest.mark.parametrize("name", NAMES)
def test_losses_of_zero_leave_weights_that_are_numbers(name: str) -> None:
    """On the student's own responses all losses but the output's are zero, and a run may begin with such a step."""
    rule = proportions.rule(name, START, steps=60)
    own, usual = {"ce": 0.0, "output": 2.0, "middle": 0.0}, {"ce": 7.0, "output": 3.0, "middle": 9.0}
    for row, sizes in ((own, {"ce": 0.0, "output": 1.0, "middle": 0.0}), (usual, dict.fromkeys(START, 1.0))):
        observe(rule, row, sizes, times=10)
        assert all(0 <= weight < 100 for weight in rule.weights().values())
    observe(rule, dict.fromkeys(START, 0.0), dict.fromkeys(START, 0.0), times=20)
    assert all(0 <= weight < 100 for weight in rule.weights().values())


def test_gradnorm_measures_a_loss_from_the_first_step_at_which_it_is_taken() -> None:
    late, usual = (proportions.GradNorm({"ce": 1.0, "middle": 1.0}, alpha=1.0) for _ in range(2))
    late.observe({"ce": 4.0, "middle": 0.0}, {"ce": 1.0, "middle": 0.0})
    usual.observe({"ce": 4.0, "middle": 4.0}, {"ce": 1.0, "middle": 1.0})
    late.now.copy_(usual.now)
    for rule in (late, usual):
        rule.observe({"ce": 4.0, "middle": 4.0}, {"ce": 1.0, "middle": 1.0})
        rule.observe({"ce": 1.0, "middle": 3.0}, {"ce": 1.0, "middle": 2.0})
    assert late.weights() == usual.weights()


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_goes_on_where_its_state_was_saved(name: str) -> None:
    rows = [{"ce": 3.0 / (step + 1), "output": 2.0, "middle": 1.0 / (step + 2)} for step in range(30)]
    norms = {"ce": 1.0, "output": 3.0, "middle": 0.2}
    whole, first, second = (proportions.rule(name, START, steps=30) for _ in range(3))

    def go_on(rule: proportions.Fixed, part: list[dict[str, float]]) -> None:
        for row in part:
            rule.observe(row, norms)
            for value in rule.parameters():
                value.data += 0.01 * row["ce"]

    go_on(whole, rows)
    go_on(first, rows[:17])
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    go_on(second, rows[17:])
    assert second.weights() == whole.weights()


def test_parts_of_a_step_add_up_with_the_penalty_once() -> None:
    rule = proportions.Uncertainty({"ce": 1.0, "output": 2.0, "middle": 3.0})
    assert rule.penalty() != 0
    losses = {name: torch.tensor(value) for name, value in zip(START, (3.0, 5.0, 7.0), strict=True)}
    part = {name: value / 4 for name, value in losses.items()}
    assert (4 * rule.combine(part, 1 / 4)).item() == pytest.approx(rule.combine(losses).item())


def test_gradients_of_parts_add_up_to_the_norm_of_the_whole() -> None:
    torch.manual_seed(0)
    first, second, unused = torch.randn(3, 4, requires_grad=True), torch.randn(3, requires_grad=True), torch.randn(2)
    rows = torch.randn(6, 4)
    unused.requires_grad_()

    def losses(part: torch.Tensor) -> dict[str, torch.Tensor]:
        inside = part @ first.T + second
        return {"ce": inside.square().sum() / 6, "middle": (part @ first.T).exp().sum() / 6}

    whole = proportions.gradients(losses(rows), [first, second, unused])
    parts = [proportions.gradients(losses(part), [first, second, unused]) for part in (rows[:2], rows[2:])]
    for name, found in whole.items():
        added = [a + b for a, b in zip(parts[0][name], parts[1][name], strict=True)]
        assert proportions.norm(added) == pytest.approx(proportions.norm(found), rel=1e-5)
    of_one_graph = losses(rows)["ce"]
    assert torch.equal(
        proportions.gradients({"ce": of_one_graph, "again": 2 * of_one_graph}, [first])["ce"][0],
        torch.autograd.grad(of_one_graph, first)[0],
    )  # the graph is still there
    assert (whole["middle"][1] == 0).all()
    assert (whole["ce"][2] == 0).all()
    flat = torch.cat([part.flatten() for part in whole["ce"]])
    assert proportions.norm(whole["ce"]) == pytest.approx(flat.norm().item())


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            lambda: proportions.rule("equal", START, 3),
            UserError,
            "unknown rule of proportions 'equal'",
        ),
        (lambda: proportions.Fixed({"ce": -1.0}), UserError, "not negative"),
        (lambda: proportions.Fixed({"ce": 0.0, "output": 0.0}), UserError, "at least one above zero"),
        (lambda: proportions.Fixed({"ce": float("nan")}), UserError, "not negative"),
        (lambda: proportions.Linear(START, {"ce": 0.0}, 3), ValueError, "name the losses of the start"),
        (lambda: proportions.DynamicAverage(START, window=0), ValueError, "both must be above 0"),
        (lambda: proportions.DynamicAverage(START, temperature=0.0), ValueError, "both must be above 0"),
        (lambda: proportions.DynamicAverage(START, temperature=float("nan")), ValueError, "both must be above 0"),
        (lambda: proportions.GradNorm(START, alpha=-1.0), ValueError, "neither may be negative"),
        (lambda: proportions.GradNorm(START, rate=float("inf")), ValueError, "neither may be negative"),
        (lambda: proportions.Linear(START, START, 0), ValueError, "0 steps"),
        (lambda: proportions.Fixed(START).combine({"ce": torch.ones(())}), ValueError, "no loss output, middle"),
    ],
)
def test_mistakes_are_told(call: Callable[[], object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()
