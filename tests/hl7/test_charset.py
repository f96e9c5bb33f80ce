"""Bytes to text by MSH-18."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.hl7.charset import CODECS, decode, encode
from integrations.hl7.header import header
from tests.hl7.messages import make_message, sample
from triage.domain.errors import MalformedMessage


def framed(charset: str, text: bytes) -> bytes:
    return b"MSH|^~\\&|R|D|T|S|||ORM^O01|1|P|2.5||||||" + charset.encode() + b"\rNTE|||" + text + b"\r"


def text_of(charset: str, text: bytes) -> str:
    return decode(framed(charset, text)).text.rstrip("\r").rpartition("|||")[2]


@pytest.mark.parametrize(
    ("charset", "sent", "meant"),
    [
        ("", b"plain", "plain"),
        ("ASCII", b"plain", "plain"),
        ("8859/1", b"M\xfcller", "Müller"),
        ("8859/15", b"\xa4", "€"),
        ("UNICODE UTF-8", "本宮".encode(), "本宮"),
        ("unicode utf-8", "本宮".encode(), "本宮"),
        ("UNICODE", "本宮".encode(), "本宮"),
        ("ISO IR14", b"\xd4\xcf\xc0\xde", "ﾔﾏﾀﾞ"),
        ("~ISO IR87", b"\x1b$BK\\5\\\x1b(B^Taro", "本宮^Taro"),
        ("ISO IR87", b"\x1b$BK\\5\\\x1b(J^Taro~x", "本宮^Taro~x"),
        ("ISO IR87", b"\x1b$@K\\\x1b(B", "本"),
        ("ISO IR14~ISO IR87", b"\xd4\xcf\x1b$BK\\5\\\x1b(J\xcf", "ﾔﾏ本宮ﾏ"),
        ("ISO IR87", b"\x1b(ITO\x1b(B", "ﾔﾏ"),
        ("ISO IR87~ISO IR159", b"\x1b$(D0!\x1b(B", "丂"),
        ("ISO IR87", b"\x1b$B|b\x1b(B", "髙"),
        ("GB 18030-2000", "王^小东".encode("gb18030"), "王^小东"),
    ],
)
def test_each_charset_reads_what_was_meant(charset: str, sent: bytes, meant: str) -> None:
    assert text_of(charset, sent) == meant


def test_kanji_whose_bytes_are_separators_survive() -> None:
    raw = sample("orm_japanese_iso_2022.hl7")
    assert b"\x4b\x5c\x35\x5c" in raw
    assert "本宮^太郎" in decode(raw).text


def test_kanji_left_open_end_with_their_segment() -> None:
    assert decode(framed("ISO IR87", b"\x1b$BK\\") + b"OBR|x\r").text.endswith("本\rOBR|x\r")


def test_kanji_in_msh_do_not_shift_its_fields() -> None:
    raw = "MSH|^~\\&|RIS|本宮病院|T|S|||ORM^O01|7|P|2.5||||||~ISO IR87\r".encode("iso2022_jp")
    assert b"K\\5\\" in raw
    assert (header(raw).sending_facility, header(raw).control_id) == ("本宮病院", "7")


@pytest.mark.parametrize(
    ("charset", "sent", "meant", "word"),
    [
        ("", "Müller".encode(), "Müller", "UTF-8"),
        ("ASCII", b"M\xfcller", "Müller", "8859/1"),
        ("", b"\x1b$BK\\5\\\x1b(B", "本宮", "ISO-2022-JP"),
        ("ISO IR87", b"\x1b$B|b\x1b(B", "髙", "page 932"),
        ("KLINGON", b"plain", "plain", "unknown"),
        ("UNICODE UTF-8~8859/1", b"M\xfcller", "Müller", "8859/1"),
    ],
)
def test_what_had_to_be_repaired_is_said(charset: str, sent: bytes, meant: str, word: str) -> None:
    assert text_of(charset, sent) == meant
    (warning,) = decode(framed(charset, sent)).warnings
    assert word in warning
    assert meant not in warning


@pytest.mark.parametrize(
    ("charset", "sent"),
    [
        ("UNICODE UTF-8", b"M\xfcller"),
        ("ISO IR87", b"M\xfcller"),
        ("ISO IR14", b"\x81\x40"),
        ("ISO IR87", b"\x1b$BK\x1b(B"),
        ("ISO IR87", b"\x1b$B\xff\xff\x1b(B"),
        ("ISO IR87", b"\x1b%G"),
        ("KLINGON", b"M\xfcller"),
        ("", b"a\x00b"),
    ],
)
def test_bytes_that_contradict_what_is_declared_are_refused(charset: str, sent: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(framed(charset, sent))


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_sixteen_bit_unicode_is_recognised(codec: str) -> None:
    raw = make_message(msh={18: "UNICODE UTF-16"}, pid={5: "本宮^太郎"}).decode().encode(codec)
    assert "本宮^太郎" in decode(raw).text
    assert header(raw).control_id == "M-1"


@pytest.mark.parametrize("charset", ["ASCII", "8859/1", "ISO IR14", "ISO IR87", "ISO IR87~ISO IR159"])
def test_a_character_the_charset_lacks_is_refused_not_replaced(charset: str) -> None:
    with pytest.raises(MalformedMessage):
        encode("\U0001f600", charset)


@given(st.text(st.sampled_from("本宮太郎日表ﾔﾏﾀﾞあアー・髪Aa0 "), max_size=20))
def test_what_is_written_reads_back_the_same(text: str) -> None:
    for charset in ("UNICODE UTF-8", "ISO IR14~ISO IR87", "ISO IR14~ISO IR87~ISO IR159", "UNICODE"):
        assert text_of(charset, encode(text, charset)) == text


def test_every_charset_names_a_codec_that_exists() -> None:
    for codec in CODECS.values():
        assert "MSH".encode(codec)
