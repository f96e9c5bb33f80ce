"""Compressed frames: what a codestream says of itself, before a decoder is let loose on it."""

from __future__ import annotations

import struct
from typing import Any

import gdcm  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from integrations.dicomweb.header import count
from triage.domain.errors import UnusableRadiograph

_UNMARKED = (uid.RLELossless, uid.DeflatedExplicitVRLittleEndian)
"""Compressed, but not as a codestream with markers."""

_JPEG_FRAME_HEADERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7})
"""SOFn of JPEG (ISO 10918-1 table B.1) and SOF55 of JPEG-LS (ISO 14495-1)."""


def look_at(dataset: Dataset, rows: int, columns: int) -> None:
    """
    Refuse a compressed frame that says another size than the header (it may be a bomb) or lacks its end marker.

    Decoders fill what is missing of a cut frame with grey and say nothing.

    Raises:
        UnusableRadiograph: undecodable.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax in _UNMARKED:
        return
    frame = _first_frame(dataset)
    if size_of(frame) is None:
        raise UnusableRadiograph("undecodable", "no image in the compressed frame")
    if size_of(frame) != (rows, columns):
        raise UnusableRadiograph("undecodable", "the compressed frame has another size than the header")
    if b"\xff\xd9" not in frame[-64:]:  # EOI, EOC; some writers pad more than the one byte that is allowed
        raise UnusableRadiograph("undecodable", "the compressed frame is cut")


def size_of(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) as the codestream itself says: SIZ of JPEG 2000, SOFn of JPEG and JPEG-LS; None without one."""
    if not frame.startswith(b"\xff\xd8"):
        start = frame.find(b"\xff\x4f\xff\x51")  # behind the boxes of a JP2 file, which do not belong here but occur
        if start < 0 or len(frame) < start + 24:
            return None
        width, height, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
        return height - top, width - left
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _JPEG_FRAME_HEADERS:
            height, width = struct.unpack(">2H", frame[at + 5 : at + 9])
            return height, width
        at += 1 if marker == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def is_extended_beyond_8_bits(dataset: Dataset) -> bool:
    """JPEG Extended of 12 bits: gdcm reads it, pydicom does not let it."""
    return bool(
        dataset.file_meta.TransferSyntaxUID == uid.JPEGExtended12Bit and count(dataset, "BitsAllocated", 8) == 16
    )


def decode_extended(dataset: Dataset, rows: int, columns: int) -> npt.NDArray[Any]:
    """
    One frame of JPEG Extended (Process 2 and 4), 12 bits.

    Returns:
        (rows, columns) uint16 or int16, as PixelRepresentation says.
    Raises:
        ValueError: gdcm gave something else.
    """
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(_first_frame(dataset))
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    monochrome = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(monochrome))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    is_signed = count(dataset, "PixelRepresentation", 0)
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, is_signed))
    words = image.GetBuffer().encode("utf-8", "surrogateescape")  # gdcm hands bytes over as text
    return np.frombuffer(words, "<i2" if is_signed else "<u2").reshape(rows, columns)


def _first_frame(dataset: Dataset) -> bytes:
    try:
        return next(generate_frames(dataset.PixelData, number_of_frames=1))
    except Exception as exc:  # damaged encapsulation (PS3.5 A.4)
        raise UnusableRadiograph("undecodable", type(exc).__name__) from None
