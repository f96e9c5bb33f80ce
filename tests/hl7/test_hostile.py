"""Whatever the bytes: a refusal of ours, nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from integrations.hl7.acknowledgement import Verdict, refusal
from integrations.hl7.charset import decode
from integrations.hl7.client import answered
from integrations.hl7.header import header
from integrations.hl7.orders import is_order, orders
from tests.hl7.messages import DATA
from triage.domain.errors import MalformedMessage, TriageError
from triage.domain.order import RequestedPriority

SAMPLES = [path.read_bytes() for path in sorted(DATA.glob("*.hl7"))]
PIECES = [b"", b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", b"\x00", b"\x0b", b"\x1c", b"\xff", b"\x1b$B", b"\x1b(B"]
PIECES += [b'""', b"MSH", b"ORC|", b"\\X00\\", b"\xef\xbb\xbf", b"9" * 30, "本".encode(), b"|ISO IR87|", b"\r\r"]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An invented message with up to six places overwritten, cut or blown up."""
    raw = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(1, 6))):
        at, length = draw(st.integers(0, len(raw))), draw(st.integers(0, 6))
        raw = raw[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=4)) + raw[at + length :]
    return raw


@settings(max_examples=400, deadline=None)
@given(mutated() | st.binary(max_size=60))
@example(b"MSH")
@example(b"\xff\xfe")
@example(b"\x00M\x00S\x00H")
def test_mutated_bytes_raise_only_errors_of_ours(raw: bytes) -> None:
    for read in (header, decode, orders):
        try:
            found = read(raw)
        except TriageError as refused:
            assert isinstance(refused, MalformedMessage)
            continue
        whole = [asdict(item) for item in found] if isinstance(found, list) else asdict(found)
        assert "\\x00" not in str(whole)  # PostgreSQL's text holds none
    answer = refusal(raw, Verdict.ERROR, condition="207", text="not stored")
    assert not answer or answered(answer).code in {"AE", "CE"}


def test_the_corpus_is_read_or_refused_and_never_breaks(corpus: Path) -> None:
    folder = corpus / "hl7v2"
    if not folder.is_dir():
        pytest.skip("TRIAGE_CORPUS holds no hl7v2 folder")
    kinds = {entry["file"]: entry["type"] for entry in json.loads((folder / "MANIFEST.json").read_text())}
    headers, read, refused = 0, 0, 0
    placeholder = {"REQUESTEDPROCEDUREPRIORITY": RequestedPriority.ROUTINE}  # stands where a priority should
    for path in sorted(folder.glob("*.hl7")):
        raw = path.read_bytes()
        try:
            head = header(raw)
            headers += 1
            if not is_order(head):
                decode(raw)
                assert kinds[path.name][:7] not in {"ORM^O01", "OMI^O23", "OMG^O19"}
                continue
            read += len(orders(raw, priorities=placeholder))
        except MalformedMessage as exc:
            assert exc.where
            refused += 1
    assert headers >= 100
    assert read == 3
    assert refused <= 8
