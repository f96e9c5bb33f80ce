"""Whatever happens in whatever order: what the AI does never costs a study its place, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.making import NOON, make_event, make_patient, make_study
from tests.postgres.ward import SITE, snapshot, ward_on
from triage.domain.errors import Conflict, UnusableRadiograph
from triage.domain.order import OrderAction, RequestedPriority
from triage.domain.priority import Lane, Place, clinical_place
from triage.domain.worklist import merged
from triage.postgres import worklist

EMPTY = """
    ALTER TABLE audit_trail DISABLE TRIGGER audit_fixed;
    ALTER TABLE move DISABLE TRIGGER move_fixed;
    TRUNCATE audit_trail, move, delivery, run, worklist_entry, instance, study, imaging_order, inbound_message,
             reading_share, label RESTART IDENTITY CASCADE;
    ALTER TABLE audit_trail ENABLE TRIGGER audit_fixed;
    ALTER TABLE move ENABLE TRIGGER move_fixed;
"""
ENTRIES = f"SELECT {worklist.COLUMNS}, e.attempt FROM worklist_entry e ORDER BY e.id"
READERS = st.sampled_from(["dr.a", "dr.b"])
NUMBERS = st.integers(0, 2)
WHICH = st.integers(0, 9)
ACTIONS = st.sampled_from(["place", "change", "change", "cancel", "complete", "hold"])
MISSING = st.sampled_from([0, 0, 0, 1])
MODALITIES = st.sampled_from(["DX", "DX", "SR"])
PRIORITIES = st.sampled_from(RequestedPriority)


def about(number):
    """The numbers of order *number*, all of one kind of sender."""
    names = ("accession_number", "placer_order_number", "filler_order_number")
    return {"patient": make_patient(patient_id=f"P-{number}"), **{n: f"{n}-{number}" for n in names}}


class AnySequence(RuleBasedStateMachine):
    """Orders, images, workers and readers take turns at random."""

    pool = None
    model_is_on = True

    def __init__(self):
        super().__init__()
        with self.pool.connection() as db:
            db.execute(EMPTY)
        self.ward = ward_on(self.pool)
        self.book = self.ward.book
        # two studies of the first order, one of the second, one that no order ever asks for; the third has no study
        self.studies = [
            make_study(accession_number=f"accession_number-{n}", patient=about(n)["patient"]) for n in (0, 0, 1)
        ]
        self.studies.append(make_study(accession_number="", patient=make_patient(patient_id="P-9")))
        self.minutes = 0
        self.seen, self.sent, self.leases = {}, [], []
        self.before, self.speaker = {}, "nobody"

    def now(self):
        self.minutes += 20
        return NOON + timedelta(minutes=self.minutes)

    def by(self, speaker):
        """Remember where everything stood and who acts now."""
        self.speaker = speaker
        self.before = {row["id"]: row for row in self.ward.rows(ENTRIES)}

    def changes_nothing(self, act):
        with self.pool.connection() as db:
            before = snapshot(db)
        act()
        with self.pool.connection() as db:
            assert snapshot(db) == before

    def some(self, which, entries=None):
        """One of the entries there are."""
        ids = sorted(self.before if entries is None else entries)
        return ids[which % len(ids)] if ids else 999

    # --- orders and images ---

    @rule(number=NUMBERS, priority=PRIORITIES, action=ACTIONS)
    def an_order_message_comes(self, number, priority, action):
        self.by("order")
        event = make_event(OrderAction(action), **about(number), requested_priority=priority)
        kept = self.ward.hears(event)
        if kept.outcome in {"applied", "unchanged"}:
            self.sent.append((event, f"C{self.ward.sent}"))

    @precondition(lambda self: self.sent)
    @rule(which=WHICH)
    def a_message_is_sent_again(self, which):
        self.by("repeat")
        event, control_id = self.sent[which % len(self.sent)]
        self.changes_nothing(lambda: self.ward.hears(event, control_id=control_id))

    @rule(which=st.integers(0, 3), more=st.integers(0, 1), missing=MISSING, modality=MODALITIES)
    def the_archive_lists_a_study(self, which, more, missing, modality):
        self.by("archive")
        instances = min(4, self.seen.get(which, 0) + more)
        if which in self.seen or instances:
            self.ward.sees(
                self.studies[which], instances, at=self.now(), counted=instances + missing, modality=modality
            )
            self.seen[which] = instances

    @precondition(lambda self: self.seen)
    @rule(which=WHICH)
    def a_whole_study_is_listed_again(self, which):
        which = self.some(which, self.seen)
        self.by("archive")
        self.ward.sees(self.studies[which], self.seen[which], at=self.now())
        self.changes_nothing(lambda: self.ward.sees(self.studies[which], self.seen[which], at=self.now()))

    # --- workers ---

    def make_ready(self):
        with self.pool.connection() as db:
            db.execute("UPDATE worklist_entry SET assess_after = clock_timestamp()")

    @rule(limit=st.integers(1, 3))
    def a_worker_leases(self, limit):
        self.by("ai")
        self.make_ready()
        new = self.ward.lease(limit)
        assert len({lease.entry_id for lease in new}) == len(new)
        assert not {(n.entry_id, n.attempt) for n in new} & {(o.entry_id, o.attempt) for o in self.leases}
        self.leases += new

    @precondition(lambda self: self.leases)
    @rule(which=WHICH)
    def a_worker_crashes(self, which):
        self.by("ai")
        self.ward.crashes(self.leases[which % len(self.leases)])
        self.book.offer_expired()

    @precondition(lambda self: self.leases and self.model_is_on)
    @rule(which=WHICH, covid=st.sampled_from([0.9, 0.9, 0.1]))
    def a_result_is_recorded(self, which, covid):
        self.by("ai")
        lease = self.leases[which % len(self.leases)]
        row = self.before[lease.entry_id]
        holds = row["ai_state"] == "assessing" and row["attempt"] == lease.attempt
        assert self.ward.flags(lease, covid) == holds, "a late finisher loses, the holder never does"

    @precondition(lambda self: self.leases)
    @rule(which=WHICH, reason=st.sampled_from(["not-frontal", "engine-error", "lungs-implausible"]))
    def an_image_is_refused(self, which, reason):
        self.by("ai")
        self.book.record(self.leases[which % len(self.leases)], UnusableRadiograph(reason))

    @precondition(lambda self: self.leases)
    @rule(which=WHICH, is_incomplete=st.booleans())
    def the_archive_does_not_answer_a_worker(self, which, is_incomplete):
        self.by("ai")
        self.book.offer_again(self.leases[which % len(self.leases)], "archive: no answer", is_incomplete=is_incomplete)

    @rule(state=st.sampled_from(["delivered", "again", "park"]))
    def a_delivery_is_tried(self, state):
        self.by("deliver")
        for due in self.book.lease_due(1, timedelta(minutes=1)):
            if state == "delivered":
                self.book.delivered(due, "ok")
            elif state == "again":
                self.book.deliver_again(due, "503", timedelta(0))
            else:
                self.book.park(due, "422")

    # --- readers ---

    def person(self, act):
        self.by("person")
        try:
            return act()
        except Conflict:
            with self.pool.connection() as db:
                assert {row["id"]: row for row in db.execute(ENTRIES)} == self.before, "a conflict changes nothing"

    @rule(reader=READERS)
    def a_reader_takes_the_next_study(self, reader):
        at = self.now()
        page = self.book.page(SITE, limit=1, at=at)
        taken = self.person(lambda: self.book.next_study(SITE, reader, at=at))
        assert [line.entry.entry_id for line in page] == ([taken.entry_id] if taken else [])

    @rule(reader=READERS, which=WHICH)
    def a_reader_claims_a_study(self, reader, which):
        self.by("person")
        self.person(lambda: self.book.claim(self.some(which), reader))

    @rule(reader=READERS, which=WHICH)
    def a_reader_gives_a_study_back(self, reader, which):
        self.by("person")
        held = [i for i, row in self.before.items() if row["reading_state"] == "reading"]
        self.person(lambda: self.book.release(self.some(which, held or None), reader))

    @rule(reader=READERS, which=WHICH, label=st.sampled_from([None, "covid"]))
    def a_reader_reports(self, reader, which, label):
        self.by("person")
        self.person(lambda: self.book.report(self.some(which), reader, label))

    @rule(reader=READERS, which=WHICH, lane=st.sampled_from(Lane))
    def a_reader_moves_a_study(self, reader, which, lane):
        self.by("person")
        self.person(lambda: self.book.override(self.some(which), reader, Place(lane, self.now()), "ward round"))

    @rule(which=WHICH)
    def operations_replay_a_study(self, which):
        self.by("person")
        self.person(lambda: self.book.assess_again(self.some(which), "ops"))

    # --- what must hold after every step ---

    def entries(self):
        with self.pool.connection() as db:
            return {row["id"]: (worklist.entry_of(row), row["attempt"]) for row in db.execute(ENTRIES).fetchall()}

    @invariant()
    def nothing_is_lost_and_nothing_moves_that_must_not(self):
        after = self.entries()
        assert self.before.keys() <= after.keys()
        for entry_id, row in self.before.items():
            old, (new, attempt) = worklist.entry_of(row), after[entry_id]
            assert attempt >= row["attempt"]
            if old.place is not None:
                assert new.eligible_at == old.eligible_at
                if self.speaker in {"ai", "deliver", "repeat"}:
                    assert not new.place.is_behind(old.place), "the AI moved a study back"
                if self.speaker in {"archive", "deliver", "repeat"} and old.order_id == new.order_id:
                    assert new.place == old.place
                if old.reading_state == new.reading_state == "reading":
                    assert new.place == old.place, "a claimed study moved"
        by_study = Counter(e.study_id for e, _ in after.values() if e.study_id is not None)
        assert len(by_study) == len(self.seen) and set(by_study.values()) <= {1}
        orders = {row["id"]: row["status"] for row in self.ward.rows("SELECT id, status FROM imaging_order")}
        assert orders.keys() == {e.order_id for e, _ in after.values() if e.order_id is not None}
        for entry, _ in after.values():
            if entry.reading_state == "cancelled":
                assert entry.ai_state == "superseded" or orders[entry.order_id] == "cancelled"

    @invariant()
    def a_flagged_unread_study_is_expedited(self):
        for entry, _ in self.entries().values():
            is_waiting = entry.ai_state == "flagged" and entry.reading_state == "unread"
            if is_waiting and entry.placed_because != "override":
                assert entry.lane <= Lane.EXPEDITED
            is_placed = entry.place and entry.reading_state == "unread" and entry.placed_because != "override"
            if not self.model_is_on and is_placed:
                assert entry.place == clinical_place(
                    entry.requested_priority, entry.eligible_at, self.book.rules.policy
                )

    @invariant()
    def the_moves_tell_how_every_study_came_to_its_place(self):
        last = {}
        for move in self.ward.rows("SELECT * FROM move ORDER BY id"):
            to = (move["to_lane"], move["to_read_by"])
            assert (move["from_lane"], move["from_read_by"]) == last.get(move["entry_id"], (None, None))
            if move["actor"] == "ai":
                assert to[0] <= move["from_lane"] and to[1] <= move["from_read_by"]
            last[move["entry_id"]] = to
        for entry_id, (entry, _) in self.entries().items():
            assert (entry.lane, entry.read_by) == last.get(entry_id, (None, None))

    @invariant()
    def runs_and_deliveries_add_up(self):
        current = "SELECT entry_id FROM run GROUP BY entry_id HAVING count(*) FILTER (WHERE is_current) <> 1"
        assert self.ward.rows(current) == [], "an entry that was assessed has one current run"
        wrong = """
            SELECT r.id FROM run r LEFT JOIN delivery d ON d.run_id = r.id AND d.kind = 'result'
             GROUP BY r.id HAVING count(d.id) <> CASE WHEN r.outcome = 'assessed' THEN 2 ELSE 0 END
        """
        assert self.ward.rows(wrong) == []
        outdated = """
            SELECT d.id FROM delivery d JOIN run r ON r.id = d.run_id
             WHERE d.kind = 'result' AND d.state IN ('due', 'parked') AND (r.is_withdrawn OR NOT r.is_current)
        """
        assert self.ward.rows(outdated) == [], "an outdated result would still be sent"

    @invariant()
    def the_page_is_the_merge_of_the_lanes(self):
        waiting = [e for e, _ in self.entries().values() if e.place and e.reading_state == "unread"]
        waiting.sort(key=lambda e: (e.read_by, e.eligible_at, e.entry_id))
        lanes = [[e for e in waiting if e.lane is lane] for lane in Lane]
        share = self.ward.rows("SELECT expedited_since_ordinary AS n FROM reading_share")
        for at in (NOON - timedelta(days=1), NOON + timedelta(minutes=self.minutes)):
            expected = merged(
                *lanes, now=at, expedited_per_ordinary=1, expedited_since_ordinary=share[0]["n"] if share else 0
            )
            page = [line.entry.entry_id for line in self.book.page(SITE, limit=50, at=at)]
            assert page == [e.entry_id for e in expected]
            if at < NOON:
                assert page == [e.entry_id for lane in lanes for e in lane], (
                    "with nothing overdue: plain clinical order"
                )

    @invariant()
    def the_audit_trail_holds(self):
        assert self.book.first_broken_audit_row() is None


@pytest.mark.parametrize(("model_is_on", "examples", "steps"), [(True, 30, 30), (False, 10, 25)], ids=["on", "off"])
def test_any_sequence_of_events_keeps_the_promises(pool, model_is_on, examples, steps):
    machine = type("Machine", (AnySequence,), {"pool": pool, "model_is_on": model_is_on})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
