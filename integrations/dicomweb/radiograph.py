"""
A DICOM object to a `Radiograph`, or a refusal that says why not.

Decoding is pydicom's with its plug-ins: native (little and big endian, deflated), RLE, JPEG baseline, extended and
lossless, JPEG-LS, JPEG 2000. `integrations.dicomweb.rendering` then turns stored values into brightness.
"""

from __future__ import annotations

import io
import logging
import zlib
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any, BinaryIO

import numpy.typing as npt
from pydicom import dcmread, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.utils import pixel_array

from integrations.dicomweb import codestream
from integrations.dicomweb.facts import instance_facts
from integrations.dicomweb.header import count, numbers, text
from integrations.dicomweb.rendering import Rendering, rendering_of
from triage.domain.errors import UnusableRadiograph
from triage.domain.imaging import Radiograph

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """
    What is decoded at all.

    Attributes:
        most_samples: rows * columns * samples per pixel * frames; the largest detectors have 25 million.
        most_bytes: of a deflated data set once inflated.
        least_side: pixels; below it no film or detector reading of a whole chest is left.
    """

    most_samples: int = 80_000_000
    most_bytes: int = 400_000_000
    least_side: int = 200


USUAL = Limits()


def to_radiograph(source: Dataset | bytes, *, site_zone: tzinfo = UTC, limits: Limits = USUAL) -> Radiograph:
    """
    Decode one instance and render it as a viewer would (PS3.3 C.7.6.3.1.2, C.11.1, C.11.2).

    Args:
        source: a data set with its pixels, or the bytes of a DICOM file.
        site_zone: for times without TimezoneOffsetFromUTC.
    Returns:
        pixels (rows, columns) float32 in [0, 1], higher is brighter.
    Raises:
        UnusableRadiograph: unreadable-header, no-pixels, colour, multi-frame, too-small, undecodable or blank.
    """
    dataset = read(source, limits) if isinstance(source, bytes) else source
    facts = instance_facts(dataset, site_zone)
    stored = decode(dataset, limits)
    rendering = rendering_of(dataset, stored)
    if rendering.is_a_guess:
        log.info("instance %s: brightness by percentiles: %s", facts.sop_instance_uid, rendering.source)
    return Radiograph(pixels=rendering.apply(stored), facts=facts, pixel_spacing_mm=pixel_spacing_mm(dataset))


def rendering(source: Dataset | bytes, limits: Limits = USUAL) -> Rendering:
    """How `to_radiograph` renders *source*: which look-up table or window, or why neither."""
    dataset = read(source, limits) if isinstance(source, bytes) else source
    return rendering_of(dataset, decode(dataset, limits))


def read(content: bytes, limits: Limits = USUAL) -> Dataset:
    """
    Parse the bytes of a DICOM file, with or without preamble.

    Raises:
        UnusableRadiograph: unreadable-header.
    """
    refuse_deflated_bomb(io.BytesIO(content), limits)
    try:
        return dcmread(io.BytesIO(content))
    except InvalidDicomError:
        pass
    except Exception as exc:  # pydicom raises whatever the bad bytes provoke; its text may hold a value
        raise UnusableRadiograph("unreadable-header", type(exc).__name__) from None
    try:
        return dcmread(io.BytesIO(content), force=True)
    except Exception as exc:
        raise UnusableRadiograph("unreadable-header", type(exc).__name__) from None


def refuse_deflated_bomb(file: BinaryIO, limits: Limits = USUAL) -> None:
    """
    Look whether a deflated data set (PS3.5 A.5) inflates further than it may; pydicom inflates without a limit.

    Raises:
        UnusableRadiograph: unreadable-header.
    """
    try:
        read_preamble(file, force=False)
        meta = read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2
        )
    except Exception:  # no file meta information: pydicom inflates only where it says so
        return
    if text(meta, "TransferSyntaxUID") != uid.DeflatedExplicitVRLittleEndian:
        return
    inflater, room = zlib.decompressobj(-zlib.MAX_WBITS), limits.most_bytes
    try:
        while room > 0 and (chunk := inflater.unconsumed_tail or file.read(2**16)):
            room -= len(inflater.decompress(chunk, min(room, 2**24)))
    except zlib.error:
        raise UnusableRadiograph("unreadable-header", "deflated data set is damaged") from None
    if room <= 0:
        raise UnusableRadiograph("unreadable-header", "deflated data set is too large")


