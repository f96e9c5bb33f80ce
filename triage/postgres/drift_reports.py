"""Drift reports, what was decided on them, the alarms they raise, and the error budget they spend."""

from __future__ import annotations

import hashlib
import zlib
from datetime import datetime, timedelta
from typing import Any

from triage.domain.errors import Conflict
from triage.ports import KeptReport
from triage.postgres import audit_trail
from triage.postgres.connect import Db

KEEP = """
    INSERT INTO drift_report (site, as_of, period_from, card_sha256, external_verdict, change_verdict, cause, sentence,
                              body, page, body_sha256)
    VALUES (%(site)s, %(as_of)s, %(period_from)s, %(card_sha256)s, %(external_verdict)s, %(change_verdict)s, %(cause)s,
            %(sentence)s, %(body)s, %(page)s, %(sha256)s)
    ON CONFLICT (site, as_of, period_from, body_sha256) DO NOTHING RETURNING id
"""
SAME = "SELECT id FROM drift_report WHERE site = %s AND as_of = %s AND period_from = %s AND body_sha256 = %s"
RAISE = """
    INSERT INTO drift_alarm (site, report_id, cause, falls_back) VALUES (%s, %s, %s, %s)
"""
NOTICE = "INSERT INTO report_notice (report_id) VALUES (%s)"
SPEND = "INSERT INTO error_budget (site, year, family, alpha, report_id) VALUES (%s, %s, %s, %s, %s)"


def keep(db: Db, report: KeptReport, *, falls_back: bool, tells: bool) -> tuple[int, bool]:
    """
    Store a report and the alarm it raises; the very same report is stored once.

    Args:
        falls_back: whether an alarm holds the site in shadow.
        tells: whether the site's webhook is to hear of it.
    Returns:
        Its id, and whether it is new.
    """
    sha256 = hashlib.sha256(report.body.encode()).hexdigest()
    row = db.execute(KEEP, {**vars(report), "page": zlib.compress(report.page.encode()), "sha256": sha256}).fetchone()
    if row is None:
        same = db.execute(SAME, (report.site, report.as_of, report.period_from, sha256)).fetchone()
        assert same is not None
        return same["id"], False
    report_id = row["id"]
    if tells:
        db.execute(NOTICE, (report_id,))
    for family, alpha in report.spent.items():
        db.execute(SPEND, (report.site, report.as_of.year, family, alpha, report_id))
    if report.is_alarm and not _goes_on(db, report):
        db.execute(RAISE, (report.site, report_id, report.cause, falls_back))
    audit_trail.append(
        db, report.site, "audit", "reported-drift", f"report:{report_id}",
        external=report.external_verdict, change=report.change_verdict, cause=report.cause, sha256=sha256,
    )  # fmt: skip
    return report_id, True


BEFORE = """
    SELECT external_verdict, change_verdict, cause FROM drift_report
     WHERE site = %s AND card_sha256 = %s AND as_of < %s ORDER BY as_of DESC, id DESC LIMIT 1
"""
LOSSES = frozenset({"concept", "covariate-with-performance-loss"})


def _goes_on(db: Db, report: KeptReport) -> bool:
    """Whether all that alarms was there in the report before: it was raised then, and a person may have decided."""
    row = db.execute(BEFORE, (report.site, report.card_sha256, report.as_of)).fetchone()
    now = _alarming(report.external_verdict, report.change_verdict, report.cause)
    return row is not None and now <= _alarming(**row)


def _alarming(external_verdict: str, change_verdict: str, cause: str) -> frozenset[str]:
    verdicts = {"A": external_verdict, "B": change_verdict}
    found = {name for name, state in verdicts.items() if state == "ALARM"}
    return frozenset(found | ({"cause"} if cause in LOSSES else set()))


LISTED = """
    SELECT r.id, r.as_of, r.period_from, r.made_at, r.card_sha256, r.external_verdict, r.change_verdict, r.cause,
           r.sentence, r.body_sha256, a.raised_at, a.closed_at, a.falls_back, n.sent_at, n.failure AS notice_failure,
           (SELECT count(*) FROM sign_off s WHERE s.report_id = r.id) AS signatures
      FROM drift_report r LEFT JOIN drift_alarm a ON a.report_id = r.id LEFT JOIN report_notice n ON n.report_id = r.id
     WHERE r.site = %s ORDER BY r.as_of DESC, r.id DESC LIMIT %s OFFSET %s
"""


def listed(db: Db, site: str, limit: int = 50, offset: int = 0) -> list[dict[str, Any]]:
    """Reports without their pages, the latest first."""
    return db.execute(LISTED, (site, limit, offset)).fetchall()


