"""Studies as an archive lists them: matched, given a place, put in line for assessment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from triage.domain.imaging import SeenInstance, StudyFacts
from triage.domain.matching import may_be_same_patient
from triage.domain.priority import clinical_place
from triage.domain.worklist import AiState, ReadingState, WorklistEntry
from triage.ports import identity_of
from triage.postgres import assessing, audit_trail, deliveries, leases, matching, orders, runs, studies, worklist
from triage.postgres.connect import Db
from triage.postgres.site_rules import SiteRules
from triage.postgres.worklist import ATTEMPTS

IMAGES = frozenset({"CR", "DX", ""})
"""Modalities whose new instances start a new run; our own SEG and SR must not."""
GIVE_UP_AFTER = timedelta(hours=24)
"""How long an incomplete study is waited for after its last new instance; then it is timed out, for a person to see."""
FINISHED = frozenset({AiState.FLAGGED, AiState.NOT_FLAGGED, AiState.NOT_ELIGIBLE, AiState.FAILED, AiState.TIMED_OUT})


def see_study(
    db: Db,
    rules: SiteRules,
    site: str,
    archive: str,
    study: StudyFacts,
    listed: Sequence[SeenInstance],
    *,
    at: datetime,
    settle: timedelta,
) -> str:
    """Match, place and queue a study as the archive lists it at *at*."""
    stored = studies.by_uid(db, site, study.study_instance_uid)
    known = [study, *([studies.study_of(stored)] if stored else [])]
    orders.lock_identity(db, site, [key for facts in known for key in orders.identity_keys(facts)])
    row = studies.upsert(db, site, archive, study, at)
    is_other_patient = False
    if stored is not None and identity_of(studies.study_of(stored)) != identity_of(study):
        has_parted = matching.part_if_of_another_patient(db, site, row, archive)
        row = {**row, "match_outcome": "patient-differs"} if has_parted else row
        is_other_patient = has_parted or not may_be_same_patient(orders.patient_of(stored), study.patient)
    if row["is_new"] or row["match_outcome"] in {"no-order", "ambiguous", "patient-differs"}:
        matching.match(db, rules, site, row, archive)
    new = studies.add_instances(db, row["id"], listed, at)
    entry = worklist.of_study(db, row["id"])
    assert entry is not None
    if row["is_new"]:
        audit_trail.append(db, site, archive, "study-seen", f"entry:{entry.entry_id}", study=study.study_instance_uid)
    if is_other_patient:
        entry = _start_over(db, entry, archive, at + settle)
    news = row["is_new"] or any(i.sop_instance_uid in new and i.modality in IMAGES for i in listed)
    if news or new:
        studies.touch(db, row["id"], at)
    is_as_before = stored is not None and not new and stored["instance_count"] == study.instance_count
    waits = entry.ai_state is AiState.AWAITING_IMAGES and entry.eligible_at is not None
    if is_as_before and waits and at - row["last_changed_at"] >= GIVE_UP_AFTER:
        attempt = leases.attempt_of(db, entry.entry_id)
        assessing.end(db, entry, row["id"], attempt, "timed-out", entry.ai_reason)
        return "timed-out"
    change = _queue(db, rules, entry, study, len(listed), news, is_as_before, at, settle)
    return change or ("corrected" if is_other_patient else "")


def _start_over(db: Db, entry: WorklistEntry, actor: str, assess_after: datetime) -> WorklistEntry:
    """Withdraw what was told of an entry under the wrong patient, and queue a new run; its place stays."""
    runs.withdraw(db, entry.entry_id)
    deliveries.tell(db, entry.entry_id, None, ())
    audit_trail.append(db, entry.site, actor, "withdrawn", f"entry:{entry.entry_id}", reason="patient corrected")
    is_cancelled = entry.reading_state is ReadingState.CANCELLED
    if entry.ai_state in {AiState.AWAITING_IMAGES, AiState.SUPERSEDED} or entry.eligible_at is None or is_cancelled:
        return entry
    return worklist.set_ai_state(
        db, entry, AiState.QUEUED, "patient corrected", assess_after=assess_after, attempts_left=ATTEMPTS
    )


def _queue(
    db: Db,
    rules: SiteRules,
    entry: WorklistEntry,
    study: StudyFacts,
    listed: int,
    news: bool,
    is_as_before: bool,
    at: datetime,
    settle: timedelta,
) -> str:
    """Put an entry whose images came (or came late) in line for assessment."""
    if listed == 0:
        return ""
    if entry.eligible_at is None:
        entry = worklist.set_place(
            db, entry, clinical_place(entry.requested_priority, at, rules.policy),
            eligible_at=at, because="clinical", actor="archive", reason="images stored",
        )  # fmt: skip
    waits = entry.ai_state is AiState.AWAITING_IMAGES
    if not news and not waits:
        return ""
    if entry.ai_state in {AiState.WITHDRAWN, AiState.SUPERSEDED}:
        return ""
    if entry.ai_state in FINISHED:
        audit_trail.append(db, entry.site, "archive", "late-instance", f"entry:{entry.entry_id}")
    if study.instance_count is not None and listed < study.instance_count:
        reason = f"incomplete: {listed} of {study.instance_count} instances"
        if waits and entry.ai_reason == reason:
            return ""
        worklist.set_ai_state(db, entry, AiState.AWAITING_IMAGES, reason)
        return "incomplete"
    if is_as_before and leases.attempt_of(db, entry.entry_id) > 0:  # a worker gave it back: its back-off holds
        worklist.set_ai_state(db, entry, AiState.QUEUED, entry.ai_reason)
        return "queued"
    worklist.set_ai_state(db, entry, AiState.QUEUED, "settling", assess_after=at + settle, attempts_left=ATTEMPTS)
    return "queued"
