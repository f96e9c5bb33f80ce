"""DICOM built in code: a valid chest radiograph by default, a test names only what matters."""

from __future__ import annotations

import io
from typing import Any

import gdcm
import numpy as np
import numpy.typing as npt
import openjpeg
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from tests.making import make_uid

Pixels = npt.NDArray[Any]

ROWS, COLUMNS = 240, 260


def make_pixels(rows: int = ROWS, columns: int = COLUMNS, most: int = 4095, seed: int = 7) -> Pixels:
    """A smooth hill with some noise, from 0 to *most*, uint16."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    hill = np.exp(-(x**2 + 1.5 * y**2)) + 0.02 * np.random.default_rng(seed).random((rows, columns))
    hill -= hill.min()
    return np.asarray(hill / hill.max() * most).round().astype(np.uint16)


def make_dataset(pixels: Pixels | None = None, *, bits_stored: int = 12, **changes: Any) -> Dataset:
    """A DX for presentation, PA, of an adult; explicit VR little endian. A change to None takes the element out."""
    pixels = make_pixels() if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = make_uid(), make_uid(), make_uid()
    dataset.StudyDate, dataset.StudyTime = "20261102", "120000"
    dataset.AccessionNumber, dataset.Modality = "ACC-1", "DX"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PatientName, dataset.PatientID = "Honmiya^Tarou=本宮^太郎=もとみや^たろう", "P-0001"
    dataset.PatientBirthDate, dataset.PatientSex = "19610401", "M"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.add_new(0x7FE00010, "OW", pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def file_of(dataset: Dataset) -> bytes:
    """The data set as the bytes of a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def make_table(first: int, entries: list[int], bits: int, *, as_bytes: bool = False) -> Dataset:
    """An item of a Modality or VOI LUT Sequence."""
    item = Dataset()
    item.add_new(0x00283002, "US", [len(entries) % 65536, first % 65536, bits])
    if as_bytes:
        item.add_new(0x00283006, "OW", np.asarray(entries, "<u2").tobytes())
    else:
        item.add_new(0x00283006, "US", entries)
    return item


def in_syntax(dataset: Dataset, syntax: uid.UID) -> bytes:
    """The file of *dataset* in another transfer syntax, by whichever plug-in can write it."""
    if syntax in (uid.RLELossless, uid.JPEGLSLossless, uid.JPEGLSNearLossless):
        how = {"jls_error": 2} if syntax == uid.JPEGLSNearLossless else {}
        dataset.compress(syntax, generate_instance_uid=False, **how)
    elif syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        _encapsulated(dataset, syntax, _jpeg_2000(dataset, lossy=syntax == uid.JPEG2000))
    elif syntax == uid.JPEGBaseline8Bit:
        _encapsulated(dataset, syntax, _jpeg_baseline(dataset))
    elif syntax in (uid.JPEGLosslessSV1, uid.JPEGLossless, uid.JPEGExtended12Bit):
        return _by_gdcm(dataset, syntax)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == uid.ExplicitVRBigEndian:
            words = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}")
            dataset["PixelData"].value = words.byteswap().tobytes()
    return file_of(dataset)


def _encapsulated(dataset: Dataset, syntax: uid.UID, frame: bytes) -> None:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].value = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _jpeg_2000(dataset: Dataset, *, lossy: bool) -> bytes:
    more = {"compression_ratios": [4]} if lossy else {}
    return bytes(
        openjpeg.encode_pixel_data(
            dataset.PixelData,
            rows=dataset.Rows,
            columns=dataset.Columns,
            samples_per_pixel=1,
            bits_stored=dataset.BitsStored,
            photometric_interpretation=dataset.PhotometricInterpretation,
            pixel_representation=dataset.PixelRepresentation,
            **more,
        )
    )


def _jpeg_baseline(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pixels = np.frombuffer(dataset.PixelData, np.uint8, count=dataset.Rows * dataset.Columns)
    Image.fromarray(pixels.reshape(dataset.Rows, dataset.Columns)).save(buffer, "JPEG", quality=98)
    return buffer.getvalue()


def _by_gdcm(dataset: Dataset, syntax: uid.UID) -> bytes:
    """JPEG lossless and extended, which only gdcm writes; it reads and writes files."""
    import tempfile
    from pathlib import Path

    types = {
        uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        uid.JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
        uid.JPEGExtended12Bit: gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    }
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.dcm"), Path(folder, "after.dcm")
        before.write_bytes(file_of(dataset))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(before))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(types[syntax]))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise NotImplementedError(f"gdcm does not write {syntax.name}")
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return after.read_bytes()
