"""One column in two windows: scipy's answers, p under ties and within blocks, and windows too small to say anything."""

import math

import numpy as np
import pytest
from scipy import stats

from triage.audit.share_tables import CELLS
from triage.audit.states import State
from triage.audit.two_samples import LEAST, Comparison, categories, deciles, judged, numbers, stability_index

REPEATS = 200


def make_windows(n=200, m=100, seed=1, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(size=m) + shift


def make_blocks(rng, blocks, spread=1.0):
    """Days of 1 to 7 exams that resemble each other."""
    day = np.repeat(np.arange(blocks), rng.integers(1, 8, blocks))
    return day, spread * rng.normal(size=blocks)[day] + 0.5 * rng.normal(size=len(day))


def share_found(p_of, alpha=0.05):
    p = np.array([p_of(np.random.default_rng(seed), seed) for seed in range(REPEATS)])
    return (p <= alpha).mean()


def within_chance(share, alpha=0.05):
    return abs(share - alpha) <= 3.3 * math.sqrt(alpha * (1 - alpha) / REPEATS)


@pytest.mark.parametrize(("n", "m", "method"), [(200, 100, "exact"), (1500, 900, "asymptotic")])
def test_numbers_without_ties_have_scipy_s_answer(n, m, method):
    x, y = make_windows(n, m, shift=0.1)
    found = numbers(x, y)
    theirs = stats.ks_2samp(x, y, method="exact" if method == "exact" else "asymp")
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
    assert found.method.endswith(method) and found.effect == found.statistic
    assert found.distance == pytest.approx(stats.wasserstein_distance(x, y) / x.std(), rel=1e-12)


def test_categories_have_scipy_s_answer_where_all_are_frequent():
    x, y = ["AP"] * 60 + ["PA"] * 40 + [""] * 20, ["AP"] * 20 + ["PA"] * 35 + [None] * 15
    found = categories(np.array(x, dtype=object), np.array(y, dtype=object))
    theirs = stats.chi2_contingency([[60, 40, 20], [20, 35, 15]], correction=False)
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)
    assert found.effect == pytest.approx(60 / 120 - 20 / 70) and found.cells == 3 and math.isnan(found.distance)


def test_p_of_two_values_is_fisher_s_when_rows_are_exchanged():
    x, y = [0] * 30 + [1] * 20, [0] * 20 + [1] * 30
    p = stats.fisher_exact([[30, 20], [20, 30]]).pvalue
    assert numbers(x, y, draws=20_000).p == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 20_000))


def test_exchanging_counts_is_exchanging_rows():
    rng = np.random.default_rng(3)
    x, y = rng.poisson(3, 60), rng.poisson(3.6, 40)
    pooled = np.concatenate([x, y])
    shuffled = [rng.permutation(pooled) for _ in range(1000)]
    values = np.arange(pooled.max() + 1)
    largest = np.array([np.abs([(s[:60] <= v).mean() - (s[60:] <= v).mean() for v in values]).max() for s in shuffled])
    found = numbers(x, y, draws=20_000)
    assert found.p == pytest.approx((largest >= found.statistic - 1e-12).mean(), abs=0.05)


LEVELS = {
    "numbers with ties": lambda rng, seed: numbers(rng.poisson(3, 200), rng.poisson(3, 80), draws=199, seed=seed).p,
    "rare categories": lambda rng, seed: (
        categories(*(rng.choice(5, n, p=[0.5, 0.3, 0.15, 0.03, 0.02]) for n in (200, 60)), draws=199, seed=seed).p
    ),
    "index": lambda rng, _: stability_index(x := rng.normal(size=500), rng.normal(size=100), deciles(x)).p,
    "index of few": lambda rng, seed: (
        stability_index(x := rng.normal(size=300), rng.normal(size=40), deciles(x), draws=199, seed=seed).p
    ),
}


@pytest.mark.parametrize("test", LEVELS)
def test_without_drift_each_test_finds_it_as_often_as_it_says(test):
    share = share_found(LEVELS[test])
    assert within_chance(share), share


