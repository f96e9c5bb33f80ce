"""Every transfer syntax and every way to say brightness end in the same picture, or in a refusal that says why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from integrations.dicomweb.radiograph import Limits, read, rendering, to_radiograph
from tests.dicomweb.files import file_of, in_syntax, make_dataset, make_pixels, make_table
from triage.domain.errors import UnusableRadiograph

FULL = {"WindowCenter": "2048", "WindowWidth": "4096", "VOILUTFunction": "LINEAR_EXACT"}
"""The window of all twelve bits: brightness is value / 4096."""


def refusal_of(source: Any, **options: Any) -> str:
    with pytest.raises(UnusableRadiograph) as caught:
        to_radiograph(source, **options)
    return caught.value.reason


NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
LOSSLESS = (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEGLosslessSV1, uid.JPEGLossless)


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=lambda one: one.name)
def test_every_lossless_transfer_syntax_gives_the_same_picture(syntax: uid.UID) -> None:
    pixels = make_pixels()
    found = to_radiograph(in_syntax(make_dataset(pixels, **FULL), syntax))
    np.testing.assert_allclose(found.pixels, pixels / 4096, atol=1e-6)
    assert found.pixels.dtype == np.float32
    assert found.facts.transfer_syntax_uid == syntax


@pytest.mark.parametrize("syntax", [uid.JPEG2000, uid.JPEGLSNearLossless, uid.JPEGExtended12Bit], ids=lambda o: o.name)
def test_lossy_transfer_syntaxes_give_nearly_the_same_picture(syntax: uid.UID) -> None:
    pixels = make_pixels()
    content = in_syntax(make_dataset(pixels, **FULL), syntax)
    np.testing.assert_allclose(to_radiograph(content).pixels, pixels / 4096, atol=0.05)


def test_jpeg_baseline_of_eight_bits_is_read() -> None:
    pixels = make_pixels(most=255).astype(np.uint8)
    dataset = make_dataset(pixels, bits_stored=8, WindowCenter="128", WindowWidth="256", VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_allclose(to_radiograph(in_syntax(dataset, uid.JPEGBaseline8Bit)).pixels, pixels / 256, atol=0.05)


def test_a_file_without_preamble_is_read() -> None:
    content = file_of(make_dataset(**FULL))
    dataset = read(content)
    bare = content[content.index(b"\x08\x00\x05\x00CS") :]
    np.testing.assert_array_equal(to_radiograph(bare).pixels, to_radiograph(dataset).pixels)


# Values and what they show: slope, intercept, window, function, photometric interpretation and shape

RAMP = np.linspace(0, 4095, 240 * 240).reshape(240, 240).astype(np.uint16)


@pytest.mark.parametrize(
    ("changes", "stored", "brightness"),
    [
        pytest.param(FULL, 1024, 0.25, id="linear exact"),
        pytest.param({"WindowCenter": "2048", "WindowWidth": "4096"}, 4095, 1.0, id="linear reaches its end"),
        pytest.param({"WindowCenter": "2048", "WindowWidth": "4096"}, 0, 0.0, id="linear reaches its start"),
        pytest.param({"WindowCenter": "2048", "WindowWidth": "2049"}, 1024, 0.5 / 2048, id="linear, half a value off"),
        pytest.param({"WindowCenter": ["2048", "9"], "WindowWidth": ["4096", "9"]}, 4095, 1.0, id="first of several"),
        pytest.param(FULL | {"VOILUTFunction": "SIGMOID"}, 2048, 0.5, id="sigmoid in the middle"),
        pytest.param(FULL | {"VOILUTFunction": "SIGMOID"}, 3072, 1 / (1 + np.exp(-1)), id="sigmoid beside it"),
        pytest.param(FULL | {"RescaleSlope": "2", "RescaleIntercept": "-1000"}, 1524, 0.5, id="rescaled"),
        pytest.param(FULL | {"RescaleSlope": "-1", "RescaleIntercept": "4096"}, 1024, 0.75, id="negative slope"),
        pytest.param(FULL | {"RescaleSlope": "0", "RescaleIntercept": "7"}, 1024, 0.25, id="a slope of 0 says nothing"),
        pytest.param(FULL | {"PhotometricInterpretation": "MONOCHROME1"}, 1024, 0.75, id="MONOCHROME1"),
        pytest.param(FULL | {"PresentationLUTShape": "INVERSE"}, 1024, 0.75, id="INVERSE alone"),
        pytest.param(
            FULL | {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
            1024,
            0.75,
            id="the pair inverts once",
        ),
        pytest.param(FULL | {"PresentationLUTShape": "IDENTITY"}, 1024, 0.25, id="IDENTITY"),
        pytest.param(
            FULL | {"RescaleSlope": "-1", "RescaleIntercept": "4096", "PhotometricInterpretation": "MONOCHROME1"},
            1024,
            0.25,
            id="negative slope and MONOCHROME1",
        ),
        pytest.param(
            {"WindowCenter": "1024", "WindowWidth": "1024", "PhotometricInterpretation": "MONOCHROME1"},
            4095,
            0.0,
            id="the window comes before the inversion",
        ),
    ],
)
def test_a_stored_value_shows_as_the_standard_says(changes: dict[str, Any], stored: int, brightness: float) -> None:
    found = to_radiograph(make_dataset(RAMP, **changes)).pixels
    assert found[stored == RAMP] == pytest.approx(brightness, abs=1e-4)


def test_a_voi_table_goes_before_a_window() -> None:
    table = make_table(1000, list(range(0, 1024)), 10)
    dataset = make_dataset(RAMP, **FULL, VOILUTSequence=[table])
    found = to_radiograph(dataset).pixels
    assert found[RAMP == 1512] == pytest.approx(512 / 1023, abs=1e-5)
    assert found[RAMP < 1000].max() == 0
    assert found[RAMP > 2100].min() == 1
    assert rendering(dataset).source == "voi lut"


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_modality_table_feeds_the_window(as_bytes: bool) -> None:
    table = make_table(0, [4095 - value for value in range(4096)], 16, as_bytes=as_bytes)
    found = to_radiograph(file_of(make_dataset(RAMP, **FULL, ModalityLUTSequence=[table]))).pixels
    assert found[RAMP == 1024] == pytest.approx((4095 - 1024) / 4096, abs=1e-5)


def test_a_signed_table_starts_below_zero() -> None:
    pixels = RAMP.astype(np.int16) - 2048
    table = make_table(-2048, list(range(4096)), 12)
    found = to_radiograph(make_dataset(pixels, bits_stored=16, VOILUTSequence=[table])).pixels
    assert found[pixels == -1024] == pytest.approx(1024 / 4095, abs=1e-5)


def test_a_damaged_table_is_refused() -> None:
    table = make_table(0, [1, 2, 3], 12)
    table.LUTDescriptor = [4096, 0, 12]
    assert refusal_of(make_dataset(VOILUTSequence=[table])) == "unreadable-header"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "no window"),
        ({"WindowCenter": "2048", "WindowWidth": "0"}, "window without width"),
        ({"WindowCenter": "2048", "WindowWidth": "1"}, "window without width"),
        ({"WindowCenter": "2048", "WindowWidth": "-400"}, "window without width"),
        ({"WindowCenter": "90000", "WindowWidth": "400"}, "window beside the data"),
        ({"WindowCenter": "-900", "WindowWidth": "400"}, "window beside the data"),
        ({"WindowCenter": "20", "WindowWidth": "40"}, "window beside the data"),
        ({"WindowCenter": "500000", "WindowWidth": "1000000"}, "window far wider than the data"),
        ({"WindowCenter": "2048"}, "no window"),
    ],
)
def test_a_window_that_cannot_be_meant_gives_way_to_percentiles(changes: dict[str, str], why: str) -> None:
    dataset = make_dataset(RAMP, **changes)
    assert rendering(dataset).source == f"percentiles: {why}"
    found = to_radiograph(dataset).pixels
    assert 0.45 < np.median(found) < 0.55
    assert found.min() == 0
    assert found.max() == 1


def test_sixteen_bits_with_a_window_for_eight_are_still_seen() -> None:
    pixels = make_pixels(most=65535)
    dataset = make_dataset(pixels, bits_stored=16, WindowCenter="128", WindowWidth="256")
    assert rendering(dataset).is_a_guess
    assert to_radiograph(dataset).pixels.std() > 0.1


def test_a_window_that_is_no_number_counts_as_none() -> None:
    dataset = make_dataset(RAMP)
    dataset.add_new(0x00281050, "LO", "abdomen")
    dataset.add_new(0x00281051, "LO", "wide")
    assert rendering(dataset).source == "percentiles: no window"


def test_signed_pixels_of_twelve_bits_keep_their_sign() -> None:
    pixels = RAMP.astype(np.int16) - 2048
    masked = (pixels & 0x0FFF).astype(np.int16)  # the upper bits are not carried up, as some devices write them
    window = {"WindowCenter": "0", "WindowWidth": "4096", "VOILUTFunction": "LINEAR_EXACT"}
    for written in (pixels, masked):
        found = to_radiograph(make_dataset(written, **window)).pixels
        np.testing.assert_allclose(found, (pixels + 2048) / 4096, atol=1e-6)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless], ids=lambda one: one.name)
def test_overlay_bits_above_the_stored_ones_are_not_pixels(syntax: uid.UID) -> None:
    pixels = RAMP | np.where(RAMP % 7 == 0, 0x8000, 0).astype(np.uint16)
    found = to_radiograph(in_syntax(make_dataset(pixels, **FULL), syntax)).pixels
    np.testing.assert_allclose(found, RAMP / 4096, atol=1e-6)


def test_a_high_bit_at_the_top_is_shifted_down() -> None:
    dataset = make_dataset(RAMP << 4, **FULL, HighBit=15)
    np.testing.assert_allclose(to_radiograph(dataset).pixels, RAMP / 4096, atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_move_the_percentiles(photometric: str) -> None:
    pixels = make_pixels()
    pixels[:60] = 65535
    dataset = make_dataset(pixels, bits_stored=16, PhotometricInterpretation=photometric, PixelPaddingValue=65535)
    found = to_radiograph(dataset).pixels
    assert not found[:60].any()
    assert found[60:].std() > 0.15


def test_pixel_spacing_is_taken_at_the_patient_else_at_the_detector() -> None:
    assert to_radiograph(make_dataset()).pixel_spacing_mm is None
    assert to_radiograph(make_dataset(ImagerPixelSpacing=["0.2", "0.3"])).pixel_spacing_mm == (0.2, 0.3)
    both = make_dataset(ImagerPixelSpacing=["0.2", "0.3"], PixelSpacing=["0.1", "0.1"])
    assert to_radiograph(both).pixel_spacing_mm == (0.1, 0.1)
    assert to_radiograph(make_dataset(PixelSpacing=["0", "0.1"])).pixel_spacing_mm is None


@settings(max_examples=40, deadline=None)
@given(
    slope=st.sampled_from([-2.0, -1.0, 0.5, 1.0, 3.0]),
    intercept=st.integers(-2000, 2000),
    center=st.integers(-4000, 8000),
    width=st.integers(-10, 9000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
)
def test_brightness_stays_in_range_and_inversion_is_the_last_step(
    slope: float, intercept: int, center: int, width: int, function: str, photometric: str
) -> None:
    header = {
        "RescaleSlope": str(slope), "RescaleIntercept": str(intercept),
        "WindowCenter": str(center), "WindowWidth": str(width), "VOILUTFunction": function,
    }  # fmt: skip
    found = to_radiograph(make_dataset(RAMP, PhotometricInterpretation=photometric, **header)).pixels
    other = {"MONOCHROME1": "MONOCHROME2", "MONOCHROME2": "MONOCHROME1"}[photometric]
    inverse = to_radiograph(make_dataset(RAMP, PhotometricInterpretation=other, **header)).pixels
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.max() - found.min() > 0.04
    np.testing.assert_allclose(found, 1 - inverse, atol=2e-4)
    step = np.diff(found.ravel())
    rises = (slope > 0) == (photometric == "MONOCHROME2")
    assert (step >= -1e-6).all() if rises else (step <= 1e-6).all()


# Refusals


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PixelData": None}, "no-pixels"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"NumberOfFrames": "2"}, "multi-frame"),
        ({"Rows": 60000, "Columns": 60000}, "undecodable"),
        ({"Rows": None}, "too-small"),
        ({"Rows": 2 * 240}, "undecodable"),
        ({"BitsStored": 13, "BitsAllocated": 24}, "undecodable"),
        ({"PixelRepresentation": None}, "undecodable"),
        ({"BitsStored": 14, "HighBit": 3}, "undecodable"),
        ({"PixelData": b""}, "undecodable"),
        ({"StudyInstanceUID": None}, "unreadable-header"),
        ({"SOPClassUID": None}, "unreadable-header"),
    ],
)
def test_what_cannot_be_decoded_is_refused_by_name(changes: dict[str, Any], reason: str) -> None:
    assert refusal_of(make_dataset(**changes)) == reason


def test_truncated_native_pixels_are_undecodable() -> None:
    assert refusal_of(file_of(make_dataset())[:-5000]) == "undecodable"


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda one: one.name)
def test_a_cut_compressed_frame_is_undecodable(syntax: uid.UID) -> None:
    dataset = read(in_syntax(make_dataset(), syntax))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset["PixelData"].value = encapsulate([frame[: len(frame) // 2]])
    assert refusal_of(dataset) == "undecodable"


def test_a_frame_larger_than_its_header_says_is_not_decoded() -> None:
    dataset = read(in_syntax(make_dataset(), uid.JPEG2000Lossless))
    dataset.Rows, dataset.Columns = 220, 220
    assert refusal_of(dataset) == "undecodable"


def test_a_deflated_bomb_is_not_inflated() -> None:
    content = in_syntax(make_dataset(), uid.DeflatedExplicitVRLittleEndian)
    assert refusal_of(content, limits=Limits(most_bytes=100_000)) == "unreadable-header"
    assert to_radiograph(content, limits=Limits(most_bytes=1_000_000)).pixels.size


@pytest.mark.parametrize("pixels", [np.full((240, 240), 900, np.uint16), np.zeros((240, 240), np.uint16)])
def test_an_image_without_contrast_is_blank(pixels: Any) -> None:
    assert refusal_of(make_dataset(pixels, **FULL)) == "blank"
    pixels[0, :20] = 3000
    assert refusal_of(make_dataset(pixels, **FULL)) == "blank"


def test_a_small_image_is_refused_by_the_site_s_limit() -> None:
    pixels = make_pixels(190, 300)
    assert refusal_of(make_dataset(pixels)) == "too-small"
    assert to_radiograph(make_dataset(pixels), limits=Limits(least_side=100)).pixels.shape == (190, 300)


@pytest.mark.parametrize("content", [b"", b"no DICOM at all", b"\0" * 128 + b"DICM", b"\x89PNG" + bytes(500)])
def test_what_is_no_dicom_is_refused(content: bytes) -> None:
    assert refusal_of(content) in ("unreadable-header", "no-pixels")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_a_picture_or_a_refusal(data: st.DataObject) -> None:
    content = bytearray(_WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, 1500))] = data.draw(st.integers(0, 255))
    try:
        found = to_radiograph(bytes(content[: data.draw(st.integers(200, len(content)))]))
    except UnusableRadiograph as refusal:
        assert "Honmiya" not in str(refusal)
        assert "本宮" not in str(refusal)
        assert refusal.__cause__ is None
    else:
        assert 0 <= found.pixels.min() <= found.pixels.max() <= 1


_WHOLE = file_of(make_dataset(WindowCenter="2048", WindowWidth="4096"))
