"""ServiceRequest and Patient become an order, or a refusal that says where."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.fhir import codes, orders
from tests.fhir.making import SITE, make_patient_resource, make_request
from triage.domain.errors import MalformedMessage, Rejected, TriageError
from triage.domain.order import OrderAction, RequestedPriority, asks_for_chest_radiograph


def read(request: dict[str, Any], patient: dict[str, Any] | None = None) -> Any:
    """The event of *request* whose subject resolves to *patient*."""
    return orders.order_event(request, lambda reference: patient or make_patient_resource(), SITE)


def test_an_order_is_read_whole() -> None:
    event = read(make_request())
    order = event.order
    assert event.action is OrderAction.PLACE
    assert (order.accession_number, order.issuer_of_accession) == ("ACC-77", "RIS")
    assert (order.placer_order_number, order.filler_order_number) == ("PL-77", "FI-77")
    assert order.study_instance_uid == "1.2.392.200036.9999.77"
    assert order.scheduled_at == datetime(2026, 11, 2, 10, 30, tzinfo=UTC)
    assert order.service_request == "ServiceRequest/sr-1"
    assert order.modality == "DX"
    assert asks_for_chest_radiograph(order)
    patient = order.patient
    assert (patient.patient_id, patient.issuer, patient.sex) == ("P-0077", "HOSP", "F")
    assert patient.birth_date == date(1958, 2, 3)
    assert patient.name == "Motomiya^Hanako=本宮^花子=モトミヤ^ハナコ"


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("active", OrderAction.PLACE),
        ("on-hold", OrderAction.HOLD),
        ("revoked", OrderAction.CANCEL),
        ("entered-in-error", OrderAction.CANCEL),
        ("completed", OrderAction.COMPLETE),
        ("draft", None),
        ("unknown", None),
        ("bogus", None),
        (None, None),
    ],
)
def test_the_status_says_what_to_do(status: str | None, action: OrderAction | None) -> None:
    if action is None:
        with pytest.raises(MalformedMessage, match=r"at ServiceRequest\.status"):
            read(make_request(status=status))
    else:
        assert read(make_request(status=status)).action is action


def test_a_later_version_of_an_active_order_is_a_change() -> None:
    assert read(make_request(meta={"versionId": "4"})).action is OrderAction.CHANGE
    assert read(make_request(meta={"versionId": "0b1e"})).action is OrderAction.PLACE


@pytest.mark.parametrize(
    ("priority", "ours"),
    [
        ("stat", RequestedPriority.STAT),
        ("asap", RequestedPriority.URGENT),
        ("urgent", RequestedPriority.URGENT),
        ("routine", RequestedPriority.ROUTINE),
        (None, RequestedPriority.ROUTINE),
    ],
)
def test_priorities_are_translated_by_a_table(priority: str | None, ours: RequestedPriority) -> None:
    assert read(make_request(priority=priority)).order.requested_priority is ours


@pytest.mark.parametrize("intent", ["proposal", "plan", "directive", "option", "", None])
def test_only_orders_are_orders(intent: str | None) -> None:
    with pytest.raises(MalformedMessage, match="intent"):
        read(make_request(intent=intent))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"doNotPerform": True}, "ServiceRequest.doNotPerform"),
        ({"modifierExtension": [{"url": "urn:x-test:never"}]}, "ServiceRequest.modifierExtension"),
        ({"priority": "soonish"}, "ServiceRequest.priority"),
        ({"subject": {}}, "ServiceRequest.subject"),
        ({"subject": {"reference": "#nobody"}}, "ServiceRequest.subject"),
        ({"occurrenceDateTime": "yesterday"}, "ServiceRequest.occurrenceDateTime"),
        ({"occurrenceDateTime": "2026-13-01T10:00:00Z"}, "ServiceRequest.occurrenceDateTime"),
        (
            {"identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.02.3"}]},
            "ServiceRequest.identifier[0].value",
        ),
        ({"resourceType": "Task"}, "resourceType"),
    ],
)
def test_a_refusal_names_the_element_and_no_value(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(MalformedMessage) as refusal:
        read(make_request(**changes))
    assert refusal.value.where == where
    assert not any(word in str(refusal.value) for word in ("soonish", "yesterday", "1.02.3", "P-0077", "Motomiya"))


def accession(value: str, system: str = "urn:x-test:accession", **more: Any) -> dict[str, Any]:
    """An identifier of type ACSN."""
    return {"type": {"coding": [codes.ACCESSION.coding]}, "system": system, "value": value, **more}


@pytest.mark.parametrize(
    ("identifiers", "expected"),
    [
        ([accession("A1")], ("A1", "RIS")),
        ([accession("A1", "urn:x-other:acsn")], ("A1", "urn:x-other:acsn")),
        ([accession("A1", "urn:oid:1.2.3")], ("A1", "1.2.3")),
        ([accession("A1", "urn:x-other:acsn", assigner={"display": "NORTH"})], ("A1", "NORTH")),
        ([{"system": "urn:x-test:accession", "value": "A1"}], ("A1", "RIS")),
        ([accession("A1"), accession("A1")], ("A1", "RIS")),
        ([{"system": "urn:x-other", "value": "A1"}], ("", "")),
        ([{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}], ("", "")),
    ],
)
def test_the_accession_number_goes_by_its_type_or_the_sites_system(
    identifiers: list[dict[str, Any]], expected: tuple[str, str]
) -> None:
    order = read(make_request(identifier=identifiers)).order
    assert (order.accession_number, order.issuer_of_accession) == expected


@pytest.mark.parametrize(
    "identifiers", [[accession("A1", "urn:dicom:uid")], [accession("A1"), accession("A2")]], ids=["uid-system", "two"]
)
def test_a_doubtful_accession_number_goes_to_a_person(identifiers: list[dict[str, Any]]) -> None:
    with pytest.raises(Rejected, match="accession"):
        read(make_request(identifier=identifiers))


IDE, SYL = (
    {"extension": [{"url": codes.NAME_REPRESENTATION, "valueCode": kind}], "family": family, "given": [given]}
    for kind, family, given in (("IDE", "山田", "太郎"), ("SYL", "ヤマダ", "タロウ"))
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (
            [{"family": "Doe", "given": ["Jan", "Piet", "K"], "prefix": ["Dr"], "suffix": ["Jr"]}],
            "Doe^Jan^Piet K^Dr^Jr",
        ),
        ([{"family": "Doe"}], "Doe"),
        ([{"text": "Jan van der Berg"}], "Jan van der Berg"),
        ([{"use": "old", "family": "Roe"}, {"family": "Doe"}], "Doe"),
        ([{"family": "Usual"}, {"use": "official", "family": "Official"}], "Official"),
        ([IDE, SYL], "=山田^太郎=ヤマダ^タロウ"),
        ([{"family": "山田", "given": ["太郎"]}], "=山田^太郎"),
        ([{"text": "山田\u3000太郎"}], "=山田^太郎"),
        ([{"text": "やまだ たろう"}], "==やまだ^たろう"),
        ([{"family": "A^B=C\\D"}], "A B C D"),
        (["not a name", {"family": 7, "given": "x"}], ""),
    ],
)
def test_names_become_dicom_person_names(names: list[Any], expected: str) -> None:
    assert orders.person_name(names) == expected


@pytest.mark.parametrize("birth_date", ["1958", "1958-02", None, "02/03/1958", "1958-02-31"])
def test_a_birth_date_that_is_no_day_is_left_out(birth_date: str | None) -> None:
    assert read(make_request(), make_patient_resource(birthDate=birth_date)).order.patient.birth_date is None


@pytest.mark.parametrize(
    ("occurrence", "expected"),
    [
        ({"occurrenceDateTime": "2026-11-02"}, datetime(2026, 11, 1, 15, 0, tzinfo=UTC)),
        ({"occurrenceDateTime": "2026-11-02T09:00:00"}, datetime(2026, 11, 2, 0, 0, tzinfo=UTC)),
        ({"occurrenceDateTime": "2026-11"}, None),
        ({"occurrenceDateTime": None, "occurrencePeriod": {"start": "2026-11-02T01:02:03.5Z"}}, "period"),
        ({"occurrenceDateTime": None, "occurrenceTiming": {"event": ["2026-11-02T01:02:03.5Z"]}}, "period"),
        ({"occurrenceDateTime": None}, None),
    ],
)
def test_the_occurrence_is_an_instant_in_utc(occurrence: dict[str, Any], expected: Any) -> None:
    wanted = datetime(2026, 11, 2, 1, 2, 3, 500000, tzinfo=UTC) if expected == "period" else expected
    assert read(make_request(**occurrence)).order.scheduled_at == wanted


def test_a_contained_patient_needs_no_lookup() -> None:
    request = make_request(contained=[make_patient_resource(id="inside")], subject={"reference": "#inside"})
    event = orders.order_event(request, lambda reference: pytest.fail("looked up"), SITE)
    assert event.order.patient.patient_id == "P-0077"


def test_a_logical_subject_is_enough_to_know_whom_the_order_is_for() -> None:
    request = make_request(subject={"identifier": {"system": "urn:x-test:mrn", "value": "P-1"}})
    patient = orders.order_event(request, lambda reference: None, SITE).order.patient
    assert (patient.patient_id, patient.issuer) == ("P-1", "HOSP")


def test_a_stored_order_is_read_again_without_its_server() -> None:
    raw = orders.document(make_request(), make_patient_resource())
    assert orders.from_document(raw, SITE) == read(make_request())
    assert raw == orders.document(make_request(), make_patient_resource())


def test_printing_an_order_shows_no_patient() -> None:
    text = repr(read(make_request()))
    assert not any(word in text for word in ("P-0077", "Motomiya", "本宮", "1958", "ACC-77"))


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b'{"resourceType":"Bundle"}', b"[" * 100_000])
def test_a_document_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        orders.from_document(raw, SITE)


WHOLE = json.loads(orders.document(make_request(), make_patient_resource()))
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from([[], {}, [[]], [{}], "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "\ud800", "\x00"]),
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, child in inner for path in paths(child, (*here, key)))]


PLACES = paths(WHOLE)[1:]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=4))
def test_whatever_the_ehr_sends_only_our_errors_come_out(mutations: list[tuple[tuple[Any, ...], Any]]) -> None:
    mutated = json.loads(json.dumps(WHOLE))
    for path, junk in mutations:
        parent = mutated
        try:
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = junk
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mutation took this place away
    try:
        event = orders.from_document(json.dumps(mutated).encode(), SITE)
    except TriageError:
        return
    assert event.order.patient.patient_id
    repr(event).encode()
    assert "\x00" not in event.order.patient.name + event.order.accession_number


def test_official_examples_raise_nothing_but_our_errors(corpus: Path) -> None:
    examples = sorted((corpus / "fhir" / "spec-r4").glob("*.json"))
    assert examples
    for path in examples:
        resource = json.loads(path.read_text(encoding="utf-8"))
        with pytest.raises(Rejected):  # none of them is a ServiceRequest
            read(resource)
        if resource["resourceType"] == "Patient":
            assert orders.patient_of(resource, SITE).patient_id
