"""Kernel distance by its definition, both tests' levels, exams of one patient, and which cases are called novel."""

import math

import numpy as np
import pytest
from scipy.special import expit

from triage.audit.embedding_drift import RIDGE, classifier, kernel
from triage.audit.embedding_drift import _fitted as fitted_at_once

REPEATS = 120


def make_images(n=60, m=40, d=6, seed=1, shift=0.0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    y[:, 0] += shift
    return x, y


def make_patients(seed, people):
    rng = np.random.default_rng((seed, people))
    whose = np.repeat(np.arange(people), rng.integers(1, 6, people))
    return whose, rng.normal(size=(people, 4))[whose] + 0.4 * rng.normal(size=(len(whose), 4))


def within_chance(found, alpha=0.05):
    return abs(np.mean(found) - alpha) <= 3.3 * math.sqrt(alpha * (1 - alpha) / len(found))


def test_the_kernel_distance_is_its_definition():
    x, y = make_images(40, 30, 3)
    z = np.concatenate([x, y])
    squares = ((z[:, None] - z[None]) ** 2).sum(axis=-1)
    k = np.exp(-squares / np.median(squares[~np.eye(70, dtype=bool)]))
    xx, yy, xy = k[:40, :40], k[40:, 40:], k[:40, 40:]
    answer = (xx.sum() - 40) / (40 * 39) + (yy.sum() - 30) / (30 * 29) - 2 * xy.mean()
    assert kernel(x, y, draws=9).squared == pytest.approx(answer, rel=1e-12)


def test_p_of_the_kernel_distance_is_that_of_plain_exchanges():
    x, y = make_images(40, 30, 3, shift=0.5)
    z, rng = np.concatenate([x, y]), np.random.default_rng(5)
    found = kernel(x, y, draws=2000)
    plain = [kernel(*np.split(z[rng.permutation(70)], [40]), draws=1).squared for _ in range(1000)]
    assert found.p == pytest.approx(np.mean(np.array(plain) >= found.squared), abs=0.03)


def test_all_labellings_are_fitted_at_once_as_one_by_one():
    x, y = make_images(80, 60, 3, shift=1)
    columns, labels = np.column_stack([np.ones(140), np.concatenate([x, y])]), np.arange(140) >= 80
    at = fitted_at_once(columns, np.column_stack([labels, ~labels]).astype(float))
    slope = columns.T @ (labels - expit(columns @ at[:, 0]))
    assert slope == pytest.approx([0, *(RIDGE * at[1:, 0])], abs=1e-2)  # the likeliest: no gradient but the ridge's
    assert at[:, 1] == pytest.approx(-at[:, 0], abs=1e-9)


def test_without_drift_both_tests_find_it_as_often_as_they_say():
    by_kernel = [kernel(*make_images(seed=s), draws=39, seed=s).p <= 0.05 for s in range(REPEATS)]
    by_classifier = [classifier(*make_images(seed=s), draws=39, seed=s).p <= 0.05 for s in range(REPEATS)]
    assert within_chance(by_kernel) and within_chance(by_classifier), (np.mean(by_kernel), np.mean(by_classifier))


def test_exams_of_a_patient_count_as_one():
    found, naive = [], []
    for seed in range(50):
        (a, x), (b, y) = make_patients(seed, 30), make_patients(seed, 15)
        for p, blocks in ((found, (a, b)), (naive, None)):
            p.append([test(x, y, blocks=blocks, draws=39, seed=seed).p <= 0.05 for test in (kernel, classifier)])
    assert all(within_chance(column) for column in np.transpose(found)), np.mean(found, axis=0)
    assert np.mean(naive) > 0.15


def test_another_detector_is_found_and_measured():
    x, y = make_images(200, 100, shift=1.0)
    by_kernel, by_classifier = kernel(x, y, draws=199), classifier(x, y, draws=199)
    assert by_kernel.p == by_classifier.p == 1 / 200 and by_kernel.squared > 0
    assert by_classifier.area == pytest.approx(0.76, abs=0.05)  # Phi(1 / sqrt 2)
    assert by_classifier.low < by_classifier.area < by_classifier.high
    assert by_classifier.distance == pytest.approx(0.383, abs=0.1)  # 2 Phi(1 / 2) - 1


def test_the_most_novel_cases_come_first():
    x, y = make_images(200, 100)
    y[[7, 42, 99]] += 6
    found = classifier(x, y, draws=9)
    assert set(found.novel[:3].tolist()) == {7, 42, 99} and sorted(found.novel.tolist()) == list(range(100))


def test_large_windows_are_drawn_from_and_rows_are_named_as_given():
    x, y = make_images(300, 200, shift=3)
    y[150] += 9
    found = classifier(x, y, blocks=(np.arange(300) // 3, np.arange(200) // 2), most=90, draws=9)
    assert len(found.reference_rows) == len(found.current_rows) == 90 and len(found.score) == 180
    assert set(found.novel.tolist()) == set(found.current_rows.tolist())
    assert 150 not in found.current_rows or found.novel[0] == 150
    assert kernel(x, y, most=90, draws=9).reference == 90


def test_the_same_seed_gives_the_same_numbers():
    x, y = make_images()
    assert kernel(x, y, draws=19) == kernel(x, y, draws=19)
    assert (classifier(x, y, draws=19).score == classifier(x, y, draws=19).score).all()


def test_windows_too_small_are_not_judged():
    x, y = make_images(200, 5, shift=9)
    found = classifier(x, y)
    assert math.isnan(kernel(x, y).p) and math.isnan(found.p) and math.isnan(found.area) and not len(found.novel)
    x, y = make_images(200, 60, shift=9)
    assert math.isnan(kernel(x, y, blocks=(np.arange(200), np.arange(60) % 4)).p)


def test_images_all_alike_have_not_drifted():
    assert kernel(np.ones((40, 3)), np.ones((40, 3))).p == 1
    assert classifier(np.ones((40, 3)), np.ones((40, 3)), draws=9).p == 1


@pytest.mark.parametrize("y", [np.ones((40, 2)), np.full((40, 3), np.nan), np.ones(40)])
def test_bad_embeddings_are_refused(y):
    with pytest.raises(ValueError, match="embedding"):
        kernel(np.ones((40, 3)), y)
