"""
The demo's sample radiographs: drawn by `models.training.synthesis`, written as DICOM with invented patients.

    python -m models.training.samples --cxr DIR --out triage/demo/samples --seed 7     make them all again
    python -m models.training.samples check --cxr DIR --out triage/demo/samples        measure the distances again
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from openjpeg.utils import encode_array
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from rich.console import Console
from scipy import ndimage

from models.training.synthesis import (
    CLASSES,
    Floats,
    Generator,
    TrainingImage,
    distance_vectors,
    distances,
    draw,
    fit,
    training_images,
)

CR, DX, CT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.2"
NAMESPACE = uuid.UUID("6f1d3c52-8a0e-5d0b-9a53-2f3a7f1c0d11")
"""UIDs are 2.25 and the name-based UUID (PS3.5 B.2) of seed, sample and kind below this one."""
SIZE = (480, 540)
PIXEL_MM = 0.8
STUDY_DAY = datetime(2026, 11, 2, 8, 30, tzinfo=timezone(timedelta(hours=9)))
INSTITUTION, ISSUER_OF_PATIENT, ISSUER_OF_ACCESSION = "Minato Demonstration Hospital", "MINATO", "MINATO-RIS"
MARK, MARK_BOX = "SYNTHETIC", (6, 6, 150, 34)
"""The burnt-in mark and its box: left, top, right, bottom, in pixels of the stored image."""
FULL_SCALE, DARKEST, BRIGHTEST = 4095, 120, 3900
DISTANCE_RULE = (
    "64 x 64 box average of the whole image, mean 0, standard deviation 1, root mean square difference; "
    "a sample must be farther from every training image than the closest two images of different patients are"
)
ATTRIBUTION = (
    "NIH ChestX-ray14, provided by the NIH Clinical Center (https://nihcc.app.box.com/v/ChestXray-NIHCC); "
    "Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8. IEEE CVPR 2017, pp. 3462-3471",
    "COVID-19 Image Repository, Institute for Diagnostic and Interventional Radiology, Hannover Medical School, "
    "Winther HB et al., 2020, doi:10.6084/m9.figshare.12275009, CC BY 3.0; altered: statistics only",
)

PEOPLE = (
    ("Novak^Helena", "F"),
    ("Yamada^Tarou=山田^太郎=やまだ^たろう", "M"),
    ("Okafor^Daniel", "M"),
    ("Yamamoto^Hanako=山本^花子=やまもと^はなこ", "F"),
    ("Lindqvist^Karin", "F"),
    ("Miyazaki^Jirou=宮崎^次郎=みやざき^じろう", "M"),
    ("Ferreira^Paulo", "M"),
    ("Honda^Sakura=本田^桜=ほんだ^さくら", "F"),
    ("MacLeod^Iain", "M"),
    ("Ninomiya^Ken=二宮^健=にのみや^けん", "M"),
    ("Haddad^Leila", "F"),
    ("Matsumoto^Yuki=松本^由紀=まつもと^ゆき", "F"),
)
SECOND_PEOPLE = (
    ("Brandt^Oskar", "M"),
    ("Miyamoto^Akira=宮本^明=みやもと^あきら", "M"),
    ("Castillo^Ines", "F"),
    ("Sasaki^Midori=佐々木^緑=ささき^みどり", "F"),
    ("Whitfield^George", "M"),
    ("Miyagi^Rei=宮城^玲=みやぎ^れい", "F"),
    ("Kowalska^Zofia", "F"),
    ("Hashimoto^Shun=橋本^俊=はしもと^しゅん", "M"),
    ("Moreau^Lucien", "M"),
    ("Tanaka^Emi=田中^恵美=たなか^えみ", "F"),
    ("Andersen^Freja", "F"),
    ("Motomiya^Gorou=本宮^五郎=もとみや^ごろう", "M"),
)
THIRD_PEOPLE = (
    ("Bianchi^Marco", "M"),
    ("Kimura^Aoi=木村^葵=きむら^あおい", "F"),
    ("Petrov^Anton", "M"),
    ("Nishimoto^Rin=西本^凛=にしもと^りん", "F"),
    ("OConnor^Maeve", "F"),
    ("Miyake^Shou=三宅^翔=みやけ^しょう", "M"),
    ("Dubois^Celine", "F"),
)
PROCEDURES: Mapping[str, tuple[str, str]] = {
    "PA": ("36554-4", "XR Chest Single view"),
    "AP": ("36589-0", "Portable XR Chest AP single view"),
    "PA+LL": ("36643-5", "XR Chest 2 Views"),
    "LL": ("36554-4", "XR Chest Single view"),
    # asked for as a radiograph, stored as a tomogram: the mix-up that the header gate must catch
    "CT": ("36554-4", "XR Chest Single view"),
}
"""LOINC code and text of what was ordered, by views."""
VIEW_CODES = {
    "PA": ("272479007", "postero-anterior"),
    "AP": ("399348003", "antero-posterior"),
    "LL": ("399198007", "left lateral"),
}
"""SNOMED CT codes and meanings of the views (CID 4010)."""


@dataclass(frozen=True)
class Sample:
    """One order and its study, before any pixel is drawn."""

    number: int
    role: str
    sample_class: str | None
    view: str
    age: int
    name: str
    sex: str
    modality: str
    syntax: str
    charset: str
    inverted: bool = False
    priority: str = "R"
    arrives: str = "after-order"
    reason: str | None = None

    @property
    def stem(self) -> str:
        return f"{self.number:02d}-{self.sample_class if self.role == 'frontal' else self.role}"

    @property
    def accession_number(self) -> str:
        return f"A26{self.number:05d}"

    @property
    def at(self) -> datetime:
        return STUDY_DAY + timedelta(minutes=7 * self.number)


def plan(seed: int) -> list[Sample]:
    """The 31 studies: nine frontal ones of each class, and one each that the service must not assess."""
    random = np.random.default_rng([seed, 1])
    people = (*PEOPLE, *SECOND_PEOPLE, *THIRD_PEOPLE)
    samples = []
    for number in range(1, 28):
        name, sex = people[number - 1]
        samples.append(
            Sample(
                number,
                "frontal",
                CLASSES[(number - 1) % 3],
                "AP" if number % 4 == 0 else "PA",
                int(random.integers(24, 88)),
                name,
                sex,
                "CR" if number % 5 in (2, 4) else "DX",
                _syntax(number),
                _charset(name, number),
                inverted=number in (4, 12, 21),
                priority={13: "S", 5: "A", 18: "A"}.get(number, "R"),
                arrives="before-order" if number in (3, 8, 15, 22) else "after-order",
            )
        )
    refused = [
        ("lateral", "LL", "DX", 57, "not-frontal"),
        ("ct", "CT", "CT", 66, "modality"),
        ("paediatric", "AP", "DX", 4, "age-below-limit"),
        ("broken", "PA", "DX", 49, "undecodable"),
    ]
    for number, (role, view, modality, age, reason) in enumerate(refused, start=28):
        name, sex = people[number - 1]
        charset = _charset(name, number)
        label = "normal" if role in ("paediatric", "broken") else None
        samples.append(
            Sample(number, role, label, view, age, name, sex, modality, JPEGLSLossless, charset, reason=reason)
        )
    return samples


def _syntax(number: int) -> str:
    """Mostly JPEG-LS, which is smallest here; two plain, three run-length, seven JPEG 2000."""
    if number in (6, 19):
        return str(ExplicitVRLittleEndian)
    if number in (9, 16, 26):
        return str(RLELossless)
    return str(JPEG2000Lossless if number % 3 == 2 else JPEGLSLossless)


def _charset(name: str, number: int) -> str:
    if "=" not in name:
        return "ISO_IR 100"
    return "ISO_IR 192" if number % 4 == 0 else "ISO 2022 IR 87"


# Pictures -----------------------------------------------------------------------------------------------------------


def stored_pixels(picture: Floats, random: np.random.Generator) -> npt.NDArray[np.uint16]:
    """
    A drawn picture as a detector would store it, with the SYNTHETIC mark in the upper corner, outside the lungs.

    Args:
        picture: (rows, columns) float32 in [0, 1], higher is brighter.
    Returns:
        (480, 540) uint16 with 12 bits in use, higher is brighter; a little quantum noise added.
    """
    large = np.asarray(Image.fromarray(picture).resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC))
    counts = DARKEST + (BRIGHTEST - DARKEST) * np.clip(large, 0, 1) + random.normal(0, 4, SIZE)
    return marked(np.clip(np.rint(counts), 0, FULL_SCALE).astype(np.uint16), FULL_SCALE)


def marked(pixels: npt.NDArray[np.uint16], brightest: int) -> npt.NDArray[np.uint16]:
    """*pixels* with SYNTHETIC in bright letters on a dark field."""
    left, top, right, bottom = MARK_BOX
    canvas = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(canvas).text((6, 2), MARK, fill=255, font=ImageFont.load_default(size=21))
    pixels = pixels.copy()
    pixels[top:bottom, left:right] = np.asarray(canvas, dtype=np.float32) / 255 * brightest
    return pixels


def _ellipse(shape: tuple[int, int], centre: tuple[float, float], half: tuple[float, float], soft: float) -> Floats:
    """1 inside an ellipse given as fractions of *shape* (row, column), 0 outside, *soft* pixels of blur between."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    y = (rows / shape[0] - centre[0]) / half[0]
    x = (columns / shape[1] - centre[1]) / half[1]
    return np.asarray(ndimage.gaussian_filter((y**2 + x**2 < 1).astype(np.float32), soft), dtype=np.float32)


