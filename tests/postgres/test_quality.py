"""The audit desk on a real database: baselines, labels, reports as known then, alarms, shadow, sign-off, webhook."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks import simulated_year
from benchmarks.hospital import SCENARIOS, made
from integrations.webhook import Webhook
from tests.making import make_assessment, make_order, make_study
from tests.postgres.ward import SITE, Ward
from triage import quality
from triage.audit.evidence import AuditRules
from triage.domain.errors import Conflict, Misconfigured, Rejected, Unavailable
from triage.postgres import drift_reports
from triage.postgres.book import Book
from triage.postgres.connect import Pool

RULES = AuditRules(draws=40, recent_days=120, alpha_year=0.6)
SECRET = b"sixteen bytes at least"


def desk_on(pool: Pool, site: str = SITE, **changes: Any) -> quality.Desk:
    return replace(quality.Desk(site, Book(pool), simulated_year.MODEL, RULES, SECRET), **changes)


def filled(pool: Pool, scenario: str = "in control", **changes: Any) -> quality.Desk:
    """A site with a simulated year and its acceptance, 15 studies a day."""
    chosen = next(s for s in SCENARIOS if s.name == scenario)
    with pool.connection() as db:
        simulated_year.fill(db, SITE, made(chosen, a_day=15, change=240))
    desk = desk_on(pool, **changes)
    until = simulated_year.MIDNIGHT + timedelta(days=120)
    signed = until + timedelta(days=30)
    assert quality.accept(desk, simulated_year.MIDNIGHT, until, "QA", as_of=signed, at=signed)
    return desk


END = simulated_year.MIDNIGHT + timedelta(days=364)


@pytest.mark.timeout(300)
def test_a_report_of_the_past_does_not_change_when_labels_come_late_or_are_amended(pool: Pool) -> None:
    desk = filled(pool)
    before = quality.judged(desk, END)
    with pool.connection() as db:
        db.execute(
            "INSERT INTO label (entry_id, class, source, given_by, saw_the_ai) "
            "SELECT id, 'covid', 'rt-pcr', 'lab', false FROM worklist_entry WHERE site = %s ORDER BY id DESC LIMIT 500",
            (SITE,),
        )
    again = quality.judged(desk, END)
    assert again.body == before.body
    now = quality.gathered(desk, datetime.now(UTC))
    assert (now.labelled.source == 0).sum() > 0, "today's report knows the new labels"
    report_id, is_new, _ = quality.report(desk, END)
    assert is_new
    assert quality.report(desk, END)[:2] == (report_id, False), "the same as-of date gives the same bytes"


@pytest.mark.timeout(300)
def test_an_alarm_holds_the_site_in_shadow_until_a_named_person_signs(pool: Pool, ward: Ward) -> None:
    desk = filled(pool, "accuracy 10 points lower", falls_back=True, tells=True)
    report_id, _, found = quality.report(desk, END)
    assert found.is_alarm
    with pool.connection() as db:
        (alarm,) = drift_reports.open_alarms(db, SITE)
        assert alarm["report_id"] == report_id and alarm["falls_back"]
    study = make_study(accession_number="")
    ward.sees(study)
    (lease,) = ward.lease()
    assert ward.book.record(lease, make_assessment(covid=0.95))
    assert ward.entry(lease.entry_id).placed_because == "clinical", "in shadow a flag moves nothing"
    assert ward.rows("SELECT 1 FROM delivery") == [], "and tells nobody"
    with pool.connection() as db:
        drift_reports.sign(db, SITE, report_id, "Dr. Q", "stay-in-shadow", "looking into it")
        assert drift_reports.has_fallen_back(db, SITE), "that decision leaves it in shadow"
        drift_reports.sign(db, SITE, report_id, "Dr. Q", "continue", "a reporting error, mended")
        assert not drift_reports.has_fallen_back(db, SITE)
        assert [s["decision"] for s in drift_reports.signatures(db, report_id)] == ["stay-in-shadow", "continue"]
        with pytest.raises(Conflict):
            drift_reports.sign(db, "elsewhere", report_id, "Dr. Q", "continue", "not mine")
    quality.report(desk, END + timedelta(hours=1))
    with pool.connection() as db:
        assert drift_reports.open_alarms(db, SITE) == [], "what goes on was decided on: the next night raises nothing"
    study = make_study(accession_number="", patient=make_order().patient)
    ward.sees(study)
    (lease,) = ward.lease()
    assert ward.book.record(lease, make_assessment(covid=0.95))
    assert ward.entry(lease.entry_id).placed_because == "flagged"


@pytest.mark.timeout(300)
def test_the_webhook_gets_each_report_once_and_is_asked_again_when_it_fails(pool: Pool) -> None:
    desk = filled(pool, tells=True)
    quality.report(desk, END)
    heard: list[httpx.Request] = []
    answers = iter([httpx.Response(503), httpx.Response(202)])

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request)
        return next(answers)

    hook = Webhook("https://qa.example/reports", "token", transport=httpx.MockTransport(answer))
    assert quality.send_reports(desk, hook.send) == 0
    assert quality.send_reports(desk, hook.send) == 0, "not before its time"
    with pool.connection() as db:
        db.execute("UPDATE report_notice SET next_attempt_at = clock_timestamp()")
    assert quality.send_reports(desk, hook.send) == 1
    assert quality.send_reports(desk, hook.send) == 0
    assert len(heard) == 2 and heard[0].content == heard[1].content
    assert json.loads(heard[1].content)["site"] == SITE
    assert heard[1].headers["authorization"] == "Bearer token"


def test_a_webhook_is_an_http_address_and_its_failures_name_no_address() -> None:
    with pytest.raises(Misconfigured):
        Webhook("ftp://qa.example")

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route to https://qa.example/secret")

    with pytest.raises(Unavailable) as why:
        Webhook("https://qa.example/secret", transport=httpx.MockTransport(refuse)).send("{}", "x")
    assert "qa.example" not in str(why.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cls": "flu"}, "class"),
        ({"source": "hearsay"}, "source"),
        ({"study_instance_uid": "1.2.3"}, "0 studies"),
    ],
)
def test_a_label_that_cannot_be_placed_is_refused(pool: Pool, changes: dict[str, str], words: str) -> None:
    asked = {"cls": "covid", "source": "rt-pcr", "study_instance_uid": "1.2", **changes}
    with pytest.raises(Rejected, match=words):
        quality.take_label(desk_on(pool), asked["cls"], asked["source"], "lab",
                           study_instance_uid=asked["study_instance_uid"])  # fmt: skip


def test_a_test_result_outranks_the_report_of_the_worklist(ward: Ward) -> None:
    study = make_study(accession_number="")
    ward.sees(study)
    (lease,) = ward.lease()
    ward.book.record(lease, make_assessment(covid=0.9))
    ward.book.claim(lease.entry_id, "reader")
    ward.book.report(lease.entry_id, "reader", "pneumonia")
    desk = desk_on(ward.book.pool)
    at = datetime.now(UTC)
    assert quality.gathered(desk, at).studies.truth.tolist() == [1]
    quality.take_label(desk, "covid", "rt-pcr", "lab", study_instance_uid=study.study_instance_uid)
    later = quality.gathered(desk, datetime.now(UTC))
    assert later.studies.truth.tolist() == [2]
    assert later.labelled.reader_saw_ai.tolist() == [False]
    assert quality.gathered(desk, at).studies.truth.tolist() == [1], "as known then"
    (trail,) = ward.rows("SELECT actor, detail FROM audit_trail WHERE action = 'labelled'")
    assert trail["actor"] == "lab" and trail["detail"]["class"] == "covid"


def test_unflagged_studies_are_drawn_by_the_secret_and_never_twice(ward: Ward) -> None:
    for _ in range(12):
        ward.sees(make_study(accession_number=""))
        (lease,) = ward.lease()
        ward.book.record(lease, make_assessment(covid=0.1))
    desk = desk_on(ward.book.pool, rules=replace(RULES, sample_rate=0.5))
    at = datetime.now(UTC)
    drawn = quality.draw_sample(desk, at)
    assert 0 < drawn < 12
    assert quality.draw_sample(desk, at) == 0
    assert quality.draw_sample(replace(desk, secret=b""), at) == 0
    assert set(ward.book.audit_sample(SITE, datetime.now(UTC)).values()) == {0.5}


def test_too_few_labelled_cases_make_no_acceptance(ward: Ward) -> None:
    with pytest.raises(Conflict, match="at least"):
        quality.accept(desk_on(ward.book.pool), END - timedelta(days=9000), datetime.now(UTC), "QA")


def test_the_shipped_external_validation_is_frozen_once_and_read_back(pool: Pool) -> None:
    from models.engine import WEIGHTS

    stored = json.loads((WEIGHTS / "baseline.json").read_text())
    desk = desk_on(pool, model=replace(simulated_year.MODEL, threshold=stored["threshold"]))
    assert quality.freeze_external(desk, stored, "QA")
    assert not quality.freeze_external(desk, stored, "QA")
    external = quality.gathered(desk, datetime.now(UTC)).external
    assert external is not None
    assert len(external) == len(stored["cases"])
    assessed = sum(c["refused"] is None and c["probabilities"] is not None for c in stored["cases"])
    assert external.is_assessed.sum() == assessed
    card = json.loads((WEIGHTS / "chest.json").read_text())
    figure = next(f for f in card["performance"] if f["what"] == "accuracy" and f["on"] == "external")
    known = external.where(external.has_class)
    assert np.mean(known.is_right) == pytest.approx(figure["value"], abs=5e-4)


@pytest.mark.parametrize("table", ["label", "baseline", "drift_report", "sign_off", "error_budget"])
def test_what_was_said_and_decided_cannot_be_changed(pool: Pool, table: str) -> None:
    import psycopg

    with pool.connection() as db, pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute(f"DELETE FROM {table}".encode())
