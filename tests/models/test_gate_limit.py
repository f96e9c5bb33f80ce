"""The gate's limit, and chests that are cut through."""

import numpy as np
import pytest

from models.gate import LEAST_LEFT_OUT, MOST_WIDENED, LeftOut, left_out, limit_of, lung_field

KNOWN = np.linspace(0.5, 2.0, 1001)
USUAL = float(np.percentile(KNOWN, 99.5))


def lungs(top: int, bottom: int) -> np.ndarray:
    mask = np.zeros((256, 256), dtype=np.float32)
    mask[top:bottom, 40:110] = mask[top:bottom, 146:216] = 1
    return mask


def test_without_other_sources_the_limit_is_a_percentile_of_held_out_adults() -> None:
    assert limit_of(KNOWN) == pytest.approx(USUAL)


@pytest.mark.parametrize(
    ("strange", "widened"),
    [
        pytest.param(0.8, 1.0, id="a source nearer than the known ones narrows nothing"),
        pytest.param(1.1, 1.1, id="the limit grows by what the stranger needs"),
        pytest.param(3.0, MOST_WIDENED, id="a gate that lets all strangers pass would be none"),
    ],
)
def test_a_left_out_source_widens_the_limit(strange: float, widened: float) -> None:
    # another scale for the gate without the source: only the ratio counts
    one = LeftOut(known=KNOWN * 3, stranger=np.full(200, USUAL * 3 * strange))
    assert one.widening == pytest.approx(strange)
    assert limit_of(KNOWN, {"near": LeftOut(KNOWN, KNOWN), "other": one}) == pytest.approx(USUAL * widened)


def test_each_source_with_enough_images_is_left_out_once() -> None:
    rng = np.random.default_rng(1)
    count = 4 * LEAST_LEFT_OUT
    sources = np.array(["here", "there"] * (count // 2) + ["nearly nothing"] * 5)
    x = rng.normal(size=(len(sources), 40)) + 4 * (sources == "there")[:, None]
    found = left_out(x, np.arange(len(x)) % 3, list(sources), x[:count], list(sources[:count]))
    assert set(found) == {"here", "there"}
    assert found["there"].widening > 1.5
    assert len(found["here"].stranger) == count


@pytest.mark.parametrize(("top", "bottom"), [(0, 180), (76, 256)])
def test_a_chest_cut_through_is_refused(top: int, bottom: int) -> None:
    assert "cut off" in str(lung_field(lungs(top, bottom)).implausible)


def test_whole_lungs_are_not_cut_off() -> None:
    assert lung_field(lungs(40, 200)).implausible is None