@pytest.mark.parametrize("of", [numbers, lambda x, y, **how: categories(x > 0, y > 0, **how)])
def test_exams_of_a_day_count_as_one_only_if_blocks_are_exchanged(of):
    def p_of(rng, seed, whole=True):
        (days, x), (now, y) = make_blocks(rng, 60), make_blocks(rng, 20)
        return of(x, y, blocks=(days, now) if whole else None, draws=99, seed=seed).p

    share = share_found(p_of)
    assert within_chance(share), share
    assert share_found(lambda rng, seed: p_of(rng, seed, whole=False)) > 0.15


def test_rules_of_thumb_for_the_index_fail_in_small_windows_where_its_own_p_does_not():
    def index(n, m, seed, shift=0.0):
        x, y = make_windows(n, m, seed, shift)
        return stability_index(x, y, deciles(x), draws=199, seed=seed)

    small = [index(50, 50, seed) for seed in range(REPEATS)]
    assert np.mean([found.statistic > 0.2 for found in small]) > 0.5
    assert within_chance(np.mean([found.p <= 0.05 for found in small]))
    large = [index(3000, 400, seed, shift=0.2) for seed in range(100)]
    assert max(found.statistic for found in large) < 0.2 and np.mean([found.p <= 0.05 for found in large]) > 0.6


def test_the_index_is_zero_only_for_equal_shares_and_finite_for_an_empty_bin():
    edges = deciles(np.arange(100.0))
    assert stability_index(np.arange(100.0), np.arange(100.0), edges).statistic == pytest.approx(0)
    assert math.isfinite(stability_index(np.arange(100.0), np.zeros(50), edges).statistic)
    assert len(deciles(np.zeros(50))) == 1 and len(deciles([0.0] * 95 + [1, 2, 3, 4, 5])) == 1
    assert stability_index(np.zeros(50), [*np.zeros(30), *[np.nan] * 20], [0.0]).p < 0.01


@pytest.mark.parametrize("of", ["numbers", "categories", "index"])
def test_five_cases_are_never_judged(of):
    x, y = make_windows(200, 5, shift=5)
    found = {"numbers": numbers, "categories": categories, "index": lambda x, y: stability_index(x, y, deciles(x))}[of](
        x, y
    )
    assert math.isnan(found.p) and not found.is_adequate and math.isnan(found.detectable())
    assert judged(found, found.p, margin=0.1) is judged(found, 0.001, margin=0.1) is State.INSUFFICIENT


def test_many_exams_of_few_days_are_never_judged():
    x, y = make_windows(400, 400)
    assert math.isnan(numbers(x, y, blocks=(np.arange(400) % 40, np.arange(400) % 4)).p)
    assert math.isfinite(numbers(x, y, blocks=(np.arange(400) % 40, np.arange(400) % 5)).p)


@pytest.mark.parametrize("m", [LEAST, 300])
def test_what_is_called_detectable_is_found_four_times_in_five(m):
    def found_of_numbers(size):
        found = []
        for seed in range(200):
            x, y = (np.random.default_rng((seed, n)).random(n) for n in (1000, m))
            hops = (y > 0.5 - size) & (y <= 0.5)  # the distribution functions then differ by size, at one place alone
            found.append(numbers(x, y + size * hops).p <= 0.05)
        return np.mean(found)

    def found_of_categories(size):
        share = np.array([0.25 + size / 2] * 2 + [0.25 - size / 2] * 2)
        now = (np.random.default_rng(seed).choice(4, m, p=share) for seed in range(200))
        return np.mean([categories(np.arange(1000) % 4, y).p <= 0.05 for y in now])

    size = numbers(*make_windows(1000, m)).detectable()
    assert found_of_numbers(size) > 0.73 > found_of_numbers(0.75 * size)
    size = categories(np.arange(1000) % 4, np.arange(m) % 4).detectable()
    assert found_of_categories(size) > 0.73 > found_of_categories(0.8 * size)


