"""Plausible lungs, familiarity and outlines, on made arrays."""

import numpy as np
import pytest

from models.contours import POINTS_IN_ALL, outlines
from models.gate import Familiarity, lung_field


def ellipse(row: float, column: float, high: float, wide: float, n: int = 256) -> np.ndarray:
    y, x = np.mgrid[0:n, 0:n] / n
    return ((y - row) / high) ** 2 + ((x - column) / wide) ** 2 < 1


LEFT, RIGHT = ellipse(0.45, 0.3, 0.3, 0.13), ellipse(0.45, 0.7, 0.3, 0.13)


def as_probability(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.float32)


def test_two_upright_lungs_are_plausible() -> None:
    field = lung_field(as_probability(LEFT | RIGHT))
    assert field.implausible is None
    assert field.area_fraction == pytest.approx((LEFT | RIGHT).mean())


def test_lungs_that_touch_are_plausible() -> None:
    bridge = np.zeros((256, 256), dtype=bool)
    bridge[140:150, 70:190] = True
    assert lung_field(as_probability(LEFT | RIGHT | bridge)).implausible is None


def test_specks_are_dropped_and_holes_filled() -> None:
    mask = LEFT | RIGHT
    mask[110:114, 70:74] = False
    mask[5:12, 5:12] = True
    field = lung_field(as_probability(mask))
    assert field.implausible is None
    assert (field.mask == (LEFT | RIGHT)).all()


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(np.zeros((256, 256), bool), id="nothing"),
        pytest.param(np.ones((256, 256), bool), id="everything"),
        pytest.param(LEFT, id="one lung"),
        pytest.param((LEFT | RIGHT).T, id="turned by 90 degrees"),
        pytest.param(LEFT | ellipse(0.9, 0.7, 0.02, 0.05), id="one lung and a speck"),
        pytest.param(ellipse(0.2, 0.3, 0.19, 0.13) | ellipse(0.75, 0.7, 0.19, 0.13), id="lungs uneven"),
        pytest.param(ellipse(0.5, 0.3, 0.08, 0.29) | ellipse(0.5, 0.75, 0.08, 0.24), id="lungs flat"),
        pytest.param(ellipse(0.45, 0.08, 0.3, 0.07) | ellipse(0.45, 0.28, 0.3, 0.07), id="far to one side"),
        pytest.param((np.random.default_rng(1).random((256, 256)) > 0.5), id="noise"),
    ],
)
def test_what_is_no_pair_of_lungs_is_refused_with_a_reason(mask: np.ndarray) -> None:
    assert lung_field(as_probability(mask)).implausible


def test_an_unsure_network_is_refused() -> None:
    assert "unsure" in str(lung_field(np.where(LEFT | RIGHT, 0.6, 0.0).astype(np.float32)).implausible)


@pytest.mark.parametrize(
    ("aspect", "detail"),
    [
        pytest.param(1.0, None, id="as drawn"),
        pytest.param(0.85, None, id="a narrow chest"),
        pytest.param(1.4, None, id="a broad chest"),
        pytest.param(0.55, "lungs 0.61 times as wide as high", id="half as wide as any chest"),
        pytest.param(3.0, "lungs 3.31 times as wide as high", id="a slice"),
        pytest.param(None, None, id="of unknown shape"),
    ],
)
def test_lungs_have_the_proportions_of_a_chest(aspect: float | None, detail: str | None) -> None:
    assert lung_field(as_probability(LEFT | RIGHT), aspect).implausible == detail


@pytest.mark.parametrize(("kept", "low", "high"), [(RIGHT, 0.5, 1.0), (LEFT, 0.0, 0.5)])
def test_half_a_chest_is_refused_though_stretched_to_a_square(kept: np.ndarray, low: float, high: float) -> None:
    square = kept[:, int(low * 256) : int(high * 256)].repeat(2, axis=1)  # what `squared` makes of the half picture
    assert lung_field(as_probability(square)).implausible is None
    assert "as wide as high" in str(lung_field(as_probability(square), 0.5).implausible)


def test_a_dark_border_does_not_change_the_proportions() -> None:
    bordered = np.pad(LEFT | RIGHT, ((0, 0), (64, 64)))
    assert lung_field(as_probability(bordered), 384 / 256).implausible is None


def test_strangers_score_higher_than_relatives() -> None:
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(30, 200)) * np.linspace(2, 0.1, 30)[:, None]
    labels = np.arange(900) % 3
    offsets = rng.normal(size=(3, 200)) * 3

    def embeddings(kinds: np.ndarray) -> np.ndarray:
        return offsets[kinds] + rng.normal(size=(len(kinds), 30)) @ mixing + 0.1 * rng.normal(size=(len(kinds), 200))

    familiarity = Familiarity.fit(embeddings(labels), labels)
    relatives = familiarity.score(embeddings(labels[:300]))
    strangers = familiarity.score(rng.normal(size=(300, 200)) * 10)
    assert np.median(relatives) == pytest.approx(1, abs=0.25)
    assert strangers.min() > np.percentile(relatives, 99.5)


def test_familiarity_survives_storage() -> None:
    rng = np.random.default_rng(3)
    familiarity = Familiarity.fit(rng.normal(size=(90, 40)), np.arange(90) % 3)
    probe = rng.normal(size=(5, 40))
    again = Familiarity.from_tensors(familiarity.tensors())
    assert np.allclose(familiarity.score(probe), again.score(probe), rtol=1e-4)


def test_outlines_follow_both_lungs_in_few_points() -> None:
    contours = outlines(LEFT | RIGHT)
    assert len(contours) == 2
    assert 8 <= sum(map(len, contours)) <= POINTS_IN_ALL
    for contour in contours:
        rows, columns = np.array(contour).T
        assert rows.min() == pytest.approx(0.15, abs=0.01)
        assert rows.max() == pytest.approx(0.75, abs=0.01)
        area = 0.5 * abs(np.dot(rows, np.roll(columns, 1)) - np.dot(columns, np.roll(rows, 1)))
        assert area == pytest.approx(LEFT.mean(), rel=0.05)


def test_nothing_has_no_outline() -> None:
    assert outlines(np.zeros((32, 32), bool)) == ()


def test_a_ragged_mask_keeps_within_the_point_limit() -> None:
    ragged = (LEFT | RIGHT) & (np.random.default_rng(1).random((256, 256)) > 0.2)
    assert sum(map(len, outlines(ragged))) <= POINTS_IN_ALL
