"""The audit's row of a run: written with it, read back as columns, as known at any past instant."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from tests.making import NOON, make_assessment, make_facts, make_order, make_study
from tests.postgres.ward import SITE, Ward
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import PIXEL_STATISTICS
from triage.domain.frame import Frame
from triage.postgres import audit_cases

LONG_AGO = NOON - timedelta(days=4000)


def frame_of(ward: Ward, as_of: datetime | None = None) -> Frame:
    with ward.book.pool.connection() as db:
        at = as_of or db.execute("SELECT clock_timestamp() AS at").fetchone()["at"]  # type: ignore[index]
        return audit_cases.frame(db, SITE, LONG_AGO, at)


def assessed(ward: Ward, covid: float = 0.9, **facts: object) -> int:
    study = make_study(patient=make_order().patient, accession_number="")
    ward.sees(study)
    (lease,) = ward.lease()
    read = make_facts(study_instance_uid=study.study_instance_uid, **facts)
    sop = ward.rows("SELECT sop_instance_uid FROM instance WHERE study_id = %s", lease.study_id)[0]["sop_instance_uid"]
    ward.book.read_headers(lease, [(sop, read, "")])
    statistics = {name: i / 10 for i, name in enumerate(PIXEL_STATISTICS)}
    outcome = make_assessment(covid=covid, sop_instance_uid=sop, statistics=statistics, coordinates=(1.5, -2.0))
    assert ward.book.record(lease, outcome)
    return lease.entry_id


def test_what_a_run_said_is_read_back_as_numbers(ward: Ward) -> None:
    entry = assessed(ward, covid=0.9, manufacturer="ACME", age_years=63.0)
    found = frame_of(ward)
    assert len(found) == 1
    row = {name: column[0] for name, column in found.columns.items()}
    assert row["entry_id"] == entry
    assert (row["p_normal"], row["p_pneumonia"], row["p_covid"]) == pytest.approx((0.05, 0.05, 0.9))
    assert (row["is_flagged"], row["threshold"], row["age_years"], row["gate_score"]) == (1, 0.5, 63.0, 3.0)
    assert found.words["manufacturer"][row["manufacturer"]] == "ACME"
    assert found.words["outcome"][row["outcome"]] == "assessed"
    with ward.book.pool.connection() as db:
        details = audit_cases.details(db, [int(row["case_id"])])
    assert details["statistics"][0] == pytest.approx([i / 10 for i in range(len(PIXEL_STATISTICS))])
    assert details["coordinates"].tolist() == [[1.5, -2.0]]


def test_a_refused_run_has_a_row_without_numbers(ward: Ward) -> None:
    ward.sees(make_study(accession_number=""))
    (lease,) = ward.lease()
    ward.book.record(lease, UnusableRadiograph("out-of-distribution"))
    found = frame_of(ward)
    assert found.words["refusal"][found.columns["refusal"][0]] == "out-of-distribution"
    assert np.isnan(found.columns["p_covid"][0])
    with ward.book.pool.connection() as db:
        details = audit_cases.details(db, found.columns["case_id"].tolist())
    assert details["statistics"].shape == (1, len(PIXEL_STATISTICS)) and np.isnan(details["statistics"]).all()
    assert details["coordinates"].shape == (1, 0)


def test_a_later_run_takes_the_place_of_an_earlier_one_but_not_in_a_report_of_before(ward: Ward) -> None:
    entry = assessed(ward, covid=0.9)
    before = ward.one("SELECT clock_timestamp()")
    ward.book.assess_again(entry, "operator")
    (lease,) = ward.lease()
    ward.book.record(lease, make_assessment(covid=0.1))
    assert frame_of(ward).columns["p_covid"].tolist() == pytest.approx([0.1])
    assert frame_of(ward, before).columns["p_covid"].tolist() == pytest.approx([0.9])


def test_what_was_withdrawn_counts_only_in_reports_of_before(ward: Ward) -> None:
    entry = assessed(ward)
    before = ward.one("SELECT clock_timestamp()")
    with ward.book.pool.connection() as db:
        audit_cases.withdraw(db, entry)
    assert len(frame_of(ward)) == 0
    assert len(frame_of(ward, before)) == 1


def test_many_rows_and_none_are_read_alike(ward: Ward) -> None:
    assert len(frame_of(ward)) == 0
    ward.rows(
        "INSERT INTO audit_case (run_id, entry_id, site, recorded_at, patient_key, outcome, p_covid) "
        "SELECT gen_random_uuid(), i, %s, %s, i, 'assessed', i / 20000.0 FROM generate_series(1, 20000) i RETURNING 1",
        SITE, NOON,
    )  # fmt: skip
    found = frame_of(ward)
    assert len(found) == 20000
    assert found.columns["p_covid"] == pytest.approx(np.arange(1, 20001) / 20000)
    assert set(found.columns["day"]) == {int(NOON.timestamp() // 86400)}


def test_patients_are_told_apart_without_being_named(ward: Ward) -> None:
    first, second = assessed(ward), assessed(ward)
    keys = frame_of(ward).columns["patient"]
    assert first != second
    assert keys[0] == keys[1]
    assert make_order().patient.patient_id not in str(keys)


def test_when_a_study_was_opened_and_reported_is_kept_and_forgotten_by_a_release(ward: Ward) -> None:
    entry = assessed(ward)
    before = ward.one("SELECT clock_timestamp()")
    ward.book.claim(entry, "reader")

    def readings(at: datetime) -> dict[str, float]:
        with ward.book.pool.connection() as db:
            found = audit_cases.readings(db, SITE, LONG_AGO, at)
        return {name: column[0] for name, column in found.columns.items()}

    opened = readings(ward.one("SELECT clock_timestamp()"))
    assert opened["opened"] > before.timestamp() and np.isnan(opened["reported"])
    assert np.isnan(readings(before)["opened"]), "at that instant nobody had opened it"
    ward.book.release(entry, "reader")
    assert np.isnan(readings(ward.one("SELECT clock_timestamp()"))["opened"])
    ward.book.claim(entry, "reader")
    ward.book.report(entry, "reader", "covid")
    done = readings(ward.one("SELECT clock_timestamp()"))
    assert done["eligible"] <= done["opened"] <= done["reported"]
