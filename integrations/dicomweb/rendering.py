"""
Stored values to brightness, in the standard's order: Modality LUT, VOI LUT or window, inversion (PS3.3 C.11.1, C.11.2).

Where the header's window cannot be meant (no width, beside the data, far wider than they are), the image is stretched
between its percentiles instead, and the rendering says so. For straight lines the three steps are one multiplication
and one addition.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from integrations.dicomweb.header import items, number, numbers, text, value
from triage.domain.errors import UnusableRadiograph

Floats = npt.NDArray[np.float32]

PERCENTILES = (0.5, 99.5)
LEAST_SPREAD = 0.05
"""Of the display range that the bulk of the pixels must cover; a window far wider than the data leaves less."""
LEAST_INSIDE = 0.02
"""Of the pixels that must lie inside the window; one made for other data leaves all black or white."""
_SAMPLE_SIDE = 256


@dataclass(frozen=True)
class Table:
    """A look-up table (PS3.3 C.11.1.1): *first* and below map to the first entry, the end and above to the last."""

    first: int
    entries: Floats = field(repr=False)

    def look_up(self, pixels: npt.NDArray[Any]) -> Floats:
        index = np.rint(pixels).astype(np.int32) if pixels.dtype.kind == "f" else pixels.astype(np.int32)
        index -= self.first
        np.clip(index, 0, len(self.entries) - 1, out=index)
        found: Floats = self.entries[index]
        return found


@dataclass(frozen=True)
class Window:
    """Value v to (v - low) / (high - low), cut to [0, 1]; or the sigmoid through the same two points' middle."""

    low: float
    high: float
    is_sigmoid: bool = False


@dataclass(frozen=True)
class Rendering:
    """
    How stored values become brightness.

    Attributes:
        source: "voi lut", "window", or "percentiles: " and why.
        modality_table, slope, intercept: the Modality LUT: the table, else the line.
        voi_table, window: the VOI LUT: the table (entries in [0, 1]), else the window, in Modality LUT output.
        is_inverted: low output values are bright.
        padding: inclusive range of stored values that are no image; they become black.
    """

    source: str
    slope: float = 1.0
    intercept: float = 0.0
    modality_table: Table | None = None
    voi_table: Table | None = None
    window: Window = Window(0.0, 1.0)
    is_inverted: bool = False
    padding: tuple[float, float] | None = None

    @property
    def is_a_guess(self) -> bool:
        """Whether the header gave no usable VOI transformation."""
        return self.source.startswith("percentiles")

    def apply(self, stored: npt.NDArray[Any]) -> Floats:
        """Brightness of *stored* values, any shape: float32 in [0, 1], higher is brighter."""
        bright = self._straight(stored) if self._is_straight else self._curved(stored)
        if self.padding is not None:
            bright[(stored >= self.padding[0]) & (stored <= self.padding[1])] = 0
        return bright

    @property
    def _is_straight(self) -> bool:
        return self.modality_table is None and self.voi_table is None and not self.window.is_sigmoid

    def _straight(self, stored: npt.NDArray[Any]) -> Floats:
        gain = self.slope / (self.window.high - self.window.low)
        offset = (self.intercept - self.window.low) / (self.window.high - self.window.low)
        if self.is_inverted:
            gain, offset = -gain, 1 - offset
        bright = np.empty(stored.shape, np.float32)
        np.multiply(stored, np.float32(gain), out=bright, dtype=np.float32, casting="unsafe")
        bright += np.float32(offset)
        return np.clip(bright, 0, 1, out=bright)

    def _curved(self, stored: npt.NDArray[Any]) -> Floats:
        values = self.modality(stored)
        if self.voi_table is not None:
            bright = self.voi_table.look_up(values)
        elif self.window.is_sigmoid:
            middle, width = (self.window.high + self.window.low) / 2, self.window.high - self.window.low
            power = np.clip((values - np.float32(middle)) * np.float32(-4 / width), -80, 80)
            bright = np.reciprocal(1 + np.exp(power))
        else:
            bright = (values - np.float32(self.window.low)) / np.float32(self.window.high - self.window.low)
        np.clip(bright, 0, 1, out=bright)
        return np.subtract(1, bright, out=bright) if self.is_inverted else bright

    def modality(self, stored: npt.NDArray[Any]) -> Floats:
        """Modality LUT output, float32."""
        if self.modality_table is not None:
            return self.modality_table.look_up(stored)
        return stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)


