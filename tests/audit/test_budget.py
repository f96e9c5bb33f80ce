"""e-BH and the ledger: what may be believed of many figures, and that no alpha is spent twice."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.audit.budget import Entry, Ledger, e_bh

LEDGER = Ledger(0.05, (("performance", 0.03), ("subgroups", 0.01), ("inputs", 0.01)))


def make_entry(alpha=0.01, *, year=2026, family="performance", test="accuracy"):
    return Entry(year, family, test, alpha)


def test_the_largest_evidence_is_believed():
    # 4 figures: 80 for the first, 40 each for two, 26.7 each for three
    assert e_bh([[79, 0.2], [1, 39]]).tolist() == [[False, False], [False, False]]
    assert e_bh([[81, 0.2], [1, 39]]).tolist() == [[True, False], [False, False]]
    assert e_bh([[41, 0.2], [1, 40]]).tolist() == [[True, False], [False, True]]
    assert e_bh([27, 27, 27, 0]).tolist() == [True, True, True, False]


def test_a_figure_that_cannot_be_judged_is_not_believed_but_counts():
    assert e_bh([30]).tolist() == [True]
    assert e_bh([30, np.nan]).tolist() == [False, False]
    assert e_bh([np.inf, np.nan]).tolist() == [True, False]
    assert e_bh([]).tolist() == []
    with pytest.raises(ValueError, match="below 0"):
        e_bh([-1])


@given(st.lists(st.floats(0.001, 1000) | st.just(0.0), min_size=1, max_size=30), st.sampled_from([0.01, 0.05, 0.2]))
def test_e_bh_is_benjamini_and_hochberg_s_procedure_on_one_over_e(evidence, alpha):
    e = np.array(evidence)
    p = np.divide(1, e, out=np.full(len(e), np.inf), where=e > 0)
    most = max((k for k in range(1, len(e) + 1) if np.sort(p)[k - 1] <= alpha * k / len(e) * (1 + 1e-12)), default=0)
    found = e_bh(e, alpha)
    assert found.sum() >= most or np.isclose(np.sort(e)[::-1][most - 1], len(e) / alpha / most)
    assert not found.any() or e[found].min() >= len(e) / (alpha * found.sum()) * (1 - 1e-12)


def test_false_beliefs_are_as_rare_as_promised_however_figures_depend():
    rng = np.random.default_rng(1)
    false = []
    for _ in range(400):
        z = rng.normal() + 0.3 * rng.normal(size=20)  # nearly one figure twenty times
        z[:5] += 3
        found = e_bh(np.exp(2 * z / 1.09**0.5 - 2))
        false.append(found[5:].sum() / max(found.sum(), 1))
    assert np.mean(false) <= 0.05 + 2 * np.std(false) / 20


def test_spending_makes_a_new_ledger_and_leaves_the_old_one():
    after = LEDGER.spend(make_entry())
    assert LEDGER.entries == () and after.entries == (make_entry(),)
    assert (LEDGER.left(2026, "performance"), after.left(2026, "performance")) == (0.03, 0.02)
    with pytest.raises(FrozenInstanceError):
        after.entries[0].alpha = 0


def test_a_family_is_never_over_spent():
    spent = LEDGER
    for test in ("accuracy", "sensitivity", "AUC"):
        spent = spent.spend(make_entry(test=test))
    assert spent.left(2026, "performance") == 0  # 0.01 three times is 0.03, in decimals
    with pytest.raises(ValueError, match="performance is over-spent in 2026"):
        spent.spend(make_entry(1e-9, test="one more"))
    assert spent.left(2026, "inputs") == 0.01 and spent.left(2027, "performance") == 0.03
    assert len(spent.spend(make_entry(year=2027)).entries) == 4


def test_the_same_entry_again_spends_nothing():
    once = LEDGER.spend(make_entry())
    assert once.spend(make_entry()) is once
    with pytest.raises(ValueError, match="entered twice"):
        once.spend(make_entry(0.02))


@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("allotted more than 0.05", lambda: Ledger(0.05, (("a", 0.03), ("b", 0.0201)))),
        ("allotted twice", lambda: Ledger(0.05, (("a", 0.01), ("a", 0.01)))),
        ("outside", lambda: Ledger(0.0, ())),
        ("outside", lambda: Ledger(0.05, (("a", float("nan")),))),
        ("no allotment", lambda: LEDGER.spend(make_entry(family="waits"))),
        ("no allotment", lambda: LEDGER.left(2026, "waits")),
        ("not above 0", lambda: LEDGER.spend(make_entry(-0.01))),
        ("not above 0", lambda: LEDGER.spend(make_entry(float("nan")))),
        ("over-spent", lambda: Ledger(0.05, (("performance", 0.01),), (make_entry(0.02),))),
    ],
)
def test_a_ledger_that_cannot_be_is_refused(what, make):
    with pytest.raises(ValueError, match=what):
        make()


@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from(["performance", "subgroups"])), max_size=30))
def test_whatever_is_asked_no_year_spends_more_than_alpha(asked):
    ledger = LEDGER
    for number, (thousandths, family) in enumerate(asked):
        try:
            ledger = ledger.spend(make_entry(thousandths / 1000, family=family, test=str(number)))
        except ValueError:
            assert thousandths / 1000 > ledger.left(2026, family)
    assert sum(round(e.alpha * 1000) for e in ledger.entries) <= 50
