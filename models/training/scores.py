"""What was said of labelled cases against what is true of them: the classifier's figures, by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engine import CLASSES, COVID
from models.training import data
from models.training.figures import area, by_patient, entry
from triage.audit import calibration, performance
from triage.domain.finding import ChestClass

Figures = list[dict[str, Any]]
Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
PNEUMONIA = CLASSES.index(ChestClass.PNEUMONIA)
BINS = 10
ROC_POINTS = 40
LEAST = 10
"""Positive and negative images below which a subgroup's figure is not given."""


@dataclass(frozen=True)
class Scored:
    """
    Cases with what was said of them.

    Attributes:
        probability: (n, classes), in `ChestClass` order; NaN rows where nothing was said.
        labels: (n,) class indices.
    """

    cases: tuple[data.Case, ...]
    probability: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int_]

    @classmethod
    def of(cls, cases: Sequence[data.Case], probability: npt.NDArray[np.float64]) -> Scored:
        """Labelled by the manifest."""
        return cls(tuple(cases), probability, np.array([data.label_of(c) for c in cases], dtype=int))

    def where(self, inside: Truths) -> Scored:
        """The rows that are *inside*."""
        cases = tuple(c for c, kept in zip(self.cases, inside, strict=True) if kept)
        return Scored(cases, self.probability[inside], self.labels[inside])

    @property
    def chosen(self) -> npt.NDArray[np.int_]:
        """(n,) the most probable class; -1 where nothing was said."""
        silent = np.isnan(self.probability[:, 0])
        return np.where(silent, -1, np.nan_to_num(self.probability).argmax(1))

    @property
    def known(self) -> npt.NDArray[np.float64]:
        """(n, classes) with one third each where nothing was said."""
        return np.where(np.isnan(self.probability), 1 / len(CLASSES), self.probability)

    def share_of(self, what: str, on: str, hit: Callable[[Scored], Truths]) -> dict[str, Any]:
        """The share of the cases that are a *hit*."""
        return part_of(what, on, self.cases, hit(self))


def covid_against_pneumonia(scored: Scored, on: str) -> Figures:
    """The one comparison that the source cannot answer: inside each source that holds both."""
    found: Figures = []
    for source in sorted({c.source for c in scored.cases}):
        inside = np.array([c.source == source for c in scored.cases]) & np.isin(scored.labels, (PNEUMONIA, COVID))
        pair = scored.where(inside)
        is_covid = pair.labels == COVID
        if min(int(is_covid.sum()), int((~is_covid).sum())) < LEAST:
            continue
        score = pair.known[:, COVID] / (pair.known[:, COVID] + pair.known[:, PNEUMONIA] + 1e-12)
        what = "AUC COVID against pneumonia within one source"
        found.append(area_figure(what, f"{on}, {source}", pair.cases, score, is_covid))
    return found


def class_figures(scored: Scored, on: str) -> Figures:
    """Areas against rest, Hand and Till's mean area, balanced accuracy, accuracy, and the three recalls together."""
    labels, chosen, known = scored.labels, scored.chosen, scored.known
    found = [
        area_figure(f"AUC {code} against rest", on, scored.cases, known[:, k], labels == k)
        for k, code in enumerate(CLASSES)
        if (labels == k).any() and (labels != k).any()
    ]
    found.append(
        resampled(
            "AUC, mean of pairs (Hand-Till)", on, scored.cases, lambda i: performance.hand_till(known[i], labels[i])
        )
    )
    found.append(
        resampled("balanced accuracy", on, scored.cases, lambda i: performance.balanced_accuracy(chosen[i], labels[i]))
    )
    found.append(part_of("accuracy", on, scored.cases, chosen == labels))
    return found + recalls(scored, on)


def recalls(scored: Scored, on: str) -> Figures:
    """Of each class, the share whose most probable class it is; a class without images has none."""
    return [
        scored.where(scored.labels == k).share_of(f"recall {code}", on, lambda some, k=k: some.chosen == k)  # type: ignore[misc]
        for k, code in enumerate(CLASSES)
    ]


def operating_figures(scored: Scored, on: str, threshold: float) -> Figures:
    """What the flag does at the card's threshold."""
    sick, rest = scored.where(scored.labels == COVID), scored.where(scored.labels != COVID)
    return [
        sick.share_of("COVID sensitivity at the operating point", on, lambda some: some.known[:, COVID] >= threshold),
        rest.share_of("COVID specificity at the operating point", on, lambda some: some.known[:, COVID] < threshold),
    ]


def calibration_figures(scored: Scored, on: str) -> Figures:
    """Brier score over all classes; of each class slope, intercept and the calibration error without chance's share."""
    labels, known, cases = scored.labels, scored.known, scored.cases
    truths = np.eye(len(CLASSES))[labels]
    found = [resampled("Brier score", on, cases, lambda i: float(((known[i] - truths[i]) ** 2).sum(1).mean()))]
    for k, code in enumerate(CLASSES):
        said, truth = known[:, k], labels == k
        if min(int(truth.sum()), int((~truth).sum())) < LEAST:
            continue
        measures: dict[str, Callable[[Floats, Truths], float]] = {
            "slope": lambda p, y: calibration.calibration(p, y).slope,
            "intercept": lambda p, y: calibration.calibration(p, y).intercept,
            "error, debiased": lambda p, y: calibration.calibration_error(p, y, BINS).root_mean_square,
        }
        found += [
            resampled(f"calibration {name} {code}", on, cases, lambda i, m=m, p=said, y=truth: m(p[i], y[i]))  # type: ignore[misc]
            for name, m in measures.items()
        ]
    return found


