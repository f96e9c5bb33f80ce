"""The audit's use cases: freeze a baseline, take a label, draw the sample, judge a period as known at an instant."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from triage.audit import labels as ranked
from triage.audit import page as drawn
from triage.audit.baseline import cases_of, from_external, frozen_json
from triage.audit.cases import CLASSES, COVID, OTHER, UNKNOWN, Cases, Words
from triage.audit.evidence import AuditRules, Evidence, Labelled, Model, Waits
from triage.audit.judgement import Judgement, judge
from triage.audit.plain import to_json
from triage.audit.subgroups import LEAST
from triage.domain.errors import Conflict, Rejected, Unavailable
from triage.domain.finding import PIXEL_STATISTICS
from triage.domain.frame import Frame
from triage.ports import AuditBook, KeptReport, NewLabel, StoredBaseline

log = logging.getLogger(__name__)

NUMBERS = ("gate_score", "lung_area", "activation_outside", "age_years")
WORDS = ("outcome", "refusal", "requested_priority", "sex", "view_position", "manufacturer", "model_name",
         "station_name", "version", "card_sha256")  # fmt: skip
DETAILS = 4000
"""Studies of a window whose pixels and embeddings are looked at: more would not be seen more sharply."""
SOURCE_OF = {"radiologist": ranked.Source.FINAL_REPORT}
"""What sources are called that the worklist writes by another name."""
ALL_DAYS = 36_500
LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)
MANUAL_SOURCES = frozenset(str(s) for s in ranked.SOURCES) | {"radiologist"}


@dataclass(frozen=True)
class Desk:
    """What judging one site takes."""

    site: str
    book: AuditBook
    model: Model
    rules: AuditRules
    secret: bytes = b""
    falls_back: bool = True
    tells: bool = False


# --- what is read ---


def gathered(desk: Desk, as_of: datetime, since: datetime | None = None) -> Evidence:
    """
    Everything known at *as_of* of the studies since the local acceptance, or since *since*.

    Raises:
        Misconfigured: a baseline cannot be read.
    """
    frozen = desk.book.baselines(desk.site, as_of)
    external, local = _latest(frozen, "external-validation"), _latest(frozen, "local-acceptance")
    start = since or _start(local) or LONG_AGO
    frame = desk.book.audit_cases(desk.site, start, as_of)
    known, conflicts = _known(desk, as_of)
    sampled = desk.book.audit_sample(desk.site, as_of)
    cases, labelled = _joined(frame, known, conflicts, sampled, as_of)
    recent = cases.day > int(as_of.timestamp() // 86400) - desk.rules.recent_days
    cases = _detailed(desk, frame, cases, np.flatnonzero(recent & cases.is_assessed), desk.rules.seed)
    notes = []
    if external is not None and external.card_sha256 not in ("", desk.model.card_sha256):
        notes.append("The external validation frozen here is that of another model card.")
    return Evidence(
        site=desk.site,
        as_of=as_of.astimezone(UTC).isoformat(timespec="seconds"),
        period_from=start.astimezone(UTC).isoformat(timespec="seconds"),
        as_of_day=int(as_of.timestamp() // 86400),
        model=desk.model,
        external=None if external is None else cases_of(external.body),
        local=None if local is None else cases_of(local.body),
        studies=cases,
        labelled=labelled,
        waits=_waits(desk, frame, cases, start, as_of),
        rules=desk.rules,
        notes=tuple(notes),
    )


def _latest(frozen: Sequence[StoredBaseline], kind: str) -> StoredBaseline | None:
    return next((b for b in reversed(frozen) if b.kind == kind), None)


def _start(local: StoredBaseline | None) -> datetime | None:
    if local is None:
        return None
    until: str = json.loads(local.body)["until"]
    return datetime.fromisoformat(until)


def _known(desk: Desk, as_of: datetime) -> tuple[ranked.Known, tuple[Mapping[str, object], ...]]:
    frame = desk.book.audit_labels(desk.site, as_of)
    number = {str(s): i for i, s in enumerate(ranked.SOURCES)}
    of_source = {c: number.get(str(SOURCE_OF.get(w, w)), -1) for c, w in frame.words["source"].items()}
    of_class = {c: (*CLASSES, "other").index(w) for c, w in frame.words["class"].items()}
    affirmed = {c for c, w in frame.words["certainty"].items() if w == "affirmed"}
    source = _mapped(frame["source"], of_source)
    keep = (source >= 0) & np.isin(frame["certainty"], list(affirmed))
    truth = np.where(frame["is_retracted"] > 0, ranked.WITHDRAWN, _mapped(frame["class"], of_class))
    labels = ranked.Labels(
        row=frame["label_id"][keep],
        study=frame["entry_id"][keep],
        source=source[keep].astype(np.int8),
        truth=truth[keep].astype(np.int8),
        reader_saw_ai=frame["saw_the_ai"][keep] > 0,
        valid_from=_instants(frame["valid_from"][keep]),
        recorded_at=_instants(frame["recorded_at"][keep]),
    )
    at = np.datetime64(as_of.astimezone(UTC).replace(tzinfo=None), "us")
    disagreeing = tuple(
        {"first": c.first.value, "second": c.second.value, "both": c.both, "differ": c.differ}
        for c in ranked.conflicts(labels, at)
    )
    return ranked.as_known(labels, at), disagreeing


def _mapped(codes: Any, table: Mapping[int, int]) -> Any:
    values, place = np.unique(codes, return_inverse=True)
    return np.array([table.get(int(v), -1) for v in values] or [-1], dtype=np.int64)[place]


def _instants(seconds: Any) -> Any:
    return (np.asarray(seconds) * 1e6).round().astype("datetime64[us]")


def _joined(
    frame: Frame, known: ranked.Known, conflicts: tuple[Mapping[str, object], ...], sampled: Mapping[int, float],
    as_of: datetime,
) -> tuple[Cases, Labelled]:  # fmt: skip
    n, entry = len(frame), frame["entry_id"]
    place = np.searchsorted(known.study, entry) if len(known.study) else np.zeros(n, dtype=np.intp)
    place = np.minimum(place, max(len(known.study) - 1, 0))
    has = known.study[place] == entry if len(known.study) else np.zeros(n, dtype=bool)

    def taken(values: Any, otherwise: Any) -> Any:
        return np.where(has, values[place], otherwise) if len(values) else np.full(n, otherwise)

    first = known.first_recorded_at.astype("datetime64[us]").astype(np.int64) / 1e6
    heard = taken(first, np.nan)
    rate = np.array([sampled.get(int(e), 0.0) for e in entry]) if sampled else np.zeros(n)
    labelled = Labelled(
        delay=np.maximum(heard - frame["at"], 0.0) / 86400,
        age=np.maximum(as_of.timestamp() - frame["at"], 0.0) / 86400,
        source=taken(known.source.astype(np.int64), -1),
        reader_saw_ai=taken(known.reader_saw_ai, False).astype(bool),
        design_weight=np.divide(1.0, rate, out=np.zeros(n), where=rate > 0),
        amended=int(known.amended.sum()),
        conflicts=conflicts,
    )
    cases = Cases(
        probability=np.stack([frame[f"p_{c}"] for c in CLASSES], axis=1),
        truth=taken(known.truth.astype(np.int64), UNKNOWN),
        patient=frame["patient"],
        day=frame["day"],
        is_flagged=frame["is_flagged"] > 0,
        numbers={name: frame[name] for name in NUMBERS},
        words={name: Words(frame[name], frame.words[name]) for name in WORDS},
    )
    return cases, labelled


def _detailed(desk: Desk, frame: Frame, cases: Cases, rows: Any, seed: int) -> Cases:
    """Pixel statistics and coordinates of at most DETAILS of *rows*, drawn by chance; NaN for all others."""
    if len(rows) > DETAILS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, DETAILS, replace=False))
    found = desk.book.audit_details(frame["case_id"][rows].tolist())
    pixels = np.full((len(cases), len(PIXEL_STATISTICS)), np.nan)
    coordinates = np.full((len(cases), found["coordinates"].shape[1]), np.nan)
    pixels[rows], coordinates[rows] = found["statistics"], found["coordinates"]
    numbers = {**cases.numbers, **{f"pixel {name}": pixels[:, i] for i, name in enumerate(PIXEL_STATISTICS)}}
    return replace(cases, numbers=numbers, coordinates=coordinates)


def _waits(desk: Desk, frame: Frame, cases: Cases, start: datetime, as_of: datetime) -> Waits | None:
    read = desk.book.audit_readings(desk.site, start, as_of)
    if not len(read):
        return None
    order = np.argsort(read["entry_id"])
    place = order[np.searchsorted(read["entry_id"][order], frame["entry_id"])]
    return Waits(read["eligible"][place], read["opened"][place], read["reported"][place], cases.is_flagged, cases.truth)


# --- baselines ---


def accept(
    desk: Desk,
    start: datetime,
    until: datetime,
    by: str,
    *,
    name: str = "local acceptance",
    as_of: datetime | None = None,
    at: datetime | None = None,
) -> bool:
    """
    Freeze the studies of (start, until] as the site's own baseline; False where it was frozen before.

    Args:
        as_of: with the labels known then; by default all that are known now.
        at: when it is said to be frozen; only for simulations.

    Raises:
        Conflict: a class has fewer labelled cases than the audit can use.
    """
    # pixels and embeddings of the whole acceptance, however long ago it was
    whole = replace(desk, rules=replace(desk.rules, recent_days=ALL_DAYS))
    evidence = gathered(whole, as_of or datetime.now(UTC), since=start)
    cases = evidence.studies.where(evidence.studies.day < int(until.timestamp() // 86400))
    counts = np.bincount(cases.truth[cases.has_class], minlength=len(CLASSES))
    if (counts < LEAST).any():
        words = ", ".join(f"{c} {n}" for c, n in zip(CLASSES, counts, strict=True))
        raise Conflict(f"a local acceptance needs at least {LEAST} labelled cases of each class: {words}")
    body = frozen_json(cases, name=name, until=until, model=desk.model)
    return desk.book.freeze_baseline(desk.site, "local-acceptance", name, desk.model.card_sha256, body, by, at)


def freeze_external(desk: Desk, stored: Mapping[str, Any], by: str) -> bool:
    """Freeze the shipped external validation for this site; False where it was frozen before."""
    cases = from_external(stored, desk.model.threshold)
    body = frozen_json(cases, name="external validation of the shipped weights", until=LONG_AGO, model=desk.model)
    card = str(stored["classifier"]["card_sha256"])
    return desk.book.freeze_baseline(desk.site, "external-validation", "shipped external validation", card, body, by)


# --- labels ---


def take_label(
    desk: Desk, cls: str, source: str, by: str, *, study_instance_uid: str = "", accession_number: str = "",
    valid_from: datetime | None = None, saw_the_ai: bool = False, certainty: str = "affirmed",
) -> None:  # fmt: skip
    """
    Keep what a test, a report or a person says of one study.

    Raises:
        Rejected: an unknown class or source, or no study, or several, that it may mean.
    """
    if cls not in (*CLASSES, "other"):
        raise Rejected(f"label: class must be one of {', '.join(CLASSES)}, other")
    if source not in MANUAL_SOURCES:
        raise Rejected(f"label: source must be one of {', '.join(sorted(MANUAL_SOURCES))}")
    found = desk.book.entries_of(desk.site, study_instance_uid=study_instance_uid, accession_number=accession_number)
    if len(found) != 1:
        raise Rejected(f"label: {len(found)} studies of this site fit it; exactly one must")
    desk.book.add_label(NewLabel(found[0], cls, source, by, saw_the_ai, valid_from, certainty))


def draw_sample(desk: Desk, as_of: datetime, days: float = 7) -> int:
    """Draw the random part of the last days' unflagged studies that shall be read for the audit; how many are new."""
    if not desk.secret:
        return 0
    frame = desk.book.audit_cases(desk.site, as_of - timedelta(days=days), as_of)
    spoke = np.isfinite(frame[f"p_{CLASSES[COVID]}"])
    entries = frame["entry_id"][spoke]
    drawn_ones = ranked.random_audit(entries, frame["is_flagged"][spoke] > 0, desk.secret, desk.rules.sample_rate)
    return desk.book.choose_for_audit(desk.site, entries[drawn_ones.chosen].tolist(), desk.rules.sample_rate)


