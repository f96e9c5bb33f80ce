"""Temperature, bias and operating point."""

import numpy as np
import pytest

from models.calibration import fit, log_loss, probabilities, threshold_for_sensitivity
from models.engine import CLASSES, COVID
from models.training import cards
from tests.models.test_external_validation import make_reading
from tests.models.test_model_card import make_card
from tests.models.test_training import make_case
from triage.domain.errors import UnusableRadiograph


def drawn(n: int = 6000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that agree: the softmax of the logits is the truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 1.5
    return logits, np.array([rng.choice(3, p=p) for p in probabilities(logits, 1.0)])


def test_probabilities_sum_to_one_even_for_huge_logits() -> None:
    found = probabilities(np.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]]), 0.5)
    assert np.allclose(found.sum(1), 1)
    assert np.allclose(found[1], 1 / 3)


def test_no_bias_is_a_bias_of_zero() -> None:
    logits, _ = drawn(50)
    assert np.array_equal(probabilities(logits, 1.3), probabilities(logits, 1.3, (0.0, 0.0, 0.0)))


def test_a_bias_moves_the_odds_by_its_exponential() -> None:
    logits, _ = drawn(50)
    plain, moved = probabilities(logits, 2.0), probabilities(logits, 2.0, (0.0, 0.0, 1.0))
    assert np.allclose(moved[:, 2] / moved[:, 0], np.e * plain[:, 2] / plain[:, 0])


def test_the_temperature_undoes_overconfidence() -> None:
    logits, labels = drawn()
    temperature, bias = fit(logits * 4, labels)
    assert temperature == pytest.approx(4, rel=0.1)
    assert np.abs(bias).max() < 0.1
    assert log_loss(logits * 4, labels, temperature, bias) < log_loss(logits * 4, labels, 1.0)


def test_the_bias_undoes_a_shifted_class() -> None:
    logits, labels = drawn()
    _, bias = fit(logits + np.array([0.0, 0.0, 1.5]), labels)
    assert bias[2] - (bias[0] + bias[1]) / 2 == pytest.approx(-1.5, abs=0.15)
    assert sum(bias) == pytest.approx(0, abs=1e-9)


def test_the_fit_does_not_care_how_frequent_a_class_is() -> None:
    logits, labels = drawn(12000)
    rare = (labels != 2) | (np.random.default_rng(2).random(len(labels)) < 0.2)
    (t_all, b_all), (t_rare, b_rare) = fit(logits, labels), fit(logits[rare], labels[rare])
    assert t_rare == pytest.approx(t_all, rel=0.1)
    assert b_rare == pytest.approx(b_all, abs=0.15)


def test_classes_without_overlap_still_give_finite_numbers() -> None:
    labels = np.arange(30) % 3
    temperature, bias = fit(np.eye(3)[labels] * 9, labels)
    assert np.isfinite([temperature, *bias]).all()


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


def test_the_card_s_operating_point_keeps_its_rule_and_names_its_patients() -> None:
    logits, labels = drawn(300)
    cases = [make_case(image_id=str(i), patient_id=str(i // 3), label=str(CLASSES[k])) for i, k in enumerate(labels)]
    outcomes = [make_reading(logits=logits[i], activation_outside=i / 300) for i in range(300)]
    outcomes[0] = UnusableRadiograph("blank")  # type: ignore[call-overload]
    card = cards.calibrated(make_card(), cases, outcomes, on="some held-out images")
    said = probabilities(logits[1:], card.temperature, card.bias)[:, COVID]
    is_covid = labels[1:] == COVID
    (point,) = card.operating_points
    assert (said[is_covid] >= point.threshold).mean() >= cards.SENSITIVITY
    assert (said[is_covid] > point.threshold).mean() < cards.SENSITIVITY + 0.02
    patients = {c.patient_id for c, yes in zip(cases[1:], is_covid, strict=True) if yes}
    assert point.source == f"some held-out images: {is_covid.sum()} COVID images of {len(patients)} patients"
    assert card.bias == pytest.approx((0, 0, 0), abs=0.5)
    assert sum(card.bias) == pytest.approx(0, abs=1e-9)