def make_comparison(effect, n):
    return Comparison("numbers", effect, 0.5, effect, 0.1, "any", n, n, 100)


@pytest.mark.parametrize(
    ("effect", "p", "n", "state"),
    [
        (0.20, 0.001, 2000, State.WATCH),
        (0.05, 0.001, 2000, State.IN_CONTROL),  # found, and shown to be less than what matters
        (0.05, 0.001, 100, State.WATCH),  # found, but these windows cannot tell how small it is
        (0.20, 0.2, 100, State.INSUFFICIENT),
        (0.02, 0.2, 2000, State.IN_CONTROL),
        (0.20, float("nan"), 2000, State.INSUFFICIENT),
    ],
)
def test_a_state_weighs_size_chance_and_what_could_have_been_found(effect, p, n, state):
    assert judged(make_comparison(effect, n), p, margin=0.1) is state


def test_windows_that_must_serve_many_comparisons_must_be_larger():
    found = make_comparison(0.0, 700)
    assert judged(found, 1.0, margin=0.1) is State.IN_CONTROL
    assert judged(found, 1.0, margin=0.1, among=100) is State.INSUFFICIENT


def test_values_that_go_missing_are_drift():
    x, y = make_windows(300, 300)
    y[:60] = np.nan
    found = numbers(x, y)
    assert found.p < 0.01 and found.effect >= 0.15
    assert found.distance == pytest.approx(stats.wasserstein_distance(x, y[60:]) / x.std(), rel=1e-12)
    same = x.copy()
    same[::5] = np.nan
    assert numbers(same, same).p == 1 and numbers(same, same).effect == 0


def test_a_constant_column_has_not_drifted():
    assert numbers(np.ones(50), np.ones(50)).p == 1 and math.isnan(numbers(np.ones(50), np.ones(50)).distance)
    assert categories(["a"] * 50, ["a"] * 50).p == 1
    assert categories(["a"] * 50, ["b"] * 50).effect == numbers(np.zeros(50), np.ones(50)).effect == 1


def test_more_values_than_cells_are_merged_alike_for_both_windows():
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=n).round(3) for n in (5000, 5000))
    assert len(np.unique(x)) > CELLS
    theirs = stats.ks_2samp(x, y, method="asymp")
    found = numbers(x, y)
    assert found.statistic == pytest.approx(theirs.statistic, rel=1e-9) and found.p == pytest.approx(
        theirs.pvalue, abs=0.05
    )
    serial = rng.integers(0, 3 * CELLS, 4000)
    assert categories(serial, rng.integers(0, 3 * CELLS, 4000), draws=199).p > 0.01
    assert categories(serial, rng.integers(0, CELLS, 4000), draws=199).p == 1 / 200


def test_days_of_many_exams_are_thinned_and_none_is_lost():
    rng = np.random.default_rng(1)
    days, now = np.repeat(np.arange(30), 1000), np.repeat(np.arange(10), 2000)
    x, y = (0.5 * rng.normal(size=n)[day] + rng.normal(size=len(day)) for n, day in ((30, days), (10, now)))
    found = numbers(x, y, blocks=(days, now), draws=199)
    assert found.p > 0.05 and found.effect == numbers(x, y).effect
    assert found.detectable() > 10 * numbers(x, y).detectable()  # ten days say what ten days can
    assert numbers(x, y + 3, blocks=(days, now), draws=199).p == 1 / 200


def test_the_same_seed_gives_the_same_p():
    x, y = (np.random.default_rng(s).poisson(3, 60) for s in (1, 2))
    assert numbers(x, y) == numbers(x, y) and numbers(x, y).p != numbers(x, y, seed=2).p


def test_bad_columns_are_refused():
    with pytest.raises(ValueError, match="infinite"):
        numbers([np.inf] * 50, [0.0] * 50)
    with pytest.raises(ValueError, match="blocks"):
        categories(["a"] * 50, ["b"] * 50, blocks=([1] * 50, [1] * 49))