# --- reports ---


def judged(desk: Desk, as_of: datetime, since: datetime | None = None) -> Judgement:
    """What there is to say of the site as known at *as_of*; nothing is kept."""
    return judge(gathered(desk, as_of, since), desk.book.budget_spent(desk.site, as_of))


def report(desk: Desk, as_of: datetime, since: datetime | None = None) -> tuple[int, bool, Judgement]:
    """Judge the site as known at *as_of* and keep the report; its id, whether it is new, and what it says."""
    found = judged(desk, as_of, since)
    kept = KeptReport(
        site=desk.site,
        as_of=as_of,
        period_from=datetime.fromisoformat(found.body["period_from"]),
        card_sha256=desk.model.card_sha256,
        external_verdict=found.external,
        change_verdict=found.change,
        cause=found.cause,
        sentence=found.sentence,
        body=to_json(found.body),
        page=drawn.page_of(found.body),
        is_alarm=found.is_alarm,
        spent=found.spent,
    )
    report_id, is_new = desk.book.keep_report(kept, falls_back=desk.falls_back, tells=desk.tells)
    return report_id, is_new, found


def send_reports(desk: Desk, send: Callable[[str, str], None]) -> int:
    """Offer every report that was not taken yet; how many were taken."""
    taken = 0
    for due in desk.book.reports_to_send(desk.site):
        try:
            send(str(due["body"]), f"drift report {due['report_id']}")
        except Unavailable as why:
            desk.book.report_not_sent(due["report_id"], due["attempts"], str(why))
            log.warning("drift report %d: %s", due["report_id"], why)
        else:
            desk.book.report_sent(due["report_id"])
            taken += 1
    return taken


__all__ = [
    "OTHER",
    "Desk",
    "accept",
    "draw_sample",
    "freeze_external",
    "gathered",
    "report",
    "send_reports",
    "take_label",
]
