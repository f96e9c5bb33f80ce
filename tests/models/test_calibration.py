"""Temperature and operating point."""

import numpy as np
import pytest

from models.calibration import fit_temperature, log_loss, probabilities, threshold_for_sensitivity


def test_probabilities_sum_to_one_even_for_huge_logits() -> None:
    found = probabilities(np.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]]), 0.5)
    assert np.allclose(found.sum(1), 1)
    assert np.allclose(found[1], 1 / 3)


def test_the_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(1)
    honest = rng.normal(size=(6000, 3)) * 1.5
    labels = np.array([rng.choice(3, p=p) for p in probabilities(honest, 1.0)])
    found = fit_temperature(honest * 4, labels)
    assert found == pytest.approx(4, rel=0.1)
    assert log_loss(honest * 4, labels, found) < log_loss(honest * 4, labels, 1.0)


def test_the_temperature_never_changes_the_order() -> None:
    logits = np.random.default_rng(2).normal(size=(50, 3))
    assert (probabilities(logits, 3.0).argmax(1) == logits.argmax(1)).all()


@pytest.mark.parametrize(("sensitivity", "expected"), [(0.9, 0.2), (1.0, 0.1), (0.5, 0.6), (0.91, 0.1)])
def test_the_threshold_is_the_highest_that_keeps_the_sensitivity(sensitivity: float, expected: float) -> None:
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 0.95])
    positive = np.array([True] * 10 + [False])
    threshold = threshold_for_sensitivity(score, positive, sensitivity)
    assert threshold == pytest.approx(expected)
    assert (score[positive] >= threshold).mean() >= sensitivity


def test_no_positive_case_is_an_error() -> None:
    with pytest.raises(ValueError, match="no positive"):
        threshold_for_sensitivity(np.array([0.1]), np.array([False]), 0.9)
