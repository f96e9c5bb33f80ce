"""The reading room at a browser: blinded, in order, resumable; and the table at the end."""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.reading_room.making import CODES, Clock, make_folder, make_study, read_all, write_table
from triage.domain.errors import Conflict, Misconfigured, Rejected
from triage.domain.finding import ChestClass
from triage.reading_room.app import create_app
from triage.reading_room.commands import add_commands
from triage.reading_room.export import COLUMNS, table
from triage.reading_room.prepared import Study, load
from triage.reading_room.room import Room
from triage.reading_room.standing import Kind
from triage.reading_room.store import Journal, read_events
from triage.reading_room.study import Modality

HERE = "http://127.0.0.1"
COVID = {"response": "covid", "score_normal": "0", "score_pneumonia": "5", "score_covid": "95"}


class Place:
    """A study being served, and its readers' browsers."""

    def __init__(self, study: Study, clock: Clock) -> None:
        self.study, self.clock = study, clock
        self.serve()

    def serve(self) -> None:
        """Start serving, as after a crash: nothing is known but what is in the folder."""
        self.app = create_app(Room.opened(load(self.study.folder), self.clock))

    def browser(self, reader: str = "") -> TestClient:
        client = TestClient(self.app, base_url=HERE, headers={"Origin": HERE, "Accept": "text/html"})
        if reader:
            assert client.post("/signin", data={"code": CODES[reader]}).status_code == 200
        return client

    def modality(self, reader: str) -> Modality:
        room: Room = self.app.state.room
        return self.study.orders[reader][room.standing(reader).latest].modality


@pytest.fixture
def place(tmp_path: Path) -> Place:
    prepared = make_study(tmp_path / "study")
    return Place(prepared.study, prepared.clock)


def field_of(html: str, name: str) -> str:
    found = re.search(f'name="{name}" value="([0-9a-f]*)"', html)
    assert found is not None, name
    return found[1]


def open_next(browser: TestClient) -> str:
    """Press the button that goes on; the page that follows."""
    return browser.post("/next", data={"after": field_of(browser.get("/").text, "after")}).text


def give(browser: TestClient, html: str, **changes: str) -> str:
    return browser.post("/reading", data={"token": field_of(html, "token"), **COVID, **changes}).text


def read_session(browser: TestClient, cases: int) -> str:
    html = ""
    for _ in range(cases):
        html = give(browser, open_next(browser))
    assert "End the session" in html
    return open_next(browser)


# --- who comes in ---


def test_a_code_opens_its_reader_s_study_and_nobody_else_s(place: Place) -> None:
    wrong = place.browser().post("/signin", data={"code": "AAAA-BBBB-CCCC-0003"})
    assert wrong.status_code == 403 and "not a code of this study" in wrong.text
    browser = place.browser()
    assert "R02" in browser.post("/signin", data={"code": " aaaa bbbb cccc ooo2 "}).text  # O is read as zero
    assert "R01" not in browser.get("/").text


def test_nobody_reads_without_a_code(place: Place) -> None:
    token = place.app.state.room.token("R01", 0)
    for path in ("/", "/case", f"/image/{token}", f"/overlay/{token}"):
        assert place.browser().get(path, follow_redirects=False).headers["location"] == "/signin", path
    for path in ("/next", "/reading", "/pause", "/resume", "/signout"):
        assert place.browser().post(path, follow_redirects=False).headers["location"] == "/signin", path


def test_only_this_machine_s_own_pages_are_served(place: Place) -> None:
    browser = place.browser("R01")
    assert browser.get("/", headers={"Host": "reading.example"}).status_code == 421
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999"):
        assert browser.post("/next", headers={"Origin": origin}).status_code == 403
    del browser.headers["Origin"]
    assert browser.post("/next").status_code == 403
    assert not place.study.journal_of("R01").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "reading.example", "127.0.0.1.example", ""])
def test_serving_to_others_is_refused_in_a_sentence(place: Place, host: str) -> None:
    with pytest.raises(Misconfigured, match="only a loopback address"):
        command("serve", str(place.study.folder), "--host", host)


def test_every_answer_carries_the_policy_and_no_page_holds_script_or_style(place: Place) -> None:
    browser = place.browser("R01")
    html = open_next(browser)
    for path in ("/", "/case", "/signin", "/nowhere", f"/image/{field_of(html, 'token')}", "/static/reading.js"):
        answer = browser.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'"), path
        assert answer.headers["cache-control"] == "no-store"
        if "html" in answer.headers["content-type"]:
            assert "not for diagnosis" in answer.text
            assert "<style" not in answer.text and " style=" not in answer.text and " onclick=" not in answer.text
            assert answer.text.count("<script") == 1 and "http" not in answer.text


