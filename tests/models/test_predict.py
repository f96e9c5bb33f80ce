"""`python -m models predict`: any folder in, a row for every file out."""

import csv
import shutil
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from integrations.dicomweb.radiograph import to_radiograph
from models import predict
from models.__main__ import main
from models.engine import Engine
from models.pictures import NOT_AN_IMAGE, read_picture
from tests.models.making import draw_chest
from triage.domain.eligibility import IntendedUse
from triage.domain.errors import UnusableRadiograph

SAMPLES = Path(__file__).parents[2] / "triage" / "demo" / "samples"
USE = IntendedUse()
EIGHT = (255 * draw_chest(320, 300)).astype(np.uint8)
Predict = Callable[..., list[dict[str, str]]]


@pytest.fixture
def predicted(engine: Engine, monkeypatch, tmp_path: Path) -> Predict:
    """Runs the command on a folder with the engine that is loaded already; the CSV's rows."""

    def run(folder: Path, *options: str, by: Engine = engine) -> list[dict[str, str]]:
        monkeypatch.setattr(predict.Engine, "load", lambda *_args, **_options: by)
        out = tmp_path / "out" / "scores.csv"
        main(["predict", str(folder), "--out", str(out), *options])
        assert [p.name for p in out.parent.iterdir()] == ["scores.csv"], "nothing unfinished stays behind"
        with out.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert all(tuple(row) == predict.COLUMNS for row in rows)
        return rows

    return run


def folder_of(tmp_path: Path, *names: str) -> Path:
    """A folder with a drawn chest under each name."""
    folder = tmp_path / "in"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(EIGHT).save(folder / name)
    return folder


def test_every_file_of_the_samples_gets_a_row(predicted: Predict, capsys) -> None:
    rows = {row["file"]: row for row in predicted(SAMPLES)}
    assert set(rows) == {p.name for p in SAMPLES.iterdir()}
    reasons = {name: row["reason"].partition(":")[0] for name, row in rows.items() if row["eligible"] == "false"}
    assert reasons == {
        "01-normal-lateral.dcm": "not-frontal",
        "28-lateral.dcm": "not-frontal",
        "29-ct.dcm": "modality",
        "30-paediatric.dcm": "age-below-limit",
        "31-broken.dcm": "undecodable",
        "README.md": NOT_AN_IMAGE,
        "manifest.json": NOT_AN_IMAGE,
        "provenance.json": NOT_AN_IMAGE,
    }
    assert rows["30-paediatric.dcm"]["p_covid"], "a figure wherever the networks could be run"
    assert rows["31-broken.dcm"]["p_covid"] == ""
    assert all(row["flagged"] == "false" for row in rows.values() if row["eligible"] == "false")
    shown = capsys.readouterr().out
    assert "35 files: 27 eligible" in shown
    for name, reason in reasons.items():
        assert f"refused {name}: {reason}" in shown
    for path in SAMPLES.glob("*.dcm"):
        assert str(pydicom.dcmread(path, force=True).get("PatientName", "?")) not in shown


def test_a_row_says_what_the_engine_says(predicted: Predict, engine: Engine) -> None:
    row = next(row for row in predicted(SAMPLES) if row["file"] == "03-covid.dcm")
    (reading,) = engine.read([to_radiograph((SAMPLES / "03-covid.dcm").read_bytes()).pixels])
    given = [float(row[f"p_{name}"]) for name in ("normal", "pneumonia", "covid")]
    assert given == pytest.approx(reading.probabilities, abs=1e-4)
    assert float(row["gate_score"]) == pytest.approx(reading.gate_score, rel=1e-3)
    assert float(row["gate_limit"]) == pytest.approx(engine.cards["chest"].gate_limit, rel=1e-4)
    assert float(row["lung_area"]) == pytest.approx(reading.mask.mean(), abs=1e-3)
    assert float(row["activation_outside"]) == pytest.approx(reading.activation_outside, abs=1e-3)
    assert (row["eligible"], row["flagged"], row["doubtful"], row["reason"]) == ("true", "true", "false", "")


