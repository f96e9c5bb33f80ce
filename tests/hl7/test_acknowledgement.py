"""Acknowledgements: original and enhanced mode, old and new ERR, no patient in any."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from integrations.hl7.acknowledgement import CONDITIONS, Verdict, acknowledgement, refusal
from integrations.hl7.client import answered
from integrations.hl7.header import header
from tests.hl7.messages import make_message, sample
from triage.domain.errors import MalformedMessage

NOW = datetime(2026, 3, 1, 8, 15, tzinfo=UTC)


def lines_of(raw: bytes) -> list[str]:
    return raw.decode().rstrip("\r").split("\r")


def test_an_acknowledgement_goes_back_where_the_message_came_from() -> None:
    head = header(make_message(msh={3: "RIS^1.2.3^ISO"}))
    assert lines_of(acknowledgement(head, now=NOW, control_id="77")) == [
        "MSH|^~\\&|TRIAGE|SITE|RIS^1.2.3^ISO|DEMO|20260301081500+0000||ACK^O01^ACK|77|P|2.5",
        "MSA|AA|M-1",
    ]


def test_each_acknowledgement_has_a_number_of_its_own() -> None:
    head = header(make_message())
    numbers = {header(acknowledgement(head)).control_id for _ in range(50)}
    assert len(numbers) == 50
    assert all(0 < len(number) <= 20 for number in numbers)


@pytest.mark.parametrize(
    ("version", "segments"),
    [
        ("2.3.1", ["MSA|AE|M-1|no PID-3", "ERR|^^^101&Required field missing&HL70357"]),
        ("2.4", ["MSA|AE|M-1|no PID-3", "ERR|^^^101&Required field missing&HL70357"]),
        ("2.5", ["MSA|AE|M-1", "ERR|||101^Required field missing^HL70357|E|||no PID-3|no PID-3"]),
        ("2.5.1", ["MSA|AE|M-1", "ERR|||101^Required field missing^HL70357|E|||no PID-3|no PID-3"]),
        ("2.10", ["MSA|AE|M-1", "ERR|||101^Required field missing^HL70357|E|||no PID-3|no PID-3"]),
        ("", ["MSA|AE|M-1|no PID-3", "ERR|^^^101&Required field missing&HL70357"]),
    ],
)
def test_an_error_is_said_as_the_senders_version_says_it(version: str, segments: list[str]) -> None:
    head = header(make_message(msh={12: version}))
    said = acknowledgement(head, Verdict.ERROR, condition="101", text="no PID-3")
    assert lines_of(said)[1:] == segments
    assert answered(said).condition == "101"


@pytest.mark.parametrize(
    ("accept", "application", "on_success", "on_error"),
    [
        ("", "", "AA", "AE"),
        ("AL", "NE", "CA", "CE"),
        ("AL", "AL", "CA", "CE"),
        ("AL", "", "CA", "CE"),
        ("NE", "AL", "AA", "AE"),
        ("", "AL", "AA", "AE"),
        ("ER", "NE", "", "CE"),
        ("SU", "NE", "CA", ""),
        ("NE", "NE", "", ""),
        ("NE", "ER", "", "AE"),
        ("??", "", "CA", "CE"),
    ],
)
def test_msh_15_and_16_choose_the_answer(accept: str, application: str, on_success: str, on_error: str) -> None:
    head = header(make_message(msh={15: accept, 16: application}))
    for verdict, code in ((Verdict.ACCEPT, on_success), (Verdict.ERROR, on_error)):
        raw = acknowledgement(head, verdict)
        assert (answered(raw).code if raw else "") == code


def test_bytes_without_a_header_are_refused_without_a_number() -> None:
    assert lines_of(refusal(b"hello", Verdict.REJECT, condition="100", text="no MSH"))[1] == "MSA|AR"


def test_an_answer_keeps_the_senders_separators_and_charset() -> None:
    swap = bytes.maketrans(b"|^~\\&", b"*$!%@")
    said = acknowledgement(header(make_message().translate(swap)), Verdict.ERROR, text="a*b$c")
    assert said.startswith(b"MSH*$!%@*TRIAGE*SITE*RIS*DEMO*")
    assert answered(said).control_id == "M-1"
    japanese = make_message(msh={4: "本宮病院", 18: "ISO IR87"}, codec="iso2022_jp")
    assert header(acknowledgement(header(japanese))).receiving_facility == "本宮病院"


def test_a_facility_its_charset_cannot_hold_still_gets_its_answer() -> None:
    raw = make_message(msh={4: "Hôpital", 18: "UNICODE UTF-8"}, codec="latin-1")
    assert answered(acknowledgement(header(raw))).control_id == "M-1"


def test_no_answer_carries_the_patient() -> None:
    raw = sample("orm_japanese_utf8.hl7")
    for verdict in Verdict:
        said = acknowledgement(header(raw), verdict).decode()
        assert not any(word in said for word in ("HONGU", "本宮", "4711", "1962"))


def test_every_condition_has_its_words() -> None:
    assert {"100", "101", "102", "103", "200", "201", "202", "203", "207"} <= CONDITIONS.keys()


def test_an_answer_without_msa_confirms_nothing() -> None:
    with pytest.raises(MalformedMessage, match="MSA"):
        answered(b"MSH|^~\\&|||||||ACK|1|P|2.5\r")
