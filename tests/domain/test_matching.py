"""Which order a study answers, as a table."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.making import NOON, make_order, make_patient, make_study
from triage.domain.matching import TIME_WINDOW, Candidate, the_only_match

UID = "2.25.1"
OTHER_PATIENT = make_patient(patient_id="P-0002")
NO_NUMBER = {"accession_number": "", "issuer_of_accession": ""}

TABLE = [
    # what the study says, what each order says, by what they meet, which of them (counted from 0)
    pytest.param({}, [{}], "accession", 0, id="accession and issuer"),
    pytest.param({"issuer_of_accession": ""}, [{}], "accession", 0, id="blank issuer on the study"),
    pytest.param({}, [{"issuer_of_accession": ""}], "accession", 0, id="blank issuer on the order"),
    pytest.param({}, [{"issuer_of_accession": "EHR", "scheduled_at": None}], "no-order", None, id="other issuer"),
    pytest.param(
        {"issuer_of_accession": ""},
        [{}, {"issuer_of_accession": "EHR"}],
        "ambiguous",
        None,
        id="two issuers fit a blank",
    ),
    pytest.param({}, [{"issuer_of_accession": "EHR"}, {}], "accession", 1, id="the issuer decides between two"),
    pytest.param({}, [{"patient": OTHER_PATIENT}], "patient-differs", None, id="accession of another patient"),
    pytest.param(
        {}, [{"patient": OTHER_PATIENT}, {}], "accession", 1, id="the patient decides between two of one accession"
    ),
    pytest.param(
        {"study_instance_uid": UID},
        [{"patient": OTHER_PATIENT}, {**NO_NUMBER, "study_instance_uid": UID}],
        "patient-differs",
        None,
        id="a mix-up is not overruled by a weaker criterion",
    ),
    pytest.param(
        {},
        [{"patient": make_patient(patient_id="P-0002", issuer="ELSEWHERE")}],
        "accession",
        0,
        id="numbers of different issuers do not contradict",
    ),
    pytest.param(
        {}, [{"patient": make_patient(patient_id="")}], "accession", 0, id="an order without a patient number"
    ),
    pytest.param(
        {**NO_NUMBER, "study_instance_uid": UID},
        [{**NO_NUMBER, "study_instance_uid": UID}],
        "study-instance-uid",
        0,
        id="study UID",
    ),
    pytest.param(
        {"study_instance_uid": UID},
        [{"accession_number": "ACC-9", "study_instance_uid": UID}],
        "study-instance-uid",
        0,
        id="study UID though the accession numbers differ",
    ),
    pytest.param(
        {"study_instance_uid": UID}, [{**NO_NUMBER, "study_instance_uid": ""}, {}], "accession", 1, id="accession first"
    ),
    pytest.param(NO_NUMBER, [{}], "patient-and-time", 0, id="patient and time, study unnumbered"),
    pytest.param({}, [NO_NUMBER], "patient-and-time", 0, id="patient and time, order unnumbered"),
    pytest.param(
        {"study_at": NOON + TIME_WINDOW, **NO_NUMBER}, [{}], "patient-and-time", 0, id="at the edge of the window"
    ),
    pytest.param(
        {"study_at": NOON - TIME_WINDOW - timedelta(seconds=1), **NO_NUMBER}, [{}], "no-order", None, id="outside it"
    ),
    pytest.param({"study_at": None, **NO_NUMBER}, [{}], "no-order", None, id="no study time"),
    pytest.param(NO_NUMBER, [{"scheduled_at": None}], "no-order", None, id="no scheduled time"),
    pytest.param(NO_NUMBER, [{}, {"accession_number": "ACC-2"}], "ambiguous", None, id="two orders in the window"),
    pytest.param({}, [{"accession_number": "ACC-2"}], "no-order", None, id="numbers differ: not by time"),
    pytest.param(
        {"patient": make_patient(patient_id=""), **NO_NUMBER},
        [{"patient": make_patient(patient_id="")}],
        "no-order",
        None,
        id="two blanks are no patient in common",
    ),
    pytest.param(
        NO_NUMBER, [{"patient": make_patient(issuer="ELSEWHERE")}], "no-order", None, id="other patient issuer"
    ),
    pytest.param({}, [], "no-order", None, id="no orders at all"),
]


@pytest.mark.parametrize(("study", "orders", "by", "which"), TABLE)
def test_a_study_meets_the_one_order_that_fits(study, orders, by, which):
    candidates = [Candidate(10 + number, make_order(**order)) for number, order in enumerate(orders)]
    match = the_only_match(make_study(**study), candidates)
    assert (match.by, match.order_id) == (by, None if which is None else 10 + which)


variants = st.fixed_dictionaries(
    {
        "accession_number": st.sampled_from(["", "ACC-1", "ACC-2"]),
        "issuer_of_accession": st.sampled_from(["", "RIS", "EHR"]),
        "study_instance_uid": st.sampled_from(["", UID]),
        "patient": st.sampled_from([make_patient(), OTHER_PATIENT, make_patient(issuer="")]),
        "scheduled_at": st.sampled_from([None, NOON, NOON - timedelta(days=3)]),
    }
)


@settings(deadline=None, derandomize=True)
@given(st.lists(variants, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_never_decides_and_another_patients_never_wins(orders, rng):
    study = make_study(study_instance_uid=UID)
    candidates = [Candidate(number, make_order(**order)) for number, order in enumerate(orders)]
    match = the_only_match(study, candidates)
    rng.shuffle(candidates)
    assert the_only_match(study, candidates) == match
    if match.order_id is not None:
        patient = make_order(**orders[match.order_id]).patient
        assert patient.patient_id == study.patient.patient_id
