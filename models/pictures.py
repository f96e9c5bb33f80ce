"""
Files of any folder as radiographs: PNG, JPEG or DICOM, told apart by their first bytes.

DICOM is rendered as the service does (`integrations.dicomweb.rendering`, which `models` may not know): Modality LUT,
VOI LUT or window, inversion; percentiles where the window cannot be meant. A test compares the two.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image, ImageOps
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from triage.domain.eligibility import IntendedUse, header_refusal
from triage.domain.errors import UnusableRadiograph
from triage.domain.imaging import InstanceFacts

Pixels = npt.NDArray[np.float32]
MOST_PIXELS = 80_000_000
"""The largest detectors have 25 million."""
NOT_AN_IMAGE = "not-an-image"
PERCENTILES = (0.5, 99.5)
_STARTS = {b"\x89PNG\r\n\x1a\n": "picture", b"\xff\xd8\xff": "picture"}
_DICOM_NAMES = (".dcm", ".dicom", ".dic", ".ima")

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings quote values, perhaps a name


@dataclass(frozen=True)
class Picture:
    """
    One decoded file.

    Attributes:
        pixels: (rows, columns) float32 in [0, 1], higher is brighter.
        refusal: why a DICOM header alone makes the picture ineligible, or None.
    """

    pixels: Pixels = field(repr=False)
    refusal: str | None = None


def kind_of(path: Path) -> str | None:
    """'picture' (PNG or JPEG), 'dicom', or None for anything else; a file that cannot be opened goes by its name."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        start = b""
    if start[128:] == b"DICM" or (path.suffix.lower() in _DICOM_NAMES):
        return "dicom"
    by_name = path.suffix.lower() in (".png", ".jpg", ".jpeg")
    return next((kind for magic, kind in _STARTS.items() if start.startswith(magic)), "picture" if by_name else None)


def read_picture(path: Path, use: IntendedUse) -> Picture:
    """
    Decode one file.

    Raises:
        UnusableRadiograph: not-an-image, or a reason of `triage.domain.eligibility`; never anything else.
    """
    readers: dict[str | None, Callable[[], Picture]] = {
        "picture": lambda: Picture(_grey(path)),
        "dicom": lambda: _dicom(path, use),
    }
    reader = readers.get(kind_of(path))
    if reader is None:
        raise UnusableRadiograph(NOT_AN_IMAGE, "neither PNG, JPEG nor DICOM")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reader()
    except UnusableRadiograph:
        raise
    except Exception as exc:  # every decoder has errors of its own; their text may hold a value
        raise UnusableRadiograph("undecodable", type(exc).__name__) from None


def _grey(path: Path) -> Pixels:
    """Grey values of a picture file, upright; what is transparent is black."""
    with Image.open(io.BytesIO(path.read_bytes()), formats=("PNG", "JPEG")) as file:
        if file.width * file.height > MOST_PIXELS:
            raise UnusableRadiograph("undecodable", f"{file.height} x {file.width} is more than is decoded")
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith(("I", "F")):
            return _whole_numbers(np.asarray(image))
        if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
            above = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", above.size, (0, 0, 0, 255)), above)
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def _whole_numbers(values: npt.NDArray[Any]) -> Pixels:
    """16-bit grey over the range of the bits in use: many 16-bit files hold 10 or 12."""
    bits = max(8, int(values.max()).bit_length())
    scaled: Pixels = np.clip(values.astype(np.float32) / np.float32(2**bits - 1), 0, 1)
    return scaled


def _dicom(path: Path, use: IntendedUse) -> Picture:
    try:
        dataset = pydicom.dcmread(path, force=True)
    except Exception as exc:  # pydicom raises whatever the bad bytes provoke
        raise UnusableRadiograph("unreadable-header", type(exc).__name__) from None
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnusableRadiograph("no-pixels")
    if _whole(dataset, "SamplesPerPixel", 1) != 1 or not _text(dataset, "PhotometricInterpretation").startswith(
        "MONOCHROME"
    ):
        raise UnusableRadiograph("colour")
    if _whole(dataset, "NumberOfFrames", 1) > 1:
        raise UnusableRadiograph("multi-frame")
    if rows * columns > MOST_PIXELS:
        raise UnusableRadiograph("undecodable", f"{rows} x {columns} is more than is decoded")
    stored = pixel_array(dataset)
    if stored.shape != (rows, columns):
        raise UnusableRadiograph("undecodable", "the pixels have another shape than the header")
    return Picture(brightness(dataset, stored), header_refusal(_facts(dataset), use))


