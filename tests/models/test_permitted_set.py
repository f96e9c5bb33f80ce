"""The second set of weights: trained on nothing without written permission of commercial use."""

from datetime import UTC, datetime

import pytest

from models.card import read
from models.engine import WEIGHTS, Engine
from models.training.data import COMMERCIAL
from triage.domain.finding import Assessment

PERMITTED = WEIGHTS / "commercial"


@pytest.mark.parametrize("name", ["chest", "lungs"])
def test_every_image_of_the_permitted_set_may_be_used(name: str) -> None:
    card, _ = read(PERMITTED / f"{name}.json")
    assert card.commercial_use is True
    assert card.data and all(row["licence_class"] in COMMERCIAL for row in card.data)


def test_the_default_set_says_that_it_may_not_be_sold() -> None:
    for name in ("chest", "lungs"):
        card, _ = read(WEIGHTS / f"{name}.json")
        assert card.commercial_use is False
        assert card.licence.startswith("NOT for commercial use")


def test_the_permitted_set_assesses(make_radiograph) -> None:
    engine = Engine.load(PERMITTED)
    (found,) = engine.assess([make_radiograph()], datetime(2026, 1, 1, tzinfo=UTC))
    assert isinstance(found, Assessment)
    assert found.classifier.card_sha256 == engine.classifier.card_sha256