# --- what is seen ---


def test_the_model_is_seen_where_the_protocol_says_and_nowhere_else(place: Place) -> None:
    browser = place.browser("R01")
    seen = {Modality.WITH: 0, Modality.WITHOUT: 0}
    for _ in range(6):
        html = open_next(browser)
        modality, token = place.modality("R01"), field_of(html, "token")
        overlay = browser.get(f"/overlay/{token}")
        if modality is Modality.WITH:
            assert "With the AI result" in html and all(p in html for p in ("12.5%", "25.0%", "62.5%"))
            assert overlay.headers["content-type"] == "image/png" and f"/overlay/{token}" in html
        else:
            assert "Without the AI result" in html and "%" not in html and "overlay" not in html
            assert overlay.status_code == 404
        assert browser.get(f"/image/{token}").content.startswith(b"\x89PNG")
        seen[modality] += 1
        give(browser, html)
    assert seen == {Modality.WITH: 3, Modality.WITHOUT: 3}


def test_neither_names_nor_truth_reach_a_reader(place: Place) -> None:
    browser = place.browser("R01")
    for _ in range(6):
        html = open_next(browser)
        answers = [browser.get(path) for path in ("/", "/case", f"/image/{field_of(html, 'token')}")]
        answers.append(browser.post("/reading", data={"token": field_of(html, "token"), **COVID}))
        for answer in answers:
            told = answer.content + repr(answer.headers).encode() + str(answer.url).encode()
            assert b"secret" not in told and b"truth" not in told


def test_whatever_the_truth_the_same_bytes_are_sent(tmp_path: Path) -> None:
    """And the table with it need not even be there while the study is read."""
    sent = []
    for name in ("one", "other"):
        prepared = make_study(tmp_path / name)
        cases = tmp_path / name / "cases.csv"
        if name == "one":
            cases.unlink()
        else:
            rows = [(*case[:2], "normal", *case[3:]) for case in csv.reader(cases.read_text().splitlines())]
            write_table(tmp_path / name, rows[1:])
        browser = Place(prepared.study, prepared.clock).browser("R01")
        answers = []
        for _ in range(6):
            html = open_next(browser)
            answers += [html, browser.get(f"/image/{field_of(html, 'token')}").content, give(browser, html)]
        sent.append(answers)
    assert sent[0] == sent[1]


def test_an_image_s_name_is_one_reader_s_for_one_showing(place: Place) -> None:
    room: Room = place.app.state.room
    names = [room.token(reader, number) for reader in CODES for number in range(12)]
    assert len(set(names)) == 24 and all(re.fullmatch("[0-9a-f]{32}", name) for name in names)
    browser = place.browser("R01")
    give(browser, open_next(browser))
    open_next(browser)
    mine, other = room.token("R01", 1), room.token("R02", 1)
    assert browser.get(f"/image/{mine}").status_code == 200
    for name in (room.token("R01", 0), room.token("R01", 2), other, mine[:-1], "ü", "0" * 32):
        assert browser.get(f"/image/{name}").status_code == 404, name


# --- what is said ---


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"response": ""}, "choose one of the three classes"),
        ({"response": "flu"}, "choose one of the three classes"),
        ({"score_normal": ""}, "a whole number from 0 to 100 for Normal"),
        ({"score_pneumonia": "101"}, "a whole number from 0 to 100 for Pneumonia"),
        ({"score_covid": "-1"}, "a whole number from 0 to 100 for COVID"),
        ({"score_covid": "5.5"}, "a whole number from 0 to 100 for COVID"),
        ({"score_covid": "٥"}, "a whole number from 0 to 100 for COVID"),
    ],
)
def test_a_reading_is_whole_or_it_is_none(place: Place, changes: dict[str, str], complaint: str) -> None:
    browser = place.browser("R01")
    html = open_next(browser)
    answer = browser.post("/reading", data={"token": field_of(html, "token"), **COVID, **changes})
    assert answer.status_code == 422 and complaint in answer.text
    if "score_covid" not in changes:
        assert 'name="score_covid" min="0" max="100" step="1" required inputmode="numeric" ' in answer.text
        assert 'value="95">' in answer.text  # what was typed is still there
    assert events(place, "R01") == ["opened"]