ONE = "SELECT id, site, as_of, body, page, body_sha256 FROM drift_report WHERE site = %s AND id = %s"


def one(db: Db, site: str, report_id: int) -> dict[str, Any] | None:
    """One report with its JSON (`body`) and its HTML (`page`)."""
    row = db.execute(ONE, (site, report_id)).fetchone()
    return None if row is None else {**row, "page": zlib.decompress(row["page"]).decode()}


SIGNED = "SELECT signed_by, signed_at, decision, rationale FROM sign_off WHERE report_id = %s ORDER BY id"


def signatures(db: Db, report_id: int) -> list[dict[str, Any]]:
    """Who decided what on a report, oldest first."""
    return db.execute(SIGNED, (report_id,)).fetchall()


SIGN = "INSERT INTO sign_off (report_id, signed_by, decision, rationale) VALUES (%s, %s, %s, %s)"
CLOSE = "UPDATE drift_alarm SET closed_at = clock_timestamp() WHERE report_id = %s AND closed_at IS NULL"
STAYS = frozenset({"stay-in-shadow"})
"""Decisions that leave an alarm, and with it the shadow, open."""


def sign(db: Db, site: str, report_id: int, by: str, decision: str, rationale: str) -> None:
    """
    A named person decides on a report; the alarm it raised is closed unless the decision is to stay in shadow.

    Raises:
        Conflict: this site has no such report.
    """
    if one(db, site, report_id) is None:
        raise Conflict(f"site {site} has no drift report {report_id}")
    db.execute(SIGN, (report_id, by, decision, rationale))
    if decision not in STAYS:
        db.execute(CLOSE, (report_id,))
    audit_trail.append(db, site, by, "signed-report", f"report:{report_id}", decision=decision)


OPEN = """
    SELECT a.id, a.report_id, a.raised_at, a.cause, a.falls_back, r.sentence
      FROM drift_alarm a JOIN drift_report r ON r.id = a.report_id
     WHERE a.site = %s AND a.closed_at IS NULL ORDER BY a.id
"""


def open_alarms(db: Db, site: str) -> list[dict[str, Any]]:
    """Alarms nobody has signed yet, oldest first."""
    return db.execute(OPEN, (site,)).fetchall()


FALLEN_BACK = "SELECT EXISTS (SELECT 1 FROM drift_alarm WHERE site = %s AND closed_at IS NULL AND falls_back) AS yes"


def has_fallen_back(db: Db, site: str) -> bool:
    """Whether an open alarm holds the site in shadow."""
    row = db.execute(FALLEN_BACK, (site,)).fetchone()
    return bool(row and row["yes"])


SPENT = """
    SELECT b.year, extract(month FROM coalesce(r.as_of, b.spent_at) AT TIME ZONE 'UTC')::int AS month, b.family,
           sum(b.alpha) AS alpha, count(*) AS times
      FROM error_budget b LEFT JOIN drift_report r ON r.id = b.report_id
     WHERE b.site = %s AND b.spent_at <= %s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def budget_spent(db: Db, site: str, as_of: datetime) -> list[dict[str, Any]]:
    """What each family of tests has taken, by month."""
    return db.execute(SPENT, (site, as_of)).fetchall()


NOTICES = """
    SELECT n.report_id, n.attempts, r.body FROM report_notice n JOIN drift_report r ON r.id = n.report_id
     WHERE r.site = %s AND n.sent_at IS NULL AND n.next_attempt_at <= clock_timestamp() ORDER BY n.report_id LIMIT 10
"""
SENT = (
    "UPDATE report_notice SET sent_at = clock_timestamp(), attempts = attempts + 1, failure = '' WHERE report_id = %s"
)
FAILED = """
    UPDATE report_notice SET attempts = attempts + 1, failure = %s, next_attempt_at = clock_timestamp() + %s
     WHERE report_id = %s
"""
LONGEST_WAIT = timedelta(hours=6)


def notices(db: Db, site: str) -> list[dict[str, Any]]:
    """Reports the webhook has not taken yet and may be offered now."""
    return db.execute(NOTICES, (site,)).fetchall()


def noticed(db: Db, report_id: int) -> None:
    """The webhook has it."""
    db.execute(SENT, (report_id,))


def not_noticed(db: Db, report_id: int, attempts: int, failure: str) -> None:
    """The webhook did not take it; the wait doubles from a minute."""
    db.execute(FAILED, (failure[:200], min(LONGEST_WAIT, timedelta(minutes=2 ** min(attempts, 9))), report_id))
