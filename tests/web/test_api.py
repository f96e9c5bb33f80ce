"""The worklist for programs."""

from __future__ import annotations

from datetime import timedelta

from tests.making import make_event
from tests.web.conftest import Room
from triage.ports import Envelope


def test_the_list_is_numbered_and_says_why(room: Room) -> None:
    room.arrive(1)
    stat = room.arrive(2, priority="stat")
    first, second = room.client.get("/api/v1/worklist").json()
    assert (first["position"], first["entry_id"], first["lane"]) == (1, stat, 0)
    assert second["patient_name"].startswith("Honmiya^Tarou=本宮^太郎")
    assert room.client.get("/api/v1/worklist?offset=1").json()[0]["position"] == 2


def test_claim_release_report(room: Room) -> None:
    entry = room.arrive(1)
    path = f"/api/v1/worklist/{entry}"
    assert room.client.post(f"{path}/claim").json()["claimed_by"] == "Dr Demo"
    assert [line["entry_id"] for line in room.client.get("/api/v1/worklist/claimed").json()] == [entry]
    assert room.client.post(f"{path}/release").json()["reading_state"] == "unread"
    assert room.client.post(f"{path}/report", json={"label": "pneumonia"}).json()["reading_state"] == "reported"
    with room.book.pool.connection() as db:
        assert db.execute("SELECT class FROM label").fetchall() == [{"class": "pneumonia"}]


def test_a_conflict_is_409_with_a_sentence(room: Room) -> None:
    entry = room.arrive(1)
    room.another("Dr Suzuki").post(f"/api/v1/worklist/{entry}/claim")
    answer = room.client.post(f"/api/v1/worklist/{entry}/claim", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()) == (409, {"detail": f"entry {entry} is being read by Dr Suzuki"})


def test_an_unknown_entry_is_404_everywhere(room: Room) -> None:
    api = {"Accept": "application/json"}
    for path in ("/api/v1/worklist/99", "/api/v1/worklist/99/image.jpg", "/studies/99", "/studies/99/stamp"):
        assert room.client.get(path, headers=api).status_code == 404, path
    for path in ("worklist/99/claim", "worklist/99/release", "entries/99/assess-again", "deliveries/99/replay"):
        assert room.client.post(f"/api/v1/{path}", headers=api).status_code == 404, path
    assert room.client.get(f"/api/v1/worklist/{2**70}").status_code == 404


def test_a_person_may_move_an_entry_and_must_say_why(room: Room) -> None:
    entry = room.arrive(1)
    path = f"/api/v1/worklist/{entry}/override"
    assert room.client.post(path, json={"lane": 0, "read_within_minutes": 5, "reason": " "}).status_code == 422
    moved = room.client.post(path, json={"lane": 0, "read_within_minutes": 5, "reason": "ward called"}).json()
    assert (moved["lane"], moved["placed_because"], moved["read_by"]) == (0, "override", "2026-11-02T12:05:00Z")
    assert room.client.get(f"/api/v1/worklist/{entry}").json()["moves"][-1]["reason"] == "ward called"


def test_next_gives_null_when_nothing_is_left(room: Room) -> None:
    assert room.client.post("/api/v1/worklist/next").json() is None


def test_a_delivery_can_be_sent_again_once_it_is_parked(room: Room) -> None:
    entry = room.arrive(1)
    room.assess()
    [due] = room.book.lease_due(5, timedelta(minutes=1))
    path = f"/api/v1/deliveries/{due.delivery_id}/replay"
    assert room.client.post(path).status_code == 409
    room.book.park(due, "400: refused")
    assert room.client.post(path).json() == {"delivery_id": due.delivery_id, "entry_id": entry}
    assert "Delivery sent again" in room.client.get(f"/studies/{entry}").text


def test_search_is_audited_without_what_was_searched_for(room: Room) -> None:
    room.arrive(1)
    assert len(room.client.post("/api/v1/worklist/search", json={"text": "honmiya"}).json()) == 1
    with room.book.pool.connection() as db:
        row = db.execute("SELECT actor, detail FROM audit_trail WHERE action = 'searched'").fetchone()
    assert row == {"actor": "Dr Demo", "detail": {"hits": 1}}


def test_orders_without_images_stand_apart(room: Room) -> None:
    room.book.accept(Envelope("main", "ris", "hl7", "RIS", "M1"), b"1", lambda _: [make_event()])
    assert room.client.get("/api/v1/worklist").json() == []
    assert room.client.get("/api/v1/worklist/awaiting").json()[0]["why"] == "Ordered; no images yet."


def test_probes_need_no_sign_in_and_name_no_patient(room: Room) -> None:
    room.arrive(1)
    nobody = room.another()
    assert nobody.get("/healthz").json() == {"status": "alive"}
    assert nobody.get("/readyz").json() == {"status": "ready"}
    metrics = nobody.get("/metrics").text
    assert 'triage_entries{ai_state="queued",reading_state="unread"} 1.0' in metrics
    assert "Honmiya" not in metrics


def test_status_counts_by_state(room: Room) -> None:
    room.arrive(1)
    status = room.client.get("/api/v1/status").json()
    assert status["entries"] == [{"ai_state": "queued", "reading_state": "unread", "entries": 1}]
    assert (status["site"], status["rollout"], status["model_version"]) == ("main", "reorder", "0.1")


def test_openapi_describes_the_api_and_not_the_pages(room: Room) -> None:
    paths = room.client.get("/api/openapi.json").json()["paths"]
    assert "/api/v1/worklist/{entry_id}/claim" in paths and "/" not in paths
