"""Cards, digests, and weights that are state dicts and nothing else."""

import argparse
import hashlib
import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from models import networks
from models.card import Card, OperatingPoint, read, verified_weights
from models.engine import WEIGHTS, Engine, loaded
from models.training import card_page, cards
from tests.models.test_training import make_case
from triage.audit import blocks
from triage.domain.eligibility import IntendedUse
from triage.domain.errors import Misconfigured
from triage.domain.finding import ChestClass, ModelIdentity

IDENTITY = ModelIdentity("chest", "1.2.3", "0" * 64, "1" * 64)


def make_card(**changes: object) -> Card:
    card = Card(
        name="chest",
        version="1.2.3",
        weights_sha256="0" * 64,
        architecture={"name": "chest", "backbone": "efficientnet_b0", "side": 160},
        preprocessing={"margin": 0.04},
        data=({"source": "somewhere", "label": "normal", "images": 3, "patients": 2},),
        split="by patient",
        training={"seed": 1},
        performance=({"what": "AUC", "on": "somewhere", "value": 0.5, "low": 0.4, "high": 0.6, "n": 3},),
        limits=("not a diagnosis",),
        licence="none",
        intended_use=IntendedUse(16.0, False, ("DX",), ("1.2.3",)),
        operating_points=(OperatingPoint(ChestClass.COVID, 0.31, "sensitivity 0.90", "fold 0"),),
        temperature=1.7,
        bias=(0.1, -0.3, 0.2),
        curves={"external": {"covid": {"reliability": [[4, 0.3, 1]], "roc": [[0.0, 0.0], [1.0, 1.0]]}}},
        gate_limit=2.5,
        activation_outside_limit=0.4,
    )
    return replace(card, **changes)  # type: ignore[arg-type]


def test_a_card_survives_storage() -> None:
    card = make_card()
    assert Card.from_json(card.to_json()) == card


def test_a_card_from_before_the_bias_still_loads() -> None:
    stored = json.loads(make_card().to_json())
    for later in ("bias", "curves", "commercial_use"):
        del stored[later]
    card = Card.from_json(json.dumps(stored))
    assert card.bias == (0.0, 0.0, 0.0)
    assert card.commercial_use is None


def test_only_classes_with_an_operating_point_have_a_threshold() -> None:
    assert make_card().threshold_of(ChestClass.COVID) == 0.31
    assert make_card().threshold_of(ChestClass.PNEUMONIA) is None


def test_the_card_s_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "chest.json"
    path.write_text(make_card().to_json(), encoding="utf-8")
    _, identity = read(path)
    assert identity.card_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(make_card(version="1.2.4").to_json(), encoding="utf-8")
    assert read(path)[1].card_sha256 != identity.card_sha256


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "chest"}', "not json"])
def test_a_broken_card_stops_at_start_up(tmp_path: Path, text: str) -> None:
    path = tmp_path / "chest.json"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=r"chest\.json"):
        read(path)


def test_weights_that_are_not_the_card_s_stop_at_start_up(tmp_path: Path) -> None:
    for name in ("lungs.json", "lungs.safetensors", "chest.json", "chest.safetensors"):
        shutil.copyfile(WEIGHTS / name, tmp_path / name)
    spoilt = bytearray((tmp_path / "chest.safetensors").read_bytes())
    spoilt[-1] ^= 1
    (tmp_path / "chest.safetensors").write_bytes(spoilt)
    with pytest.raises(Misconfigured, match="sha256"):
        Engine.load(tmp_path)


