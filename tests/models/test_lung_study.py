"""Which output is judged by which masks, the gains, the contact sheet and the page, on drawn data."""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from models import gate, networks
from models.card import read
from models.training import cards, data, ledger, lung_page, lung_sheet, lung_study, lungs, overlaps
from tests.models.test_lung_gate import LEFT, RIGHT, as_probability, ellipse
from tests.models.test_lung_training import make_folder
from tests.models.test_training import make_case

HEART = ellipse(0.55, 0.5, 0.14, 0.16)


class Fake:
    """Finds manual lungs without the heart and v7 lungs with it, whatever the picture."""

    def __init__(self, *conventions: str) -> None:
        self.conventions = conventions
        self.asked: list[str] = []

    def lung_probability(self, squares: Sequence[np.ndarray], convention: str = "v7") -> list[np.ndarray]:
        self.asked.append(convention)
        mask = LEFT | RIGHT if convention == "manual" else LEFT | RIGHT | HEART
        return [as_probability(mask) for _ in squares]


@pytest.mark.parametrize(
    ("conventions", "answers"),
    [
        (("manual", "v7"), {"stirenko_manual": "manual", "nlm_manual": "manual", "v7": "v7"}),
        (("v7",), {"stirenko_manual": "v7", "nlm_manual": "v7", "v7": "v7"}),
    ],
)
def test_masks_are_judged_by_the_output_of_their_convention(
    conventions: tuple[str, ...], answers: dict[str, str]
) -> None:
    for origin, convention in answers.items():
        assert overlaps.answer_for(Fake(*conventions), origin) == convention


@pytest.mark.parametrize("role", ["dev", "external"])
def test_each_set_asks_for_its_own_convention(tmp_path: Path, role: str) -> None:
    fake = Fake("manual", "v7")
    every = data.read_manifest(make_folder(tmp_path / "cxr"))
    found = overlaps.role_figures(fake, tmp_path, every, role)["lungs"]
    assert fake.asked == ["manual" if "manual" in on else "v7" for on, _, _ in overlaps.lung_sets(every, role)]
    assert {f["on"] for f in found} == {on for on, _, _ in overlaps.lung_sets(every, role)}


def test_nobody_who_was_trained_on_is_measured(tmp_path: Path) -> None:
    every = data.read_manifest(make_folder(tmp_path / "cxr"))
    measured = {c.image_id for _, _, cases in overlaps.lung_sets(every, "dev") for c in cases}
    assert measured and not measured & {c.image_id for c in data.lung_cases(every, licensed=False)}


def test_the_clean_up_leaves_the_heart_out_of_manual_lungs() -> None:
    field = gate.lung_field(as_probability(LEFT | RIGHT))
    assert field.implausible is None and not (field.mask & HEART & ~LEFT & ~RIGHT).any()


