"""What changed in what comes in and in what the model says of it, and which cause explains it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from triage.audit import attribution, embedding_drift, estimated_performance, header_drift, label_shift, recalibration
from triage.audit.attribution_parts import Concept, Covariate, Prior
from triage.audit.cases import CLASSES, UNKNOWN, Cases, Flags
from triage.audit.drift_figures import Window
from triage.audit.evidence import Evidence
from triage.audit.states import State

MOST = 20_000
"""Rows of a window whose header and scores are compared: more would only turn smaller differences into findings."""
SCORES = ("gate_score", "lung_area", "activation_outside")
HEADER_WORDS = ("sex", "view_position", "manufacturer", "model_name", "station_name", "requested_priority")
NO_REFERENCE = "There is no local acceptance to compare with."


def drift_of(evidence: Evidence, *, mature_days: float, alpha: float) -> dict[str, Any]:
    """
    Inputs, prevalence, expected performance and the cause.

    Args:
        mature_days: age from which on a study's label has come if it ever does; younger ones are no fair sample.
        alpha: what this report may spend on the cause; 0 when the year's budget is gone.
    """
    if evidence.local is None:
        cause = {"name": "not known", "sentence": NO_REFERENCE}
        return {"inputs": [], "prevalence": None, "estimated": None, "attribution": [], "cause": cause, "novel": []}
    recent = evidence.studies.day > evidence.as_of_day - evidence.rules.recent_days
    now, then = evidence.studies.where(recent), evidence.local
    inputs, novel = _inputs(evidence, then, now)
    spoken = now.where(now.is_assessed)
    reference = then.where(then.has_class)
    shift = label_shift.label_shift(
        reference.probability, reference.truth, spoken.probability,
        blocks=(reference.patient, spoken.patient), draws=min(200, evidence.rules.draws), seed=evidence.rules.seed,
    )  # fmt: skip
    is_mature = evidence.labelled.age[recent][now.is_assessed] >= mature_days
    parts, cause = _cause(evidence, reference, spoken, is_mature, alpha)
    return {
        "reference_cases": len(then),
        "recent_days": evidence.rules.recent_days,
        "recent_cases": len(now),
        "inputs": inputs,
        "novel_cases": novel,
        "prevalence": {
            "reference": shift.reference, "current": shift.current,
            "current_low": shift.low, "current_high": shift.high, "p": shift.p, "condition": shift.condition,
        },
        "estimated": _estimated(reference, spoken, shift),
        "attribution": parts,
        "cause": cause,
    }  # fmt: skip


# --- inputs ---


def _inputs(evidence: Evidence, then: Cases, now: Cases) -> tuple[list[dict[str, Any]], list[int]]:
    rules = evidence.rules
    rows = [*_refusals(evidence, then, now)]
    spoken = [_some(c.where(c.is_assessed), rules.seed) for c in (then, now)]
    numbers = {f"p {c}": _pair(spoken, lambda cases, k=k: cases.probability[:, k]) for k, c in enumerate(CLASSES)}
    shared = [n for n in SCORES if all(n in c.numbers for c in spoken)]
    numbers |= {n: _pair(spoken, lambda cases, n=n: cases.numbers[n]) for n in shared}
    rows += _table("score", numbers, {}, spoken, evidence)
    ages = {"age": _pair(spoken, lambda c: c.numbers["age_years"])} if _all_have(spoken, "age_years") else {}
    words = {n: _pair(spoken, lambda c, n=n: c.words[n].texts()) for n in HEADER_WORDS if _all_say(spoken, n)}
    rows += _table("header", ages, words, spoken, evidence)
    seen = [c.where(_has_details(c)) for c in (then, now)]
    pixels = [n for n in seen[0].numbers if n.startswith("pixel ") and n in seen[1].numbers]
    rows += _table("pixels", {n: _pair(seen, lambda c, n=n: c.numbers[n]) for n in pixels}, {}, seen, evidence)
    embedded, novel = _embedding(evidence, *seen)
    return [*rows, *embedded], novel


def _refusals(evidence: Evidence, then: Cases, now: Cases) -> list[dict[str, Any]]:
    if not all("refusal" in c.words for c in (then, now)):
        return []
    both = [_some(c, evidence.rules.seed) for c in (then, now)]
    words = {"why the gate refused": _pair(both, lambda c: _or(c.words["refusal"].texts(), "assessed"))}
    return _table("gate", {}, words, both, evidence)


def _table(family: str, numbers: Any, words: Any, windows: list[Cases], evidence: Evidence) -> list[dict[str, Any]]:
    if not (numbers or words) or not all(len(c) for c in windows):
        return []
    found = header_drift.drift(
        numbers, words, blocks=(windows[0].patient, windows[1].patient), margin=evidence.rules.effect,
        draws=min(499, 2 * evidence.rules.draws), seed=evidence.rules.seed,
    )  # fmt: skip
    return [
        {
            "family": family, "name": r.name, "reference": r.found.reference, "current": r.found.current,
            "effect": r.effect, "detectable": r.detectable, "p": r.p, "adjusted": r.adjusted_p, "state": r.state,
            "method": r.found.method,
        }
        for r in found
    ]  # fmt: skip


def _embedding(evidence: Evidence, then: Cases, now: Cases) -> tuple[list[dict[str, Any]], list[int]]:
    """Kernel distance and classifier over the embeddings; the studies that look least like the reference."""
    if not (len(then) and len(now)) or then.coordinates.shape[1] != now.coordinates.shape[1]:
        return [], []
    blocks, rules = (then.patient, now.patient), evidence.rules
    kernel = embedding_drift.kernel(
        then.coordinates, now.coordinates, blocks=blocks, draws=rules.draws, seed=rules.seed
    )
    told = embedding_drift.classifier(
        then.coordinates, now.coordinates, blocks=blocks, draws=min(200, rules.draws), seed=rules.seed
    )
    rows = [
        _row("kernel distance (MMD)", kernel.reference, kernel.current, kernel.squared, kernel.p, rules.effect),
        _row("told apart by a classifier", len(told.reference_rows), len(told.current_rows), told.distance, told.p,
             rules.effect),
    ]  # fmt: skip
    return rows, [int(r) for r in told.novel[:12]]


def _row(name: str, reference: int, current: int, effect: float, p: float, margin: float) -> dict[str, Any]:
    state = State.INSUFFICIENT if not np.isfinite(p) else State.WATCH if p <= 0.01 else State.IN_CONTROL
    return {"family": "images", "name": name, "reference": reference, "current": current, "effect": effect,
            "detectable": None, "p": p, "adjusted": p, "state": state, "method": "exchange of patients"}  # fmt: skip


# --- what the probabilities promise ---


def _estimated(reference: Cases, spoken: Cases, shift: label_shift.LabelShift) -> dict[str, Any] | None:
    """Expected accuracy of the recent studies at today's class mix, and how far labels say otherwise."""
    if not len(spoken) or not np.isfinite(shift.current).all():
        return None
    model = recalibration.fitted(reference.probability, reference.truth)
    meant = recalibration.adjusted(model.of(spoken.probability), shift.ratio)
    some = np.random.default_rng(shift.seed).permutation(len(spoken))[:MOST]
    promised = estimated_performance.estimated(
        meant[some], spoken.said[some], patients=spoken.patient[some], draws=max(shift.draws, 2), seed=shift.seed
    )
    has = spoken.has_class
    gap = estimated_performance.gap(meant[has], spoken.truth[has], spoken.said[has], patients=spoken.patient[has])
    return {
        "accuracy": promised.accuracy,
        "areas": promised.areas,
        "realised": {"value": gap.realised, "low": None, "high": None},
        "gap": gap,
        "assumption": promised.assumption,
    }


