"""What the model says of one radiograph: probabilities against operating points, lungs, gates, and who said it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

PIXEL_STATISTICS = ("mean", "sd", "p01", "p50", "p99", "lung_mean", "lung_sd")
"""What the audit keeps of `Assessment.statistics`, in this order."""


class ChestClass(StrEnum):
    """The three classes of Nishio et al.; the order is the network's output order."""

    NORMAL = "normal"
    PNEUMONIA = "pneumonia"
    COVID = "covid"


@dataclass(frozen=True)
class ModelIdentity:
    """Which weights spoke: the digests go into every result."""

    name: str
    version: str
    weights_sha256: str
    card_sha256: str


@dataclass(frozen=True)
class Observation:
    """The model's calibrated probability of one class beside the operating point it was compared with."""

    code: ChestClass
    probability: float
    threshold: float | None = None
    """Operating point, where the class has one; the card names its source."""

    @property
    def is_finding(self) -> bool:
        """At or above the operating point."""
        return self.threshold is not None and self.probability >= self.threshold


@dataclass(frozen=True)
class Lungs:
    """
    The segmented lungs.

    Attributes:
        contours: closed polygons, each ((row, column), ...) as fractions of the image's height and width.
        area_fraction: lung area over image area.
    """

    contours: tuple[tuple[tuple[float, float], ...], ...]
    area_fraction: float


@dataclass(frozen=True)
class Assessment:
    """
    Everything one run found on one frontal instance; every dialect is written from this and nothing else.

    Attributes:
        observations: one per class, probabilities summing to 1.
        gate_score: out-of-distribution score; *gate_limit* is the card's limit, above it the image is refused.
        activation_outside: share of the class activation that lies outside the lungs, or None where not computed.
        is_doubtful: the activation share is above the card's limit; marked, still shown.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    observations: tuple[Observation, ...]
    lungs: Lungs
    gate_score: float
    gate_limit: float
    classifier: ModelIdentity
    segmenter: ModelIdentity
    assessed_at: datetime
    activation_outside: float | None = None
    is_doubtful: bool = False
    statistics: Mapping[str, float] | None = None
    """Pixel statistics for the audit (mean, sd, percentiles...)."""
    coordinates: tuple[float, ...] | None = None
    """The embedding in few numbers that keep distances, for the audit."""

    def probability_of(self, code: ChestClass) -> float:
        """The calibrated probability of *code*."""
        return next(o.probability for o in self.observations if o.code is code)

    @property
    def is_flagged(self) -> bool:
        """Suspected COVID: the one finding that moves a study forward."""
        return any(o.is_finding for o in self.observations if o.code is ChestClass.COVID)

    def to_json(self) -> dict[str, Any]:
        """The stored form; `from_json` reads it back."""
        return {
            "study_instance_uid": self.study_instance_uid,
            "series_instance_uid": self.series_instance_uid,
            "sop_instance_uid": self.sop_instance_uid,
            "observations": [
                {"code": str(o.code), "probability": o.probability, "threshold": o.threshold} for o in self.observations
            ],
            "lungs": {
                "contours": [[list(p) for p in c] for c in self.lungs.contours],
                "area_fraction": self.lungs.area_fraction,
            },
            "gate_score": self.gate_score,
            "gate_limit": self.gate_limit,
            "classifier": vars(self.classifier),
            "segmenter": vars(self.segmenter),
            "assessed_at": self.assessed_at.isoformat(),
            "activation_outside": self.activation_outside,
            "is_doubtful": self.is_doubtful,
            "statistics": dict(self.statistics) if self.statistics is not None else None,
            "coordinates": None if self.coordinates is None else list(self.coordinates),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Assessment:
        """Read back what `to_json` wrote."""
        lungs = stored["lungs"]
        return cls(
            study_instance_uid=stored["study_instance_uid"],
            series_instance_uid=stored["series_instance_uid"],
            sop_instance_uid=stored["sop_instance_uid"],
            observations=tuple(
                Observation(ChestClass(o["code"]), float(o["probability"]), o["threshold"])
                for o in stored["observations"]
            ),
            lungs=Lungs(
                tuple(tuple((float(r), float(c)) for r, c in contour) for contour in lungs["contours"]),
                float(lungs["area_fraction"]),
            ),
            gate_score=float(stored["gate_score"]),
            gate_limit=float(stored["gate_limit"]),
            classifier=ModelIdentity(**stored["classifier"]),
            segmenter=ModelIdentity(**stored["segmenter"]),
            assessed_at=datetime.fromisoformat(stored["assessed_at"]),
            activation_outside=stored["activation_outside"],
            is_doubtful=bool(stored["is_doubtful"]),
            statistics=stored["statistics"],
            coordinates=None if stored.get("coordinates") is None else tuple(map(float, stored["coordinates"])),
        )
