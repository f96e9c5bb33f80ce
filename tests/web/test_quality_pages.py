"""The QA page: reports listed, opened in their frame, downloaded, signed; an open alarm is seen everywhere."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.web.conftest import Room
from triage.ports import KeptReport
from triage.postgres import drift_reports
from triage.postgres.book import Book

BODY = '{"site": "x"}\n'


def keep(book: Book, *, is_alarm: bool = False, falls_back: bool = False, page: str = "<p>the page</p>") -> int:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    report = KeptReport(
        site="main", as_of=at, period_from=at, card_sha256="c", external_verdict="IN CONTROL",
        change_verdict="ALARM" if is_alarm else "IN CONTROL", cause="none", sentence="The model <still> performs.",
        body=BODY, page=page, is_alarm=is_alarm, spent={"drift and cause": 0.02},
    )  # fmt: skip
    return book.keep_report(report, falls_back=falls_back, tells=False)[0]


def test_without_a_report_the_page_says_how_to_make_one(room: Room) -> None:
    assert "triage audit report" in room.client.get("/quality").text


def test_a_report_is_listed_with_its_verdicts_and_opened(room: Room) -> None:
    report_id = keep(room.book)
    listed = room.client.get("/quality").text
    assert "The model &lt;still&gt; performs." in listed and "IN CONTROL" in listed
    assert f'src="/quality/reports/{report_id}/page"' in room.client.get(f"/quality/reports/{report_id}").text
    alone = room.client.get(f"/quality/reports/{report_id}/page")
    assert alone.text == "<p>the page</p>"
    assert "script-src" not in alone.headers["content-security-policy"]
    assert "default-src 'none'" in alone.headers["content-security-policy"]
    assert room.client.get(f"/quality/reports/{report_id}/json").text == BODY


def test_a_report_that_is_not_there_is_a_404(room: Room) -> None:
    assert room.client.get("/quality/reports/4711").status_code == 404


def test_a_decision_needs_a_reason_and_a_known_word(room: Room) -> None:
    report_id = keep(room.book, is_alarm=True)
    url = f"/quality/reports/{report_id}/sign"
    assert room.client.post(url, data={"decision": "shrug", "rationale": "x"}).status_code == 422
    assert room.client.post(url, data={"decision": "continue", "rationale": "  "}).status_code == 422
    done = room.client.post(url, data={"decision": "continue", "rationale": "checked"}, follow_redirects=False)
    assert done.status_code == 303
    with room.book.pool.connection() as db:
        (signed,) = drift_reports.signatures(db, report_id)
    assert (signed["decision"], signed["rationale"]) == ("continue", "checked")
    assert "checked" in room.client.get(f"/quality/reports/{report_id}").text


def test_an_alarm_that_falls_back_shows_as_shadow_on_every_page(room: Room) -> None:
    keep(room.book, is_alarm=True, falls_back=True)
    room.app.state.desk.held_in_shadow.asked_at = None  # the answer may be two seconds old, and this clock stands still
    page = room.client.get("/quality").text
    assert "held in shadow" in page
    assert 'class="mode mode-shadow"' in page


def test_nobody_sees_it_without_signing_in(room: Room) -> None:
    answer = room.another().get("/quality", headers={"accept": "text/html"}, follow_redirects=False)
    assert answer.status_code == 303


@pytest.mark.parametrize("path", ["/quality", "/quality?offset=30"])
def test_the_page_answers(room: Room, path: str) -> None:
    assert room.client.get(path).status_code == 200
