"""Who may come in, from where, and what every answer carries."""

from __future__ import annotations

from datetime import timedelta

from tests.making import NOON
from tests.web.conftest import HERE, SECRET, Room
from triage.web.signin import COOKIE, Sessions, clean_name


def test_the_session_cookie_is_kept_from_scripts_and_other_sites(room: Room) -> None:
    answer = room.another().post("/signin", data={"name": "Dr 山田"}, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert answer.headers["location"] == "/"
    assert room.another("Dr 山田").get("/api/v1/session").json()["name"] == "Dr 山田"


def test_who_is_not_signed_in_is_asked_to(room: Room) -> None:
    nobody = room.another()
    assert nobody.get("/", follow_redirects=False).headers["location"] == "/signin"
    assert nobody.get("/api/v1/worklist", headers={"Accept": "application/json"}).status_code == 401
    assert nobody.get("/events", headers={"Accept": "text/event-stream"}).status_code == 401
    assert nobody.post("/api/v1/worklist/next", headers={"Accept": "*/*"}).status_code == 401
    assert "OpenID Connect" in nobody.get("/signin").text


def test_an_empty_name_is_no_name(room: Room) -> None:
    assert room.another().post("/signin", data={"name": " \u200b "}).status_code == 422
    assert clean_name(" Dr\x00  Demo\n") == "Dr Demo"


def test_a_forged_or_ended_session_is_none() -> None:
    sessions = Sessions(SECRET, lambda: NOON)
    cookie = sessions.start("Dr Demo")
    assert sessions.name_of(cookie) == "Dr Demo"
    assert sessions.name_of(Sessions(b"another secret altogether", lambda: NOON).start("Dr Demo")) is None
    assert sessions.name_of(cookie[:-1] + ("0" if cookie[-1] != "0" else "1")) is None
    assert sessions.name_of("ü.ü") is None and sessions.name_of(None) is None
    assert Sessions(SECRET, lambda: NOON + timedelta(hours=13)).name_of(cookie) is None


def test_only_this_machine_by_any_of_its_names_is_served(room: Room) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.7", "[", ""):
        assert room.client.get("/healthz", headers={"Host": host}).status_code == 421, host
    for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST"):
        assert room.client.get("/healthz", headers={"Host": host}).status_code == 200, host


def test_a_change_asked_for_by_another_site_is_refused(room: Room) -> None:
    entry = room.arrive(1)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "http://["):
        assert room.client.post(f"/studies/{entry}/claim", headers={"Origin": origin}).status_code == 403
    assert len(room.book.claimed("main")) == 0


def test_a_program_without_origin_sends_the_session_token(room: Room) -> None:
    entry = room.arrive(1)
    token = room.client.get("/api/v1/session").json()["csrf_token"]
    del room.client.headers["Origin"]
    assert room.client.post(f"/api/v1/worklist/{entry}/claim").status_code == 403
    given = room.client.post(f"/api/v1/worklist/{entry}/claim", headers={"X-CSRF-Token": token})
    assert given.status_code == 200


def test_every_answer_carries_the_headers(room: Room) -> None:
    for path in ("/", "/signin", "/healthz", "/nowhere"):
        headers = room.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
    assert room.client.get("/", headers={"Host": "evil.example"}).headers["x-frame-options"] == "DENY"


def test_pages_hold_no_inline_script_or_style(room: Room) -> None:
    entry = room.arrive(1)
    room.assess()
    for path in ("/", f"/studies/{entry}", "/operations", "/signin"):
        html = room.client.get(path).text
        assert "<style" not in html and " style=" not in html and " onclick=" not in html
        assert html.count("<script") == html.count('<script src="/static/desk.js" defer></script>')


def test_our_own_files_may_be_kept_by_the_browser(room: Room) -> None:
    answer = room.client.get("/static/desk.css")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


def test_signing_out_ends_the_session(room: Room) -> None:
    room.client.post("/signout")
    assert COOKIE not in room.client.cookies
    assert room.client.get("/", follow_redirects=False).status_code == 303
    assert HERE in str(room.client.base_url)