def lateral(random: np.random.Generator) -> Floats:
    """A lateral chest drawn by code: (480, 540) float32 in [0, 1]; sternum left, spine right."""
    body = np.maximum(_ellipse(SIZE, (0.62, 0.5), (0.62, 0.42), 10), _ellipse(SIZE, (0.05, 0.55), (0.3, 0.17), 8))
    lungs = _ellipse(SIZE, (0.45, 0.5), (0.37, 0.3), 9) * (1 - _ellipse(SIZE, (1.0, 0.44), (0.36, 0.6), 5))
    heart = _ellipse(SIZE, (0.58, 0.36), (0.17, 0.15), 14)
    picture = 0.04 + 0.66 * body - 0.38 * lungs + 0.2 * heart
    picture = (
        picture
        + 0.16 * _ellipse(SIZE, (0.12, 0.5), (0.2, 0.26), 26)
        - 0.05 * _ellipse(SIZE, (0.2, 0.55), (0.2, 0.02), 4)
    )
    picture = picture + 0.08 * _ellipse(SIZE, (0.42, 0.5), (0.07, 0.05), 10)  # hila
    for step in range(13):
        along = 0.1 + 0.068 * step
        column = 0.69 + 0.07 * np.sin(np.pi * along)
        block = _ellipse(SIZE, (along, column), (0.03, 0.043), 3) - 0.4 * _ellipse(
            SIZE, (along, column), (0.02, 0.032), 3
        )
        picture = picture + 0.17 * block * body
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] / np.array(SIZE)[:, None, None]
    for step in range(10):
        curve = 0.06 + 0.075 * step + 0.22 * (0.75 - columns) + 0.25 * (0.75 - columns) ** 2
        line = rows - curve - 0.008 * np.sin(7 * columns + 2 * step)
        picture = picture + 0.06 * np.exp(-((line / 0.011) ** 2)) * lungs
    grain = ndimage.gaussian_filter(random.normal(0, 1, SIZE), 2.0) * 0.1
    soft = ndimage.gaussian_filter(random.normal(0, 1, SIZE), 14) * 0.8
    return np.asarray(np.clip(picture + (grain + soft) * body, 0, 1), dtype=np.float32)