def decode(dataset: Dataset, limits: Limits = USUAL) -> npt.NDArray[Any]:
    """
    The stored pixel values of one monochrome frame.

    Returns:
        (rows, columns) of the smallest whole type that holds BitsAllocated, signed as PixelRepresentation says.
    Raises:
        UnusableRadiograph: no-pixels, colour, multi-frame, too-small or undecodable.
    """
    rows, columns = count(dataset, "Rows", 0), count(dataset, "Columns", 0)
    samples, frames = count(dataset, "SamplesPerPixel", 1), count(dataset, "NumberOfFrames", 1)
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnusableRadiograph("no-pixels")
    if samples != 1 or not text(dataset, "PhotometricInterpretation").startswith("MONOCHROME"):
        raise UnusableRadiograph("colour")
    if frames > 1:
        raise UnusableRadiograph("multi-frame")
    if min(rows, columns) < limits.least_side:
        raise UnusableRadiograph("too-small", f"{rows} x {columns}")
    if rows * columns > limits.most_samples:
        raise UnusableRadiograph("undecodable", f"{rows} x {columns} is more than is decoded")
    _name_the_transfer_syntax(dataset)
    codestream.look_at(dataset, rows, columns)
    try:
        pixels: npt.NDArray[Any] = (
            codestream.decode_extended(dataset, rows, columns)
            if codestream.is_extended_beyond_8_bits(dataset)
            else pixel_array(dataset, raw=True, correct_unused_bits=False)
        )
    except Exception as exc:  # every plug-in has errors of its own
        raise UnusableRadiograph("undecodable", type(exc).__name__) from None
    if pixels.shape != (rows, columns):
        raise UnusableRadiograph("undecodable", "the pixels have another shape than the header")
    return _within_bits_stored(pixels, dataset)


def pixel_spacing_mm(dataset: Dataset) -> tuple[float, float] | None:
    """(row, column) spacing: PixelSpacing (0028,0030), else that at the detector, ImagerPixelSpacing (0018,1164)."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        found = numbers(dataset, keyword)
        if len(found) == 2 and min(found) > 0:
            return found[0], found[1]
    return None


def _name_the_transfer_syntax(dataset: Dataset) -> None:
    """Files without file meta information: what pydicom found by reading the first element."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" in dataset.file_meta:
        if not uid.UID(text(dataset.file_meta, "TransferSyntaxUID")).is_transfer_syntax:
            raise UnusableRadiograph("undecodable", "unknown transfer syntax")
        return
    is_implicit, is_little = dataset.original_encoding
    if is_implicit is None:
        raise UnusableRadiograph("undecodable", "no transfer syntax")
    explicit = uid.ExplicitVRLittleEndian if is_little else uid.ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if is_implicit else explicit


def _within_bits_stored(pixels: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[Any]:
    """
    Keep only the BitsStored up to HighBit: old devices put overlays into the bits above (PS3.5 8.1.1, 8.1.2).

    A codestream (RLE has none) says its own precision: there only a sign may have to be carried up.
    """
    allocated = count(dataset, "BitsAllocated", 16)
    stored = count(dataset, "BitsStored", allocated)
    shift = count(dataset, "HighBit", stored - 1) + 1 - stored
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax != uid.RLELossless:
        if pixels.dtype.kind == "u":
            return pixels
        shift = 0
    if not 0 < stored < allocated or pixels.dtype.kind not in "iu":
        return pixels
    if shift < 0 or stored + shift > allocated:
        raise UnusableRadiograph("undecodable", "BitsStored and HighBit do not fit BitsAllocated")
    above = pixels.dtype.itemsize * 8 - stored - shift
    carried: npt.NDArray[Any] = (pixels << above) >> (above + shift)
    return carried


__all__ = [
    "USUAL",
    "Limits",
    "decode",
    "pixel_spacing_mm",
    "read",
    "refuse_deflated_bomb",
    "rendering",
    "to_radiograph",
]
