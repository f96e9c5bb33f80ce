"""Simulated drift is put down to what it is: other patients, another detector, another disease, or nothing."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.special import softmax

from triage.audit.attribution import Attribution, Rules, attribute
from triage.audit.attribution_parts import Cause
from triage.audit.drift_figures import UNKNOWN, Window
from triage.audit.estimated_performance import estimated
from triage.audit.states import State

NAMES = ("normal", "pneumonia", "covid")
BEFORE, MORE_COVID = (0.5, 0.3, 0.2), (0.3, 0.2, 0.5)
MEANS = np.array([[0, 0, 0, 0], [2.4, 0, 0, 0], [1.2, 2.1, 0, 0]])
FEW_DRAWS = Rules(draws=80, exchanges=199, drop=0.15)
SEEDS = range(10, 20)


def make_window(n=400, shares=BEFORE, *, seed=1, shift=0.0, spoiled=0.0, labelled=1.0, flipped=0.0, blocks=None):
    """
    Images of three classes and what a calibrated model says of them.

    A new detector moves images by *shift* where classes do not differ and by *spoiled* where they do; the labels of a
    share *flipped* of covid cases are permuted: drawn from all three classes.
    """
    rng = np.random.default_rng((seed, n))
    truth = rng.choice(3, n, p=shares)
    image = MEANS[truth] + rng.normal(size=(n, 4)) + [spoiled, -spoiled, shift, shift]
    probability = softmax(image @ MEANS.T - (MEANS**2).sum(axis=1) / 2 + np.log(BEFORE), axis=1)
    is_flipped = (truth == 2) & (rng.random(n) < flipped)
    truth = np.where(is_flipped, rng.integers(0, 3, n), truth)
    return Window(probability, np.where(rng.random(n) < labelled, truth, UNKNOWN), image, blocks)


@cache
def causes(seeds=SEEDS, **drift) -> list[Attribution]:
    windows = ((make_window(seed=seed), make_window(250, seed=seed, **drift)) for seed in seeds)
    return [attribute(reference, current, FEW_DRAWS, names=NAMES) for reference, current in windows]


def test_more_covid_patients_are_prior_only_and_no_fault_of_the_model():
    found = causes(shares=MORE_COVID, labelled=0.7)
    only = [f for f in found if f.cause is Cause.PRIOR_ONLY]
    assert len(only) >= 9, [f.cause for f in found]
    for f in only:
        assert f.state is State.WATCH
        assert "covid most" in f.sentence and "no fault of the model" in f.sentence
        assert not any(word in f.sentence.lower() for word in ("degraded", "worse", "no longer"))
    held = [f.prior.current[2].low <= 0.5 <= f.prior.current[2].high for f in found]
    assert sum(held) >= 8


def test_more_covid_patients_are_prior_only_without_a_label_too():
    found = causes(shares=MORE_COVID, labelled=0, seeds=range(4))
    assert [f.cause for f in found] == [Cause.PRIOR_ONLY] * 4
    assert all(math.isnan(f.concept.p) and "not judged, with 0 labels" in f.sentence for f in found)


def test_without_drift_no_cause_is_named():
    found = causes()
    assert sum(f.cause is Cause.NONE for f in found) >= 9, [f.cause for f in found]  # a twentieth at most may have one
    assert {f.state for f in found if f.cause is Cause.NONE} == {State.IN_CONTROL}
    stricter = replace(FEW_DRAWS, drop=0.05)  # a gap so small would not have been found
    assert attribute(make_window(seed=10), make_window(250, seed=10), stricter).state is State.INSUFFICIENT


def test_a_disease_that_is_no_longer_what_it_was_is_concept_though_the_estimate_is_flat():
    usual = estimated(make_window(20_000).probability, draws=2).accuracy.value
    changed = estimated(make_window(20_000, flipped=1.0, seed=2).probability, draws=2).accuracy.value
    assert changed == pytest.approx(usual, abs=0.01)
    found = causes(flipped=1.0, labelled=0.8)
    assert sum(f.cause is Cause.CONCEPT for f in found) >= 9, [f.cause for f in found]
    for f in found:
        assert f.concept.gap.value < -0.03 and (f.cause is not Cause.CONCEPT or f.state is State.ALARM)


@pytest.mark.parametrize(
    ("drift", "cause"),
    [
        ({"shift": 1.0, "labelled": 0.7}, Cause.COVARIATE_BENIGN),
        ({"shift": 0.7, "labelled": 0}, Cause.COVARIATE_UNKNOWN),
        ({"shift": 1.5, "spoiled": 1.5, "labelled": 0}, Cause.COVARIATE_UNKNOWN),
        ({"shift": 1.5, "spoiled": 1.5, "labelled": 0.7}, Cause.COVARIATE_WITH_LOSS),
    ],
)
def test_another_detector_is_covariate_and_never_called_benign_without_labels(drift, cause):
    found = causes(**drift, seeds=range(4))
    assert all(f.cause.startswith("covariate") for f in found)
    assert sum(f.cause is cause for f in found) >= 3, [f.cause for f in found]
    assert all(f.state is (State.ALARM if f.cause is Cause.COVARIATE_WITH_LOSS else State.WATCH) for f in found)
    assert all("Images look otherwise" in f.sentence for f in found)


def test_another_detector_that_spoils_everything_leaves_the_labels_disagreement_open():
    (found,) = causes(shift=1.5, spoiled=1.5, seeds=(1,))
    assert found.concept.p < 0.001 and "whether by the images or by a changed disease is open" in found.sentence
    assert found.covariate.loss.low > 0.05 and found.covariate.basis == "labels"


def test_a_loss_larger_than_changed_images_could_bring_is_concept():
    reference = make_window(2000)
    current = make_window(1000, (0.2, 0.3, 0.5), shift=0.2, flipped=1.0, seed=2)
    found = attribute(reference, current, FEW_DRAWS)
    assert found.covariate.p <= 0.02 and found.concept.is_beyond_images and found.cause is Cause.CONCEPT
    assert "more than changed images could explain" in found.sentence


def test_a_loss_without_labels_is_told_from_cases_that_look_alike_or_from_probabilities():
    alike, unlike = causes(shift=0.6, labelled=0, seeds=(1,))[0], causes(shift=9.0, labelled=0, seeds=(1,))[0]
    assert alike.covariate.basis == "images" and alike.covariate.images.is_supported
    assert unlike.covariate.basis == "probabilities" and not unlike.covariate.images.is_supported
    assert unlike.cause is Cause.COVARIATE_UNKNOWN and "More labels of this window are needed" in unlike.sentence
    assert not unlike.covariate.rules_out(1.0) and not alike.covariate.rules_out(1.0)  # only labels could


def test_five_cases_are_never_judged():
    found = attribute(make_window(), make_window(5, shares=(0, 0, 1), shift=9), FEW_DRAWS)
    assert found.cause is Cause.NONE and found.state is State.INSUFFICIENT and found.prior is None
    few_of_a_class = attribute(make_window(200, (0.55, 0.43, 0.02)), make_window(100), FEW_DRAWS)
    assert few_of_a_class.state is State.INSUFFICIENT
    few_days = attribute(make_window(), make_window(200, blocks=np.arange(200) % 3), FEW_DRAWS)
    assert few_days.state is State.INSUFFICIENT and "3 patients" not in few_days.sentence


@pytest.mark.parametrize("labelled", [0, 0.2])
def test_without_enough_labels_nothing_is_in_control(labelled):
    (found,) = causes(labelled=labelled, seeds=(1,))
    assert found.cause is Cause.NONE and found.state is State.INSUFFICIENT


def test_the_likelihood_ratio_alone_takes_the_mix_for_known_and_finds_drift_too_often():
    both = np.array([(f.concept.likelihood_p, f.concept.p) for f in causes(shares=MORE_COVID, labelled=0.7)])
    assert np.median(both[:, 0]) < np.median(both[:, 1]) and (both >= 0).all()


def test_the_same_windows_have_the_same_attribution():
    windows = make_window(), make_window(100)
    first, again = (attribute(*windows, FEW_DRAWS) for _ in range(2))
    assert (first.prior, first.concept, first.sentence) == (again.prior, again.concept, again.sentence)
    assert first.covariate.images.p == again.covariate.images.p and first.covariate.loss == again.covariate.loss


def test_exams_of_a_patient_make_nothing_surer():
    rows, now = np.repeat(np.arange(250), 2), np.repeat(np.arange(150), 2)
    reference, current = make_window(250), make_window(150)
    copied = [Window(w.probability[r], w.truth[r], w.embedding[r], r) for w, r in ((reference, rows), (current, now))]
    once, twice = attribute(reference, current, FEW_DRAWS), attribute(*copied, FEW_DRAWS)
    width = [f.prior.current[2].high - f.prior.current[2].low for f in (once, twice)]
    assert width[1] == pytest.approx(width[0], rel=0.3) and twice.cause is once.cause


def test_the_alphas_bound_how_often_a_stable_window_has_a_cause():
    assert Rules().alpha == pytest.approx(0.05)


def test_bad_windows_are_refused():
    with pytest.raises(ValueError, match="without a label"):
        attribute(make_window(labelled=0.5), make_window(100))
    with pytest.raises(ValueError, match="window"):
        attribute(make_window(), Window(np.ones((40, 3)) / 3, np.zeros(39), np.zeros((40, 4))))
    with pytest.raises(ValueError, match="probability"):
        attribute(make_window(), Window(np.full((40, 3), np.nan), np.zeros(40), np.zeros((40, 4))))