def ct_slice(random: np.random.Generator) -> npt.NDArray[np.uint16]:
    """One axial slice through the chest drawn by code: (256, 256) uint16, Hounsfield units plus 1024."""
    shape = (256, 256)
    units = np.full(shape, -1000.0)

    def paint(centre: tuple[float, float], half: tuple[float, float], value: float) -> None:
        weight = _ellipse(shape, centre, half, 1.0)
        units[:] = units * (1 - weight) + value * weight

    paint((0.5, 0.5), (0.33, 0.44), -80)  # fat
    paint((0.5, 0.5), (0.31, 0.41), 45)  # muscle
    paint((0.49, 0.30), (0.24, 0.16), -850)  # lungs
    paint((0.49, 0.70), (0.24, 0.16), -850)
    paint((0.43, 0.54), (0.13, 0.15), 50)  # heart
    paint((0.60, 0.57), (0.04, 0.04), 55)  # aorta
    paint((0.69, 0.50), (0.07, 0.07), 320)  # vertebra
    paint((0.72, 0.50), (0.02, 0.02), 30)  # spinal canal
    for angle in np.linspace(0.1, 2 * np.pi + 0.1, 12, endpoint=False):
        paint((0.5 + 0.285 * np.sin(angle), 0.5 + 0.375 * np.cos(angle)), (0.014, 0.026), 400)  # ribs
    units += ndimage.gaussian_filter(random.normal(0, 1, shape), 1.0) * 60
    return marked(np.clip(np.rint(units + 1024), 0, FULL_SCALE).astype(np.uint16), 1400)


