"""Made-up reader studies whose truth is known: three classes, readers who differ, a model that helps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from triage.audit.bootstrap import Floats
from triage.audit.cases import CLASSES
from triage.audit.reader_table import WITH, WITHOUT, ReaderTable

MODALITIES = (WITH, WITHOUT)


@dataclass(frozen=True)
class Design:
    """
    How a study is made.

    A reader's latent impression of each class is normal with variance 1, raised for the true class by a separation;
    the class of the highest impression is chosen, and the score is the impression's normal percentile about the middle
    between the two means, 0 to 100. So a class's AUC is Phi(separation / sqrt 2), but for the rounding of the scores.

    Attributes:
        separation: of each class, read without the model by the average reader.
        gain: what the model adds to it, for each class.
        skill_sd, gain_sd: how much readers differ in separation, and in what the model adds, alike for all classes.
        case_share: the part of the impressions' variance that a case has for all readers in both modalities.
        modality_share: that a case has for all readers in one modality.
        reader_share: that a case has for one reader in both modalities; the rest is new at each reading.
        is_crossed: half the pairs are read with the model first; otherwise without always comes first.
    """

    readers: int = 8
    cases: tuple[int, ...] = (60, 60, 60)
    separation: tuple[float, ...] = (1.727, 1.430, 0.807)
    gain: tuple[float, ...] = (0.110, 0.253, 0.201)
    skill_sd: float = 0.10
    gain_sd: float = 0.05
    case_share: float = 0.3
    modality_share: float = 0.05
    reader_share: float = 0.2
    is_crossed: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        if not len(self.cases) == len(self.separation) == len(self.gain) == len(CLASSES):
            raise ValueError(
                f"synthetic study: cases, separation and gain have one value for each of {len(CLASSES)} classes"
            )
        shares = (self.case_share, self.modality_share, self.reader_share)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError("synthetic study: shares are at least 0 and together at most 1")
        if self.readers < 1 or min(self.cases) < 0 or sum(self.cases) < 1:
            raise ValueError("synthetic study: at least one reader and one case")


def make_study(design: Design, seed: int) -> ReaderTable:
    """A study drawn from *design*; cases are numbered class by class, readings ordered by reader, session and case."""
    rng = np.random.default_rng(seed)
    j, k, c = design.readers, sum(design.cases), len(CLASSES)
    truth = np.repeat(np.arange(c), design.cases)
    impression = _noise(design, rng, j, k)
    skill, more = design.skill_sd * rng.standard_normal(j), design.gain_sd * rng.standard_normal(j)
    helped = np.array([name == WITH for name in MODALITIES], dtype=np.float64)[:, None, None]
    separation, gain = np.array(design.separation), np.array(design.gain)
    raised = separation[truth] + skill[:, None] + helped * (gain[truth] + more[:, None])
    impression[..., np.arange(k), truth] += raised
    response = impression.argmax(axis=-1)
    score = np.round(100 * ndtr(impression - separation / 2))
    return _table(design, truth, response, score)


def expected_areas(design: Design, modality: str) -> tuple[float, ...]:
    """Each class's AUC against the rest, mean over readers and cases that might be drawn."""
    separation, variance = _population(design, modality)
    return tuple(float(ndtr(each / np.sqrt(2 + variance))) for each in separation)


def expected_accuracy(design: Design, modality: str) -> float:
    """The accuracy, mean over readers and cases that might be drawn, classes in the design's proportions."""
    separation, variance = _population(design, modality)
    at, weight = np.polynomial.hermite_e.hermegauss(80)
    x = separation[:, None] + np.sqrt(1 + variance) * at
    right = ndtr(x) ** (len(CLASSES) - 1) @ weight / weight.sum()
    return float(right @ np.array(design.cases) / sum(design.cases))


def _population(design: Design, modality: str) -> tuple[Floats, float]:
    """Separations of the average reader, and how much readers vary about them."""
    if modality == WITH:
        return np.array(design.separation) + np.array(design.gain), design.skill_sd**2 + design.gain_sd**2
    return np.array(design.separation), design.skill_sd**2


def _noise(design: Design, rng: np.random.Generator, j: int, k: int) -> Floats:
    """(modalities, readers, cases, classes), normal with variance 1, correlated as the design says."""
    t, c = len(MODALITIES), len(CLASSES)
    new = 1 - design.case_share - design.modality_share - design.reader_share
    parts = (
        (design.case_share, (1, 1, k, c)),
        (design.modality_share, (t, 1, k, c)),
        (design.reader_share, (1, j, k, c)),
        (new, (t, j, k, c)),
    )
    noise = np.zeros((t, j, k, c))
    for share, shape in parts:
        noise += np.sqrt(max(share, 0.0)) * rng.standard_normal(shape)
    return noise


def _table(design: Design, truth: npt.NDArray[np.intp], response: npt.NDArray[np.intp], score: Floats) -> ReaderTable:
    j, k = response.shape[1:]
    modality, reader, case = (place.ravel() for place in np.indices(response.shape))
    is_second = np.array(MODALITIES)[modality] == WITH
    if design.is_crossed:
        is_second ^= (reader + case) % 2 == 1
    session = 1 + is_second.astype(np.intp)
    order = np.lexsort((case, session, reader))
    return ReaderTable(
        tuple(f"reader{i + 1:0{len(str(j))}d}" for i in range(j)),
        tuple(f"case{i + 1:0{len(str(k))}d}" for i in range(k)),
        MODALITIES,
        reader[order],
        case[order],
        modality[order],
        session[order],
        truth.astype(np.intp),
        response.ravel()[order],
        score.reshape(-1, score.shape[-1])[order],
    )
