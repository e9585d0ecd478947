"""Statistics against closed forms, scipy, hand-worked examples and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from lib import intervals
from lib.intervals import Interval


def test_t_interval_equals_the_textbook_formula():
    # Mean 2, standard deviation 1, n = 3; t with 2 degrees of freedom at 0.975 is 4.30265.
    interval = intervals.t_interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / np.sqrt(3)
    assert interval == pytest.approx((2.0, 2.0 - half, 2.0 + half))


@pytest.mark.parametrize("margin", [-0.5, 0.0, 0.3])
def test_t_interval_and_p_value_agree_with_scipy(margin):
    values = np.random.default_rng(1).normal(0.4, 0.3, 6)
    test = stats.ttest_1samp(values, margin)
    assert intervals.t_p_value(values, margin) == pytest.approx(test.pvalue)
    assert intervals.t_interval(values, 0.9)[1:] == pytest.approx(tuple(test.confidence_interval(0.9)))


def test_t_interval_leaves_the_margin_out_exactly_below_its_p_value():
    values, margin = [0.11, 0.15, 0.08, 0.2], 0.05
    p = intervals.t_p_value(values, margin)
    assert intervals.t_interval(values, 1 - p * 1.001).low > margin
    # One bit of slack on the other side: at level 1 - p the interval ends on the margin.
    assert intervals.t_interval(values, 1 - p * 0.999).low < margin


@pytest.mark.parametrize("values", [[0.25] * 3, [0.1 + 0.2, 0.3, 0.3], [0.0] * 5])
def test_equal_seeds_without_items_are_no_certainty(values):
    # The second row is equal but for the rounding of a sum in another order.
    with pytest.raises(intervals.NoSpreadError, match="equal seeds"):
        intervals.t_interval(values)
    with pytest.raises(intervals.NoSpreadError, match="no items"):
        intervals.t_p_value(values, 0.1)


def test_a_floor_replaces_a_smaller_error_and_leaves_a_larger_one():
    # Equal seeds at 0.25, error 0.1: t with 2 degrees of freedom at 0.975 is 4.302653.
    assert intervals.t_interval([0.25] * 3, floor=0.1) == pytest.approx((0.25, 0.25 - 0.4302653, 0.25 + 0.4302653))
    assert intervals.t_p_value([0.25] * 3, floor=0.1) == pytest.approx(2 * stats.t.sf(2.5, 2))
    assert intervals.t_interval([1.0, 2.0, 3.0], floor=0.5) == intervals.t_interval([1.0, 2.0, 3.0])
    for floor in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="floor"):
            intervals.t_interval([1.0, 2.0, 3.0], floor=floor)


def test_interval_and_p_value_say_the_same_under_a_floor_and_bounds():
    rng = np.random.default_rng(11)
    for _ in range(200):
        values, floor, margin = rng.normal(0.2, 0.1, 3), rng.uniform(0, 0.1), rng.uniform(-0.5, 0.8)
        found = intervals.t_interval(values, 0.95, floor, intervals.DIFFERENCE)
        assert (not found.low <= margin <= found.high) == (intervals.t_p_value(values, margin, floor) < 0.05)


def test_an_interval_stays_within_the_range_of_its_measure():
    assert intervals.t_interval([0.9, 1.0, 0.95], bounds=intervals.SHARE).high == 1.0
    assert intervals.t_interval([0.0, 0.05, 0.0], bounds=intervals.SHARE).low == 0.0
    assert intervals.t_interval([0.9, 1.0, 0.95], bounds=(0.0, np.inf)).high > 1.0
    assert intervals.t_interval([0.9, 1.0, 0.95], bounds=intervals.DIFFERENCE).high == 1.0
    assert intervals.t_interval([-0.9, -1.0, -0.95], bounds=intervals.DIFFERENCE).low == -1.0
    with pytest.raises(ValueError, match="outside the bounds"):
        intervals.t_interval([1.2, 1.3, 1.4], bounds=intervals.SHARE)
    with pytest.raises(ValueError, match="least and the greatest"):
        intervals.t_interval([0.2, 0.3, 0.4], bounds=(1.0, 0.0))


def test_a_mean_at_an_end_of_the_bounds_is_within_them():
    for end in intervals.SHARE:
        assert end in intervals.t_interval([end] * 3, floor=0.1, bounds=intervals.SHARE)[1:]


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_whether_seeds_are_equal_does_not_depend_on_their_unit(scale):
    values = np.array([0.11, 0.15, 0.08])
    found = intervals.t_interval(scale * values)
    assert found == pytest.approx(tuple(scale * np.array(intervals.t_interval(values))), rel=1e-9)
    with pytest.raises(intervals.NoSpreadError):
        intervals.t_interval(scale * np.array([0.1 + 0.2, 0.3, 0.3]))


def test_two_pairs_of_items_are_enough_and_one_is_not():
    # Of two differences 1 and 3 a resample's mean is 1, 2 or 3.
    assert intervals.paired_bootstrap([1.0, 3.0], [0.0, 0.0], resamples=500) == Interval(2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="b: need one row of at least 2"):
        intervals.paired_bootstrap([1.0, 2.0], [1.0])


def test_equal_items_are_certain_only_without_bounds():
    assert intervals.mean_interval([1.0] * 8) == Interval(1.0, 1.0, 1.0)
    # Eight ones, joined by a zero and a one: standard deviation sqrt(0.1), error sqrt(0.01); t of 7 at 0.975: 2.364624.
    found = intervals.mean_interval([1.0] * 8, bounds=intervals.SHARE)
    assert found == pytest.approx((1.0, 1.0 - 0.2364624, 1.0))
    assert intervals.mean_interval([0.0] * 8, bounds=(0.0, np.inf)) == Interval(0.0, 0.0, 0.0)
    assert intervals.mean_interval([0.5] * 8, bounds=intervals.SHARE) == Interval(0.5, 0.5, 0.5)
    assert intervals.paired_bootstrap([1.0] * 5, [0.5] * 5) == Interval(0.5, 0.5, 0.5)


def test_an_item_p_value_is_that_of_its_margin():
    rng = np.random.default_rng(12)
    a, b = rng.normal(0.5, 0.2, 200), rng.normal(0.0, 0.2, 200)
    at, off = (intervals.paired_bootstrap_p_value(a, b, margin, resamples=2000) for margin in (0.5, 0.0))
    assert at > 0.05
    assert off < 0.002
    # Shifting the values and the margin together changes nothing.
    moved = intervals.paired_bootstrap_p_value(a + 0.3, b, 0.53, resamples=2000)
    assert moved == intervals.paired_bootstrap_p_value(a, b, 0.23, resamples=2000)


@pytest.mark.parametrize("seeds", [[], [0.1], [0.1, 0.2]])
def test_fewer_than_three_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match="at least 3"):
        intervals.t_interval(seeds)


def test_paired_bootstrap_equals_scipy_and_a_plain_loop():
    rng = np.random.default_rng(2)
    a = rng.normal(0.5, 0.2, 60)
    b = a - rng.normal(0.02, 0.05, 60)
    interval = intervals.paired_bootstrap(a, b, 0.9, resamples=2000, seed=3)
    test = stats.bootstrap((a - b,), np.mean, n_resamples=2000, confidence_level=0.9, method="percentile", rng=4)
    loop_rng = np.random.default_rng(5)
    loop = [np.mean((a - b)[loop_rng.integers(0, 60, 60)]) for _ in range(4000)]
    assert interval.estimate == pytest.approx(np.mean(a) - np.mean(b))
    # Other draws: equal up to the noise of 2000 resamples, a few percent of the width.
    width = interval.high - interval.low
    assert interval[1:] == pytest.approx(tuple(test.confidence_interval), abs=0.08 * width)
    assert interval[1:] == pytest.approx(tuple(np.quantile(loop, [0.05, 0.95])), abs=0.08 * width)


def test_pairing_removes_what_items_share():
    rng = np.random.default_rng(6)
    difficulty = rng.normal(0, 10, 100)
    a, b = difficulty + rng.normal(0.5, 0.1, 100), difficulty + rng.normal(0, 0.1, 100)
    assert intervals.paired_bootstrap(a, b, resamples=1000).low > 0.4


def test_bootstrap_is_determined_by_its_seed():
    a, b = np.random.default_rng(7).normal(size=(2, 30))
    first = intervals.paired_bootstrap(a, b, resamples=500, seed=1)
    assert first == intervals.paired_bootstrap(a, b, resamples=500, seed=1)
    assert first != intervals.paired_bootstrap(a, b, resamples=500, seed=2)


def test_bootstrap_p_value_is_dual_to_the_interval():
    rng = np.random.default_rng(8)
    a, b = rng.normal(0.2, 1, 80), rng.normal(0, 1, 80)
    p = intervals.paired_bootstrap_p_value(a, b, 0.0, resamples=4000)
    wide = intervals.paired_bootstrap(a, b, 1 - 0.8 * p, resamples=4000)
    narrow = intervals.paired_bootstrap(a, b, 1 - 1.2 * p, resamples=4000)
    assert wide.low <= 0 <= wide.high
    assert not narrow.low <= 0 <= narrow.high
    assert p == pytest.approx(stats.ttest_1samp(a - b, 0).pvalue, abs=0.05)


def test_bootstrap_p_value_takes_the_nearer_tail_on_either_side_of_its_margin():
    rng = np.random.default_rng(14)
    a, b = rng.normal(0.5, 1, 60), rng.normal(0, 1, 60)
    for margin in (0.5 * (a - b).mean(), 1.5 * (a - b).mean()):
        expected = stats.ttest_1samp(a - b, margin).pvalue
        assert 0.01 < expected < 0.5
        assert intervals.paired_bootstrap_p_value(a, b, margin, 4000) == pytest.approx(expected, abs=0.05)
        assert intervals.paired_bootstrap_p_value(b, a, -margin, 4000) == pytest.approx(expected, abs=0.05)


def test_interval_and_p_value_read_the_same_resamples_unless_told_otherwise():
    rng = np.random.default_rng(15)
    a, b = rng.normal(0.15, 1, 60), rng.normal(0, 1, 60)
    drawn = np.random.default_rng(0).integers(0, 60, (10_000, 60))
    assert intervals.paired_bootstrap_p_value(a, b) == intervals.paired_bootstrap_p_value(a, b, 0.0, len(drawn), 0)
    assert intervals.paired_bootstrap(a, b) == intervals.paired_bootstrap(a, b, 0.95, len(drawn), 0)
    assert intervals.mean_interval(a) == intervals.mean_interval(a, 0.95, len(drawn), 0)
    assert intervals.spearman_interval(a, b) == intervals.spearman_interval(a, b, 0.95, len(drawn), 0)
    assert intervals.partial_correlation(a, b, []) == intervals.spearman_interval(a, b, 0.95, len(drawn), 0)


def test_bootstrap_p_value_is_never_zero():
    assert intervals.paired_bootstrap_p_value([5.0, 6, 7], [0.0, 0, 0], resamples=999) == pytest.approx(2 / 1000)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(9)
    seeds, items = [], []
    for trial in range(300):
        seeds.append(intervals.t_interval(rng.normal(0.3, 0.1, 3), 0.9))
        # Skewed scores with mean 1, as sentence scores are.
        items.append(intervals.mean_interval(rng.exponential(1, 60), 0.9, resamples=500, seed=trial))
    # Four standard errors of a share of 300 around 0.9 are 0.07; the bootstrap of skewed data runs a little low.
    assert np.mean([low <= 0.3 <= high for _, low, high in seeds]) == pytest.approx(0.9, abs=0.07)
    assert np.mean([low <= 1 <= high for _, low, high in items]) == pytest.approx(0.89, abs=0.07)


def test_holm_on_a_hand_worked_example():
    # Sorted 0.005, 0.01, 0.03, 0.04; times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; the running maximum makes the last 0.06.
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.7, 0.8]) == pytest.approx([1.0, 1.0])


def test_holm_levels_on_a_hand_worked_example():
    # 0.005 <= 0.05/4 and 0.01 <= 0.05/3 are rejected; 0.03 > 0.05/2 is not, and Holm stops: 0.04 keeps that level.
    levels = intervals.holm_levels([0.01, 0.04, 0.03, 0.005])
    assert levels == pytest.approx([1 - 0.05 / 3, 0.975, 0.975, 1 - 0.05 / 4])
    assert intervals.holm_levels([0.2]) == pytest.approx([0.95])


def test_equal_p_values_have_equal_levels():
    # 0.001 <= 0.05/5 is rejected; of 0.03, 0.03, 0.2, 0.2 the first is not, at 0.05/4, and Holm stops.
    levels = intervals.holm_levels([0.03, 0.2, 0.001, 0.03, 0.2])
    assert levels == pytest.approx([1 - 0.05 / 4] * 2 + [0.99] + [1 - 0.05 / 4] * 2)


def test_holm_levels_reject_exactly_where_the_adjusted_p_values_do():
    rng = np.random.default_rng(10)
    for _ in range(300):
        p_values = (rng.random(rng.integers(1, 7)) ** 3).tolist()
        by_level = [p <= 1 - level for p, level in zip(p_values, intervals.holm_levels(p_values), strict=True)]
        assert by_level == [p <= 0.05 for p in intervals.holm(p_values)]


def test_spearman_equals_scipy_with_ties():
    rng = np.random.default_rng(11)
    x = rng.integers(0, 6, 50).astype(float)
    y = x + rng.normal(0, 2, 50)
    interval = intervals.spearman_interval(x, y, resamples=1000)
    assert interval.estimate == pytest.approx(stats.spearmanr(x, y).statistic)
    assert interval.low < interval.estimate < interval.high
    # Other draws than of a plain loop: equal up to the noise of the resamples.
    draws = [rng.integers(0, 50, 50) for _ in range(1000)]
    ends = np.quantile([stats.spearmanr(x[drawn], y[drawn]).statistic for drawn in draws], [0.025, 0.975])
    assert interval[1:] == pytest.approx(tuple(ends), abs=0.15 * (interval.high - interval.low))


def test_partial_correlation_equals_the_closed_form_and_residuals():
    rng = np.random.default_rng(12)
    z, w = rng.normal(size=(2, 80))
    x, y = z + rng.normal(size=80), -z + w + rng.normal(size=80)
    xy, xz, yz = (stats.spearmanr(*pair).statistic for pair in [(x, y), (x, z), (y, z)])
    closed = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert intervals.partial_correlation(x, y, [z], resamples=200).estimate == pytest.approx(closed)
    ranks = [stats.rankdata(values) for values in (x, y, z, w)]
    design = np.column_stack([np.ones(80), *ranks[2:]])
    left = [values - design @ np.linalg.lstsq(design, values)[0] for values in ranks[:2]]
    both = intervals.partial_correlation(x, y, [z, w], resamples=200)
    assert both.estimate == pytest.approx(stats.pearsonr(*left).statistic)


def test_a_confounder_explains_the_correlation_away():
    rng = np.random.default_rng(13)
    z = rng.normal(size=300)
    x, y = z + 0.5 * rng.normal(size=(2, 300))
    assert intervals.spearman_interval(x, y, resamples=500).low > 0.5
    interval = intervals.partial_correlation(x, y, [z], resamples=500)
    assert interval.low < 0 < interval.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals.t_interval([1, 2, np.nan]), "not finite at position 2"),
        (lambda: intervals.t_interval([1, 2, 3], 95), "between 0 and 1"),
        (lambda: intervals.t_interval([1, 2, 3], 1.0), "between 0 and 1"),
        (lambda: intervals.t_interval([1, 2, 3], 1.5), "between 0 and 1"),
        (lambda: intervals.t_interval([1, 2, 3], 0.0), "between 0 and 1"),
        (lambda: intervals.paired_bootstrap([1, 2, 3], [1, 2]), "equal lengths"),
        (lambda: intervals.paired_bootstrap([[1, 2]], [[1, 2]]), "one row"),
        (lambda: intervals.mean_interval([1.0]), "at least 2"),
        (lambda: intervals.holm([0.5, 1.2]), "outside"),
        (lambda: intervals.holm([0.5, -1e-9]), "outside"),
        (lambda: intervals.holm_levels([-0.5, 0.5]), "outside"),
        (lambda: intervals.holm([]), "at least 1"),
        (lambda: intervals.spearman_interval([1, 2, 3, 4], [1, 1, 1, 1]), "constant"),
        (lambda: intervals.spearman_interval([1, 2, 3, 4], [1, 2, 3]), "at least 4"),
        (lambda: intervals.spearman_interval([1, 2, 3, 4], [1, 2, 3, 4, 5]), "unequal length"),
        (lambda: intervals.partial_correlation([1, 2, 4, 3, 6], [2, 1, 3, 5, 4], [[1, 2, 4, 3, 6]]), "determine"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
