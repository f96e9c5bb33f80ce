"""Which order a study answers: accession + issuer, else Study UID, else patient + time; only where one fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from triage.domain.imaging import Patient, StudyFacts
from triage.domain.order import Order

TIME_WINDOW = timedelta(hours=24)
"""How far a study may lie from its order's scheduled time when nothing but patient and time links them."""


@dataclass(frozen=True)
class Candidate:
    """A stored chest order that a study might answer, or the reverse."""

    order_id: int
    order: Order


@dataclass(frozen=True)
class Match:
    """The outcome: an order and by what, or none and why."""

    order_id: int | None
    by: str
    """accession | study-instance-uid | patient-and-time; or why none fits: no-order | ambiguous | patient-differs."""


def the_only_match(study: StudyFacts, candidates: Sequence[Candidate]) -> Match:
    """
    The one order that *study* answers.

    A criterion that several orders fit is never guessed; one that fits only orders of another patient is a mix-up
    for a person, and stops the search, because weaker criteria must not overrule it.
    """
    rules: tuple[tuple[str, Callable[[StudyFacts, Order], bool]], ...] = (
        ("accession", _same_accession),
        ("study-instance-uid", _same_study),
        ("patient-and-time", _same_patient_and_time),
    )
    for by, fits in rules:
        fitting = [c for c in candidates if fits(study, c.order)]
        same_patient = [c for c in fitting if may_be_same_patient(study.patient, c.order.patient)]
        if len(same_patient) == 1:
            return Match(same_patient[0].order_id, by)
        if same_patient:
            return Match(None, "ambiguous")
        if fitting:
            return Match(None, "patient-differs")
    return Match(None, "no-order")


def may_be_same_patient(one: Patient, other: Patient) -> bool:
    """False only where both name a patient within the same (or an unnamed) issuer and the identifiers differ."""
    if not one.patient_id or not other.patient_id or not _same_or_unnamed(one.issuer, other.issuer):
        return True
    return one.patient_id == other.patient_id


def _same_or_unnamed(one: str, other: str) -> bool:
    return not one or not other or one == other


def _same_accession(study: StudyFacts, order: Order) -> bool:
    return (
        bool(study.accession_number)
        and study.accession_number == order.accession_number
        and _same_or_unnamed(study.issuer_of_accession, order.issuer_of_accession)
    )


def _same_study(study: StudyFacts, order: Order) -> bool:
    return study.study_instance_uid == order.study_instance_uid


def _same_patient_and_time(study: StudyFacts, order: Order) -> bool:
    if study.accession_number and order.accession_number:
        return False  # both are numbered and the numbers differ: another request
    known = study.patient.patient_id and study.patient.patient_id == order.patient.patient_id
    if not known or not _same_or_unnamed(study.patient.issuer, order.patient.issuer):
        return False
    if study.study_at is None or order.scheduled_at is None:
        return False
    return abs(study.study_at - order.scheduled_at) <= TIME_WINDOW
