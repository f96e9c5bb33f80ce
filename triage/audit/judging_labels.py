"""What the labels are worth: where they come from, how late, who saw the AI, and what that does to the figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from triage.audit import label_delay, operating
from triage.audit.bootstrap import NAN
from triage.audit.cases import COVID
from triage.audit.evidence import Evidence
from triage.audit.labels import SOURCES

LEAST_AGE = 1.0
"""Days from which on a label counts in the early view."""


def delay_curves(evidence: Evidence) -> tuple[label_delay.Curve, ...]:
    """How fast labels come for flagged and for unflagged studies."""
    assessed = evidence.studies.is_assessed
    return label_delay.curves(
        evidence.labelled.delay[assessed],
        evidence.labelled.age[assessed],
        evidence.studies.is_flagged[assessed].astype(int),
    )


def label_section(evidence: Evidence, curves: tuple[label_delay.Curve, ...]) -> dict[str, Any]:
    """Sources, delay, the early view by inverse probability, amendments and conflicts."""
    labelled = evidence.labelled
    has = labelled.source >= 0
    return {
        "labelled": int(has.sum()),
        "other_finding": int((has & (evidence.studies.truth == 3)).sum()),
        "sources": [
            {
                "source": source,
                "studies": int((labelled.source == i).sum()),
                "reader_saw_ai": int((labelled.reader_saw_ai & (labelled.source == i)).sum()),
            }
            for i, source in enumerate(SOURCES)
            if (labelled.source == i).any()
        ],
        "amended": labelled.amended,
        "conflicts": labelled.conflicts,
        "delay": [
            {"flagged": bool(c.stratum), "pooled": c.pooled, "age": c.age, "share": c.share}
            for c in (label_delay.thinned(c, 120) for c in curves)
        ],
        "early_view": _early(evidence, curves),
    }


def _early(evidence: Evidence, curves: tuple[label_delay.Curve, ...]) -> dict[str, Any]:
    """COVID sensitivity of every label so far, each weighed by how few of its kind have one at its age."""
    studies = evidence.studies
    assessed = np.flatnonzero(studies.is_assessed)
    some = studies.where(assessed)
    delay, age = evidence.labelled.delay[assessed], evidence.labelled.age[assessed]
    if not len(assessed):
        return {"effective": 0.0, "sensitivity": None, "specificity": None}
    weights = label_delay.inverse_probability(delay, age, some.is_flagged.astype(int), curves, least_age=LEAST_AGE)
    known = (some.truth >= 0) & (weights.weight > 0)
    point = operating.operating_point(
        some.is_flagged[known], some.truth[known] == COVID, weights.weight[known], some.patient[known]
    )
    return {
        "effective": weights.effective if np.isfinite(weights.effective) else NAN,
        "sensitivity": point.sensitivity,
        "specificity": point.specificity,
    }
