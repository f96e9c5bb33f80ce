"""Cards, digests, and weights that are state dicts and nothing else."""

import hashlib
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
from triage.domain.eligibility import IntendedUse
from triage.domain.errors import Misconfigured
from triage.domain.finding import ChestClass


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
        curves={"roc": [[0.0, 0.0], [1.0, 1.0]]},
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
    assert sum(p.stat().st_size for p in WEIGHTS.iterdir()) < 40_000_000
