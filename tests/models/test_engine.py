"""The engine on drawn images, and on real ones where there are any."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import ndimage

from models import contours, preprocess
from models.engine import Reading, share_outside
from tests.models.making import draw_chest
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import Assessment, ChestClass

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)


def test_a_chest_gets_a_whole_assessment(lenient, make_radiograph) -> None:
    radiograph = make_radiograph()
    (found,) = lenient.assess([radiograph], AT)
    assert isinstance(found, Assessment)
    assert found.sop_instance_uid == radiograph.facts.sop_instance_uid
    assert [o.code for o in found.observations] == list(ChestClass)
    assert sum(o.probability for o in found.observations) == pytest.approx(1)
    assert found.observations[2].threshold is not None
    assert found.observations[0].threshold is None
    assert 0.08 <= found.lungs.area_fraction <= 0.8
    points = [p for contour in found.lungs.contours for p in contour]
    assert 6 <= len(points) <= 200
    assert all(0 <= r <= 1 and 0 <= c <= 1 for r, c in points)
    assert found.classifier == lenient.classifier
    assert found.segmenter == lenient.segmenter
    assert found.assessed_at == AT
    assert found.activation_outside is None or 0 <= found.activation_outside <= 1
    assert found.statistics is not None
    assert {"mean", "sd", "p01", "p50", "p99", "lung_mean", "lung_sd"} <= set(found.statistics)
    assert Assessment.from_json(found.to_json()) == found


NOISE = np.random.default_rng(1).random((400, 400)).astype(np.float32)


@pytest.mark.parametrize(
    ("pixels", "reasons"),
    [
        pytest.param(np.zeros((400, 400), np.float32), {"blank"}, id="black"),
        pytest.param(np.ones((400, 400), np.float32), {"blank"}, id="white"),
        pytest.param(draw_chest(30, 30), {"too-small"}, id="tiny"),
        pytest.param(NOISE, {"lungs-implausible", "out-of-distribution"}, id="noise"),
        pytest.param(np.rot90(draw_chest()).copy(), {"lungs-implausible", "out-of-distribution"}, id="turned"),
        pytest.param(1 - draw_chest(), {"lungs-implausible", "out-of-distribution"}, id="inverted"),
    ],
)
def test_what_is_no_radiograph_is_refused(engine, make_radiograph, pixels: np.ndarray, reasons: set[str]) -> None:
    (found,) = engine.assess([make_radiograph(pixels)], AT)
    assert isinstance(found, UnusableRadiograph)
    assert found.reason in reasons


def test_one_bad_image_does_not_spoil_the_batch(lenient, make_radiograph) -> None:
    good, other = make_radiograph(number=1), make_radiograph(number=2)
    batch = [make_radiograph(np.zeros((400, 400), np.float32)), good, make_radiograph(draw_chest(9, 9)), other]
    found = lenient.assess(batch, AT)
    assert [type(f) for f in found] == [UnusableRadiograph, Assessment, UnusableRadiograph, Assessment]
    assert found[1].sop_instance_uid == good.facts.sop_instance_uid
    assert found[3].sop_instance_uid == other.facts.sop_instance_uid


def test_a_batch_says_what_single_images_say(lenient, make_radiograph) -> None:
    some = [make_radiograph(number=n) for n in range(1, 4)]
    together = lenient.assess(some, AT)
    for radiograph, batched in zip(some, together, strict=True):
        (alone,) = lenient.assess([radiograph], AT)
        for one, other in zip(alone.observations, batched.observations, strict=True):
            assert one.probability == pytest.approx(other.probability, abs=1e-5)
        assert alone.lungs.area_fraction == pytest.approx(batched.lungs.area_fraction, abs=1e-4)


def test_the_same_image_gets_the_same_answer_twice(lenient, make_radiograph) -> None:
    radiograph = make_radiograph()
    assert lenient.assess([radiograph], AT) == lenient.assess([radiograph], AT)


def test_an_empty_batch_is_nothing_to_do(engine) -> None:
    assert engine.assess([], AT) == []


def test_the_gate_limit_is_enforced(lenient, make_radiograph) -> None:
    lenient.cards = {**lenient.cards, "chest": replace(lenient.cards["chest"], gate_limit=1e-6)}
    (found,) = lenient.assess([make_radiograph()], AT)
    assert isinstance(found, UnusableRadiograph)
    assert found.reason == "out-of-distribution"


def test_the_activation_map_lies_over_the_image(engine, make_radiograph) -> None:
    radiograph = make_radiograph(draw_chest(500, 430))
    shown = engine.activation(radiograph)
    assert shown.shape == (500, 430)
    assert shown.dtype == np.float32
    assert shown.min() >= 0
    assert shown.max() <= 1
    (reading,) = engine.read([radiograph.pixels])
    top, left, bottom, right = reading.crop.box
    outside = np.ones(shown.shape, bool)
    outside[int(top * 500) : int(bottom * 500) + 2, max(int(left * 430) - 1, 0) : int(right * 430) + 2] = False
    assert not shown[outside].any(), "beside the crop nothing was looked at"


def test_asked_to_go_on_the_networks_look_at_implausible_lungs(engine) -> None:
    narrow = draw_chest()[:, :210]
    (refused,) = engine.read([narrow])
    assert isinstance(refused, UnusableRadiograph) and refused.reason == "lungs-implausible"
    (reading,) = engine.read([narrow], despite_implausible=True)
    assert isinstance(reading, Reading)
    assert reading.implausible == refused.detail
    assert reading.probabilities.sum() == pytest.approx(1)
    (plain,) = engine.read([draw_chest()], despite_implausible=True)
    assert isinstance(plain, Reading) and plain.implausible is None
    assert list(plain.lungs) == list(engine.conventions)


def test_no_activation_map_without_lungs(engine, make_radiograph) -> None:
    with pytest.raises(UnusableRadiograph):
        engine.activation(make_radiograph(NOISE))


def test_the_share_outside_counts_only_what_speaks_for_the_class() -> None:
    lungs = np.zeros((8, 8), np.float32)
    lungs[:, :4] = 1
    activation = np.where(lungs > 0, 3.0, 1.0).astype(np.float32)
    assert share_outside(activation, lungs) == pytest.approx(0.25)
    assert share_outside(np.where(lungs > 0, 2.0, -5.0).astype(np.float32), lungs) == 0
    assert share_outside(np.full((8, 8), -1, np.float32), lungs) is None


def test_real_radiographs_pass_and_turned_ones_do_not(engine, make_radiograph, cxr) -> None:
    from models.training import data

    cases = data.chest_cases(data.read_manifest(cxr), held_out=True)[::40]
    pixels = [data.read_pixels(c.path) for c in cases]
    upright = engine.assess([make_radiograph(p) for p in pixels], AT)
    assert sum(isinstance(o, Assessment) for o in upright) >= 0.8 * len(cases)
    turned = engine.assess([make_radiograph(np.rot90(p).copy()) for p in pixels], AT)
    assert sum(isinstance(o, UnusableRadiograph) for o in turned) >= 0.8 * len(cases)


@pytest.mark.parametrize("seed", range(6))
def test_lungs_are_widened_as_by_the_textbook(seed: int) -> None:
    """The quick way of `preprocess` beside scipy's operators, which say what is meant."""
    disc = np.hypot(*np.mgrid[-6:7, -6:7]) <= 6
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((256, 256)), 1 + 3 * seed)
    mask = noise > np.quantile(noise, 0.6)
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(mask, 8), disc))
    expected = ndimage.binary_dilation(closed, iterations=2)[8:-8, 8:-8]
    assert np.array_equal(preprocess._widened(mask), expected)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["#"], [(0, 0)]),
        (["##"], [(0, 0), (0, 1)]),
        (["###", "###", "###"], [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]),
        (["#..", ".#.", "..#"], [(0, 0), (1, 1), (2, 2), (1, 1)]),
        (["#.#", ".#."], [(0, 0), (1, 1), (0, 2), (1, 1)]),
    ],
)
def test_an_outline_runs_clockwise_along_the_border(rows: list[str], expected: list[tuple[int, int]]) -> None:
    part = np.array([[c == "#" for c in row] for row in rows])
    assert [(int(r), int(c)) for r, c in contours.trace(part)] == expected
