"""The model card: what a set of weights is, was trained on, may be used for, and how well it did; JSON beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from triage.domain.eligibility import IntendedUse
from triage.domain.errors import Misconfigured
from triage.domain.finding import ChestClass, ModelIdentity

COMMERCIAL_USE = {True: "commercial use permitted", False: "NOT for commercial use", None: "commercial use not stated"}
"""`Card.commercial_use` in words."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on one class's calibrated probability, and where it comes from."""

    code: ChestClass
    threshold: float
    rule: str
    source: str


@dataclass(frozen=True)
class Card:
    """
    One trained network's card.

    Attributes:
        weights_sha256: digest of the safetensors file of the same name; checked at load.
        architecture: what `models.networks.build` is given.
        preprocessing: what is done to a radiograph before the network, in words and numbers.
        data: images and patients by source, label and licence class.
        performance: one entry per figure: what, on what, value, low, high, n.
        activation_outside_limit: share of the COVID activation outside the lungs above which a result is doubtful.
        gate_limit: out-of-distribution score above which an image is refused.
        commercial_use: whether every image and mask trained on permits it; None where an old card does not say.
        temperature: logits are divided by it,
        bias: then these are added, one for each class, before they become probabilities.
        calibrated_on: whose cases temperature and bias were fitted on, in words.
        curves: points of the reliability diagram and the ROC curves, for the card's page.
    """

    name: str
    version: str
    weights_sha256: str
    architecture: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    data: tuple[Mapping[str, Any], ...]
    split: str
    training: Mapping[str, Any]
    performance: tuple[Mapping[str, Any], ...]
    limits: tuple[str, ...]
    licence: str
    intended_use: IntendedUse = field(default_factory=IntendedUse)
    operating_points: tuple[OperatingPoint, ...] = ()
    temperature: float = 1.0
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    calibrated_on: str = "the images of the operating point"
    curves: Mapping[str, Any] = field(default_factory=dict)
    commercial_use: bool | None = None
    gate_limit: float | None = None
    activation_outside_limit: float | None = None

    def threshold_of(self, code: ChestClass) -> float | None:
        """The operating point of *code*, where the card has one."""
        return next((p.threshold for p in self.operating_points if p.code is code), None)

    def to_json(self) -> str:
        """The card as it is stored."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read back what `to_json` wrote."""
        stored: dict[str, Any] = json.loads(text)
        use = stored.pop("intended_use")
        points = stored.pop("operating_points")
        lists = ("data", "performance", "limits", "bias")
        plain: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in stored.items()}
        return cls(
            **plain,
            intended_use=IntendedUse(
                minimum_age_years=float(use["minimum_age_years"]),
                accept_unknown_age=bool(use["accept_unknown_age"]),
                modalities=tuple(use["modalities"]),
                sop_classes=tuple(use["sop_classes"]),
            ),
            operating_points=tuple(
                OperatingPoint(ChestClass(p["code"]), float(p["threshold"]), p["rule"], p["source"]) for p in points
            ),
        )


def use_in_words(cards: Iterable[Card]) -> str:
    """The licence limit of several networks in one line, those that share one named together."""
    named: dict[str, list[str]] = {}
    for card in cards:
        named.setdefault(COMMERCIAL_USE[card.commercial_use], []).append(f"{card.name} {card.version}")
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in named.items())


def read(path: Path) -> tuple[Card, ModelIdentity]:
    """The card at *path* and the identity it gives its weights; Misconfigured where it cannot be read."""
    try:
        stored = path.read_bytes()
        card = Card.from_json(stored.decode())
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise Misconfigured(f"model card {path.name}: {type(exc).__name__}: {exc}") from exc
    return card, ModelIdentity(card.name, card.version, card.weights_sha256, hashlib.sha256(stored).hexdigest())


def verified_weights(path: Path, card: Card) -> bytes:
    """The bytes of the weights file, refused with Misconfigured where they are not the card's."""
    try:
        stored = path.read_bytes()
    except OSError as exc:
        raise Misconfigured(f"weights {path.name}: {exc.strerror}") from exc
    digest = hashlib.sha256(stored).hexdigest()
    if digest != card.weights_sha256:
        raise Misconfigured(f"weights {path.name}: sha256 {digest[:12]}, the card says {card.weights_sha256[:12]}")
    return stored


@dataclass(frozen=True)
class CheckedNetwork:
    """One network's card where it can be read, and what is wrong with it or with its weights."""

    network: str
    card: Card | None
    identity: ModelIdentity | None
    problem: Misconfigured | None = None


def checked(folder: Path, network: str) -> CheckedNetwork:
    """The card of *network* in *folder* held against the weights beside it."""
    card = identity = None
    try:
        card, identity = read(folder / f"{network}.json")
        verified_weights(folder / f"{network}.safetensors", card)
    except Misconfigured as why:
        return CheckedNetwork(network, card, identity, why)
    return CheckedNetwork(network, card, identity)