def test_what_the_gate_refuses_keeps_its_figures_and_its_mask(predicted: Predict, engine: Engine, tmp_path) -> None:
    strict = copy(engine)
    strict.cards = {**engine.cards, "chest": replace(engine.cards["chest"], gate_limit=1e-6)}
    folder = folder_of(tmp_path, "chest.png")
    half = (255 * draw_chest()[:, :210]).astype(np.uint8)
    Image.fromarray(half).save(folder / "narrow.png")
    chest, narrow = predicted(folder, "--masks", str(tmp_path / "masks"), by=strict)
    assert chest["reason"].startswith("out-of-distribution") and narrow["reason"].startswith("lungs-implausible")
    for row in (chest, narrow):
        assert (row["eligible"], row["flagged"]) == ("false", "false")
        assert 0 <= float(row["p_covid"]) <= 1
    names = {p.name for p in (tmp_path / "masks").iterdir()}
    assert names == {"chest.png", "chest.v7.png", "narrow.png", "narrow.v7.png"}


def test_a_mask_is_as_large_as_its_image(predicted: Predict, engine: Engine, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a.png", "deep/b.jpg")
    predicted(folder, "--masks", str(tmp_path / "masks"))
    (reading,) = engine.read([EIGHT / np.float32(255)])
    expected = predict.mask_of(reading, "manual", (256, 256))
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / "masks" / name) as image:
            assert (image.mode, image.size) == ("L", (300, 320))
            mask = np.asarray(image)
            assert set(np.unique(mask)) == {0, 255}
            small = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR)) > 127
        assert 2 * (small & expected).sum() / (small.sum() + expected.sum()) > 0.95


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [([], "manual", "v7"), (["--convention", "v7"], "v7", "manual")],
)
def test_masks_follow_the_convention(
    predicted: Predict, engine: Engine, tmp_path: Path, options: list[str], first: str, second: str
) -> None:
    """A lung network whose 'manual' lungs are smaller than its 'v7' lungs."""
    import torch

    def both(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (logits,) = engine._lungs(images)
        logits = logits[:, -1:]
        return (torch.cat([logits - 3, logits], dim=1),)

    card = engine.cards["lungs"]
    knows = {**card.architecture, "conventions": ["manual", "v7"]}
    cards = {**engine.cards, "lungs": replace(card, architecture=knows)}
    identities = {"lungs": engine.segmenter, "chest": engine.classifier}
    two = Engine(both, engine._chest, cards, identities, engine._familiarity, "torch")
    masks = tmp_path / "masks"
    (row,) = predicted(folder_of(tmp_path, "x.png"), "--masks", str(masks), *options, by=two)
    area = {name: np.asarray(Image.open(masks / name)).mean() / 255 for name in ("x.png", f"x.{second}.png")}
    assert bool(area["x.png"] < area[f"x.{second}.png"]) is (first == "manual")
    v7 = "x.png" if first == "v7" else "x.v7.png"
    assert area[v7] == pytest.approx(float(row["lung_area"]), abs=0.01)


def test_a_convention_the_network_does_not_know_is_refused(predicted: Predict, engine: Engine, tmp_path: Path) -> None:
    card = engine.cards["lungs"]
    only = copy(engine)
    only.cards = {**engine.cards, "lungs": replace(card, architecture={**card.architecture, "conventions": ["v7"]})}
    with pytest.raises(SystemExit, match="knows v7, not manual"):
        predicted(folder_of(tmp_path, "x.png"), "--convention", "manual", by=only)


def test_names_stay_apart(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "one.png", "a/two.png", "b/two.png", "c/three.png", "c/three.jpg", "four.png")
    (folder / "four.json").write_text("{}")
    (folder / "one.png.png").write_bytes((folder / "one.png").read_bytes())
    ids = {f.name: f.image_id for f in predict.found(folder)}
    assert ids == {
        "one.png": "one",
        "one.png.png": "one.png",
        "a/two.png": "a/two",
        "b/two.png": "b/two",
        "c/three.png": "c/three.png",
        "c/three.jpg": "c/three.jpg",
        "four.png": "four",
        "four.json": "four.json",
    }
    assert len(set(ids.values())) == len(ids)


def test_what_the_run_writes_is_not_read(predicted: Predict, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "x.png")
    for _ in range(2):
        rows = predicted(folder, "--masks", str(folder / "masks"))
    assert [row["file"] for row in rows] == ["x.png"]


def test_masks_never_overwrite_radiographs(predicted: Predict, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "x.png")
    before = (folder / "x.png").read_bytes()
    with pytest.raises(SystemExit, match="overwrite"):
        predicted(folder, "--masks", str(folder))
    assert (folder / "x.png").read_bytes() == before


@pytest.mark.parametrize("name", ["broken.png", "cut.jpg", "empty.dcm", "text.png", "notes.txt", ".hidden"])
def test_a_bad_file_stops_nothing(predicted: Predict, tmp_path: Path, name: str, capsys) -> None:
    folder = folder_of(tmp_path, "good.png")
    whole = (folder / "good.png").read_bytes()
    bad = {"broken.png": whole[:200], "empty.dcm": b"", "text.png": b"text", "cut.jpg": b"\xff\xd8\xff\xe0"}
    (folder / name).write_bytes(bad.get(name, b"text"))
    rows = {row["file"]: row for row in predicted(folder)}
    assert rows["good.png"]["eligible"] == "true"
    assert rows[name]["eligible"] == "false" and rows[name]["reason"]
    assert f"refused {name}: " in capsys.readouterr().out


def test_a_fault_of_the_networks_costs_one_picture_its_result(predicted: Predict, engine: Engine, tmp_path) -> None:
    folder = folder_of(tmp_path, "a.png", "b.png")
    Image.fromarray(EIGHT[:, :299]).save(folder / "fatal.png")

    class Faulty:
        cards, conventions, intended_use = engine.cards, engine.conventions, engine.intended_use

        def read(self, pictures: list[np.ndarray], **options: bool) -> list[object]:
            if any(p.shape == (320, 299) for p in pictures):
                raise RuntimeError("what a patient's name could stand in")
            return engine.read(pictures, **options)

    rows = {row["file"]: row["reason"] for row in predicted(folder, by=Faulty())}
    assert rows == {"a.png": "", "b.png": "", "fatal.png": "engine-error: RuntimeError"}


@pytest.mark.parametrize("content", [None, b"no image"])
def test_a_folder_without_a_readable_image_ends_with_two(predicted: Predict, tmp_path: Path, content) -> None:
    (tmp_path / "in").mkdir()
    if content:
        (tmp_path / "in" / "x.png").write_bytes(content)
    with pytest.raises(SystemExit) as end:
        predicted(tmp_path / "in")
    assert end.value.code == 2
    assert (tmp_path / "out" / "scores.csv").exists()


def test_no_folder_ends_with_two(predicted: Predict, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        predicted(tmp_path / "nowhere")
    assert end.value.code == 2


# reading files


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_grey_and_colour_files_give_the_same_picture(tmp_path: Path) -> None:
    grey = Image.fromarray(EIGHT)
    exact = EIGHT / np.float32(255)
    for mode in ("L", "RGB", "RGBA", "LA", "CMYK"):
        suffix = "jpg" if mode == "CMYK" else "png"
        pixels = read_picture(saved(tmp_path / f"{mode}.{suffix}", grey.convert(mode)), USE).pixels
        assert pixels.dtype == np.float32 and pixels.shape == EIGHT.shape
        assert np.abs(pixels - exact).max() <= (0.08 if suffix == "jpg" else 1 / 255), mode
    palette = grey.convert("RGB").quantize(256)
    assert np.abs(read_picture(saved(tmp_path / "p.png", palette), USE).pixels - exact).mean() < 0.01


def test_a_palette_may_run_backwards(tmp_path: Path) -> None:
    inverted = Image.fromarray(255 - EIGHT)
    inverted.putpalette([v for i in range(256) for v in (255 - i,) * 3])
    pixels = read_picture(saved(tmp_path / "p.png", inverted), USE).pixels
    assert np.abs(pixels - EIGHT / np.float32(255)).max() <= 1 / 255


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_sixteen_bit_files_are_scaled_by_the_bits_in_use(tmp_path: Path, bits: int) -> None:
    values = np.round(draw_chest(200, 210) * (2**bits - 1)).astype(np.uint16)
    pixels = read_picture(saved(tmp_path / "x.png", Image.fromarray(values)), USE).pixels
    assert np.abs(pixels - values / (2**bits - 1)).max() < 1e-6


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([np.full_like(EIGHT, 200)] * 3 + [np.zeros_like(EIGHT)]))
    assert read_picture(saved(tmp_path / "x.png", image), USE).pixels.max() == 0


def test_the_camera_s_orientation_is_respected(tmp_path: Path) -> None:
    image = Image.fromarray(EIGHT)
    exif = image.getexif()
    exif[0x0112] = 6  # the stored picture is to be turned clockwise
    turned = image.transpose(Image.Transpose.ROTATE_90)
    pixels = read_picture(saved(tmp_path / "x.jpg", turned, exif=exif, quality=95), USE).pixels
    assert pixels.shape == EIGHT.shape
    assert np.abs(pixels - EIGHT / 255).mean() < 0.02


def test_the_samples_are_rendered_as_the_service_renders_them() -> None:
    compared = 0
    for path in sorted(SAMPLES.glob("*.dcm")):
        try:
            expected = to_radiograph(path.read_bytes()).pixels
        except UnusableRadiograph:
            continue
        assert np.abs(read_picture(path, USE).pixels - expected).max() < 1e-5, path.name
        compared += 1
    assert compared >= 30


def instance(path: Path, **changes: object) -> Path:
    """A 12 bit radiograph; *changes* are its attributes."""
    dataset = Dataset()
    values = np.round(draw_chest(220, 230) * 4095).astype(np.uint16)
    plain: dict[str, object] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "Modality": "DX",
        "PatientName": "Secret^Name",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": 220,
        "Columns": 230,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": values.tobytes(),
    }
    for keyword, value in {**plain, **changes}.items():
        setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def table(first: int, entries: np.ndarray) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, 12]
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return item


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"WindowCenter": 1800, "WindowWidth": 2000},
        {"WindowCenter": [1800, 5], "WindowWidth": [2000, 5], "PhotometricInterpretation": "MONOCHROME1"},
        {"WindowCenter": 1800, "WindowWidth": 2000, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 1800, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 1800, "WindowWidth": 0},
        {"WindowCenter": 90000, "WindowWidth": 10},
        {"WindowCenter": 1800, "WindowWidth": 900000},
        {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 2500, "WindowWidth": 4000},
        {"RescaleSlope": 0, "RescaleIntercept": 5},
        {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095},
        {"VOILUTSequence": [table(100, np.linspace(0, 4095, 3000))]},
        {"ModalityLUTSequence": [table(0, np.linspace(0, 4095, 4096)[::-1])]},
    ],
    ids=lambda changes: " ".join(changes) or "plain",
)
def test_headers_are_read_as_the_service_reads_them(tmp_path: Path, changes: dict[str, object]) -> None:
    path = instance(tmp_path / "x.dcm", **changes)
    expected = to_radiograph(path.read_bytes()).pixels
    assert np.abs(read_picture(path, USE).pixels - expected).max() < 2e-4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"NumberOfFrames": 2, "PixelData": b"\0" * (220 * 230 * 4)}, "multi-frame"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}, "colour"),
        ({"PixelData": b"\0" * (220 * 230 * 2)}, "blank"),
        ({"PixelData": b"\0" * 100}, "undecodable"),
    ],
)
def test_dicom_that_cannot_be_shown_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(UnusableRadiograph) as refusal:
        read_picture(instance(tmp_path / "x.dcm", **changes), USE)
    assert refusal.value.reason == reason
    assert "Secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ViewPosition": "LL"}, "not-frontal"),
        ({"PatientAge": "004Y"}, "age-below-limit"),
        ({"Modality": "CT"}, "modality"),
        ({"BodyPartExamined": "HAND"}, "body-part"),
        ({"PatientAge": "064Y", "ViewPosition": "PA", "BodyPartExamined": "CHEST"}, None),
    ],
)
def test_the_header_may_refuse_what_can_be_read(tmp_path: Path, changes: dict[str, object], reason: str | None) -> None:
    assert read_picture(instance(tmp_path / "x.dcm", **changes), USE).refusal == reason


def test_dicom_needs_no_suffix(tmp_path: Path) -> None:
    path = instance(tmp_path / "x.dcm")
    bare = shutil.copy(path, tmp_path / "IM0001")
    assert np.array_equal(read_picture(Path(bare), USE).pixels, read_picture(path, USE).pixels)
