"""A picture of a frontal chest radiograph (PNG, JPEG) wrapped as a CR image, for folders of such samples."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from triage.domain.errors import UnusableRadiograph
from triage.domain.imaging import Patient


def uid_from(*parts: bytes) -> str:
    """A UID of the 2.25 root (PS3.5 B.2) that the same bytes always give; shaped as a version 5 UUID."""
    digest = bytearray(hashlib.sha256(b"\0".join(parts)).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{int.from_bytes(digest, 'big')}"


def to_dicom(
    image_path: Path,
    *,
    patient: Patient,
    study_at: datetime,
    study_instance_uid: str = "",
    accession_number: str = "",
    issuer_of_accession: str = "",
    study_description: str = "",
    view_position: str = "",
    age_years: int | None = None,
) -> Dataset:
    """
    Wrap a picture, colour turned to grey, 16-bit grey kept.

    Args:
        image_path: PNG or JPEG, brighter is denser.
        study_at: acquisition instant, aware; its offset is written too.
        study_instance_uid: by default made from the picture, like the series' and the instance's.
        view_position: AP, PA, or empty where nobody knows.
        age_years: written as PatientAge where given.
    Returns:
        CR image (PS3.3 A.2), ISO_IR 192, MONOCHROME2, DERIVED PRIMARY; ready for `folder.store`.
    Raises:
        UnusableRadiograph: undecodable; not a picture.
    """
    content = image_path.read_bytes()
    pixels = _pixels(image_path)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid_from(b"instance", content))
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = study_instance_uid or uid_from(b"study", content)
    dataset.SeriesInstanceUID = uid_from(b"series", dataset.StudyInstanceUID.encode(), content)
    _say_when(dataset, study_at)
    _say_who(dataset, patient, age_years)
    dataset.Modality = "CR"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.AccessionNumber = accession_number
    if issuer_of_accession:
        issuer = Dataset()
        issuer.LocalNamespaceEntityID = issuer_of_accession
        dataset.IssuerOfAccessionNumberSequence = [issuer]
    dataset.StudyDescription = study_description
    dataset.StudyID = ""
    dataset.ReferringPhysicianName = ""
    dataset.Manufacturer = ""
    dataset.SeriesNumber = "1"
    dataset.InstanceNumber = "1"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = view_position
    if image_path.suffix.lower() in (".jpg", ".jpeg"):
        dataset.LossyImageCompression = "01"
    _put_pixels(dataset, pixels)
    return dataset


def _say_when(dataset: Dataset, study_at: datetime) -> None:
    dataset.TimezoneOffsetFromUTC = study_at.strftime("%z")[:5]
    for what in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{what}Date", study_at.strftime("%Y%m%d"))
        setattr(dataset, f"{what}Time", study_at.strftime("%H%M%S"))


def _say_who(dataset: Dataset, patient: Patient, age_years: int | None) -> None:
    dataset.PatientID = patient.patient_id
    if patient.issuer:
        dataset.IssuerOfPatientID = patient.issuer
    dataset.PatientName = patient.name
    dataset.PatientBirthDate = patient.birth_date.strftime("%Y%m%d") if patient.birth_date else ""
    dataset.PatientSex = patient.sex
    if age_years is not None:
        dataset.PatientAge = f"{age_years:03d}Y"


def _pixels(image_path: Path) -> npt.NDArray[Any]:
    """(rows, columns) uint8 or uint16."""
    try:
        with Image.open(image_path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith("I") or upright.mode == "F":
                deep: npt.NDArray[Any] = np.clip(np.asarray(upright), 0, 65535).astype(np.uint16)
                return deep
            return np.asarray(upright.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise UnusableRadiograph("undecodable", type(exc).__name__) from None


def _put_pixels(dataset: Dataset, pixels: npt.NDArray[Any]) -> None:
    bits = pixels.dtype.itemsize * 8
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0
    if bits == 8:  # all of the range is image; 16-bit pictures rarely use theirs, so they go without
        dataset.WindowCenter, dataset.WindowWidth = "128", "256"
    content = pixels.astype(f"<u{bits // 8}").tobytes()
    dataset.add_new(0x7FE00010, "OW" if bits == 16 else "OB", content + b"\0" * (len(content) % 2))
