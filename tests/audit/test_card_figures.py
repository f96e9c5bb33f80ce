"""The cards' figures stand on the audit's statistics and keep the numbers that earlier cards printed."""

import numpy as np
import pytest

from models.training import figures
from triage.audit import performance


def make_cases(n=80, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    return rng.normal(size=n) + truth, truth, [f"p{i}" for i in rng.integers(n // 2, size=n)]


def drawn_as_before(patients, figure, seed=1):
    """The bootstrap of the first weights' cards: patient by patient."""
    rng = np.random.default_rng(seed)
    names, inverse = np.unique(np.asarray(patients), return_inverse=True)
    rows = [np.flatnonzero(inverse == i) for i in range(len(names))]
    values = [
        figure(np.concatenate([rows[i] for i in rng.integers(len(names), size=len(names))]))
        for _ in range(figures.DRAWS)
    ]
    return tuple(np.nanpercentile(values, (2.5, 97.5)))


def test_intervals_by_patient_are_those_that_earlier_cards_printed():
    score, truth, patients = make_cases()

    def area_of(rows):
        return figures.auc(score[rows], truth[rows])

    assert figures.by_patient(patients, area_of) == pytest.approx(drawn_as_before(patients, area_of), abs=1e-12)
    low, high = figures.by_patient(["a"] * 80, area_of)
    assert np.isnan(low) and np.isnan(high)


def test_an_area_s_entry_carries_its_delong_interval_by_patient():
    score, truth, patients = make_cases()
    found = figures.area("AUC COVID against rest", "external", score, truth, patients)
    by_hand = performance.area(score, truth, patients)
    assert found == {
        "what": "AUC COVID against rest",
        "on": "external",
        "value": round(by_hand.value, 4),
        "low": round(by_hand.low, 4),
        "high": round(by_hand.high, 4),
        "n": 80,
        "interval": "DeLong, clustered by patient",
    }
    low, high = figures.by_patient(patients, lambda rows: figures.auc(score[rows], truth[rows]))
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.03)


def test_an_area_that_cannot_be_had_is_none_and_a_perfect_one_says_how_it_was_bounded():
    score, truth, patients = make_cases()
    nothing = figures.area("AUC", "external", score, np.zeros(80, dtype=bool), patients)
    assert (nothing["value"], nothing["low"], nothing["high"], nothing["n"]) == (None, None, None, 80)
    perfect = figures.area("AUC", "external", truth.astype(float), truth, patients)
    assert perfect["value"] == perfect["high"] == 1 and 0.7 < perfect["low"] < 1
    assert perfect["interval"] == performance.EXACT
