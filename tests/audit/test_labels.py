"""Which label stands, and that nothing recorded later changes what was known; the random audit's draw."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from triage.audit import labels
from triage.audit.labels import RANK, SOURCES, WITHDRAWN, Labels, Source

START = np.datetime64("2026-03-01T00:00:00", "us")
SECRET = b"invented for the tests, 32 bytes"
NORMAL, PNEUMONIA, COVID = range(3)


def hours(numbers):
    return START + np.asarray(numbers, dtype="timedelta64[h]")


def make_labels(*rows):
    """Rows of (study, source, truth, valid from, recorded at), hours after START; recorded when valid if left out."""
    full = [(*row, row[3])[:5] if len(row) == 4 else row for row in rows]
    study, source, truth, valid, recorded = zip(*full, strict=True) if full else ((),) * 5
    return Labels(
        np.arange(len(full)) + 100,
        np.array(study, dtype=np.int64),
        np.array([SOURCES.index(s) for s in source], dtype=np.int8),
        np.array(truth, dtype=np.int8),
        np.array([s in (Source.FINAL_REPORT, Source.REPORT_TEXT) for s in source], dtype=bool),
        hours(valid),
        hours(recorded),
    )


def said(found, at=1000):
    known = labels.as_known(found, hours(at))
    return {
        int(study): (SOURCES[source], int(truth))
        for study, source, truth in zip(known.study, known.source, known.truth, strict=True)
    }


def test_the_best_ranked_source_stands_whatever_came_last():
    order = [Source.REPORT_TEXT, Source.FINAL_REPORT, Source.AUDIT_READ, Source.CONSENSUS, Source.CT_ADJUDICATION]
    found = make_labels(*((7, source, k % 3, 50 - k) for k, source in enumerate(order)))
    for k in range(len(order)):
        part = make_labels(*((7, source, j % 3, 50 - j) for j, source in enumerate(order[: k + 1])))
        assert said(part) == {7: (order[k], k % 3)}
    assert said(found) == {7: (Source.CT_ADJUDICATION, 1)}


@pytest.mark.parametrize(("later", "truth"), [(Source.RT_PCR, COVID), (Source.CT_ADJUDICATION, NORMAL)])
def test_of_rt_pcr_and_ct_the_later_one_stands(later, truth):
    valid = {Source.RT_PCR: 5, Source.CT_ADJUDICATION: 5} | {later: 6}
    found = make_labels(
        (1, Source.RT_PCR, COVID, valid[Source.RT_PCR], 9),
        (1, Source.CT_ADJUDICATION, NORMAL, valid[Source.CT_ADJUDICATION], 9),
    )
    assert said(found) == {1: (later, truth)}


def test_an_amended_report_stands_from_when_it_was_recorded():
    found = make_labels((1, Source.FINAL_REPORT, NORMAL, 2, 3), (1, Source.FINAL_REPORT, PNEUMONIA, 40, 41))
    assert said(found, 2) == {}
    assert said(found, 40) == {1: (Source.FINAL_REPORT, NORMAL)}
    assert said(found, 41) == {1: (Source.FINAL_REPORT, PNEUMONIA)}
    assert labels.as_known(found, hours(40)).amended.tolist() == [False]
    after = labels.as_known(found, hours(41))
    assert after.amended.tolist() == [True]
    assert after.first_recorded_at == hours(3) and after.recorded_at == hours(41) and after.valid_from == hours(40)


def test_an_old_report_that_arrives_late_does_not_undo_the_amended_one():
    found = make_labels((1, Source.FINAL_REPORT, PNEUMONIA, 40, 41), (1, Source.FINAL_REPORT, NORMAL, 2, 90))
    assert said(found) == {1: (Source.FINAL_REPORT, PNEUMONIA)}


def test_a_correction_of_the_same_instant_stands_by_its_recording_and_then_by_its_row():
    found = make_labels(
        (1, Source.CONSENSUS, NORMAL, 5, 6),
        (1, Source.CONSENSUS, COVID, 5, 8),
        (2, Source.CONSENSUS, NORMAL, 5, 6),
        (2, Source.CONSENSUS, PNEUMONIA, 5, 6),
    )
    assert said(found) == {1: (Source.CONSENSUS, COVID), 2: (Source.CONSENSUS, PNEUMONIA)}


def test_a_statement_holds_only_from_its_beginning():
    found = make_labels((1, Source.RT_PCR, COVID, 10, 4))
    assert said(found, 9) == {} and said(found, 10) == {1: (Source.RT_PCR, COVID)}


def test_what_a_source_takes_back_leaves_the_next_best():
    rows = [
        (1, Source.FINAL_REPORT, NORMAL, 2),
        (1, Source.RT_PCR, COVID, 3),
        (1, Source.RT_PCR, WITHDRAWN, 8),
        (2, Source.RT_PCR, COVID, 3),
        (2, Source.RT_PCR, WITHDRAWN, 8),
    ]
    assert said(make_labels(*rows)) == {1: (Source.FINAL_REPORT, NORMAL)}
    assert said(make_labels(*rows), 7) == {1: (Source.RT_PCR, COVID), 2: (Source.RT_PCR, COVID)}
    again = make_labels(*rows, (2, Source.RT_PCR, PNEUMONIA, 9))
    assert said(again)[2] == (Source.RT_PCR, PNEUMONIA)
    assert labels.as_known(again, hours(20)).amended.tolist() == [False, True]


def test_the_mix_counts_sources_and_readers_who_saw_the_ai():
    found = make_labels(
        (1, Source.FINAL_REPORT, NORMAL, 1),
        (2, Source.FINAL_REPORT, COVID, 1),
        (3, Source.AUDIT_READ, COVID, 1),
        (3, Source.REPORT_TEXT, COVID, 1),
    )
    portions = labels.mix(labels.as_known(found, hours(5)))
    assert [(p.source, p.studies, p.reader_saw_ai) for p in portions] == [
        (Source.AUDIT_READ, 1, 0),
        (Source.FINAL_REPORT, 2, 2),
    ]
    assert sum(p.share for p in portions) == pytest.approx(1)
    assert labels.mix(labels.as_known(make_labels(), hours(5))) == ()


def test_conflicts_compare_what_each_source_says_last():
    found = make_labels(
        (1, Source.RT_PCR, COVID, 1),
        (1, Source.FINAL_REPORT, NORMAL, 1),
        (1, Source.FINAL_REPORT, COVID, 2),
        (2, Source.RT_PCR, COVID, 1),
        (2, Source.FINAL_REPORT, NORMAL, 1),
        (2, Source.REPORT_TEXT, NORMAL, 1),
        (3, Source.RT_PCR, COVID, 1),
        (3, Source.FINAL_REPORT, NORMAL, 1),
        (3, Source.FINAL_REPORT, WITHDRAWN, 2),
    )
    assert labels.conflicts(found, hours(9)) == (
        labels.Conflict(Source.RT_PCR, Source.FINAL_REPORT, 2, 1),
        labels.Conflict(Source.RT_PCR, Source.REPORT_TEXT, 1, 1),
        labels.Conflict(Source.FINAL_REPORT, Source.REPORT_TEXT, 1, 0),
    )


ROW = st.tuples(
    st.integers(0, 5),
    st.sampled_from(SOURCES),
    st.integers(WITHDRAWN, 2),
    st.integers(0, 12),
    st.integers(0, 20),
)


def as_bytes(known):
    return [getattr(known, f.name).tobytes() for f in fields(known)]


@given(st.lists(ROW, max_size=30), st.lists(ROW, max_size=30))
@settings(max_examples=150, deadline=None)
def test_a_late_or_amended_label_leaves_a_past_report_as_it_was(before, after):
    at = hours(20)
    late = [(study, source, truth, valid, 21 + recorded) for study, source, truth, valid, recorded in after]
    then, now = make_labels(*before), make_labels(*before, *late)
    assert as_bytes(labels.as_known(then, at)) == as_bytes(labels.as_known(now, at))
    assert labels.conflicts(then, at) == labels.conflicts(now, at)
    assert labels.mix(labels.as_known(then, at)) == labels.mix(labels.as_known(now, at))


@given(st.lists(ROW, max_size=30), st.integers(0, 25), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_what_is_known_is_what_the_rule_says_in_any_order_of_rows(rows, at, random):
    found = make_labels(*rows)
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)
    turned = Labels(*(getattr(found, f.name)[shuffled] for f in fields(found)))
    assert as_bytes(labels.as_known(found, hours(at))) == as_bytes(labels.as_known(turned, hours(at)))

    known = [(*row, 100 + i) for i, row in enumerate(rows) if row[3] <= at and row[4] <= at]
    expected = {}
    for study in {row[0] for row in known}:
        last = [
            max((row for row in known if row[:2] == (study, source)), key=lambda row: row[3:])
            for source in {row[1] for row in known if row[0] == study}
        ]
        standing = [row for row in last if row[2] != WITHDRAWN]
        if standing:
            best = max(standing, key=lambda row: (-RANK[SOURCES.index(row[1])], *row[3:]))
            expected[study] = (best[1], best[2])
    assert said(found, at) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.array([1], dtype=np.int8)}, "columns of"),
        ({"row": np.array([4, 4])}, "row number occurs twice"),
        ({"source": np.array([0, 6], dtype=np.int8)}, r"source outside 0 \.\.\. 5"),
        ({"truth": np.array([0, -2], dtype=np.int8)}, "truth below -1"),
        ({"valid_from": np.array(["2026-03-01", "NaT"], dtype="datetime64[us]")}, "instant is missing"),
    ],
)
def test_impossible_labels_are_refused(change, message):
    good = make_labels((1, Source.RT_PCR, 0, 1), (2, Source.RT_PCR, 0, 1))
    with pytest.raises(ValueError, match=message):
        Labels(**{f.name: getattr(good, f.name) for f in fields(good)} | change)


def test_instants_are_utc():
    tokyo = datetime(2026, 3, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    assert labels.utc([tokyo, datetime(2026, 3, 1, 0, 0, 0, 7, tzinfo=UTC)]).astype(str).tolist() == [
        "2026-03-01T00:00:00.000000",
        "2026-03-01T00:00:00.000007",
    ]
    with pytest.raises(ValueError, match="moment 0 has no time zone"):
        labels.utc([tokyo.replace(tzinfo=None)])


def test_the_audit_draws_unflagged_studies_at_its_rate():
    study, flagged = np.arange(20_000), np.arange(20_000) % 4 == 0
    drawn = labels.random_audit(study, flagged, SECRET, 0.04)
    assert not drawn.chosen[flagged].any()
    assert binom.sf(drawn.chosen.sum() - 1, 15_000, 0.04) > 1e-4 and binom.cdf(drawn.chosen.sum(), 15_000, 0.04) > 1e-4
    assert set(drawn.weight[drawn.chosen]) == {25.0} and not drawn.weight[~drawn.chosen].any()
    assert drawn.weight.sum() == pytest.approx(15_000, rel=0.15)


@given(st.lists(st.integers(0, 2**62), unique=True, max_size=60), st.integers(0, 60), st.floats(0.01, 1))
@settings(max_examples=50, deadline=None)
def test_later_arrivals_and_a_higher_rate_leave_the_draw_standing(study, first, rate):
    everyone = labels.random_audit(study, [False] * len(study), SECRET, rate).chosen
    early = labels.random_audit(study[:first], [False] * len(study[:first]), SECRET, rate).chosen
    backwards = labels.random_audit(study[::-1], [False] * len(study), SECRET, rate).chosen
    assert early.tolist() == everyone[:first].tolist() and backwards[::-1].tolist() == everyone.tolist()
    lower = labels.random_audit(study, [False] * len(study), SECRET, rate / 2).chosen
    assert not (lower & ~everyone).any()
    assert labels.random_audit(study, [False] * len(study), SECRET, 1).chosen.all()


def test_the_draw_is_the_secret_s_and_never_changes():
    study, none = np.arange(200), np.zeros(200, dtype=bool)
    drawn = np.flatnonzero(labels.random_audit(study, none, SECRET, 0.05).chosen)
    other = np.flatnonzero(labels.random_audit(study, none, SECRET[::-1], 0.05).chosen)
    assert drawn.tolist() != other.tolist()
    # a change of the hash would draw other studies of the past: these numbers must stay
    assert drawn.tolist() == [12, 18, 30, 43, 46, 58, 135, 151, 161, 197]


@pytest.mark.parametrize(
    ("secret", "rate", "flags", "message"),
    [
        (b"short", 0.05, 2, "secret is not of 16"),
        (SECRET * 3, 0.05, 2, "secret is not of 16"),
        (SECRET, 0, 2, r"rate is not in \(0, 1\]"),
        (SECRET, 1.5, 2, r"rate is not in \(0, 1\]"),
        (SECRET, 0.05, 3, r"\(3,\) flags for \(2,\) studies"),
    ],
)
def test_a_draw_without_a_secret_or_a_rate_is_refused(secret, rate, flags, message):
    with pytest.raises(ValueError, match=message):
        labels.random_audit([1, 2], [False] * flags, secret, rate)
