"""Whatever happens in whatever order: what the AI does never costs a study its place, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

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
    ALTER TABLE label DISABLE TRIGGER label_fixed;
    TRUNCATE audit_trail, move, delivery, run, worklist_entry, instance, study, imaging_order, inbound_message,
             reading_share, label, audit_case, audit_sample RESTART IDENTITY CASCADE;
    ALTER TABLE audit_trail ENABLE TRIGGER audit_fixed;
    ALTER TABLE move ENABLE TRIGGER move_fixed;
    ALTER TABLE label ENABLE TRIGGER label_fixed;
"""
ENTRIES = f"SELECT {worklist.COLUMNS}, e.attempt FROM worklist_entry e ORDER BY e.id"
READERS = st.sampled_from(["dr.a", "dr.a", "dr.b"])
NUMBERS = st.integers(0, 2)
WHICH = st.integers(0, 9)
ACTIONS = st.sampled_from(["place", "change", "change", "cancel", "complete", "hold"])
WORK = st.sampled_from(
    [
        "lease",
        "flag",
        "flag",
        "flag",
        "no flag",
        "refuse",
        "away",
        "incomplete",
        "crash",
        "crash",
        "late flag",
        "late away",
    ]
)
DEEDS = st.sampled_from(["next", "claim", "claim", "release", "release", "release", "report", "override", "replay"])
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

    @initialize(priority=PRIORITIES)
    def a_day_begins(self, priority):
        """Two studies wait, one of them ordered: so that every example has something to lose."""
        self.by("archive")
        self.ward.hears(make_event(**about(0), requested_priority=priority))
        for which in (0, 3):
            self.ward.sees(self.studies[which], 1, at=self.now())
            self.seen[which] = 1

    # --- orders and images ---

    def an_order_message_comes(self, number, priority, action):
        self.by("order")
        event = make_event(OrderAction(action), **about(number), requested_priority=priority)
        kept = self.ward.hears(event)
        if kept.outcome in {"applied", "unchanged"}:
            self.sent.append((event, f"C{self.ward.sent}"))

    def a_message_is_sent_again(self, which):
        if not self.sent:
            return
        self.by("repeat")
        event, control_id = self.sent[which % len(self.sent)]
        self.changes_nothing(lambda: self.ward.hears(event, control_id=control_id))

    def the_archive_lists_a_study(self, which, more, missing, modality):
        self.by("archive")
        instances = min(4, self.seen.get(which, 0) + more)
        if which in self.seen or instances:
            self.ward.sees(
                self.studies[which], instances, at=self.now(), counted=instances + missing, modality=modality
            )
            self.seen[which] = instances

    def a_whole_study_is_listed_again(self, which):
        which = self.some(which, self.seen)
        self.by("archive")
        self.ward.sees(self.studies[which], self.seen[which], at=self.now())
        self.changes_nothing(lambda: self.ward.sees(self.studies[which], self.seen[which], at=self.now()))

    # --- workers ---

    def make_ready(self):
        with self.pool.connection() as db:
            db.execute("UPDATE worklist_entry SET assess_after = clock_timestamp()")

    def a_worker_does_something(self, what, which):
        self.by("ai")
        if what == "lease" or not self.leases:
            self.make_ready()
            new = self.ward.lease(1 + which % 3)
            assert len({lease.entry_id for lease in new}) == len(new)
            assert not {(n.entry_id, n.attempt) for n in new} & {(o.entry_id, o.attempt) for o in self.leases}
            self.leases += new
        held = [n for n in self.leases if self.holds(n)]
        if what.startswith("late "):
            held = [n for n in self.leases if not self.holds(n)]
        if held:
            self.ends(held[which % len(held)], what.removeprefix("late "))

    def holds(self, lease):
        row = self.ward.rows("SELECT ai_state, attempt FROM worklist_entry WHERE id = %s", lease.entry_id)[0]
        return row == {"ai_state": "assessing", "attempt": lease.attempt}

    def ends(self, lease, what):
        holds = self.holds(lease)
        if what in {"flag", "no flag"} and self.model_is_on:
            covid = 0.9 if what == "flag" else 0.1
            assert self.ward.flags(lease, covid) == holds, "a late finisher loses, the holder never does"
        elif what == "refuse":
            assert self.book.record(lease, UnusableRadiograph("not-frontal")) == holds
        elif what == "away":
            self.book.offer_again(lease, "archive: no answer")
        elif what == "incomplete":
            self.book.offer_again(lease, "incomplete: 1 of 2 instances", is_incomplete=True)
        elif what == "crash":
            self.ward.crashes(lease)
            self.book.offer_expired()
            self.make_ready()
            self.leases += self.ward.lease(1)  # another takes over: the one that crashed may yet come back

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

    def a_person_does_something(self, what, reader, which, lane):
        self.by("person")
        at = self.now()
        held = [i for i, row in self.before.items() if row["reading_state"] == "reading"]
        placed = [i for i, row in self.before.items() if row["lane"] is not None]
        if what == "next":
            page = self.book.page(SITE, limit=1, at=at)
            taken = self.person(lambda: self.book.next_study(SITE, reader, at=at))
            assert [line.entry.entry_id for line in page] == ([taken.entry_id] if taken else [])
        elif what == "claim":
            self.person(lambda: self.book.claim(self.some(which, placed), reader))
        elif what == "release":
            self.person(lambda: self.book.release(self.some(which, held or None), reader))
        elif what == "report":
            self.person(lambda: self.book.report(self.some(which), reader, "covid" if which % 2 else None))
        elif what == "override":
            self.person(lambda: self.book.override(self.some(which, placed), reader, Place(lane, at), "ward round"))
        elif what == "replay":
            self.person(lambda: self.book.assess_again(self.some(which), "ops"))

    # one rule for all of them: as rules of their own, whole examples would pass without a worker or without a reader
    @rule(
        turn=st.one_of(
            st.tuples(st.just("an_order_message_comes"), NUMBERS, PRIORITIES, ACTIONS),
            st.tuples(st.just("a_message_is_sent_again"), WHICH),
            st.tuples(st.just("the_archive_lists_a_study"), st.integers(0, 3), st.integers(0, 1), MISSING, MODALITIES),
            st.tuples(st.just("a_whole_study_is_listed_again"), WHICH),
            st.tuples(st.just("a_worker_does_something"), WORK, WHICH),
            st.tuples(st.just("a_worker_does_something"), WORK, WHICH),
            st.tuples(st.just("a_delivery_is_tried"), st.sampled_from(["delivered", "again", "park"])),
            st.tuples(st.just("a_person_does_something"), DEEDS, READERS, WHICH, st.sampled_from(Lane)),
            st.tuples(st.just("a_person_does_something"), DEEDS, READERS, WHICH, st.sampled_from(Lane)),
        )
    )
    def something_happens(self, turn):
        what, *details = turn
        getattr(self, what)(*details)

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
        untold = """
            SELECT d.id FROM delivery d JOIN run r ON r.id = d.run_id
             WHERE d.kind = 'result' AND (d.state IN ('delivered', 'sending') OR d.attempts > 0)
               AND (r.is_withdrawn OR NOT r.is_current)
               AND NOT EXISTS (SELECT 1 FROM delivery n JOIN run l ON l.id = n.run_id
                                WHERE n.destination = d.destination AND n.state <> 'superseded'
                                  AND ((n.kind = 'withdrawal' AND l.id = r.id AND l.is_withdrawn) OR (n.cancels = r.id
                                       AND (n.state = 'delivered' OR l.is_current AND NOT l.is_withdrawn))))
        """
        assert self.ward.rows(untold) == [], "a destination keeps a result that no longer counts"

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


@pytest.mark.parametrize(("model_is_on", "examples", "steps"), [(True, 35, 40), (False, 8, 25)], ids=["on", "off"])
def test_any_sequence_of_events_keeps_the_promises(pool, model_is_on, examples, steps):
    machine = type("Machine", (AnySequence,), {"pool": pool, "model_is_on": model_is_on})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
