"""What we write as an order message reads back as the same order."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.hl7.header import header
from integrations.hl7.order_message import STATUSES, order_message
from integrations.hl7.orders import ACTIONS, orders
from triage.domain.errors import MalformedMessage
from triage.domain.imaging import Patient
from triage.domain.order import Code, Order, OrderAction, RequestedPriority

SENT_AT = datetime(2026, 3, 1, 8, 15, tzinfo=UTC)

latin = st.text(st.sampled_from("ABCabcxyz019 -.'|~&#"), min_size=1, max_size=8).map(str.strip).filter(bool)
kanji = st.text(st.sampled_from("本宮太郎山田日表髪能噂"), min_size=1, max_size=4)
kana = st.text(st.sampled_from("ほんぐうヤマダー"), min_size=1, max_size=4)


def grouped(*, japanese: bool) -> st.SearchStrategy[str]:
    """DICOM person names, with or without the second and third component group."""
    alphabetic = st.lists(latin, min_size=1, max_size=5).map("^".join)
    if not japanese:
        return alphabetic
    ideographic = st.lists(kanji, min_size=1, max_size=3).map("^".join)
    phonetic = st.lists(kana, min_size=1, max_size=3).map("^".join)
    return st.tuples(alphabetic | st.just(""), ideographic, phonetic | st.just("")).map(
        lambda g: "=".join(g).rstrip("=")
    )


def an_order(*, japanese: bool) -> st.SearchStrategy[Order]:
    """Orders with every field HL7 can carry."""
    text = kanji | latin if japanese else latin
    instants = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
    return st.builds(
        Order,
        patient=st.builds(
            Patient,
            patient_id=latin,
            issuer=latin,
            name=grouped(japanese=japanese),
            birth_date=st.none() | st.dates(date(1900, 1, 1)),
            sex=st.sampled_from(["M", "F", "O", ""]),
        ),
        placer_order_number=latin,
        filler_order_number=latin,
        accession_number=latin,
        issuer_of_accession=latin | st.just(""),
        study_instance_uid=st.sampled_from(["", "1.2.840.99999.1", "2.25.4711"]),
        procedure=st.lists(
            st.builds(Code, value=latin, system=latin, display=text), min_size=1, max_size=2, unique=True
        ).map(tuple),
        modality=st.sampled_from(["", "CR", "DX"]),
        requested_priority=st.sampled_from(RequestedPriority),
        scheduled_at=st.none() | instants.map(lambda at: at.replace(microsecond=0)),
    )


@pytest.mark.parametrize("message", ["ORM^O01", "OMI^O23"])
@pytest.mark.parametrize(
    "charset", ["ASCII", "8859/1", "UNICODE UTF-8", "ISO IR87", "ISO IR14~ISO IR87", "GB 18030-2000"]
)
def test_an_order_survives_the_wire(message: str, charset: str) -> None:
    @settings(max_examples=12, deadline=None)
    @given(an_order(japanese="UTF" in charset or "IR" in charset))
    def survives(order: Order) -> None:
        raw = order_message(order, message=message, charset=charset, control_id="7", sent_at=SENT_AT)
        (event,) = orders(raw)
        assert event.order == order
        assert event.action is OrderAction.PLACE

    survives()


@pytest.mark.parametrize("control", STATUSES)
def test_each_order_control_goes_with_a_status_that_is_understood(control: str) -> None:
    order = Order(Patient("1"), accession_number="A", procedure=(Code("C"),))
    (event,) = orders(order_message(order, control_id="7", sent_at=SENT_AT, order_control=control))
    assert event.action is ACTIONS[control, STATUSES[control]]


def test_the_header_says_who_sent_what_in_which_charset() -> None:
    raw = order_message(Order(Patient("1", name="=本宮")), charset="~ISO IR87", control_id="7", sent_at=SENT_AT)
    head = header(raw)
    assert (head.sending_application, head.sending_facility, head.control_id) == ("RIS", "DEMO", "7")
    assert head.charset == ("ISO IR87",)


def test_a_charset_too_small_for_the_name_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="ASCII"):
        order_message(Order(Patient("1", name="=本宮")), control_id="7", sent_at=SENT_AT)


def test_every_kanji_that_carries_a_separators_byte_survives() -> None:
    kanji = [chr(code) for code in range(0x4E00, 0x9FFF)]
    carriers = "".join(k for k in kanji if set(k.encode("iso2022_jp", "ignore")[3:5]) & set(b"|^~\\&"))
    assert len(carriers) == 515  # STANDARDS 4.3
    order = Order(Patient("1", name=f"={carriers}^太郎"), accession_number="A", procedure=(Code("C", "", carriers),))
    (event,) = orders(order_message(order, charset="~ISO IR87", control_id="7", sent_at=SENT_AT))
    assert event.order == order