# DICOM --------------------------------------------------------------------------------------------------------------


def uid(seed: int, *parts: object) -> str:
    """A UID that depends on nothing but the seed and *parts*."""
    return f"2.25.{uuid.uuid5(NAMESPACE, '/'.join(map(str, (seed, *parts)))).int}"


def _code(value: str, scheme: str, meaning: str) -> DicomSequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return DicomSequence([item])


def _study(sample: Sample, seed: int) -> Dataset:
    """Patient and study: what every object of one study shares (PS3.3 C.7.1.1, C.7.2.1)."""
    ds = Dataset()
    ds.SpecificCharacterSet = ["", sample.charset] if "2022" in sample.charset else sample.charset
    ds.PatientName = sample.name
    ds.PatientID = f"D{910000 + 37 * sample.number}"
    ds.IssuerOfPatientID = ISSUER_OF_PATIENT
    born = date(sample.at.year - sample.age, 1 + (sample.number * 5) % 10, 1 + (sample.number * 7) % 27)
    ds.PatientBirthDate = born.strftime("%Y%m%d")
    ds.PatientSex = sample.sex
    ds.PatientAge = f"{sample.age:03d}Y"
    ds.StudyInstanceUID = uid(seed, sample.number, "study")
    ds.StudyDate, ds.StudyTime = sample.at.strftime("%Y%m%d"), sample.at.strftime("%H%M%S")
    ds.TimezoneOffsetFromUTC = "+0900"
    ds.AccessionNumber = sample.accession_number
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = ISSUER_OF_ACCESSION
    ds.IssuerOfAccessionNumberSequence = DicomSequence([issuer])
    ds.ReferringPhysicianName = "Demo^Referrer"
    ds.StudyID = str(sample.number)
    ds.StudyDescription = PROCEDURES[_ordered(sample)][1]
    return ds


def _ordered(sample: Sample) -> str:
    return "PA+LL" if sample.number == 1 else sample.view