def rendering_of(dataset: Dataset, stored: npt.NDArray[Any]) -> Rendering:
    """
    The rendering the header asks for, checked against the pixels.

    Raises:
        UnusableRadiograph: blank: nearly all pixels are alike; unreadable-header: a damaged look-up table.
    """
    base = replace(_modality(dataset), is_inverted=_is_inverted(dataset), padding=_padding(dataset))
    step = max(1, min(stored.shape) // _SAMPLE_SIDE)
    sample = stored[::step, ::step]
    if base.padding is not None:
        kept = sample[(sample < base.padding[0]) | (sample > base.padding[1])]
        sample = kept if kept.size > sample.size // 20 else sample[:0]
    low, high = np.percentile(base.modality(sample), PERCENTILES) if sample.size else (0.0, 0.0)
    if not low < high:
        raise UnusableRadiograph("blank")
    asked = _voi(dataset, base)
    why = "no window" if asked is None else _unfit(asked, sample)
    if asked is not None and not why:
        return asked
    return replace(base, source=f"percentiles: {why}", window=Window(float(low), float(high)))


def _unfit(asked: Rendering, sample: npt.NDArray[Any]) -> str:
    """Why the header's VOI transformation cannot be meant for these pixels, or ""."""
    if asked.voi_table is None and not asked.window.low < asked.window.high:
        return "window without width"
    shown = replace(asked, padding=None).apply(sample)
    low, high = np.percentile(shown, PERCENTILES)
    inside = np.count_nonzero((shown > 0.001) & (shown < 0.999)) / shown.size
    if inside < LEAST_INSIDE and asked.voi_table is None:
        return "window beside the data"
    return "window far wider than the data" if high - low < LEAST_SPREAD else ""


def _is_inverted(dataset: Dataset) -> bool:
    """MONOCHROME1 and PresentationLUTShape INVERSE are two ways to say it, and go together (PS3.3 C.8.11.3.1.1)."""
    return (
        text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
        or text(dataset, "PresentationLUTShape").upper() == "INVERSE"
    )


def _padding(dataset: Dataset) -> tuple[float, float] | None:
    """PixelPaddingValue (0028,0120) to PixelPaddingRangeLimit (0028,0121), in stored values."""
    ends = [number(dataset, "PixelPaddingValue"), number(dataset, "PixelPaddingRangeLimit")]
    known = [end for end in ends if end is not None]
    return (min(known), max(known)) if ends[0] is not None else None


def _modality(dataset: Dataset) -> Rendering:
    """Modality LUT (PS3.3 C.11.1): a table, else slope and intercept; a slope of 0 says nothing and is left out."""
    for item in items(dataset, "ModalityLUTSequence")[:1]:
        return Rendering("", modality_table=_table(item, dataset, "ModalityLUTSequence", to_unit=False))
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if not slope:
        return Rendering("")
    return Rendering("", slope=slope, intercept=intercept or 0.0)


def _voi(dataset: Dataset, base: Rendering) -> Rendering | None:
    """VOI LUT (PS3.3 C.11.2): the first table, else the first window; None where the header has neither."""
    for item in items(dataset, "VOILUTSequence")[:1]:
        return replace(base, source="voi lut", voi_table=_table(item, dataset, "VOILUTSequence", to_unit=True))
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if center is None or width is None:
        return None
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if function == "LINEAR":  # C.11.2.1.2.1: from c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2
        center, width = center - 0.5, width - 1
    window = Window(center - width / 2, center + width / 2, is_sigmoid=function == "SIGMOID")
    return replace(base, source="window", window=window)


def _table(item: Dataset, dataset: Dataset, where: str, *, to_unit: bool) -> Table:
    """
    LUT Descriptor and Data (PS3.3 C.11.1.1): count (0 is 65536), first value mapped, bits of an entry.

    Raises:
        UnusableRadiograph: unreadable-header.
    """
    descriptor = numbers(item, "LUTDescriptor")
    raw = value(item, "LUTData")
    if len(descriptor) != 3 or raw is None or not 1 <= descriptor[2] <= 16:
        raise UnusableRadiograph("unreadable-header", where)
    length, first, bits = int(descriptor[0]) % 65536 or 65536, int(descriptor[1]), int(descriptor[2])
    entries = _entries(raw, length, is_little=dataset.original_encoding[1] is not False)
    if len(entries) < length:
        raise UnusableRadiograph("unreadable-header", where)
    scale = 1 / (2**bits - 1) if to_unit else 1.0
    is_signed = number(dataset, "PixelRepresentation") == 1 or (number(dataset, "RescaleIntercept") or 0) < 0
    if first >= 2**15 and is_signed:  # read as US where SS was meant
        first -= 2**16
    return Table(first, entries[:length].astype(np.float32) * np.float32(scale))


def _entries(raw: Any, length: int, *, is_little: bool) -> npt.NDArray[np.uint16]:
    """LUTData as pydicom gives it: numbers (US), or bytes (OW): a word an entry, or packed bytes of old devices."""
    if isinstance(raw, (bytes, bytearray)):
        if len(raw) < 2 * length:
            return np.frombuffer(raw, np.uint8).astype(np.uint16)
        return np.frombuffer(raw, "<u2" if is_little else ">u2", count=length).astype(np.uint16)
    return (np.asarray(raw, dtype=np.int64).reshape(-1) & 0xFFFF).astype(np.uint16)
