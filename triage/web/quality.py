"""The QA desk: drift reports, open alarms, sign-offs, baselines, and the studies to read for the audit."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from triage.audit import exports
from triage.postgres import audit_labels, baselines, drift_reports
from triage.web.desk import AtDesk, Desk
from triage.web.pages import Offset, page
from triage.web.signin import HEADERS, Reader

router = APIRouter(include_in_schema=False)
PAGE = 30
DECISIONS = {
    "continue": "Keep using the model as it is",
    "stay-in-shadow": "Stay in shadow: the alarm stays open",
    "investigate": "Keep using it and investigate",
    "recalibrate": "Recalibrate or move the operating point",
    "retire": "Retire this model version here",
}
STATE_CLASS = {"IN CONTROL": "ok", "WATCH": "warn", "ALARM": "bad", "INSUFFICIENT": "none"}
CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
"""A report is one page without script; its style and drawings stand in it."""


@router.get("/quality")
def quality(desk: AtDesk, reader: Reader, offset: Offset = 0) -> Response:
    """Reports, alarms, baselines, the error budget and the audit sample; no patient data."""
    with desk.book.pool.connection() as db:
        found = drift_reports.listed(db, desk.site, PAGE + 1, offset)
        values: dict[str, Any] = {
            "reports": found[:PAGE],
            "has_more": len(found) > PAGE,
            "offset": offset,
            "page_size": PAGE,
            "alarms": drift_reports.open_alarms(db, desk.site),
            "baselines": baselines.of_site(db, desk.site, desk.clock()),
            "budget": drift_reports.budget_spent(db, desk.site, desk.clock()),
            "to_read": audit_labels.to_read(db, desk.site, PAGE),
        }
    return page("quality.html", desk, reader, state_class=STATE_CLASS, **values)


@router.get("/quality/reports/{report_id}")
def report(report_id: int, desk: AtDesk, reader: Reader) -> Response:
    """One report in its frame: the page itself, what was decided on it, and the form to decide."""
    found = _report(desk, report_id)
    with desk.book.pool.connection() as db:
        signed = drift_reports.signatures(db, report_id)
    framed = page("report.html", desk, reader, report=found, signed=signed, decisions=DECISIONS)
    framed.headers["Content-Security-Policy"] = HEADERS["Content-Security-Policy"] + "; frame-src 'self'"
    return framed


@router.get("/quality/reports/{report_id}/page")
def report_page(report_id: int, desk: AtDesk, reader: Reader) -> Response:
    """The self-contained page, as it was stored."""
    return HTMLResponse(_report(desk, report_id)["page"], headers={"Content-Security-Policy": CSP})


@router.get("/quality/reports/{report_id}/json")
def report_json(report_id: int, desk: AtDesk, reader: Reader) -> Response:
    """The same as JSON, byte for byte what the digest is of."""
    return _download(_report(desk, report_id)["body"], f"drift-report-{report_id}.json", "application/json")


@router.get("/quality/reports/{report_id}/csv")
def report_csv(report_id: int, desk: AtDesk, reader: Reader) -> Response:
    """Every figure as one row, in the manner of a registry's concordance upload."""
    text = exports.registry_csv(json.loads(_report(desk, report_id)["body"]))
    return _download(text, f"drift-report-{report_id}.csv", "text/csv")


@router.post("/quality/reports/{report_id}/sign")
def sign(
    report_id: int,
    desk: AtDesk,
    reader: Reader,
    decision: Annotated[str, Form()],
    rationale: Annotated[str, Form(max_length=2000)],
) -> Response:
    """A named person decides; what was decided is never taken back, only added to."""
    if decision not in DECISIONS:
        raise HTTPException(422, f"decision must be one of {', '.join(DECISIONS)}")
    if not rationale.strip():
        raise HTTPException(422, "a decision needs a reason")
    with desk.book.pool.connection() as db, db.transaction():
        drift_reports.sign(db, desk.site, report_id, reader, decision, rationale.strip())
    return RedirectResponse(f"/quality/reports/{report_id}", 303)


def _report(desk: Desk, report_id: int) -> dict[str, Any]:
    with desk.book.pool.connection() as db:
        found = drift_reports.one(db, desk.site, report_id)
    if found is None:
        raise HTTPException(404, f"no drift report {report_id}")
    return found


def _download(text: str, name: str, kind: str) -> Response:
    return Response(text, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