def _instance(sample: Sample, seed: int, view: str, pixels: npt.NDArray[np.uint16]) -> Dataset:
    """Series, equipment, general image and pixels (PS3.3 C.7.3.1, C.7.5.1, C.7.6.1, C.7.6.3)."""
    ds = _study(sample, seed)
    number = 2 if sample.number == 1 and view == "LL" else 1
    ds.Modality = sample.modality
    ds.SeriesInstanceUID = uid(seed, sample.number, "series", number)
    ds.SOPInstanceUID = uid(seed, sample.number, "instance", number)
    ds.SOPClassUID = {"CR": CR, "DX": DX, "CT": CT}[sample.modality]
    ds.SeriesNumber, ds.InstanceNumber = number, 1
    ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = ds.StudyDate
    ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = (sample.at + timedelta(minutes=number)).strftime("%H%M%S")
    ds.SeriesDescription = f"Chest {view}, synthetic"
    ds.Manufacturer, ds.InstitutionName = "Chest triage project", INSTITUTION
    ds.ManufacturerModelName, ds.SoftwareVersions = "Statistical generator", "1"
    ds.StationName, ds.DeviceSerialNumber = f"{sample.modality}{1 + sample.number % 2}", str(seed)
    ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"] if sample.modality == "CT" else ["DERIVED", "PRIMARY"]
    if sample.modality == "DX":
        ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.DerivationDescription = "Synthetic image made by models.training.samples; no patient was imaged"
    ds.ImageComments = "SYNTHETIC"
    ds.BodyPartExamined = "CHEST"
    ds.BurnedInAnnotation = "YES"  # the SYNTHETIC mark; nothing identifying
    ds.LossyImageCompression = "00"
    request = Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepID = f"RP{sample.number}", f"SPS{sample.number}"
    ds.RequestAttributesSequence = DicomSequence([request])
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME1" if sample.inverted else "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = (FULL_SCALE + 1) // 2, FULL_SCALE + 1
    ds.PixelData = (FULL_SCALE - pixels if sample.inverted else pixels).astype("<u2").tobytes()
    return ds


def radiograph(sample: Sample, seed: int, view: str, pixels: npt.NDArray[np.uint16]) -> Dataset:
    """A CR (PS3.3 A.2) or DX for presentation (A.26) image of *pixels* (480, 540), higher is brighter."""
    ds = _instance(sample, seed, view, pixels)
    ds.ViewPosition = view
    ds.PatientOrientation = ["A", "F"] if view == "LL" else ["L", "F"]
    ds.ImagerPixelSpacing = [PIXEL_MM, PIXEL_MM]
    ds.KVP = "110" if view == "AP" else "125"
    ds.AcquisitionDeviceProcessingDescription = "none: drawn"
    if sample.modality == "CR":
        ds.PixelSpacing = [PIXEL_MM, PIXEL_MM]
        return ds
    ds.ViewCodeSequence = _code(VIEW_CODES[view][0], "SCT", VIEW_CODES[view][1])
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = DicomSequence()
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.PresentationLUTShape = "INVERSE" if sample.inverted else "IDENTITY"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1 if sample.inverted else -1
    ds.DetectorType = "DIRECT"
    ds.PositionerType = "NONE"
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = _code("51185008", "SCT", "Chest")
    ds.AcquisitionContextSequence = DicomSequence()
    if sample.number == 7:  # one film with a look-up table instead of a window (PS3.3 C.11.2)
        del ds.WindowCenter, ds.WindowWidth
        curve = 65535 * (np.arange(FULL_SCALE + 1) / FULL_SCALE) ** 1.1
        table = Dataset()
        table.LUTDescriptor, table.LUTExplanation = [FULL_SCALE + 1, 0, 16], "demonstration curve"
        table.LUTData = np.rint(curve).astype("<u2").tobytes()
        ds.VOILUTSequence = DicomSequence([table])
        ds.VOILUTSequence[0]["LUTData"].VR = "OW"
        ds.VOILUTSequence[0]["LUTDescriptor"].VR = "US"
    return ds


def tomogram(sample: Sample, seed: int, pixels: npt.NDArray[np.uint16]) -> Dataset:
    """A CT image (PS3.3 A.3) of one slice, *pixels* (256, 256) in Hounsfield units plus 1024."""
    ds = _instance(sample, seed, "CT", pixels)
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid(seed, sample.number, "frame"), ""
    ds.PatientPosition, ds.PatientOrientation = "HFS", ["L", "P"]
    ds.PixelSpacing, ds.SliceThickness, ds.KVP = [1.5, 1.5], "5", "120"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-192, -192, 0], [1, 0, 0, 0, 1, 0]
    ds.AcquisitionNumber = 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = 40, 400
    return ds


