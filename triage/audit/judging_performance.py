"""Verdict A and the figures it stands on: the mature cohort first, held against the external validation at its mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from triage.audit import calibration, external_verdict, label_delay, operating, performance, subgroups, verification
from triage.audit.bootstrap import NAN, Floats
from triage.audit.cases import CLASSES, COVID, Cases
from triage.audit.evidence import Evidence
from triage.audit.external_verdict import Estimate, Outcome, Verdict
from triage.audit.states import State

LEVEL = 0.95
FIGURES = ("accuracy", *(f"AUC {c}" for c in CLASSES), "COVID sensitivity", "COVID specificity")
MATURE_SHARE = 0.99


@dataclass(frozen=True, eq=False)
class Cohort:
    """
    The labelled studies that performance is computed on.

    Attributes:
        rows: numbers of the studies with a class.
        is_mature: of all studies, whether they are old enough for their labels to have come.
        name: which studies they are, in words.
    """

    rows: np.ndarray[Any, np.dtype[np.intp]]
    is_mature: np.ndarray[Any, np.dtype[np.bool_]]
    mature_days: float
    name: str


def cohort_of(evidence: Evidence, curves: Sequence[label_delay.Curve]) -> Cohort:
    """The mature studies of the recent days where they hold LEAST of each class, else all mature, else all labelled."""
    days = label_delay.mature_age(curves, MATURE_SHARE, within=evidence.rules.within_days) if curves else float("inf")
    age, has = evidence.labelled.age, evidence.studies.has_class
    mature = age >= days
    recent = mature & (age < days + evidence.rules.recent_days)
    for rows, name in (
        (recent, f"mature, of the {evidence.rules.recent_days} days before"),
        (mature, "mature, of the whole period (too few are recent)"),
    ):
        counts = np.bincount(evidence.studies.truth[has & rows], minlength=len(CLASSES))
        if (counts >= subgroups.LEAST).all():
            return Cohort(np.flatnonzero(has & rows), mature, days, name)
    return Cohort(np.flatnonzero(has), mature, days, "all labelled (too few are mature)")


def performance_of(evidence: Evidence, cohort: Cohort) -> dict[str, Any]:
    """Every figure of the cohort beside the external one, with its own verdict; and verdict A over all of them."""
    cases = evidence.studies.where(cohort.rows)
    level = 1 - (1 - LEVEL) / len(FIGURES)
    mix = _mix(cases)
    rows, verdicts = [], []
    for name in FIGURES:
        local, judged = _figure(cases, name, LEVEL, None), _figure(cases, name, level, None)
        external, basis = _external(evidence, name, level, mix)
        verdict = external_verdict.verdict_on(judged, external, evidence.rules.margin, figure=name)
        shown, _ = _external(evidence, name, LEVEL, mix)
        verdicts.append(verdict)
        rows.append({"figure": name, "local": local, "external": shown, "basis": basis, "verdict": verdict})
    state, reason = overall(verdicts, evidence.rules.margin)
    return {
        "cohort": cohort.name,
        "mature_after_days": cohort.mature_days,
        "cases": len(cases),
        "patients": len(np.unique(cases.patient)),
        "by_class": {c: int((cases.truth == k).sum()) for k, c in enumerate(CLASSES)},
        "confusion": operating.confusion(cases.said, cases.truth, len(CLASSES)),
        "hand_till": performance.hand_till(cases.probability, cases.truth) if len(cases) else NAN,
        "figures": rows,
        "simultaneous_level": level,
        "verdict": {"state": state, "reason": reason},
        "calibration": _calibration(cases),
        "net_benefit": _net_benefit(evidence, cases),
        "subgroups": _subgroups(cases, evidence.rules.margin),
    }


def overall(verdicts: Sequence[Verdict], margin: float) -> tuple[State, str]:
    """Verdict A: refuted where any figure is (their intervals hold together), supported where accuracy is."""
    named = dict(zip(FIGURES, verdicts, strict=True))
    refuted = [n for n, v in named.items() if v.outcome is Outcome.REFUTED]
    if refuted:
        return State.ALARM, f"Worse than in external validation by more than {margin:.2f}: {', '.join(refuted)}."
    low = [n for n, v in named.items() if v.state is State.WATCH]
    if low:
        return State.WATCH, f"Lower than in external validation, not yet beyond doubt: {', '.join(low)}."
    supported = [n for n, v in named.items() if v.outcome is Outcome.SUPPORTED]
    if "accuracy" in supported:
        rest = [n for n in FIGURES if n not in supported]
        undecided = f" Not decided: {', '.join(rest)}." if rest else ""
        return State.IN_CONTROL, f"Consistent with external validation within {margin:.2f}.{undecided}"
    return State.INSUFFICIENT, "Too few labelled cases, or too uncertain a baseline, to say."


def _mix(cases: Cases) -> Floats:
    """(3,) class shares, for the external figures to be computed at."""
    counts = np.bincount(cases.truth, minlength=len(CLASSES)).astype(np.float64)
    return counts / counts.sum() if counts.sum() else np.full(len(CLASSES), 1 / len(CLASSES))


def _figure(cases: Cases, name: str, level: float, weight: Floats | None) -> Estimate:
    whose = cases.patient
    if name == "accuracy":
        return external_verdict.of_share(operating.share(cases.is_right, weight, whose, level=level))
    is_covid = cases.truth == COVID
    if name.startswith("AUC"):
        k = CLASSES.index(name.removeprefix("AUC "))
        score = cases.probability[:, k]
        if weight is None:
            return external_verdict.of_area(performance.area(score, cases.truth == k, whose, level=level))
        found = operating.weighted_area(score, cases.truth == k, weight, whose, level=level)
        return external_verdict.of_area(found)
    point = operating.operating_point(cases.is_flagged, is_covid, weight, whose, level=level)
    return external_verdict.of_share(point.sensitivity if name == "COVID sensitivity" else point.specificity)


def _external(evidence: Evidence, name: str, level: float, mix: Floats) -> tuple[Estimate, str]:
    """The external figure at the local share of each class, so that prevalence alone never looks like a worse model."""
    if evidence.external is not None:
        cases = evidence.external.where(evidence.external.has_class)
        own = _mix(cases)
        weight = np.divide(mix, own, out=np.zeros_like(mix), where=own > 0)[cases.truth]
        return _figure(cases, name, level, weight), "external validation, cases at hand, at the local class mix"
    paper = external_verdict.PAPER
    if name == "accuracy":
        return external_verdict.published_share(paper.accuracy, paper.cases, level=level), paper.source
    if name.startswith("AUC"):
        key = name.removeprefix("AUC ")
        n = paper.class_cases[key]
        area = external_verdict.published_area(paper.area[key], n, paper.cases - n, level=level, note=paper.assumed)
        return area, paper.source
    return external_verdict.published_share(0.0, 0, level=level), "not published"


def _calibration(cases: Cases) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for k, name in enumerate(CLASSES):
        said, seen = cases.probability[:, k], (cases.truth == k).astype(float)
        found[name] = {
            "line": calibration.calibration(said, seen),
            "brier": calibration.brier(said, seen),
            "error": calibration.calibration_error(said, seen).debiased,
            "reliability": calibration.reliability(said, seen, 10, of_equal="count"),
        }
    return found


def _net_benefit(evidence: Evidence, cases: Cases) -> dict[str, Any]:
    is_covid, t = cases.truth == COVID, evidence.rules.threshold
    curve = operating.decision_curve(cases.probability[:, COVID], is_covid, np.linspace(0.02, 0.6, 30))
    return {
        "threshold": t,
        "at_threshold": operating.net_benefit(
            cases.is_flagged, is_covid, t, patients=cases.patient, draws=evidence.rules.draws, seed=evidence.rules.seed
        ),
        "flag_all": float(is_covid.mean() - (~is_covid).mean() * t / (1 - t)) if len(cases) else NAN,
        "curve": {"threshold": curve.threshold, "model": curve.model, "flag_all": curve.flag_all},
    }


def _subgroups(cases: Cases, margin: float) -> list[dict[str, Any]]:
    """COVID at the operating point by each factor that is known; a subgroup is judged for its sensitivity."""
    is_covid, found = cases.truth == COVID, []
    if not len(cases):
        return []
    reference = operating.operating_point(cases.is_flagged, is_covid, patients=cases.patient).sensitivity.value
    whose = np.unique(cases.patient, return_inverse=True)[1]
    for factor, names in _factors(cases).items():
        for one in subgroups.by_factor(
            factor, names, cases.is_flagged, is_covid, score=cases.probability[:, COVID], patients=whose
        ):
            state = subgroups.judged(one.sensitivity, one.is_adequate, reference, margin)
            found.append({**vars(one), "is_adequate": one.is_adequate, "state": state})
    return found


def _factors(cases: Cases) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    found: dict[str, np.ndarray[Any, np.dtype[Any]]] = {}
    if "age_years" in cases.numbers:
        found["age"] = subgroups.age_bands(cases.numbers["age_years"])
    for name in ("sex", "view_position", "manufacturer"):
        if name in cases.words:
            texts = cases.words[name].texts()
            found[name] = np.where(texts == "", subgroups.UNKNOWN, texts)
    return found


def corrected(evidence: Evidence, cohort: Cohort) -> dict[str, Any]:
    """COVID sensitivity and specificity with who was verified taken into account, three ways, beside the naive one."""
    studies, labelled = evidence.studies, evidence.labelled
    known = studies.is_assessed & (studies.truth >= 0)
    is_covid = studies.truth == COVID
    old = cohort.is_mature & studies.is_assessed
    table = verification.tabulated(studies.is_flagged[old], is_covid[old], known[old])
    drawn = (labelled.design_weight > 0) & known
    weight = np.where(drawn, labelled.design_weight, np.where(studies.is_flagged & known, 1.0, 0.0))
    return {
        "naive": operating.operating_point(studies.is_flagged[known], is_covid[known], patients=studies.patient[known]),
        "begg_greenes": verification.begg_greenes(table),
        "bounds_if_not_at_random": verification.bounds(table),
        "random_audit": verification.by_design(
            studies.is_flagged[known], is_covid[known], weight[known], studies.patient[known]
        ),
        "audit_reads": int(drawn.sum()),
        "studies": int(old.sum()),
        "verified": int((old & known).sum()),
    }
