"""What a radiologist sees: order, sentences, names, images."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import psycopg
from PIL import Image

from tests.web.conftest import Room
from triage.ports import Line
from triage.postgres.book import Book
from triage.web.desk import Desk


def _order(html: str) -> list[int]:
    return [int(entry) for entry in re.findall(r'class="row lane-\w+" data-entry="(\d+)"', html)]


def test_the_list_stands_in_reading_order_and_says_why(room: Room) -> None:
    flagged = room.arrive(1, minutes_ago=20)
    room.assess(covid=0.9)
    routine = room.arrive(2, minutes_ago=40)
    room.assess(covid=0.1)
    overdue = room.arrive(3, minutes_ago=9 * 60)
    stat = room.arrive(4, priority="stat", minutes_ago=1)
    html = room.client.get("/").text
    assert _order(html) == [stat, flagged, overdue, routine]
    assert "AI suspects COVID (preliminary), to be read within 10 min; AI: flagged for earlier reading." in html
    assert "taking the share kept for overdue ordinary studies" in html
    assert "AI: no effect on the order." in html
    assert "every 2nd place goes to it" in html
    assert "negative" not in html


def test_every_page_says_that_the_ai_is_preliminary(room: Room) -> None:
    entry = room.arrive(1)
    for page in ("/", f"/studies/{entry}", "/operations", "/signin"):
        html = room.client.get(page).text
        assert "AI result is preliminary; not for diagnosis; not flagged means no effect." in html
        assert "chest 0.1" in html and "reorder" in html


def test_every_page_names_the_licence_limit_of_a_model_in_use(room: Room) -> None:
    entry, limit = room.arrive(1), "chest 0.1: NOT for commercial use; results are preliminary."
    for page in ("/", f"/studies/{entry}", "/operations", "/signin"):
        assert limit in room.client.get(page).text
    desk: Desk = room.app.state.desk
    room.app.state.desk = replace(desk, model=replace(desk.model, licence=""))
    assert "commercial" not in room.client.get("/").text


def test_a_japanese_name_is_shown_in_both_scripts(room: Room) -> None:
    entry = room.arrive(1)
    for page in ("/", f"/studies/{entry}"):
        html = room.client.get(page).text
        assert "Honmiya, Tarou" in html
        assert '<span class="kanji" lang="ja">本宮 太郎</span>' in html


def test_a_hostile_name_is_only_text(room: Room) -> None:
    entry = room.arrive(1, name="<script>alert(1)</script>^Eve")
    for page in ("/", f"/studies/{entry}"):
        html = room.client.get(page).text
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;, Eve" in html


def test_no_url_on_any_page_names_a_patient(room: Room) -> None:
    entry = room.arrive(1)
    room.assess()
    for page in ("/", f"/studies/{entry}", "/operations"):
        for url in re.findall(r'(?:href|src|action)="([^"]*)"', room.client.get(page).text):
            assert not re.search(r"P-1|ACC-1|Honmiya|2\.25\.", url), url


def test_a_study_is_claimed_reported_and_labelled_from_its_page(room: Room) -> None:
    entry = room.arrive(1)
    room.assess(covid=0.9)
    claimed = room.client.post(f"/studies/{entry}/claim", follow_redirects=False)
    assert (claimed.status_code, claimed.headers["location"]) == (303, f"/studies/{entry}")
    assert "Claimed by <strong>you</strong>" in room.client.get(f"/studies/{entry}").text
    done = room.client.post(f"/studies/{entry}/report", data={"label": "covid"}, follow_redirects=False)
    assert done.headers["location"] == "/"
    with room.book.pool.connection() as db:
        label = db.execute("SELECT class, given_by, saw_the_ai FROM label").fetchone()
    assert label == {"class": "covid", "given_by": "Dr Demo", "saw_the_ai": True}


def test_next_opens_what_comes_next_and_says_when_nothing_is_left(room: Room) -> None:
    room.arrive(1)
    stat = room.arrive(2, priority="stat")
    assert room.client.post("/next", follow_redirects=False).headers["location"] == f"/studies/{stat}"
    room.client.post("/next")
    assert "No study is waiting to be read." in room.client.post("/next").text


def test_a_claim_that_comes_second_gets_a_sentence(room: Room) -> None:
    entry = room.arrive(1)
    room.another("Dr Suzuki").post(f"/studies/{entry}/claim")
    answer = room.client.post(f"/studies/{entry}/claim")
    assert answer.status_code == 409
    assert f"Entry {entry} is being read by Dr Suzuki" in answer.text


def test_the_study_page_tells_what_happened_and_its_views_are_audited(room: Room) -> None:
    entry = room.arrive(1)
    room.assess(covid=0.9)
    room.client.get(f"/studies/{entry}")
    html = room.client.get(f"/studies/{entry}").text
    for words in ("Order placed", "Entered the reading list", "Moved", "Assessed by the AI", "Dr Demo (1×, last"):
        assert words in html
    assert room.book.first_broken_audit_row() is None


def test_the_image_is_a_jpeg_with_square_pixels(room: Room) -> None:
    entry = room.arrive(1)
    before = room.client.get(f"/api/v1/worklist/{entry}/image.jpg")  # stored, not yet read by a worker
    room.assess()
    after = room.client.get(f"/api/v1/worklist/{entry}/image.jpg")
    for answer in (before, after):
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "no-store"
        assert Image.open(io.BytesIO(answer.content)).size == (400, 600)
    actions = [row["action"] for row in room.book.entry_detail(entry, viewer="test")["trail"]]
    assert actions.count("image-viewed") == 2


def test_contour_and_activation_lie_over_the_image(room: Room) -> None:
    entry = room.arrive(1)
    assert room.client.get(f"/api/v1/worklist/{entry}/overlay.svg").status_code == 404
    room.assess()
    svg = room.client.get(f"/api/v1/worklist/{entry}/overlay.svg")
    assert svg.headers["content-type"] == "image/svg+xml" and "M200.0 200.0 L200.0 800.0" in svg.text
    layer = Image.open(io.BytesIO(room.client.get(f"/api/v1/worklist/{entry}/activation.png").content))
    assert (layer.mode, layer.size) == ("RGBA", (400, 600))


def test_an_archive_that_does_not_answer_leaves_the_page_standing(room: Room) -> None:
    entry = room.arrive(1)
    room.assess()
    room.shelf.answers = False
    assert room.client.get(f"/api/v1/worklist/{entry}/image.jpg").status_code == 503
    assert room.client.get(f"/studies/{entry}").status_code == 200


def test_in_shadow_a_reader_sees_nothing_of_what_the_ai_said(open_room: Callable[[str], Room]) -> None:
    room = open_room("shadow")
    entry = room.arrive(1)
    room.assess(covid=0.9)
    for path in ("/", f"/studies/{entry}", "/api/v1/worklist", f"/api/v1/worklist/{entry}"):
        text = room.client.get(path).text
        assert "recorded in shadow, not shown" in text.lower()
        assert not re.search(r"flagged for|0\.9\b|90%|\"flagged\"|class=\"contour\"|ai-flagged", text), path
    assert room.client.get(f"/api/v1/worklist/{entry}/overlay.svg").status_code == 404
    assert room.client.get(f"/api/v1/worklist/{entry}/activation.png").status_code == 404


def test_in_show_the_page_does_not_claim_that_the_order_changed(open_room: Callable[[str], Room]) -> None:
    room = open_room("show")
    room.arrive(1)
    room.assess(covid=0.9)
    html = room.client.get("/").text
    assert "AI: suspects COVID; the order is not changed." in html
    assert "flagged for earlier reading" not in html


def test_operations_shows_what_is_stuck_without_patients(room: Room) -> None:
    entry = room.arrive(1)
    room.assess()
    html = room.client.get("/operations").text
    assert "Studies without their order" in html and "Every study has its order." in html
    assert "Honmiya" not in html and "P-1" not in html and f"ACC-{entry}" not in html


def test_search_goes_by_post_and_finds_words_ids_and_accessions(room: Room) -> None:
    one = room.arrive(1)
    room.arrive(2, name="Sato^Hanako=佐藤^花子")
    for text in ("tarou honmiya", "本宮", "P-1", "ACC-1"):
        html = room.client.post("/search", data={"text": text}).text
        assert _order(html) == [one], text
    assert _order(room.client.post("/search", data={"text": "%"}).text) == []
    assert room.client.get("/search").status_code == 405


def test_the_fragment_holds_the_same_order_as_the_page(room: Room) -> None:
    for number in range(3):
        room.arrive(number)
    assert _order(room.client.get("/fragments/worklist").text) == _order(room.client.get("/").text)


class Silent(Book):
    """A book whose database has gone."""

    def page(self, site: str, *, limit: int, offset: int = 0, at: datetime) -> list[Line]:
        raise psycopg.OperationalError("connection to 10.0.0.7 failed")


def test_without_the_database_a_page_says_so_and_no_more(room: Room) -> None:
    desk: Desk = room.app.state.desk
    room.app.state.desk = replace(desk, book=Silent(room.book.pool, room.book.rules))
    answer = room.client.get("/")
    assert answer.status_code == 503
    assert "The database does not answer." in answer.text and "10.0.0.7" not in answer.text


def test_times_are_the_sites_own(room: Room) -> None:
    entry = room.arrive(1, minutes_ago=0)
    room.app.state.desk = replace(room.app.state.desk, zone=ZoneInfo("Asia/Tokyo"))
    assert "read by 05:00: images stored" in room.client.get(f"/studies/{entry}").text