def test_missing_weights_stop_at_start_up(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        Engine.load(tmp_path)
    with pytest.raises(Misconfigured, match="chest"):
        verified_weights(tmp_path / "chest.safetensors", make_card())


def test_an_unknown_architecture_stops_at_start_up() -> None:
    with pytest.raises(Misconfigured, match="resnet"):
        networks.build({"name": "resnet"})


def test_weights_of_another_network_do_not_load() -> None:
    with pytest.raises(Misconfigured, match="do not fit"):
        loaded(make_card(), {})


@pytest.mark.parametrize("name", ["lungs", "chest"])
def test_what_ships_is_a_state_dict_named_by_its_card(name: str) -> None:
    card, identity = read(WEIGHTS / f"{name}.json")
    assert identity.weights_sha256 == hashlib.sha256((WEIGHTS / f"{name}.safetensors").read_bytes()).hexdigest()
    wanted = networks.build(card.architecture).state_dict()
    with safe_open(WEIGHTS / f"{name}.safetensors", framework="pt") as stored:
        keys = {k for k in stored.keys() if not k.startswith("gate.")}  # noqa: SIM118
        assert keys == set(wanted)
        assert all(stored.get_slice(k).get_shape() == list(wanted[k].shape) for k in keys)


def test_the_shipped_cards_say_what_a_reader_needs() -> None:
    for name in ("lungs", "chest"):
        card, _ = read(WEIGHTS / f"{name}.json")
        assert card.limits
        assert card.licence
        assert card.split
        assert {"source", "licence_class", "images", "patients"} <= set(card.data[0])
        assert all({"what", "on", "value", "low", "high", "n"} <= set(f) for f in card.performance)
        assert any("external" in f["on"] or "montgomery" in f["on"] for f in card.performance)
        assert not re.search(r'"/\w', card.to_json()), "a path of the machine that trained it"
    assert card.intended_use.minimum_age_years == 18
    assert card.intended_use.accept_unknown_age
    point = next(p for p in card.operating_points if p.code is ChestClass.COVID)
    assert "0.90" in point.rule
    assert point.source


def test_everything_that_ships_is_small() -> None:
    assert sum(p.stat().st_size for p in WEIGHTS.rglob("*")) < 60_000_000


@pytest.mark.parametrize("name", ["lungs", "chest"])
def test_a_card_s_page_stands_alone_and_its_twin_says_the_same(name: str) -> None:
    card, identity = read(WEIGHTS / f"{name}.json")
    found = card_page.blocks(card, identity)
    page, twin = blocks.to_html("A card", found), blocks.to_markdown("A card", found, "page.html")
    assert "<script" not in page and "href=" not in page and "src=" not in page
    assert "<svg" in page and "<svg" not in twin
    for said in (identity.card_sha256, identity.weights_sha256, "OTHER DATA", *card.limits):
        assert said in html.unescape(page) and said in twin
    table_rows = [line for line in twin.splitlines() if line.startswith("| ")]
    headline = [f for f in card.performance if f["what"] == "Dice, mean" or f["on"] == "external"]
    assert headline and all(f"{f['value']:.3f}" in twin for f in headline)
    assert len(table_rows) > 20
    assert page == blocks.to_html("A card", card_page.blocks(card, identity)), "the same again"


def test_a_page_is_written_for_every_card_of_every_folder(tmp_path: Path) -> None:
    second = tmp_path / "weights-all"
    second.mkdir()
    for name in ("lungs", "chest"):
        for end in ("json", "safetensors"):
            shutil.copyfile(WEIGHTS / f"{name}.{end}", second / f"{name}.{end}")
    (second / "baseline.json").write_text("{}")
    card_page.run(argparse.Namespace(weights=[WEIGHTS, second], out=tmp_path / "docs"))
    pages = sorted(p.name for p in (tmp_path / "docs").iterdir())
    version = read(WEIGHTS / "chest.json")[0].version
    assert {f"chest-{version}.html", f"chest-{version}.md", f"chest-{version}-weights-all.html"} <= set(pages)
    assert not any(p.startswith("baseline") for p in pages)


def test_what_may_not_be_sold_says_so_first() -> None:
    card = make_card(commercial_use=False, licence="NOT for commercial use")
    text = blocks.to_markdown("A card", card_page.blocks(card, IDENTITY), "page.html")
    assert "**NOT for commercial use**" in text and "NOT permitted by the data" in text


def test_the_paper_s_figures_are_marked_as_other_data() -> None:
    text = blocks.to_markdown("A card", card_page.blocks(make_card(), IDENTITY), "page.html")
    for theirs in ("0.733", "0.913", "0.937", "0.786", "0.696 ± 0.031", "0.762 ± 0.029"):
        assert theirs in text
    assert "theirs (OTHER DATA)" in text


def test_a_figure_without_a_value_says_why() -> None:
    few = {"what": "x", "on": "y", "value": None, "low": None, "high": None, "n": 4, "interval": "insufficient: 4"}
    assert card_page._with_n(few) == "insufficient: 4"
    assert card_page._with_n({**few, "n": 0}) == "no images"
    assert card_page._with_n(None) == "–"


def test_the_licence_is_worded_by_the_data() -> None:
    start = {"started_from": "mobilenetv2_100_imagenet_dequantised.safetensors"}
    permitted, words = cards.licence([make_case(licence_class="attribution")], start)
    assert permitted and "Apache-2.0" in words
    permitted, words = cards.licence([make_case(), make_case(licence_class="nc", source="somewhere")], start)
    assert not permitted and "somewhere (nc)" in words
    assert "nih_cxr14" not in words, "only what stands against it is named"


def test_the_pages_in_docs_are_those_of_the_shipped_cards(tmp_path: Path) -> None:
    card_page.run(argparse.Namespace(weights=[WEIGHTS], out=tmp_path))
    docs = Path(__file__).parents[2] / "docs" / "models"
    for page in tmp_path.iterdir():
        assert (docs / page.name).read_text() == page.read_text(), "run: python -m models card"