def parts(scored: Scored) -> dict[str, Scored]:
    """By source, sex, age band and view."""
    groups: dict[str, list[bool]] = {}
    keys = [(c.source, f"sex {sex_of(c)}", f"age {age_band(c.age)}", f"view {view_of(c)}") for c in scored.cases]
    for names in keys:
        for name in names:
            groups.setdefault(name, [name in other for other in keys])
    order = sorted(groups, key=lambda n: (n.startswith(("sex ", "age ", "view ")), n))
    return {name: scored.where(np.array(groups[name])) for name in order}


def part_figures(part: Scored, on: str, threshold: float) -> Figures:
    """Of a source or subgroup: the three recalls, COVID's area and the flag, each only where there is enough."""
    is_covid = part.labels == COVID
    what = "AUC covid against rest"
    if min(int(is_covid.sum()), int((~is_covid).sum())) >= LEAST:
        covid = area_figure(what, on, part.cases, part.known[:, COVID], is_covid)
    else:
        few = f"insufficient: {int(is_covid.sum())} COVID, {int((~is_covid).sum())} other"
        covid = entry(what, on, float("nan"), float("nan"), float("nan"), len(part.labels), few)
    flags = [
        part.where(part.labels == k).share_of(
            f"flagged, truly {code}", on, lambda some: some.known[:, COVID] >= threshold
        )
        for k, code in enumerate(CLASSES)
    ]
    nothing = {"value": None, "low": None, "high": None}
    shares = [
        f if f["n"] >= LEAST else {**f, **nothing, "interval": f"insufficient: {f['n']} images"}
        for f in recalls(part, on) + flags
    ]
    return [*shares[: len(CLASSES)], covid, *shares[len(CLASSES) :]]


def curves_of(scored: Scored) -> dict[str, Any]:
    """Points of the reliability diagram and the ROC curve of each class, rounded."""
    drawn: dict[str, Any] = {}
    for k, code in enumerate(CLASSES):
        truth, score = scored.labels == k, scored.known[:, k]
        if not truth.any() or truth.all():
            continue
        order = np.argsort(-score, kind="stable")
        last = np.append(np.diff(score[order]) != 0, True)
        hits, alarms = np.cumsum(truth[order])[last] / truth.sum(), np.cumsum(~truth[order])[last] / (~truth).sum()
        some = np.unique(np.linspace(0, len(hits) - 1, ROC_POINTS).round().astype(int))
        drawn[str(code)] = {
            "reliability": [
                [b.n, round(b.predicted, 4), round(b.n * b.observed)]
                for b in calibration.reliability(score, truth, BINS, of_equal="count")
            ],
            "roc": [
                [0.0, 0.0],
                *([round(float(a), 4), round(float(h), 4)] for a, h in zip(alarms[some], hits[some], strict=True)),
            ],
        }
    return drawn


def sex_of(case: data.Case) -> str:
    """F, M or unknown; sources spell it in several ways."""
    return {"f": "F", "m": "M"}.get(case.sex.strip().lower()[:1], "unknown")


def view_of(case: data.Case) -> str:
    """AP (standing or lying), PA or unknown."""
    return next((v for v in ("AP", "PA") if case.view.strip().upper().startswith(v)), "unknown")


def age_band(age: float | None) -> str:
    """Bands wide enough to hold somebody."""
    if age is None:
        return "unknown"
    return next(
        (name for limit, name in ((18, "under 18"), (40, "18-39"), (65, "40-64")) if age < limit), "65 and over"
    )


def area_figure(
    what: str,
    on: str,
    cases: Sequence[data.Case],
    score: npt.NDArray[np.float64],
    is_positive: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    """An area under the ROC curve with its interval by patient (Obuchowski 1997)."""
    return area(what, on, score, is_positive, [c.patient_id for c in cases])


def part_of(what: str, on: str, cases: Sequence[data.Case], is_hit: Truths) -> dict[str, Any]:
    """
    A share with Wilson's interval for as many trials as the images are worth.

    Images of one patient are taken to say the same: n images count as n² / Σm² (Kish), m being each patient's.
    """
    _, sizes = np.unique([c.patient_id for c in cases], return_counts=True)
    n = len(cases)
    worth = round(n**2 / float((sizes**2).sum())) if n else 0
    value = float(is_hit.mean()) if n else float("nan")
    low, high = performance.wilson(value * worth if n else 0, worth)
    return entry(what, on, value, low, high, n, f"Wilson, worth {worth} independent images")


def resampled(
    what: str,
    on: str,
    cases: Sequence[data.Case],
    figure: Callable[[npt.NDArray[np.int_]], float],
) -> dict[str, Any]:
    """Any figure of row numbers with its interval, whole patients drawn anew."""
    low, high = by_patient([c.patient_id for c in cases], figure)
    return entry(what, on, figure(np.arange(len(cases))), low, high, len(cases), "bootstrap by patient")
