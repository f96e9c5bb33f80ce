"""Calibration on sources left out: which case counts as what, how much, and what the card then says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.calibration import fit, log_loss, probabilities
from models.training import experiments, unseen
from models.training.unseen import ABNORMAL, COVID, NORMAL, PNEUMONIA, Unseen, labels_for, weights_of
from tests.models.test_model_card import make_card
from triage.domain.errors import Misconfigured


@pytest.mark.parametrize(
    ("source", "label", "fold", "left_out", "expected"),
    [
        ("shenzhen", "normal", 2, ["shenzhen"], [NORMAL]),
        ("shenzhen", "normal", 0, ["hannover"], []),
        ("shenzhen", "other", 1, ["shenzhen"], []),
        ("shenzhen", "other", 0, ["nih_cxr14"], []),
        ("nih_cxr14", "normal", 3, ["nih_cxr14"], [NORMAL]),
        ("nih_cxr14", "pneumonia", 3, ["nih_cxr14"], [ABNORMAL]),
        ("nih_cxr14", "pneumonia", 0, ["shenzhen"], [PNEUMONIA]),
        ("nih_cxr14", "normal", 0, ["shenzhen"], []),
        ("hannover", "covid", 1, ["hannover"], [COVID]),
        ("hannover", "covid", 0, ["web_other"], []),
        ("web_other", "covid", None, ["web_other"], [COVID]),
        ("web_other", "pneumonia", None, ["web_other"], []),
    ],
)
def test_what_a_tested_case_counts_as(
    source: str, label: str, fold: int | None, left_out: list[str], expected: list[int]
) -> None:
    assert labels_for(source, label, fold, left_out) == expected


def test_classes_weigh_one_and_their_sources_alike() -> None:
    groups = [(NORMAL, "a")] * 30 + [(NORMAL, "b")] * 2 + [(PNEUMONIA, "a")] * 5 + [(ABNORMAL, "a")] * 4
    weights = weights_of(groups)
    total = {g: sum(w for w, h in zip(weights, groups, strict=True) if h == g) for g in set(groups)}
    assert total == pytest.approx({(NORMAL, "a"): 0.5, (NORMAL, "b"): 0.5, (PNEUMONIA, "a"): 0.5, (ABNORMAL, "a"): 0.5})


def test_what_is_only_abnormal_is_the_loss_of_not_being_normal() -> None:
    logits = np.array([[0.2, 1.0, -0.3]])
    said = probabilities(logits, 0.7, (0.1, 0.0, -0.1))
    assert log_loss(logits, np.array([ABNORMAL]), 0.7, (0.1, 0.0, -0.1)) == pytest.approx(-np.log(1 - said[0, 0]))


def test_a_weighted_fit_is_that_of_repeated_cases() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(300, 3)), rng.integers(0, 3, 300)
    times = rng.integers(1, 4, 300)
    once = fit(logits, labels, times.astype(float))
    repeated = fit(np.repeat(logits, times, axis=0), np.repeat(labels, times), np.ones(times.sum()))
    assert once[0] == pytest.approx(repeated[0], rel=1e-3)
    assert once[1] == pytest.approx(repeated[1], abs=1e-3)


def make_runs(shift: float = 0.0) -> list[dict[str, Any]]:
    """Runs whose probabilities are right, but for a *shift* of normal's log odds where the source was left out."""
    rng = np.random.default_rng(3)
    who = [("nih_cxr14", "normal"), ("nih_cxr14", "pneumonia"), ("shenzhen", "normal"), ("shenzhen", "other")]
    who += [("hannover", "covid"), ("web_other", "covid")]
    runs = []
    for source in experiments.SOURCES:
        tested = []
        for i in range(4000):
            of, label = who[i % len(who)]
            k = {"normal": NORMAL, "pneumonia": PNEUMONIA, "covid": COVID, "other": PNEUMONIA}[label]
            logits = 1.5 * np.eye(3)[k] + rng.normal(size=3)
            logits[NORMAL] += shift if of == source else 0.0
            tested.append([of, label, 0, i, *np.round(probabilities(logits[None], 1.0)[0], 6)])
        runs.append({"left_out": [source], "seed": 1, "tested": tested})
    return runs


def test_a_level_lost_on_unseen_sources_is_given_back() -> None:
    straight, lost = (unseen.refitted(make_card(), Unseen.of(make_runs(s))) for s in (0.0, -1.0))
    gained = (lost.bias[NORMAL] - lost.bias[COVID]) - (straight.bias[NORMAL] - straight.bias[COVID])
    assert gained > 0.5
    assert sum(lost.bias) == pytest.approx(0, abs=1e-9)
    assert lost.calibrated_on.startswith("4 runs of the same recipe")


def test_a_source_that_was_never_left_out_is_an_error() -> None:
    with pytest.raises(Misconfigured, match="web_other"):
        Unseen.of(make_runs()[:3])
