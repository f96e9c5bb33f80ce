"""Made-up studies have the figures their design says, and are the same for the same seed."""

import numpy as np
import pytest

from triage.audit.figures_of_merit import accuracy, areas
from triage.audit.ratings import against_rest
from triage.audit.reader_table import grid
from triage.audit.synthetic_study import Design, expected_accuracy, expected_areas, make_study

LARGE = Design(readers=40, cases=(700, 900, 500), skill_sd=0.2, gain_sd=0.1)


def test_a_seed_makes_one_study():
    one, same, other = (make_study(Design(), seed) for seed in (5, 5, 6))
    for name in ("reader", "case", "modality", "session", "truth", "response", "score"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.score, other.score)


def test_every_reader_reads_every_case_with_and_without():
    table = make_study(Design(readers=8, cases=(60, 60, 60)), seed=1)
    assert (len(table.readers), len(table.cases), table.modalities) == (8, 180, ("with", "without"))
    assert len(table) == 8 * 180 * 2
    assert grid(table).is_complete
    np.testing.assert_array_equal(np.bincount(table.truth), [60, 60, 60])
    assert (table.readers[0], table.cases[-1]) == ("reader1", "case180")
    assert sorted(table.readers) == list(table.readers)


def test_scores_are_whole_and_from_0_to_100():
    score = make_study(Design(), seed=2).score
    np.testing.assert_array_equal(score, np.round(score))
    assert 0 <= score.min() < 10
    assert 90 < score.max() <= 100


def test_a_large_study_has_the_figures_of_its_design():
    table = make_study(LARGE, seed=3)
    for m, modality in enumerate(table.modalities):
        assert accuracy(grid(table)).value[m].mean() == pytest.approx(expected_accuracy(LARGE, modality), abs=0.012)
        for name, expected in zip(("normal", "pneumonia", "covid"), expected_areas(LARGE, modality), strict=True):
            # 40 readers, and cases that are hard for all of them, leave about 0.01
            assert areas(against_rest(table, name)).value[m].mean() == pytest.approx(expected, abs=0.02)


def test_the_usual_design_has_the_papers_mean_areas():
    assert expected_areas(Design(), "without") == pytest.approx((0.889, 0.844, 0.716), abs=0.002)
    assert expected_areas(Design(), "with") == pytest.approx((0.903, 0.883, 0.762), abs=0.002)


def test_guessing_is_right_one_time_in_three():
    blind = Design(separation=(0, 0, 0), gain=(0, 0, 0), skill_sd=0, gain_sd=0)
    assert expected_accuracy(blind, "with") == pytest.approx(1 / 3, abs=1e-9)
    assert expected_areas(blind, "with") == (0.5, 0.5, 0.5)


def test_orders_are_crossed_or_not():
    for is_crossed, share in ((True, 0.5), (False, 1.0)):
        places = grid(make_study(Design(readers=4, cases=(10, 10, 10), is_crossed=is_crossed), seed=1))
        assert (places.session[1] < places.session[0]).mean() == share


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cases": (1, 1)}, "one value for each of 3 classes"),
        ({"case_share": 0.9}, "together at most 1"),
        ({"reader_share": -0.1}, "at least 0"),
        ({"readers": 0}, "at least one reader"),
        ({"cases": (0, 0, 0)}, "one case"),
    ],
)
def test_a_design_that_cannot_be_made_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        Design(**changed)
