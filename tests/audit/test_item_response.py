"""The reader model: its gradient, studies of known parameters, missing readings, help, and NumPyro beside it."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from triage.audit.item_response import fit, results
from triage.audit.nominal_readings import Readings, drawn_readings, readings
from triage.audit.nominal_response import NominalResponse, probabilities
from triage.audit.predictive_check import predictive_check
from triage.domain.errors import Misconfigured
from triage.numpyro_reference import fit_by_numpyro

SKILL = 1.6 * np.eye(3)
GAIN = 1.2 * np.eye(3)


def centred(values):
    return values - values.mean(axis=-1, keepdims=True)


class Study:
    """A simulated study, the parameters it came from, and which readings were made."""

    def __init__(self, readers=5, cases=90, helped=False, missing=0.0, seed=1):
        rng = np.random.default_rng(seed)
        theta = SKILL + rng.normal(0, 0.7, (1, readers, 3, 3))
        if helped:
            theta = np.concatenate([theta, theta + GAIN + rng.normal(0, 0.2, theta.shape)])
        self.theta, self.beta, self.truth = centred(theta), centred(rng.normal(size=(cases, 3))), np.arange(cases) % 3
        p = probabilities(theta, self.beta, self.truth)
        self.confusion = np.stack([p[:, :, self.truth == k].mean(axis=2) for k in range(3)], axis=2)
        self.readings = Readings(drawn_readings(p, rng.random(p.shape[:-1]) >= missing, rng), self.truth)


def quick(of, **settings):
    return fit(of, **({"chains": 4, "warmup": 100, "draws": 150} | settings))


@pytest.fixture(scope="module")
def plain():
    return Study()


@pytest.fixture(scope="module")
def plain_fit(plain):
    return fit(plain.readings, warmup=300, draws=800)


@pytest.fixture(scope="module")
def helped():
    return Study(readers=4, cases=75, helped=True, missing=0.1)


@pytest.fixture(scope="module")
def helped_fit(helped):
    return fit(helped.readings, warmup=300, draws=800)


def test_readings_are_put_where_they_belong_in_any_order():
    reader, case, chosen, how = np.array([[0, 0, 0, 0], [1, 0, 2, 0], [0, 1, 1, 0], [0, 0, 1, 1]]).T
    found = readings(reader, case, chosen, [2, 0], how)
    assert found.chosen.shape == (2, 2, 2, 3) and found.chosen.sum() == 4
    assert (
        found.chosen[0, 0, 0, 0] and found.chosen[0, 1, 0, 2] and found.chosen[0, 0, 1, 1] and found.chosen[1, 0, 0, 1]
    )
    assert found.counts[0, 0].tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    turned = readings(reader[::-1], case[::-1], chosen[::-1], [2, 0], how[::-1])
    assert np.array_equal(turned.chosen, found.chosen)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chosen": [0, 1, 3, 0]}, "chosen: an index outside 0 ... 2"),
        ({"truth": [0, -1]}, "truth: an index outside"),
        ({"case": [0, 1, 2, 1]}, "case: an index outside 0 ... 1"),
        ({"reader": [0, 0, 1.5, 1]}, "reader: float64, not whole numbers"),
        ({"reader": [0, 0, 1]}, "reader: shape"),
        ({"modality": [0, 0, 0, 2]}, "modality: an index outside 0 ... 1"),
        ({"case": [0, 0, 0, 1]}, "reader 0 has 2 readings of case 0 in modality 0"),
        ({"reader": [0, 0, 2, 2]}, "reader 1 has no reading"),
        ({"truth": [0, 1, 2]}, "case 2 has no reading"),
        ({"reader": [], "case": [], "chosen": []}, "no readings"),
    ],
)
def test_readings_that_contradict_themselves_are_refused(change, words):
    given = {"reader": [0, 0, 1, 1], "case": [0, 1, 0, 1], "chosen": [0, 1, 2, 0], "truth": [0, 1]}
    with pytest.raises(ValueError, match=words):
        readings(**(given | change))


def test_classes_are_drawn_as_often_as_they_are_likely():
    p = np.broadcast_to([0.1, 0.0, 0.6, 0.3], (100_000, 4))
    is_made = np.arange(100_000) % 10 > 0
    found = drawn_readings(p, is_made, np.random.default_rng(1))
    assert np.array_equal(found.sum(axis=1), is_made)
    assert found.sum(axis=0) / 90_000 == pytest.approx([0.1, 0, 0.6, 0.3], abs=0.006)


@pytest.mark.parametrize("is_helped", [False, True])
def test_the_gradient_is_that_of_finite_differences(is_helped):
    density = NominalResponse(Study(readers=3, cases=10, helped=is_helped, missing=0.3).readings)
    at = np.random.default_rng(2).normal(size=(2, density.dimensions))
    _, gradient = density(at)
    for n, step in enumerate(1e-5 * np.eye(density.dimensions)):
        slope = (density(at + step)[0] - density(at - step)[0]) / 2e-5
        assert gradient[:, n] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_there_may_be_any_number_of_classes(classes):
    rng = np.random.default_rng(1)
    reader, case, modality = (grid.ravel() for grid in np.meshgrid([0, 1], np.arange(8), [0, 1]))
    truth, chosen = rng.integers(classes, size=8), rng.integers(classes, size=32)
    density = NominalResponse(readings(reader, case, chosen, truth, modality, classes=classes))
    at = rng.normal(size=(1, density.dimensions))
    steps = 1e-5 * np.eye(density.dimensions)
    slope = (density(at + steps)[0] - density(at - steps)[0]) / 2e-5
    assert density(at)[1][0] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("is_helped", [False, True])
def test_the_density_is_that_of_the_model_as_stated(is_helped):
    study = Study(readers=3, cases=10, helped=is_helped, missing=0.3)
    density = NominalResponse(study.readings)
    at = np.random.default_rng(3).normal(size=(5, density.dimensions))
    part = density.parameters(at)
    p = probabilities(part["theta"], part["beta"], study.truth)
    stated = np.log(np.where(study.readings.chosen, p, 1)).sum(axis=(1, 2, 3, 4))
    stated -= (part["theta"][:, 0] ** 2).sum(axis=(1, 2, 3)) / 8 + (part["beta"] ** 2).sum(axis=(1, 2)) / 8
    if is_helped:
        z = part["u"] / part["tau"][:, None, None, None]
        stated -= (part["delta"] ** 2).sum(axis=(1, 2)) / 8 + (z**2).sum(axis=(1, 2, 3)) / 2 + part["tau"] ** 2 / 2
        change = part["theta"][:, 1] - part["theta"][:, 0]
        assert change == pytest.approx(part["delta"][:, None] + part["u"], abs=1e-12)
    # up to one constant
    assert np.ptp(density(at)[0] - stated) < 1e-9


def test_parameters_of_a_simulated_study_are_found(plain, plain_fit):
    found = results(plain_fit)
    assert found.diagnosis.is_usable, found.diagnosis.verdict
    assert found.help is None
    assert found.confusion.median == pytest.approx(plain.confusion, abs=0.15)
    assert np.sqrt(((found.confusion.median - plain.confusion) ** 2).mean()) < 0.06
    spread = (found.theta.high - found.theta.low) / 3.92
    assert 0.4 < (((found.theta.median - plain.theta) / spread) ** 2).mean() < 1.7  # 1 in the mean over studies
    for truth, posterior in ((plain.theta, found.theta), (plain.confusion, found.confusion)):
        assert ((posterior.low < truth) & (truth < posterior.high)).mean() > 0.85  # 45 and 45, hardly independent
    assert found.theta.median.sum(axis=-1) == pytest.approx(0, abs=0.1)


def test_accuracy_is_that_counted_but_for_a_little_shrinkage(plain, plain_fit):
    found = results(plain_fit)
    counts = plain.readings.counts
    counted = np.trace(counts, axis1=-2, axis2=-1) / 90
    assert found.accuracy.median == pytest.approx(counted, abs=0.04)
    sensitivity = np.diagonal(counts, axis1=-2, axis2=-1) / 30
    specificity = 1 - (counts.sum(axis=-2) - 30 * sensitivity) / 60
    assert found.sensitivity.median == pytest.approx(sensitivity, abs=0.08)
    assert found.specificity.median == pytest.approx(specificity, abs=0.06)
    assert np.corrcoef(found.accuracy.median[0], counted[0])[0, 1] > 0.98


def test_readers_are_compared_by_the_probability_of_a_direction(plain_fit):
    found = results(plain_fit)
    accuracy, difference = found.accuracy.median[0], found.accuracy_difference
    worst, best = accuracy.argmin(), accuracy.argmax()
    assert difference.above_0[0, best, worst] > 0.95 and difference.direction[0, worst, best] > 0.95
    assert difference.above_0[0] + difference.above_0[0].T == pytest.approx(1)
    assert np.diagonal(difference.direction[0]) == pytest.approx(0.5)
    assert found.sensitivity_difference.median.shape == (1, 3, 5, 5)


def test_cases_are_ranked_by_how_often_they_are_missed(plain, plain_fit):
    found = results(plain_fit)
    is_right = plain.readings.chosen[0, :, np.arange(90), plain.truth]
    wrong = 1 - is_right.mean(axis=1)
    assert found.difficulty.median[wrong == 1].min() > found.difficulty.median[wrong == 0].max()
    assert np.corrcoef(found.rank.median, -wrong)[0, 1] > 0.85
    assert found.rank.low.min() >= 1 and found.rank.high.max() <= 90


def test_readings_of_the_model_pass_the_predictive_check_and_others_fail_it(plain, plain_fit):
    found = predictive_check(plain_fit)
    assert (found.p > 0.05).all() and (found.p < 0.95).all()
    assert ((found.low <= found.seen) & (found.seen <= found.high)).all()
    swapped = plain_fit.draws["theta"].copy()
    swapped[:, :, :, 0] = np.roll(swapped[:, :, :, 0], 1, axis=-1)
    wrong = predictive_check(replace(plain_fit, draws=dict(plain_fit.draws) | {"theta": swapped}))
    assert wrong.p[0, 0] < 0.001 and (wrong.p[0, 1:] > 0.05).all()


def test_help_is_found_with_its_direction_and_size(helped, helped_fit):
    found = results(helped_fit)
    assert found.diagnosis.is_usable, found.diagnosis.verdict
    assert found.help is not None
    assert (np.diagonal(found.help.delta.above_0) > 0.95).all()
    assert np.diagonal(found.help.delta.median) == pytest.approx(np.full(3, 0.8), abs=0.5)  # 1.2, centred
    gain = (helped.confusion[1] - helped.confusion[0]).diagonal(axis1=-2, axis2=-1)
    of_class = gain.mean(axis=0)
    assert (found.help.sensitivity.low < of_class).all() and (of_class < found.help.sensitivity.high).all()
    assert found.help.accuracy.low < gain.mean() < found.help.accuracy.high
    assert found.help.accuracy.above_0 > 0.99
    assert found.help.tau.low < 0.2 < found.help.tau.high
    assert predictive_check(helped_fit).p.min() > 0.02


def test_a_classifier_may_be_entered_as_a_reader_who_never_had_help(helped):
    chosen = helped.readings.chosen.copy()
    chosen[1, 0] = False
    found = results(quick(Readings(chosen, helped.truth)))
    assert np.isnan(found.accuracy.median[1, 0]) and np.isnan(found.theta.median[1, 0]).all()
    assert np.isnan(found.accuracy_difference.direction[1, 0]).all()
    assert np.isfinite(found.accuracy.median[0]).all() and np.isfinite(found.accuracy.median[1, 1:]).all()
    others = (found.accuracy.median[1] - found.accuracy.median[0])[1:].mean()
    assert found.help.accuracy.median == pytest.approx(others, abs=0.02)


def test_of_a_class_not_read_nothing_is_said():
    truth = np.array([0, 1] * 10 + [2])
    rng = np.random.default_rng(1)
    reader, case = (grid.ravel() for grid in np.meshgrid([0, 1], np.arange(21), indexing="ij"))
    is_made = (reader == 0) | (case < 20)
    reader, case = reader[is_made], case[is_made]
    found = results(quick(readings(reader, case, rng.integers(3, size=len(case)), truth)))
    assert np.isnan(found.confusion.median[0, 1, 2]).all() and np.isnan(found.sensitivity.median[0, 1, 2])
    assert np.isnan(found.accuracy.median[0, 1]) and np.isnan(found.specificity.median[0, 1, :2]).all()
    assert np.isfinite(found.confusion.median[0, 0]).all() and np.isfinite(found.specificity.median[0, 1, 2])

    two_classes = results(quick(readings(reader[case < 20], case[case < 20], case[case < 20] % 3, truth[:20])))
    assert np.isfinite(two_classes.accuracy.median).all() and np.isnan(two_classes.sensitivity.median[..., 2]).all()
    assert np.isfinite(two_classes.specificity.median).all()


def test_cases_nobody_read_without_help_have_no_difficulty():
    study = Study(readers=2, cases=12, helped=True)
    chosen = study.readings.chosen.copy()
    chosen[0][:, study.truth == 2] = False
    found = results(quick(Readings(chosen, study.truth), draws=50))
    assert np.isnan(found.difficulty.median).tolist() == (study.truth == 2).tolist()
    assert np.nanmax(found.rank.median) <= 8
    assert np.isnan(found.help.sensitivity.median).tolist() == [False, False, True]


def test_readers_who_read_in_one_way_alone_say_nothing_of_help():
    study = Study(readers=4, cases=12, helped=True)
    chosen = study.readings.chosen.copy()
    chosen[0, :2], chosen[1, 2:] = False, False
    found = results(quick(Readings(chosen, study.truth), draws=50)).help
    for part in (found.delta, found.tau, found.sensitivity, found.accuracy):
        assert np.isnan(part.median).all() and np.isnan(part.above_0).all()


def test_one_seed_gives_one_posterior_to_the_bit():
    of = Study(readers=2, cases=9, helped=True).readings
    first, again, other = (quick(of, draws=30, seed=seed) for seed in (4, 4, 5))
    for name, draws in first.draws.items():
        assert np.array_equal(draws, again.draws[name]) and not np.array_equal(draws, other.draws[name])
    assert np.array_equal(predictive_check(first).p, predictive_check(again).p)


def test_a_short_fit_says_that_it_is_not_usable():
    found = fit(Study(readers=2, cases=9).readings, chains=2, warmup=40, draws=20)
    assert not found.diagnosis.is_usable and found.diagnosis.verdict.startswith("not usable")


@pytest.mark.parametrize("is_helped", [False, True])
def test_numpyro_finds_the_same_posterior(is_helped):
    pytest.importorskip("numpyro", reason="NumPyro (extra 'bayes') is not installed: no second opinion here")
    of = Study(readers=3, cases=30, helped=is_helped, missing=0.1).readings
    ours, theirs = fit(of), fit_by_numpyro(of)
    assert ours.draws.keys() == theirs.draws.keys()
    for name, draws in ours.draws.items():
        assert draws.mean(axis=(0, 1)) == pytest.approx(theirs.draws[name].mean(axis=(0, 1)), abs=0.1)
        assert draws.std(axis=(0, 1)) == pytest.approx(theirs.draws[name].std(axis=(0, 1)), abs=0.1)
    assert results(ours).accuracy.median == pytest.approx(results(theirs).accuracy.median, abs=0.01)


def test_without_numpyro_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyro.infer", None)
    with pytest.raises(Misconfigured, match="chest-triage\\[bayes\\]"):
        fit_by_numpyro(Study(readers=2, cases=9).readings)
