"""The three-class data set whose answers R (pROC, rms) gave; ours, synthetic."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

DATA = Path(__file__).parent.parent / "data" / "audit"
CLASSES = ("normal", "pneumonia", "covid")


@dataclass(frozen=True)
class Site:
    """Cases of one site: true class (cases,), and what two models say, (cases, 3) each."""

    truth: npt.NDArray[np.int_]
    a: npt.NDArray[np.float64]
    b: npt.NDArray[np.float64]


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    answers: dict[str, Any] = json.loads((DATA / "expected_pROC_rms.json").read_text())
    return answers


@pytest.fixture(scope="session")
def sites() -> dict[str, Site]:
    with (DATA / "synthetic_3class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        site: Site(
            np.array([int(r["y"]) for r in rows if r["site"] == site]),
            np.array([[float(r[f"a_{c}"]) for c in CLASSES] for r in rows if r["site"] == site]),
            np.array([[float(r[f"b_{c}"]) for c in CLASSES] for r in rows if r["site"] == site]),
        )
        for site in "EL"
    }
