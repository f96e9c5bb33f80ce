"""The gate study's own parts: spoilt pictures, kept readings, kinds of score, occluded squares."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.engine import Engine
from models.pictures import Picture
from models.training import gate_explanation, gate_scores
from models.training.data import Case
from models.training.gate_pictures import CHANGES, Item, PictureSet, photographed, spoilt, spread
from models.training.gate_readings import BY_LIMIT, Seen, read_set, read_sets
from models.training.gate_study import external_figures, kind_of, outside_entry, set_entry
from models.training.ledger import HEADLINES
from tests.models.making import draw_chest
from triage.domain.errors import UnusableRadiograph


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = tmp_path / "chest.png"
    Image.fromarray((draw_chest() * 255).astype(np.uint8)).save(path)
    return Case("a", "here", path, "p", "normal", "dev", 0, 50.0, "", "PA", "", "")


def seen(scores: list[float], pixel: list[str] | None = None, embedding: np.ndarray | None = None) -> Seen:
    n = len(scores)
    return Seen(
        patients=np.array([f"p{i}" for i in range(n)]),
        header=np.array([""] * n),
        pixel=np.array(pixel or [""] * n),
        detail=np.array([""] * n),
        score=np.array(scores),
        outside=np.linspace(0, 1, n),
        embedding=np.zeros((n, 4), np.float32) if embedding is None else embedding.astype(np.float32),
    )


def refused() -> Picture:
    raise UnusableRadiograph("colour")


@pytest.mark.parametrize("name", CHANGES)
def test_each_way_of_spoiling_gives_the_same_picture_again_and_another_one_than_before(case: Case, name: str) -> None:
    item = spoilt(case, CHANGES[name], seed=3)
    first, again = item.read().pixels, item.read().pixels
    assert (first == again).all() and first.dtype == np.float32
    assert 0 <= first.min() < first.max() <= 1
    assert first.shape != (400, 420) or not np.allclose(first, draw_chest(), atol=0.02)


def test_a_photographed_film_lies_whole_before_a_dark_room() -> None:
    picture = photographed(np.full((200, 300), 0.8, dtype=np.float32), np.random.default_rng(1))
    assert picture[:6, :6].mean() < 0.25
    assert (picture > 0.3).mean() > 0.4


def test_cases_are_spread_over_the_whole_manifest(case: Case) -> None:
    some = [case] * 50
    assert len(spread(some, 7)) == 7
    assert len(spread(some, 100)) == 50


def test_readings_are_kept_and_found_again(engine: Engine, tmp_path: Path) -> None:
    upright, noise = draw_chest(), np.random.default_rng(1).random((300, 300), dtype=np.float32)
    items = [
        Item("chest", "p", partial(Picture, upright)),
        Item("chest of a child", "q", partial(Picture, upright, "age-below-limit")),
        Item("noise", "r", partial(Picture, noise)),
        Item("black", "s", partial(Picture, np.zeros((300, 300), np.float32))),
        Item("colour", "t", refused),
    ]
    some = PictureSet("some", items)
    first = read_sets(engine, [some], tmp_path)["some"]
    assert list(first.header) == ["", "age-below-limit", "", "", "colour"]
    assert list(first.pixel) == ["", "", "lungs-implausible", "blank", "colour"]
    assert list(first.has_lungs) == [True, True, False, False, False]
    assert np.isfinite(first.embedding[first.is_read]).all()

    unread = PictureSet("some", [Item(i.name, i.patient, refused) for i in items])
    again = read_sets(engine, [unread], tmp_path)["some"]
    assert np.array_equal(again.embedding, first.embedding, equal_nan=True)
    assert set(read_set(engine, unread).pixel) == {"colour"}


def test_counts_name_the_reason_and_the_limit() -> None:
    entry = set_entry("some", seen([1, 2, 3, 1], ["", "", "", "lungs-implausible"]), 2.5, 3.5, is_eligible=True)
    assert entry["pixels"] == {"lungs-implausible": 1, BY_LIMIT: 1}
    assert entry["assessed"]["value"] == 0.5
    assert entry[BY_LIMIT] == {"card": 1, "rule": 0, "of": 3}


def test_the_share_outside_counts_only_what_is_assessed() -> None:
    (entry,) = outside_entry("some", seen([1, 1, 1, 1, 9]), 2.5, 0.7)
    assert (entry["n"], entry["value"], entry["median"]) == (4, 0.25, 0.375)
    assert outside_entry("none", seen([9, 9]), 2.5, 0.7) == []


def test_a_reason_loses_its_number() -> None:
    assert kind_of("0.50 of the lung area unsure") == "… of the lung area unsure"
    assert kind_of("lungs centred at column 0.22") == "lungs centred at column …"


@pytest.mark.parametrize("kind", gate_scores.KINDS)
def test_every_kind_of_score_tells_strangers_far_away(kind: str) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, 80)) + 3, np.arange(300) % 3
    scorer = gate_scores.KINDS[kind](x, y)
    near, far = scorer.score(rng.normal(size=(50, 80)) + 3), scorer.score(rng.normal(size=(50, 80)) * 3 - 3)
    assert near.max() < far.min()


def test_scores_are_compared_among_pictures_with_lungs() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 80)) + 3
    known = seen([1.0] * 60, embedding=rng.normal(size=(60, 80)) + 3)
    far = seen([1.0] * 20, ["lungs-implausible"] * 5 + [""] * 15, rng.normal(size=(20, 80)) - 9)
    few = seen([1.0] * 3, embedding=rng.normal(size=(3, 80)) - 9)
    found, curves = gate_scores.compared(x, np.arange(200) % 3, known, {"far": far, "few": few})
    of_gate = {e["on"]: e for e in found if e["what"] == gate_scores.THE_GATE}
    assert {on: e["n"] for on, e in of_gate.items()} == {"far": 15, gate_scores.POOLED: 18}
    assert of_gate["far"]["value"] == 1 and of_gate["far"]["refused"] == 15
    assert curves[gate_scores.THE_GATE][-1] == [1, 1]


def test_a_square_is_never_cut_off() -> None:
    for at in ((0.0, 0.0), (5.0, 99.0), (50.0, 50.0)):
        rows, columns = gate_explanation.square_at(*at, edge=25, side=100)
        changed = gate_explanation.greyed(np.ones((100, 100), np.float32), (rows, columns), 0.0)
        assert (changed == 0).sum() == 25 * 25


def test_figures_of_occlusion_are_paired() -> None:
    some = [gate_explanation.Fall("covid", f"p{i}", 1.0 + i, float(i), i % 2 == 0) for i in range(10)]
    found = {(e["what"], e["on"]): e for e in gate_explanation.figures(some)}
    assert found["paired difference", "covid"]["value"] == 1
    assert found["paired difference", "pneumonia and COVID"]["n"] == 10
    assert found["share with the highest activation over the lungs", "covid"]["value"] == 0.5


def test_the_ledger_is_told_of_external_sets_alone() -> None:
    sets = [set_entry(n, seen([1, 2, 3]), 2.5, 3.5, is_eligible=True) for n in ("development", "external somewhere")]
    told = external_figures(sets)
    assert {f["on"] for f in told} == {"external somewhere"}
    assert [round(f["value"] * 3) for f in told] == [1, 1, 0]
    assert all(f["what"].startswith(HEADLINES) for f in told)
