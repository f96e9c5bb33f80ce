"""
Verdict B: has the model become worse since the local acceptance? Two detectors, looked at every day.

The first watches accuracy whatever the mix of classes: each wrong answer counts by how rare wrong answers of its class
were at acceptance. With r_k the lower limit of class k's share of right answers and c the least of 1 - r_k, a case
counts 1 if right and 1 - c / (1 - r_k) if wrong: its mean is 1 - c or more in every class while the model is as good as
at acceptance, so prevalence may do what it likes. The second watches the sensitivity of the flag for COVID alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import Floats
from triage.audit.cases import CLASSES, COVID, Cases
from triage.audit.evidence import Evidence
from triage.audit.performance import clopper_pearson
from triage.audit.states import State
from triage.audit.watch import Baseline, Rules, Watch, share_baseline, watch

SPENT = 0.025
DAY = re.compile(r"\bday (\d+)\b")
DETECTORS = 2
ORDER = (State.ALARM, State.WATCH, State.INSUFFICIENT, State.IN_CONTROL)
"""The state of several detectors is the first of these that any of them is in; INSUFFICIENT only if none can say."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Labels by the day on which they came to be known: (d,) days, how many, and the sum of what they count."""

    day: npt.NDArray[np.int64]
    n: npt.NDArray[np.int64]
    hits: Floats


def change_since(evidence: Evidence) -> dict[str, Any]:
    """Both detectors, and verdict B over them."""
    if evidence.local is None:
        return {
            "verdict": {
                "state": State.INSUFFICIENT,
                "reason": "There is no local acceptance to have changed from: freeze one (`triage audit accept`).",
            },
            "detectors": {},
        }
    local = evidence.local.where(evidence.local.has_class)
    rules = Rules(
        alarm_every=evidence.rules.alarm_every * DETECTORS, drop=evidence.rules.drop, seed=evidence.rules.seed
    )
    accuracy, value, weights = standard_of(local)
    scaled = replace(rules, drop=rules.drop * float(weights.mean()))
    is_covid = local.truth == COVID
    sensitivity = share_baseline(float(local.is_flagged[is_covid].sum()), int(is_covid.sum()), spent=SPENT)
    found = {
        "accuracy": watch(*_ended(arrivals(evidence, value), evidence.as_of_day), accuracy, scaled,
                          figure="Accuracy, weighed so that the mix of classes does not matter,"),
        "COVID sensitivity": watch(*_ended(covid_arrivals(evidence), evidence.as_of_day), sensitivity, rules,
                                   figure="Sensitivity for COVID at the operating point"),
    }  # fmt: skip
    return {"verdict": _overall(found), "detectors": found}


def standard_of(local: Cases) -> tuple[Baseline, Floats, Floats]:
    """
    What a right and a wrong answer of each class count.

    Returns:
        The baseline of the stream; (2, 3) what a wrong (row 0) and a right answer of each class counts; (3,) what a
        miss of each class costs.
    """
    n = np.bincount(local.truth, minlength=len(CLASSES))
    right = np.bincount(local.truth, local.is_right, len(CLASSES))
    level = 1 - 2 * SPENT / len(CLASSES)
    lower = np.array([clopper_pearson(h, int(m), level)[0] if m else 0.0 for h, m in zip(right, n, strict=True)])
    least = float((1 - lower).min())
    cost = least / (1 - lower)
    share = n / n.sum()
    value = 1 - float(share @ (cost * (1 - np.divide(right, n, out=np.zeros(len(n)), where=n > 0))))
    return Baseline(value, 1 - least, SPENT), np.stack([1 - cost, np.ones(len(n))]), cost


def arrivals(evidence: Evidence, counts: Floats) -> Stream:
    """Labels with a class by day of arrival, one exam a patient and day, as `standard_of` counts them."""
    studies = evidence.studies
    rows = np.flatnonzero(studies.has_class & np.isfinite(evidence.labelled.delay))
    value = counts[studies.is_right[rows].astype(int), studies.truth[rows]]
    return _by_day(evidence, rows, value)


def covid_arrivals(evidence: Evidence) -> Stream:
    """The same of COVID alone: whether it was flagged."""
    studies = evidence.studies
    rows = np.flatnonzero(studies.has_class & (studies.truth == COVID) & np.isfinite(evidence.labelled.delay))
    return _by_day(evidence, rows, studies.is_flagged[rows].astype(np.float64))


def _by_day(evidence: Evidence, rows: npt.NDArray[np.intp], value: Floats) -> Stream:
    day = np.floor(evidence.studies.day[rows] + evidence.labelled.delay[rows]).astype(np.int64)
    patients, whose = np.unique(evidence.studies.patient[rows], return_inverse=True)
    _, first = np.unique(day * len(patients) + whose, return_index=True)
    days, place = np.unique(day[first], return_inverse=True)
    hits = np.bincount(place, value[first], len(days)).astype(np.float64)
    return Stream(days, np.bincount(place, minlength=len(days)).astype(np.int64), hits)


def _ended(stream: Stream, today: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """With the day of the report at its end, so that labels that dried up show."""
    if len(stream.day) and stream.day[-1] >= today:
        return stream.day, stream.n, stream.hits
    return np.append(stream.day, today), np.append(stream.n, 0), np.append(stream.hits, 0.0)


def _overall(found: dict[str, Watch]) -> dict[str, Any]:
    states = {name: w.state for name, w in found.items()}
    state = next(s for s in ORDER if s in states.values())
    if state is State.INSUFFICIENT and states["accuracy"] is State.IN_CONTROL:
        state = State.IN_CONTROL
    loud = [name for name, s in states.items() if s is state] or ["accuracy"]
    reason = " ".join(dated(found[name].reason) for name in loud)
    return {"state": state, "reason": reason, "detectors": states}


def dated(words: str) -> str:
    """The same with its days, numbered from 1970, as dates."""
    return DAY.sub(lambda found: (date(1970, 1, 1) + timedelta(days=int(found[1]))).isoformat(), words)