def events(place: Place, reader: str) -> list[str]:
    return [event.kind for event in read_events(place.study.journal_of(reader), place.study.orders[reader])[0]]


def test_a_reading_can_be_changed_until_the_next_case_is_opened_and_all_of_it_is_kept(place: Place) -> None:
    browser = place.browser("R01")
    first = open_next(browser)
    give(browser, first)
    assert 'value="60">' in give(browser, first, score_covid="60")
    give(browser, first, score_covid="60")  # the same again is no change
    open_next(browser)
    late = browser.post("/reading", data={"token": field_of(first, "token"), **COVID})
    assert late.status_code == 409 and "until the next case is opened" in late.text
    assert events(place, "R01") == ["opened", "read", "read", "opened"]


def test_pressing_twice_or_in_an_old_tab_opens_one_case(place: Place) -> None:
    browser, tab = place.browser("R01"), place.browser("R01")
    start = field_of(browser.get("/").text, "after")
    for client in (browser, browser, tab):
        client.post("/next", data={"after": start})
    assert events(place, "R01") == ["opened"]
    html = give(tab, tab.get("/case").text)
    for client in (browser, tab):
        client.post("/next", data={"after": field_of(html, "after")})
    assert events(place, "R01") == ["opened", "read", "opened"]
    give(browser, browser.get("/case").text)
    for stale in (start, field_of(html, "after"), "0" * 32, ""):
        tab.post("/next", data={"after": stale})
    assert events(place, "R01") == ["opened", "read", "opened", "read"]


def test_no_case_is_passed_over(place: Place) -> None:
    browser = place.browser("R01")
    open_next(browser)
    assert "Record" in browser.post("/next", data={"after": place.app.state.room.token("R01", 0)}).text
    assert events(place, "R01") == ["opened"]


def test_a_paused_case_is_out_of_view_and_comes_back(place: Place) -> None:
    browser = place.browser("R01")
    html = open_next(browser)
    token = field_of(html, "token")
    assert "Paused" in browser.post("/pause").text
    assert browser.get(f"/image/{token}").status_code == 404
    assert browser.post("/reading", data={"token": token, **COVID}).status_code == 409
    assert token in browser.post("/resume").text
    browser.post("/signout")
    assert "Paused" in place.browser("R01").get("/").text
    assert events(place, "R01") == ["opened", "paused", "resumed", "paused"]


def test_the_study_goes_on_where_it_was_when_the_service_died(place: Place) -> None:
    browser = place.browser("R01")
    give(browser, open_next(browser))
    html = open_next(browser)
    cookie = dict(browser.cookies)
    place.serve()
    again = place.browser()
    again.cookies.update(cookie)
    assert again.get("/").text == html  # the same case, the same names, and the reader still signed in
    assert "Recorded" in give(again, html)


# --- washout ---


def test_the_second_session_waits_for_its_washout(place: Place) -> None:
    browser = place.browser("R01")
    html = read_session(browser, 6)
    assert "Session 1 is complete" in html and "30 November 2026" in html
    token = place.app.state.room.token("R01", 5)
    assert browser.post("/next", data={"after": token}).status_code == 409
    assert browser.get(f"/image/{token}").status_code == 404
    place.clock.wait(days=27, hours=23)
    browser = place.browser("R01")
    assert browser.post("/next", data={"after": token}).status_code == 409
    place.clock.wait(hours=1)
    assert "Session 2 of 2" in browser.get("/").text
    assert "Case <strong>1</strong> of 6" in open_next(browser)
    assert place.study.orders["R01"][6].session == 2


# --- the table ---


def test_the_table_is_what_was_read_and_what_was_true(tmp_path: Path) -> None:
    prepared = make_study(tmp_path / "study", 3)
    place = Place(prepared.study, prepared.clock)
    for _ in range(2):
        for reader in CODES:
            read_session(place.browser(reader), 3)
        place.clock.wait(days=28)
    out = tmp_path / "table.csv"
    assert command("export", str(prepared.study.folder), "--out", str(out)) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 12
    for reader, order in prepared.study.orders.items():
        mine = [row for row in rows if row["readerID"] == reader]
        assert [(row["caseID"], row["modalityID"], row["session"]) for row in mine] == [
            (showing.case_id, showing.modality, str(showing.session)) for showing in order
        ]
    for row in rows:
        assert row["truth_class"] == prepared.truth[row["caseID"]]
        assert [row[name] for name in COLUMNS[5:]] == ["covid", "0", "5", "95"]