# --- the cause ---


def _cause(
    evidence: Evidence, reference: Cases, spoken: Cases, is_mature: Flags, alpha: float
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The three parts in words and numbers, and the one that is named the cause."""
    if alpha <= 0:
        return [], {"name": "not tested", "sentence": "This month's test of the cause was made by an earlier report."}
    r, c = reference.where(_has_details(reference)), _has_details(spoken)
    mature, now = is_mature[c], spoken.where(c)
    if not (len(r) and len(now)) or r.coordinates.shape[1] != now.coordinates.shape[1]:
        return [], {"name": "not known", "sentence": "Too few studies have an embedding on record to tell a cause."}
    rules = attribution.Rules(
        prior_alpha=0.2 * alpha, covariate_alpha=0.4 * alpha, concept_alpha=0.4 * alpha,
        draws=evidence.rules.draws, exchanges=exchanges_for(0.4 * alpha), seed=evidence.rules.seed,
    )  # fmt: skip
    found = attribution.attribute(
        Window(r.probability, r.truth, r.coordinates, r.patient),
        Window(now.probability, np.where(mature, now.truth, UNKNOWN), now.coordinates, now.patient),
        rules,
        names=CLASSES,
    )
    if found.prior is None or found.covariate is None or found.concept is None:
        return [], {"name": "not known", "sentence": found.sentence}
    parts = [
        {"name": "other patients (prior)", "sentence": _prior_words(found.prior), "p": found.prior.p},
        {
            "name": "other images (covariate)", "sentence": _covariate_words(found.covariate), "p": found.covariate.p,
            "loss": found.covariate.loss, "loss_p": found.covariate.loss_p, "basis": found.covariate.basis,
        },
        {
            "name": "another meaning (concept)", "sentence": _concept_words(found.concept), "p": found.concept.p,
            "gap": found.concept.gap, "slope": found.concept.slope, "intercepts": found.concept.intercepts,
        },
    ]  # fmt: skip
    cause = {"name": found.cause.value, "state": found.state, "sentence": found.sentence, "alpha": rules.alpha}
    return parts, cause


def exchanges_for(alpha: float) -> int:
    """Exchanges whose smallest p lies well below half of *alpha*, for two tests share it."""
    return int(min(2000, max(200, np.ceil(4 / alpha))))


def _prior_words(prior: Prior) -> str:
    shares = ", ".join(
        f"{c} {before:.0%} before, {now.value:.0%} ({now.low:.0%} to {now.high:.0%}) now"
        for c, before, now in zip(CLASSES, prior.reference, prior.current, strict=True)
    )
    return (
        f"{shares}. The mix alone would bring the share of right answers from {prior.baseline:.3f} to "
        f"{prior.expected.value:.3f} (p {prior.p:.2g})."
    )


def _covariate_words(covariate: Covariate) -> str:
    told, loss = covariate.images.classifier, covariate.loss
    return (
        f"A classifier tells old images from new ones with an AUC of {told.area:.2f} (0.5 is chance; p "
        f"{covariate.p:.2g}). "
        f"The share of right answers falls short of what the mix brings by {loss.value:+.3f} ({loss.low:+.3f} to "
        f"{loss.high:+.3f}), taken from {covariate.basis}."
    )


def _concept_words(concept: Concept) -> str:
    gap = concept.gap
    if not np.isfinite(concept.p):
        return f"{concept.labels} labels: too few to say."
    return (
        f"On {concept.labels} labelled studies {concept.realised.value:.3f} are right, {gap.value:+.3f} "
        f"({gap.low:+.3f} to "
        f"{gap.high:+.3f}) against what the probabilities promised (p {concept.p:.2g})."
    )


# --- rows ---


def _some(cases: Cases, seed: int) -> Cases:
    if len(cases) <= MOST:
        return cases
    return cases.where(np.sort(np.random.default_rng(seed).choice(len(cases), MOST, replace=False)))


def _pair(windows: list[Cases], column: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return column(windows[0]), column(windows[1])


def _all_have(windows: list[Cases], name: str) -> bool:
    return all(name in c.numbers for c in windows)


def _all_say(windows: list[Cases], name: str) -> bool:
    return all(name in c.words for c in windows)


def _has_details(cases: Cases) -> Flags:
    if not cases.coordinates.size:
        return np.zeros(len(cases), dtype=bool)
    return np.asarray(np.isfinite(cases.coordinates).all(axis=1))


def _or(texts: npt.NDArray[np.str_], otherwise: str) -> npt.NDArray[np.str_]:
    return np.where(texts == "", otherwise, texts)
