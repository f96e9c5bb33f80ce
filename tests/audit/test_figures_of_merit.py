"""Readers' figures, and what they are without each case, against computing them anew."""

import numpy as np
import pytest

from triage.audit import performance
from triage.audit.figures_of_merit import accuracy, areas, hand_till
from triage.audit.ratings import Ratings, against_rest
from triage.audit.reader_table import Grid, grid
from triage.audit.synthetic_study import Design, make_study

PLACES = grid(make_study(Design(readers=2, cases=(5, 6, 4)), seed=3))


def thinned(places=PLACES, seed=4, kept=0.8):
    """The same study with some readings not made."""
    read = np.random.default_rng(seed).random(places.response.shape) < kept
    score = np.where(read[..., None], places.score, np.nan)
    return Grid(score, np.where(read, places.response, -1), np.where(read, places.session, -1), places.truth)


def area_by_definition(places, m, r, rows):
    return performance.auc(places.score[m, r, rows, 2], places.truth[rows] == 2)


def accuracy_by_definition(places, m, r, rows):
    return float((places.response[m, r, rows] == places.truth[rows]).mean())


def hand_till_by_definition(places, m, r, rows):
    return performance.hand_till(places.score[m, r, rows], places.truth[rows])


def areas_of_covid(places):
    cases = tuple(map(str, range(len(places.truth))))
    return areas(Ratings(("a", "b"), cases, ("with", "without"), places.score[..., 2], places.truth == 2))


@pytest.mark.parametrize("places", [PLACES, thinned()], ids=["complete", "incomplete"])
@pytest.mark.parametrize(
    ("figure", "definition"),
    [
        (areas_of_covid, area_by_definition),
        (accuracy, accuracy_by_definition),
        (hand_till, hand_till_by_definition),
    ],
)
def test_a_figure_and_what_it_is_without_each_case_are_what_computing_it_anew_gives(places, figure, definition):
    found = figure(places)
    for m, r in np.ndindex(2, 2):
        read = np.flatnonzero(places.is_read[m, r])
        assert found.value[m, r] == pytest.approx(definition(places, m, r, read), abs=1e-12)
        for k in range(len(places.truth)):
            expected = definition(places, m, r, read[read != k])
            assert found.without[m, r, k] == pytest.approx(expected, abs=1e-12)


def test_an_area_without_the_only_case_of_its_class_is_not_defined():
    ratings = against_rest(make_study(Design(readers=1, cases=(4, 4, 1)), seed=1), "covid")
    found = areas(ratings)
    assert np.isfinite(found.value).all()
    np.testing.assert_array_equal(np.isnan(found.without[0, 0]), ratings.is_positive)


def test_what_a_reader_did_not_read_is_not_defined():
    table = make_study(Design(readers=2, cases=(3, 3, 0)), seed=1)
    assert np.isnan(areas(against_rest(table, "covid")).value).all()
    assert np.isnan(hand_till(grid(table)).value).all()
    assert np.isfinite(accuracy(grid(table)).value).all()
    none = thinned(kept=0.0)
    assert np.isnan(accuracy(none).value).all()
    assert np.isnan(hand_till(none).without).all()
