"""Two-class reader studies with the answers other programs gave: ours, synthetic, and iMRMC's example in the corpus."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triage.audit.ratings import Ratings, read_imrmc

DATA = Path(__file__).parent.parent / "data" / "audit"
SYNTHETIC, INCOMPLETE = "synthetic_reader_study", "synthetic_reader_study_incomplete"


@dataclass(frozen=True)
class Known:
    """A study and what MRMCaov and iMRMC (R) said of it."""

    ratings: Ratings
    mrmcaov: dict[str, Any]
    imrmc: dict[str, Any]


def ratings_of(name: str) -> Ratings:
    return read_imrmc((DATA / f"{name}.csv").read_text())


def synthetic() -> Known:
    return Known(
        ratings_of(SYNTHETIC),
        json.loads((DATA / "expected_MRMCaov_synthetic_reader_study.json").read_text()),
        json.loads((DATA / "expected_iMRMC_synthetic_reader_study.json").read_text())[SYNTHETIC],
    )


def incomplete() -> Known:
    answers = json.loads((DATA / "expected_iMRMC_synthetic_reader_study.json").read_text())
    return Known(ratings_of(INCOMPLETE), {}, answers[INCOMPLETE])


def example(corpus: Path) -> Known:
    """The CC0 example of DIDSR/iMRMC."""
    folder = corpus / "audit"
    return Known(
        read_imrmc((folder / "dfMRMC_example.csv").read_text()),
        json.loads((folder / "expected_MRMCaov_on_dfMRMC_example.json").read_text()),
        json.loads((folder / "expected_iMRMC.json").read_text())["dfMRMC_example"],
    )