def write(ds: Dataset, path: Path, syntax: str, broken: bool = False) -> None:
    """Write *ds* to *path* in transfer syntax *syntax*; *broken* keeps the header and the first bytes of the pixels."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds["PixelData"].VR = "OW"
    if syntax == JPEG2000Lossless:  # pydicom's own encoder wants the package pylibjpeg besides its plug-in
        pixels = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
        ds.PixelData = encapsulate([encode_array(pixels, bits_stored=12, photometric_interpretation=2)])
        ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
        ds["PixelData"].is_undefined_length = True
    elif syntax != ExplicitVRLittleEndian:
        ds.compress(syntax, generate_instance_uid=False)
    if broken:
        ds.PixelData = encapsulate([get_frame(ds.PixelData, 0, number_of_frames=1)[:400]])
    ds.save_as(path, enforce_file_format=True)


# All of them --------------------------------------------------------------------------------------------------------


def make(training: Sequence[TrainingImage], generator: Generator, out: Path, seed: int) -> None:
    """Draw every sample, redraw any that comes too near a training image, and write files, manifest and provenance."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.dcm"):
        old.unlink()
    seen = distance_vectors([image.pixels for image in training])
    limit = closest_patients(training, seen)[0]
    entries = []
    for sample in plan(seed):
        random = np.random.default_rng([seed, 2, sample.number])
        files = [f"{sample.stem}.dcm"]
        if sample.role == "ct":
            write(tomogram(sample, seed, ct_slice(random)), out / files[0], sample.syntax)
        elif sample.role == "lateral":
            pixels = stored_pixels(lateral(random), random)
            write(radiograph(sample, seed, "LL", pixels), out / files[0], sample.syntax)
        else:
            pixels = _far_from(seen, limit, generator, sample.sample_class or "normal", random)
            ds = radiograph(sample, seed, sample.view, pixels)
            write(ds, out / files[0], sample.syntax, broken=sample.role == "broken")
        if sample.number == 1:
            files.append(f"{sample.stem}-lateral.dcm")
            second = stored_pixels(lateral(random), random)
            write(radiograph(sample, seed, "LL", second), out / files[1], sample.syntax)
        entries.append(_entry(sample, files, seed))
    _save(out / "manifest.json", entries)
    _save(out / "provenance.json", provenance(training, generator, out, seed))


def _far_from(
    seen: Floats, limit: float, generator: Generator, label: str, random: np.random.Generator
) -> npt.NDArray[np.uint16]:
    while True:
        pixels = stored_pixels(draw(generator, label, random), random)
        if distances(distance_vectors([pixels.astype(np.float32)]), seen).min() > limit:
            return pixels


def _entry(sample: Sample, files: list[str], seed: int) -> dict[str, Any]:
    """One entry of manifest.json: an order, the files of its study, and what should become of it."""
    code, text = PROCEDURES[_ordered(sample)]
    charsets = {"ISO_IR 192": "UNICODE UTF-8", "ISO 2022 IR 87": "ISO IR87"}
    return {
        "files": files,
        "role": sample.role,
        "sample_class": sample.sample_class if sample.role == "frontal" else None,
        "order": {
            "message": "OMI^O23" if sample.number % 2 else "ORM^O01",
            "placer_order_number": f"P{26000 + sample.number}",
            "filler_order_number": f"F{26000 + sample.number}",
            "accession_number": sample.accession_number,
            "issuer": ISSUER_OF_ACCESSION,
            "priority": sample.priority,
            "procedure_code": code,
            "procedure_text": text,
            "study_instance_uid": None if sample.number % 4 == 2 else uid(seed, sample.number, "study"),
            "charset": charsets.get(sample.charset, "ASCII"),
        },
        "arrives": sample.arrives,
        "expected": {
            "ai_state": "not-eligible" if sample.reason else "assessed",
            "reason": sample.reason,
            "lane": 0 if sample.priority == "S" else None,
        },
    }


