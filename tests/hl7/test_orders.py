"""Order messages to orders."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from integrations.hl7.header import header
from integrations.hl7.orders import ACTIONS, PRIORITIES, is_order, orders
from tests.hl7.messages import make_message, sample
from triage.domain.errors import MalformedMessage
from triage.domain.order import Code, Order, OrderAction, RequestedPriority

TOKYO = ZoneInfo("Asia/Tokyo")


def order_of(raw: bytes) -> Order:
    (event,) = orders(raw)
    return event.order


def test_a_message_with_two_orders_gives_two() -> None:
    first, second = orders(sample("orm_two_orders.hl7"), zone=TOKYO)
    assert first.action is second.action is OrderAction.PLACE
    assert first.order.key == "accession:RAD:A-1"
    assert (first.order.placer_order_number, first.order.filler_order_number) == ("P-1", "F-1")
    assert first.order.procedure == (Code("36643-5", "LN", "XR Chest 2 Views"), Code("CXR2", "L", "Chest two views"))
    assert first.order.requested_priority is RequestedPriority.STAT
    assert first.order.scheduled_at == datetime(2026, 2, 28, 23, 30, tzinfo=UTC)
    assert (first.order.patient.patient_id, first.order.patient.issuer) == ("4711", "SITE")
    assert first.order.patient.name == "Doe^Jane^Q^Dr"
    assert first.order.patient.birth_date == date(1962, 3, 14)
    assert second.order.modality == "CT"
    assert second.order.scheduled_at == datetime(2026, 3, 1, 0, 0, tzinfo=UTC)


def test_one_zds_covers_the_orders_of_its_accession() -> None:
    assert {e.order.study_instance_uid for e in orders(sample("orm_one_study_in_one_zds.hl7"))} == {"1.2.840.99999.1"}


def test_steps_of_one_study_are_one_order_and_of_two_studies_two() -> None:
    events = orders(sample("omi_three_steps_two_studies.hl7"))
    found = [(e.order.accession_number, e.order.study_instance_uid, e.order.modality) for e in events]
    assert found == [("A-1", "1.2.840.99999.1", "DX"), ("A-2", "1.2.840.99999.2", "CR")]
    assert events[0].order.requested_priority is RequestedPriority.URGENT


@pytest.mark.parametrize("name", ["orm_japanese_iso_2022.hl7", "orm_japanese_utf8.hl7"])
def test_a_japanese_name_is_the_same_in_either_charset(name: str) -> None:
    order = order_of(sample(name))
    assert order.patient.name == "HONGU^TARO=本宮^太郎=ほんぐう^たろう"
    assert order.procedure[0].display == "胸部単純撮影"


def test_a_cancellation_needs_no_more_than_its_number() -> None:
    (event,) = orders(sample("orm_cancel.hl7"))
    assert (event.action, event.order.key) == (OrderAction.CANCEL, "filler:F-1")


@pytest.mark.parametrize(("pair", "action"), ACTIONS.items())
def test_each_known_order_control_and_status_is_one_action(pair: tuple[str, str], action: OrderAction) -> None:
    (event,) = orders(make_message(orc={1: pair[0], 5: pair[1]}))
    assert event.action is action


@pytest.mark.parametrize(("control", "status"), [("NW", "CA"), ("CA", "CM"), ("ZZ", ""), ("", ""), ("NW", "Doe^Jane")])
def test_an_unknown_pair_is_refused_by_name_and_never_guessed(control: str, status: str) -> None:
    with pytest.raises(MalformedMessage, match="ORC-1, ORC-5") as refused:
        orders(make_message(orc={1: control, 5: status}))
    assert "Doe" not in str(refused.value)


@pytest.mark.parametrize(
    ("sent", "priority"),
    [*PRIORITIES.items(), ("s", RequestedPriority.STAT), ("TM15", RequestedPriority.URGENT)],
)
def test_each_priority_is_read_from_its_place(sent: str, priority: RequestedPriority) -> None:
    assert order_of(make_message(orc={7: f"^^^^^{sent}"})).requested_priority is priority
    assert order_of(make_message(obr={27: f"^^^^^{sent}"})).requested_priority is priority
    timed = make_message(orc={7: "^^^^^R" if sent else ""}, more=(f"TQ1|1||||||||{sent}^word^HL70485",))
    assert order_of(timed).requested_priority is priority


def test_an_unknown_priority_goes_to_a_person_unless_the_site_explains_it() -> None:
    raw = make_message(orc={7: "^^^^^KIKEN"})
    with pytest.raises(MalformedMessage, match=r"ORC-7\.6"):
        orders(raw)
    (event,) = orders(raw, priorities={"KIKEN": RequestedPriority.STAT})
    assert event.order.requested_priority is RequestedPriority.STAT


@pytest.mark.parametrize(
    ("sent", "instant"),
    [
        ("20260301083000", datetime(2026, 3, 1, 8, 30, tzinfo=TOKYO)),
        ("202603010830", datetime(2026, 3, 1, 8, 30, tzinfo=TOKYO)),
        ("2026030108", datetime(2026, 3, 1, 8, tzinfo=TOKYO)),
        ("20260301", datetime(2026, 3, 1, tzinfo=TOKYO)),
        ("20260301083000.25+0100", datetime(2026, 3, 1, 8, 30, 0, 250000, timezone(timedelta(hours=1)))),
        ("2026030108-0330", datetime(2026, 3, 1, 11, 30, tzinfo=UTC)),
        ("202603", None),
        ('""', None),
    ],
)
def test_an_instant_without_zone_takes_the_sites(sent: str, instant: datetime | None) -> None:
    (event,) = orders(make_message(orc={7: f"^^^{sent}"}), zone=TOKYO)
    assert event.order.scheduled_at == instant
    (event,) = orders(make_message(more=(f"TQ1|1||||||{sent}",)), zone=TOKYO)
    assert event.order.scheduled_at == instant


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Doe^Jane^^Jr^Dr", "Doe^Jane^^Dr^Jr"),
        ("van der Berg&van der&Berg^Anna", "van der Berg^Anna"),
        (r"O\T\Neil^A\X42\b", "O&Neil^ABb"),
        ("本宮^太郎", "=本宮^太郎"),
        ("ﾎﾝｸﾞｳ^ﾀﾛｳ~本宮^太郎", "=本宮^太郎=ﾎﾝｸﾞｳ^ﾀﾛｳ"),
        ("本宮^太郎^^^^^L^I~HONGU^TARO^^^^^L^A", "HONGU^TARO=本宮^太郎"),
        ("Smith^Jane^^^^^M~Doe^Jane^^^^^L", "Doe^Jane"),
        ("Smith^Jane^^^^^M", "Smith^Jane"),
        ("", ""),
        ('""', ""),
    ],
)
def test_a_name_becomes_dicoms_three_component_groups(sent: str, name: str) -> None:
    assert order_of(make_message(pid={5: sent})).patient.name == name


@pytest.mark.parametrize(
    ("sent", "identifier"),
    [
        ("1^^^A~2^^^B^MR", ("2", "B")),
        ("1^^^A~2^^^B^PI", ("2", "B")),
        ("1^^^A~2^^^B^SS", ("1", "A")),
        ("^^^A~2^^^B", ("2", "B")),
        ("0007", ("0007", "")),
        ("0007^^^&1.2.3&ISO", ("0007", "1.2.3")),
        ("0007^^^SITE&1.2.3&ISO^MR", ("0007", "SITE")),
    ],
)
def test_the_medical_record_number_identifies_else_the_first(sent: str, identifier: tuple[str, str]) -> None:
    patient = order_of(make_message(pid={3: sent})).patient
    assert (patient.patient_id, patient.issuer) == identifier


@pytest.mark.parametrize(
    ("sent", "born"),
    [
        ("19620314", date(1962, 3, 14)),
        ("196203141530", date(1962, 3, 14)),
        ("1962", None),
        ("19620000", None),
        ("", None),
    ],
)
def test_a_birth_date_is_whole_or_none(sent: str, born: date | None) -> None:
    assert order_of(make_message(pid={7: sent})).patient.birth_date == born


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (make_message(pid={3: ""}), "PID-3"),
        (make_message(pid={7: "Jane"}), "PID-7"),
        (make_message(obr={4: ""}), "OBR-4"),
        (make_message(pid={3: "1^^^A~" * 10_000}), "PID-3"),
        (make_message(orc={7: "^^^tomorrow"}), "ORC-7.4"),
        (make_message(orc={2: "", 3: ""}, obr={18: ""}), "ORC-2"),
        (make_message(more=("ZDS|1.2.x",)), "ZDS-1"),
        (make_message(more=("PID|1||4712",)), "PID"),
        (make_message(more=("OBR|2||F-2|X",)), "OBR"),
        (make_message() + make_message(), "MSH"),
        (make_message(msh={9: "ADT^A01"}), "MSH-9"),
        (make_message(msh={9: ""}), "MSH-9"),
        (b"MSH|^~\\&|||||||ORM^O01|1|P|2.5\rPID|1||4711\r", "ORC"),
        (b"MSH|^~\\&|||||||ORM^O01|1|P|2.5\rORC|NW\r", "PID"),
        (b"MSH|^~\\&|||||||ORM^O01|1|P|2.5\rPID|1||4711\rOBR|1\r", "OBR"),
        (b"MSH|^^~|||||ORM^O01\r", "MSH-1"),
        (b"hello", "byte 0"),
        (b"", "byte 0"),
    ],
)
def test_what_cannot_be_read_with_certainty_names_its_field(raw: bytes, where: str) -> None:
    with pytest.raises(MalformedMessage) as refused:
        orders(raw)
    assert refused.value.where.startswith(where)
    assert "Jane" not in str(refused.value)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_segments_may_end_as_lines_of_a_file_do(ending: bytes) -> None:
    raw = sample("orm_two_orders.hl7")
    assert orders(raw.replace(b"\r", ending)) == orders(raw)


def test_other_separators_than_the_usual_are_followed() -> None:
    swap = bytes.maketrans(b"|^~\\&", b"*$!%@")
    (event,) = orders(make_message(pid={5: r"O\S\Neil^Jane"}).translate(swap))
    assert event.order.patient.name == "O$Neil^Jane"


def test_a_message_of_another_kind_is_known_by_its_header_alone() -> None:
    assert not is_order(header(sample("adt_admission.hl7")))
    assert is_order(header(sample("orm_cancel.hl7")))


def test_printing_an_event_shows_no_patient() -> None:
    shown = repr(orders(sample("orm_japanese_utf8.hl7")))
    assert not any(word in shown for word in ("HONGU", "本宮", "4711", "1962", "A-1", "P-1"))


def test_the_procedure_may_stand_in_obr_44() -> None:
    order = order_of(make_message(obr={4: "CXR^Chest^L", 44: "71046^Chest 2 views^C4"}))
    assert [code.value for code in order.procedure] == ["CXR", "71046"]


def test_white_space_by_the_megabyte_is_refused_at_once() -> None:
    with pytest.raises(MalformedMessage):
        header(b"\r" * 2_000_000)
