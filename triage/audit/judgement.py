"""One judgement of a site: both verdicts, the cause, what it means in plain words, and what to do next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from triage.audit import judging_change, judging_drift, judging_labels, judging_performance, judging_waits
from triage.audit.cases import CLASSES
from triage.audit.evidence import Evidence
from triage.audit.plain import plain
from triage.audit.states import State

SCHEMA = 1
BUDGET_FAMILY = "drift and cause"


@dataclass(frozen=True)
class Judgement:
    """
    What a report says, in short, and `body`, the whole of it as plain JSON.

    Attributes:
        external, change: the states of verdicts A and B.
        cause: one of `attribution.Cause`, or "not known".
        spent: what each family of tests took from the year's error budget.
    """

    external: str
    change: str
    cause: str
    sentence: str
    is_alarm: bool
    spent: Mapping[str, float]
    body: Mapping[str, Any]


def judge(evidence: Evidence, spent: Sequence[Mapping[str, Any]] = ()) -> Judgement:
    """
    Judge everything in *evidence*.

    Args:
        spent: year, family and alpha of what earlier reports took from the error budget.
    """
    curves = judging_labels.delay_curves(evidence)
    cohort = judging_performance.cohort_of(evidence, curves)
    performance = judging_performance.performance_of(evidence, cohort)
    change = judging_change.change_since(evidence)
    external, changed = performance["verdict"]["state"], change["verdict"]["state"]
    budget = _budget(evidence, spent, State.ALARM in (external, changed))
    drift = judging_drift.drift_of(evidence, mature_days=cohort.mature_days, alpha=budget["cause_alpha"])
    cause = drift["cause"]["name"]
    is_alarm = State.ALARM in (external, changed, drift["cause"].get("state"))
    sentence = _sentence(external, changed, drift["cause"])
    body = {
        "schema": SCHEMA,
        "site": evidence.site,
        "as_of": evidence.as_of,
        "period_from": evidence.period_from,
        "model": evidence.model,
        "rules": evidence.rules,
        "data_sha256": digest_of(evidence),
        "counts": _counts(evidence),
        "verdicts": {
            "external": performance["verdict"],
            "change": change["verdict"],
            "cause": drift["cause"],
            "sentence": sentence,
        },
        "performance": performance,
        "corrected": judging_performance.corrected(evidence, cohort),
        "change": change,
        "drift": drift,
        "labels": judging_labels.label_section(evidence, curves),
        "waits": judging_waits.waiting_section(evidence),
        "budget": budget,
        "actions": _actions(evidence, external, changed, cause),
        "notes": evidence.notes,
        "command": f"triage audit report --as-of {evidence.as_of}",
    }
    taken = {BUDGET_FAMILY: budget["this_report"]} if budget["this_report"] > 0 else {}
    return Judgement(str(external), str(changed), cause, sentence, is_alarm, taken, plain(body))


def digest_of(evidence: Evidence) -> str:
    """SHA-256 over the columns judged: the same data give the same digest."""
    found = hashlib.sha256()
    studies = evidence.studies
    for column in (studies.probability, studies.truth, studies.patient, studies.day, studies.is_flagged):
        found.update(np.ascontiguousarray(column).tobytes())
    for column in (evidence.labelled.delay, evidence.labelled.source, evidence.labelled.design_weight):
        found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()


def _counts(evidence: Evidence) -> dict[str, Any]:
    studies = evidence.studies
    refusals = studies.words["refusal"].texts()[~studies.is_assessed] if "refusal" in studies.words else np.array([])
    names, numbers = np.unique(refusals, return_counts=True)
    return {
        "studies": len(studies),
        "assessed": int(studies.is_assessed.sum()),
        "flagged": int(studies.is_flagged.sum()),
        "refused": {str(name) or "without a reason": int(n) for name, n in zip(names, numbers, strict=True)},
        "labelled": int((evidence.labelled.source >= 0).sum()),
        "with_class": int(studies.has_class.sum()),
        "by_class": {c: int((studies.truth[studies.has_class] == k).sum()) for k, c in enumerate(CLASSES)},
        "patients": len(np.unique(studies.patient)),
    }


def _budget(evidence: Evidence, spent: Sequence[Mapping[str, Any]], is_alarm: bool) -> dict[str, Any]:
    """
    What this report may spend on naming a cause: a month's share of the year, once a month.

    After an alarm of A or B the cause is asked for whenever it is wanted: that alarm has been counted already.
    """
    rules, year, month = evidence.rules, int(evidence.as_of[:4]), int(evidence.as_of[5:7])
    this_year = [s for s in spent if int(s["year"]) == year]
    gone = sum(float(s["alpha"]) for s in this_year)
    share = rules.alpha_year / 12
    is_due = gone + share <= rules.alpha_year + 1e-9 and not any(int(s["month"]) == month for s in this_year)
    return {
        "year": year,
        "alpha_year": rules.alpha_year,
        "spent_before": gone,
        "this_report": share if is_due else 0.0,
        "cause_alpha": share if is_due or is_alarm else 0.0,
        "daily_watch": f"one false alarm in {rules.alarm_every:g} days with labels on average, or fewer; it has a "
        "clock of its own and takes nothing from this budget",
        "spent": [{k: s[k] for k in ("year", "month", "family", "alpha")} for s in spent],
    }


WORDS = {
    State.IN_CONTROL: "still performs as in external validation",
    State.WATCH: "looks weaker than in external validation, which may be chance",
    State.ALARM: "performs worse than in external validation",
    State.INSUFFICIENT: "cannot be compared with external validation yet",
}
SINCE = {
    State.IN_CONTROL: "nothing shows that it has become worse here",
    State.WATCH: "the last weeks look weaker than the acceptance, which may be chance",
    State.ALARM: "it has become worse here since its acceptance",
    State.INSUFFICIENT: "it is too early to say whether it has changed here",
}


def _sentence(external: State, changed: State, cause: Mapping[str, Any]) -> str:
    return f"The model {WORDS[external]}; {SINCE[changed]}. {cause['sentence']}"


def _actions(evidence: Evidence, external: State, changed: State, cause: str) -> list[str]:
    """What a QA officer should do now, most urgent first."""
    todo = []
    if State.ALARM in (external, changed):
        todo.append(
            "Sign this report with a decision. Until then the site is held in shadow if it is set to fall back: "
            "results are recorded, no study is moved."
        )
    if cause == "concept":
        todo.append(
            "What the labels mean seems to have changed (a new variant, another reporting habit, another test): let a "
            "radiologist read twenty of the disagreeing studies before anything is retrained."
        )
    if cause.startswith("covariate"):
        todo.append(
            "Ask what changed in the images: a detector, a processing version, a ward; see the rows marked below."
        )
    if cause == "prior-only":
        todo.append("No model fault: the classes became more or less frequent. Review the operating point's workload.")
    if evidence.local is None:
        todo.append("Freeze a local acceptance: without it no change here can be found (`triage audit accept`).")
    if not (evidence.labelled.design_weight > 0).any():
        todo.append(
            "No study of the random audit sample is drawn or read: missed COVID can only be estimated under "
            "assumptions (TRIAGE_AUDIT_SECRET, page Quality)."
        )
    saw = evidence.labelled.reader_saw_ai[evidence.labelled.source >= 0]
    if saw.sum() > len(saw) / 2:
        todo.append("Most labels come from readers who saw the AI's result: agreement is flattered.")
    return todo or ["Nothing. The next report comes by itself."]