# Privacy ------------------------------------------------------------------------------------------------------------


def closest_patients(training: Sequence[TrainingImage], vectors: Floats) -> tuple[float, str, str]:
    """The smallest distance between training images of two different patients, and which two they are."""
    apart = distances(vectors, vectors)
    _, patients = np.unique([f"{image.source}/{image.patient_id}" for image in training], return_inverse=True)
    apart[patients[:, None] == patients[None]] = np.inf
    first, second = np.unravel_index(int(apart.argmin()), apart.shape)
    return float(apart[first, second]), training[int(first)].image_id, training[int(second)].image_id


def drawn_pixels(folder: Path) -> dict[str, Floats]:
    """Decoded pixels, higher is brighter, of every sample drawn by the generator; the broken file has none to read."""
    found = {}
    for entry in json.loads((folder / "manifest.json").read_text()):
        if entry["role"] in ("frontal", "paediatric"):
            ds = dcmread(folder / entry["files"][0])
            pixels = ds.pixel_array.astype(np.float32)
            found[entry["files"][0]] = FULL_SCALE - pixels if ds.PhotometricInterpretation == "MONOCHROME1" else pixels
    return found


def privacy(training: Sequence[TrainingImage], folder: Path) -> dict[str, Any]:
    """How near every sample in *folder* comes to any training image, and the limit it must stay beyond."""
    seen = distance_vectors([image.pixels for image in training])
    limit, first, second = closest_patients(training, seen)
    samples = drawn_pixels(folder)
    nearest = distances(distance_vectors(samples.values()), seen).min(1)
    return {
        "rule": DISTANCE_RULE,
        "closest_pair_of_different_patients": round(limit, 4),
        "closest_pair": [first, second],
        "closest_sample_to_any_training_image": round(float(nearest.min()), 4),
        "nearest_training_image_by_sample": {
            name: round(float(value), 4) for name, value in zip(samples, nearest, strict=True)
        },
        "passed": bool(nearest.min() > limit),
    }


def provenance(training: Sequence[TrainingImage], generator: Generator, folder: Path, seed: int) -> dict[str, Any]:
    """Where the samples come from: images used, licences, attribution, seed, command and distances."""
    fitted = set(generator.image_ids)

    def count(images: Sequence[TrainingImage]) -> list[dict[str, Any]]:
        groups = Counter((image.source, image.label, image.licence) for image in images)
        return [
            {"source": source, "class": label, "licence": licence, "images": number}
            for (source, label, licence), number in sorted(groups.items())
        ]

    return {
        "statement": "Every image is synthetic: no patient was imaged, and every name and number is invented.",
        "method": "models/training/synthesis.py: registration, principal components, measured texture, drawn bones",
        "command": f"python -m models.training.samples --cxr DIR --out triage/demo/samples --seed {seed}",
        "seed": seed,
        "permitted_images": count(training),
        "images_the_model_was_fitted_on": count([image for image in training if image.image_id in fitted]),
        "attribution": list(ATTRIBUTION),
        "privacy": privacy(training, folder),
    }


def _save(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Make the samples, or check those that are there."""
    parser = argparse.ArgumentParser(prog="python -m models.training.samples", description=__doc__)
    parser.add_argument("action", nargs="?", choices=("make", "check"), default="make")
    parser.add_argument("--cxr", type=Path, required=True, help="folder of real radiographs with manifest.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the samples")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    training = training_images(chosen.cxr)
    if chosen.action == "make":
        make(training, fit(training), chosen.out, chosen.seed)
    found = privacy(training, chosen.out)
    Console().print_json(data=found)
    if not found["passed"]:
        raise SystemExit("a sample is closer to a training image than two different patients are to each other")


if __name__ == "__main__":
    main()