def test_the_truth_stays_in_while_a_reader_is_reading_unless_asked(place: Place) -> None:
    browser = place.browser("R01")
    give(browser, open_next(browser))
    folder, out = place.study.folder, place.study.folder / "table.csv"
    with pytest.raises(Conflict, match=r"R01 \(1 of 12 readings\), R02 \(0 of 12 readings\)"):
        command("export", str(folder), "--out", str(out))
    assert not out.exists()
    assert command("export", str(folder), "--out", str(out), "--partial") == 0
    assert len(list(csv.DictReader(out.read_text().splitlines()))) == 1


def test_a_reading_that_can_still_be_changed_is_not_finished(place: Place) -> None:
    whole = {reader: read_all(order) for reader, order in place.study.orders.items()}
    truth = dict.fromkeys(place.study.cases, ChestClass.NORMAL)
    ended = whole["R01"][-1].at
    assert table(place.study, whole, truth, ended).count("\n") == 25
    open_still = {**whole, "R02": whole["R02"][:-1]}
    with pytest.raises(Conflict, match=r"^not finished: R02 \(12 of 12 readings\)"):
        table(place.study, open_still, truth, ended)


def test_a_case_that_came_again_too_soon_is_not_exported(place: Place) -> None:
    whole = {reader: read_all(order) for reader, order in place.study.orders.items()}
    whole["R02"] = read_all(place.study.orders["R02"], washout=place.study.washout / 2)
    truth = dict.fromkeys(place.study.cases, ChestClass.NORMAL)
    for partial in (False, True):
        with pytest.raises(Conflict, match="R02 met a case again after 14 days"):
            table(place.study, whole, truth, whole["R01"][-1].at, partial=partial)


# --- the commands ---


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    chosen = parser.parse_args(words)
    run: Callable[[argparse.Namespace], int] = chosen.run
    return run(chosen)


def test_prepare_prints_the_codes_once_and_they_open_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "study")
    assert command("prepare", str(folder), "--readers", "3", "--seed", "11", "--washout", "14") == 0
    printed = capsys.readouterr().out
    assert "6 cases, 3 readers, two sessions at least 14 days apart" in printed and "seed 11" in printed
    codes = dict(re.findall(r"^(R\d\d)  ((?:[0-9A-Z]{4}-){3}[0-9A-Z]{4})$", printed, re.M))
    assert list(codes) == ["R01", "R02", "R03"]
    with pytest.raises(Conflict, match="has been prepared"):
        command("prepare", str(folder), "--readers", "3")
    place = Place(load(folder), Clock())
    place.study.readings.mkdir()
    assert "R03" in place.browser().post("/signin", data={"code": codes["R03"]}).text


def test_a_lost_code_is_replaced_and_ends_the_sessions(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    browser = place.browser("R02")
    assert command("new-code", str(place.study.folder), "R02") == 0
    code = capsys.readouterr().out.split()[1]
    place.serve()
    again = place.browser()
    again.cookies.update(dict(browser.cookies))
    assert "Sign in" in again.get("/").text
    assert place.browser().post("/signin", data={"code": CODES["R02"]}).status_code == 403
    assert "R02" in place.browser().post("/signin", data={"code": code}).text
    assert "R01" in place.browser("R01").get("/").text
    with pytest.raises(Rejected, match="no reader R09"):
        command("new-code", str(place.study.folder), "R09")


def test_cases_without_probabilities_make_a_study_without_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = make_study(tmp_path / "study", 3, has_model=False)
    place = Place(prepared.study, prepared.clock)
    browser = place.browser("R01")
    assert "AI result, some with it" not in browser.get("/").text
    assert "Finished" in read_session(browser, 3)
    folder = make_folder(tmp_path / "bare", has_model=False)
    assert command("prepare", str(folder), "--readers", "1") == 0
    assert "one session without the model" in capsys.readouterr().out


def test_the_journal_tells_who_did_what_when(place: Place) -> None:
    browser = place.browser("R02")
    html = open_next(browser)
    place.clock.wait(seconds=40)
    give(browser, html)
    lines = [json.loads(line) for line in place.study.journal_of("R02").read_text().splitlines()]
    assert [line["event"] for line in lines] == [Kind.OPENED, Kind.READ]
    assert lines[1]["at"] == "2026-11-02T12:00:40+00:00" and lines[1]["caseID"].startswith("secret-")
    assert Journal(place.study.journal_of("R02"), place.study.orders["R02"]).events[1].reading is not None
