"""The audit's baseline: what the shipped weights said of every external case, frozen beside them; no pixel, no name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from triage.domain.errors import Misconfigured

SCHEMA = 1
FILE = "baseline.json"
COORDINATES = 32


@dataclass(frozen=True)
class BaselineCase:
    """
    One external case.

    Attributes:
        case: pseudonym of the image.
        patient: pseudonym of the patient: images of one patient are not independent.
        refused: why the engine would refuse it, or None.
        probabilities: calibrated, in `ChestClass` order; None where no lungs were found.
        statistics: `Reading.statistics`: of the pixels as they came, and of the lungs.
        coordinates: the embedding's `projected`.
    """

    case: str
    patient: str
    source: str
    label: str
    sex: str
    age_band: str
    view: str
    refused: str | None = None
    probabilities: tuple[float, ...] | None = None
    gate_score: float | None = None
    lung_area: float | None = None
    activation_outside: float | None = None
    statistics: Mapping[str, float] = field(default_factory=dict)
    coordinates: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Baseline:
    """
    One external validation, case by case.

    Attributes:
        classifier: name, version, weights_sha256 and card_sha256 of the weights that spoke; *segmenter* likewise.
        threshold: the operating point for COVID.
        embedding: mean and covariance eigenvalues of the cases' coordinates.
    """

    classifier: Mapping[str, str]
    segmenter: Mapping[str, str]
    classes: tuple[str, ...]
    threshold: float | None
    gate_limit: float | None
    embedding: Mapping[str, Any]
    cases: tuple[BaselineCase, ...]
    schema: int = SCHEMA

    def to_json(self) -> str:
        """One line a case, so that two baselines can be compared by eye."""
        head = {k: v for k, v in asdict(self).items() if k != "cases"}
        lines = ",\n".join("  " + json.dumps(asdict(c), ensure_ascii=False) for c in self.cases)
        return json.dumps(head, indent=1, ensure_ascii=False)[:-2] + ',\n "cases": [\n' + lines + "\n ]\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Baseline:
        """Read back what `to_json` wrote."""
        stored: dict[str, Any] = json.loads(text)
        if stored.get("schema") != SCHEMA:
            raise ValueError(f"schema {stored.get('schema')}, not {SCHEMA}")
        rows: list[dict[str, Any]] = stored.pop("cases")
        for row in rows:
            row.update({k: tuple(v) for k, v in row.items() if isinstance(v, list)})
        cases = tuple(BaselineCase(**row) for row in rows)
        return cls(**{**stored, "classes": tuple(stored["classes"])}, cases=cases)


def read(path: Path) -> Baseline:
    """The baseline at *path*; Misconfigured where it cannot be read."""
    try:
        return Baseline.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise Misconfigured(f"baseline {path.name}: {type(exc).__name__}: {exc}") from exc


def projected(embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """
    Few numbers that keep the distances between embeddings (Johnson and Lindenstrauss 1984).

    Args:
        embeddings: (n, features), of the classifier.
    Returns:
        (n, COORDINATES): a fixed random projection, the same for every model with as many features.
    """
    result: npt.NDArray[np.float64] = np.asarray(embeddings, dtype=np.float64) @ _directions(embeddings.shape[1])
    return result


@cache
def _directions(features: int) -> npt.NDArray[np.float64]:
    drawn = np.random.RandomState(SCHEMA).standard_normal((features, COORDINATES))  # its stream is frozen by numpy
    scaled: npt.NDArray[np.float64] = drawn / np.sqrt(COORDINATES)
    return scaled


def pseudonym(kind: str, name: str) -> str:
    """The same for the same image or patient, and not its name."""
    return hashlib.sha256(f"triage baseline {SCHEMA} {kind} {name}".encode()).hexdigest()[:16]