def brightness(dataset: Dataset, stored: npt.NDArray[Any]) -> Pixels:
    """
    Stored values as a viewer shows them (PS3.3 C.7.6.3.1.2, C.11.1, C.11.2).

    Raises:
        UnusableRadiograph: blank, nearly all pixels are alike.
    """
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if dataset.get("ModalityLUTSequence"):
        values = _looked_up(dataset, "ModalityLUTSequence", stored)
    else:
        values = stored.astype(np.float32)
        values = values * np.float32(slope) + np.float32(intercept or 0) if slope else values
    padding = sorted(
        p
        for p in (_number(dataset, "PixelPaddingValue"), _number(dataset, "PixelPaddingRangeLimit"))
        if p is not None and _number(dataset, "PixelPaddingValue") is not None
    )
    is_padding = (stored >= padding[0]) & (stored <= padding[-1]) if padding else np.zeros(stored.shape, bool)
    step = max(1, min(stored.shape) // 256)
    sample, beside = values[::step, ::step], is_padding[::step, ::step]
    if padding:
        sample = sample[~beside] if np.count_nonzero(~beside) > beside.size // 20 else sample[:0]
    low, high = np.percentile(sample, PERCENTILES) if sample.size else (0.0, 0.0)
    if not low < high:
        raise UnusableRadiograph("blank")
    shown = _as_asked(dataset, values)
    if shown is None or not _is_fit(shown[::step, ::step][~beside], has_table=bool(dataset.get("VOILUTSequence"))):
        shown = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    inverse = _text(dataset, "PresentationLUTShape").upper() == "INVERSE"
    if inverse or _text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        shown = 1 - shown
    shown[is_padding] = 0
    return np.ascontiguousarray(shown, dtype=np.float32)


def _as_asked(dataset: Dataset, values: Pixels) -> Pixels | None:
    """What the header's VOI LUT or window makes of *values*, in [0, 1]; None where it has neither."""
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return _looked_up(dataset, "VOILUTSequence", values) / np.float32(2**bits - 1)
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if center is None or width is None:
        return None
    function = _text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width <= 0:
        return None
    shown: Pixels
    if function == "SIGMOID":
        shown = np.reciprocal(1 + np.exp(np.clip((values - np.float32(center)) * np.float32(-4 / width), -80, 80)))
    else:
        shown = np.clip((values - np.float32(center - width / 2)) / np.float32(width), 0, 1)
    return shown


def _looked_up(dataset: Dataset, sequence: str, values: npt.NDArray[Any]) -> Pixels:
    """The first table of *sequence*; values it does not reach get its nearest entry (PS3.3 C.11.1.1)."""
    item = dataset[sequence].value[0]
    length, first = int(item.LUTDescriptor[0]) % 65536 or 65536, int(item.LUTDescriptor[1])
    if first >= 2**15 and (dataset.get("PixelRepresentation") == 1 or (_number(dataset, "RescaleIntercept") or 0) < 0):
        first -= 2**16  # read as US where SS was meant
    if isinstance(item.LUTData, bytes):
        words = "<u2" if len(item.LUTData) >= 2 * length else np.uint8  # old devices pack bytes
        entries = np.frombuffer(item.LUTData, words)
    else:
        entries = np.asarray(item.LUTData)
    found: Pixels = entries[:length].astype(np.float32)[np.clip(np.rint(values).astype(int) - first, 0, length - 1)]
    return found


def _is_fit(shown: Pixels, *, has_table: bool) -> bool:
    """Whether a window can be meant for these pixels: some lie inside, and they cover some of the display's range."""
    low, high = np.percentile(shown, PERCENTILES)
    inside = np.count_nonzero((shown > 0.001) & (shown < 0.999)) / shown.size
    return bool((inside >= 0.02 or has_table) and high - low >= 0.05)


def _facts(dataset: Dataset) -> InstanceFacts:
    """What the header gate reads; identity stays empty, for nobody asks."""
    return InstanceFacts(
        study_instance_uid="",
        series_instance_uid="",
        sop_instance_uid="",
        sop_class_uid=_text(dataset, "SOPClassUID"),
        modality=_text(dataset, "Modality"),
        presentation_intent=_text(dataset, "PresentationIntentType"),
        body_part=_text(dataset, "BodyPartExamined"),
        view_position=_text(dataset, "ViewPosition"),
        view_code=_text(next(iter(dataset.get("ViewCodeSequence") or ()), Dataset()), "CodeValue"),
        patient_orientation=_texts(dataset, "PatientOrientation"),
        image_type=_texts(dataset, "ImageType"),
        burned_in_annotation=_text(dataset, "BurnedInAnnotation"),
        photometric_interpretation=_text(dataset, "PhotometricInterpretation"),
        age_years=_age(_text(dataset, "PatientAge").upper()),
    )


def _age(written: str) -> float | None:
    """Years of an age string (AS, PS3.5 6.2)."""
    unit = {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}.get(written[-1:])
    return int(written[:-1]) / unit if unit and written[:-1].isdigit() else None


def _texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    found = dataset.get(keyword)
    several = [] if found is None else [found] if isinstance(found, (str, int, float)) else list(found)
    return tuple(str(one).strip() for one in several)


def _text(dataset: Dataset, keyword: str) -> str:
    return next(iter(_texts(dataset, keyword)), "")


def _number(dataset: Dataset, keyword: str) -> float | None:
    try:
        found = float(_text(dataset, keyword))
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def _whole(dataset: Dataset, keyword: str, default: int = 0) -> int:
    return int(_number(dataset, keyword) or default)