def test_the_gain_counts_patients_and_has_a_test() -> None:
    cases = [make_case(patient_id=str(i // 2)) for i in range(40)]
    before = np.linspace(0.8, 0.9, 40)
    ours = before + 0.02 + 0.005 * np.random.default_rng(1).standard_normal(40)
    nothing = np.zeros(40)
    measured = [overlaps.Overlaps(d, nothing, nothing.astype(bool)) for d in (ours, before)]
    gain, p = overlaps.gain_figures(measured[0], measured[1], cases, "severe")
    assert gain["low"] > 0 and gain["value"] == pytest.approx((ours - before).mean(), abs=1e-3)
    assert p["value"] < 0.001 and p["low"] is None


def test_the_cases_drawn_run_from_the_worst_to_the_best() -> None:
    dice = np.random.default_rng(1).permutation(np.linspace(0.5, 1.0, 21))
    rows = lung_sheet.spread(dice)
    assert list(rows) == ["worst", "second worst", "lower quartile", "median", "best"]
    assert [dice[r] for r in rows.values()] == pytest.approx([0.5, 0.525, 0.625, 0.75, 1.0])
    assert list(lung_sheet.spread(np.array([0.9]))) == ["worst"], "no case twice"


def make_shown(name: str = "worst") -> lung_sheet.Shown:
    square = np.random.default_rng(1).random((256, 256)).astype(np.float32)
    return lung_sheet.Shown(name, square, LEFT | RIGHT, LEFT | RIGHT | HEART, LEFT)


def test_the_sheet_shows_image_reference_optimised_and_baseline() -> None:
    row = make_shown()
    sheet = np.asarray(lung_sheet.contact_sheet([row, row]))
    assert sheet.shape == (2 * 282 + 4, 4 * 260 + 4, 3)
    top = lung_sheet.GAP + lung_sheet.STRIP
    tiles = [sheet[top : top + 256, lung_sheet.GAP + 260 * i :][:, :256] for i in range(4)]
    grey = (row.square * 255).astype(np.uint8)
    coloured = [(tile != grey[..., None]).any(-1) for tile in tiles]
    assert not coloured[0].any()
    for found, mask in zip(coloured[1:], (row.reference, row.optimised, row.baseline), strict=True):
        assert (found & mask).sum() > 0.98 * mask.sum() and (found & ~mask).mean() < 0.03


def test_the_drawing_of_outlines_holds_no_radiograph() -> None:
    drawing = lung_sheet.outline_drawing([make_shown("worst"), make_shown("best")], "severe & drawn")
    assert "<image" not in drawing and "base64" not in drawing and "severe &amp; drawn" in drawing
    assert drawing.count("<polygon") == 2 * (2 + 1 + 1)
    assert all(said in drawing for said in ("worst: optimised", "best: optimised", "baseline 0.667"))


def make_weights(folder: Path, name: str, conventions: Sequence[str], seed: int = 1) -> Path:
    torch.manual_seed(seed)
    settings = lungs.Settings(network="plain-unet", depth=2, width=4, side=32)
    training = {
        "version": "0.3.0",
        "steps": 4,
        "took_minutes": 0.1,
        "budget_minutes": 1.0,
        "started_from": "random weights",
        "settings": settings.__dict__,
    }
    architecture = settings.architecture(conventions)
    cases = [make_case(licence_class="research")]
    cards.ship_lungs(networks.build(architecture), cases, folder, training, name=name, architecture=architecture)
    return folder


def test_a_study_fills_the_cards_draws_and_writes_its_looks_down(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    make_weights(weights, "lungs", lungs.CONVENTIONS)
    make_weights(weights, overlaps.BASELINE, lungs.CONVENTIONS, seed=2)
    arguments = argparse.Namespace(
        cxr=make_folder(tmp_path / "cxr"),
        role="dev",
        weights=weights,
        licensed=make_weights(tmp_path / "licensed", "lungs", ("v7",)),
        write=True,
        sheet=tmp_path / "sheet.png",
        outlines=tmp_path / "outlines.svg",
        ledger=tmp_path / "ledger.jsonl",
    )
    lung_study.run(arguments)
    assert arguments.sheet.exists() and arguments.outlines.exists() and not arguments.ledger.exists()
    arguments.role, arguments.licensed, arguments.sheet, arguments.outlines = "external", None, None, None
    lung_study.run(arguments)
    (line,) = arguments.ledger.read_text().splitlines()
    ledger.check_chain([line])
    ours, _ = read(weights / "lungs.json")
    before, identity = read(weights / f"{overlaps.BASELINE}.json")
    assert json.loads(line)["segmenter"]["weights_sha256"] == ours.weights_sha256 != identity.weights_sha256
    whats = {f["what"] for f in ours.performance}
    assert {overlaps.GAIN, lung_study.LICENSED, *lung_page.WHATS} <= whats
    assert any(f["on"].startswith(lung_study.RULE_ON) for f in ours.performance)
    assert not {overlaps.GAIN, lung_study.LICENSED} & {f["what"] for f in before.performance}
    found = {"side": 128, "best_trial": 0, "trials": [{"number": 0, "state": "complete", "merit": 0.9}]}
    page = lung_page.page(ours, before, found)
    for name, _, _ in overlaps.SETS["external"]:
        assert re.search(rf"\| {name} \| Dice, mean \|", page)
    assert "They do" in page and "0.3.0" in page and "--sheet" in page and "reached" in page
