"""A three-class reader study, everything frequentist: readers' figures, what the model gains them, and its flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triage.audit.bootstrap import Floats
from triage.audit.cases import CLASSES
from triage.audit.figures_of_merit import Figures, accuracy, areas, hand_till
from triage.audit.mrmc_covariance import Covariance, delong, jackknife, unbiased
from triage.audit.mrmc_inference import holm
from triage.audit.mrmc_ustatistic import Estimator, MeanArea, mean_areas
from triage.audit.obuchowski_rockette import Analysis, Generalisation, analyse
from triage.audit.ratings import Ratings, against_rest
from triage.audit.reader_figures import ACCURACY, HAND_TILL, PooledRoc, Spread, area_of, pooled_roc, spreads
from triage.audit.reader_table import WITH, WITHOUT, ReaderTable, grid
from triage.audit.reading_order import ReadingOrder, reading_order
from triage.audit.variance_components import variance_components

COMPLETE, INCOMPLETE = Covariance.UNBIASED, Covariance.DELONG
"""
The covariance to quote for an AUC; all three are given. Unbiased, the variance for other readers and cases is iMRMC's;
but where readings are missing it varies with the level of the areas (`mrmc_ustatistic.mean_areas`), DeLong's does not.
"""


@dataclass(frozen=True, eq=False)
class OneFigure:
    """
    One figure of merit.

    Attributes:
        value: (modalities, readers).
        spreads: its mean, SD and range in each modality.
        analyses: by covariance; AUCs have all three, other figures the jackknife only.
        quoted: which of them to quote.
    """

    name: str
    value: Floats
    spreads: tuple[Spread, ...]
    analyses: Mapping[Covariance, Analysis]
    quoted: Covariance

    @property
    def primary(self) -> Analysis:
        """The analysis to quote."""
        return self.analyses[self.quoted]


@dataclass(frozen=True, eq=False)
class OneAgainstRest:
    """The AUC of one class against the rest, as iMRMC also has it, and its pooled ROC points."""

    figure: OneFigure
    by_moments: Mapping[Estimator, tuple[MeanArea, ...]]
    pooled: tuple[PooledRoc, ...]


@dataclass(frozen=True)
class Adjusted:
    """P-values that the modalities are equal, of the classes' AUCs in the order of CLASSES, and adjusted by Holm."""

    generalisation: str
    p: tuple[float, ...]
    adjusted: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ReaderStudy:
    """
    All of a study.

    Attributes:
        cases: how many of each class.
        is_complete: every reader read every case in every modality; otherwise covariances are those of common cases,
            and means over readers weigh each reader alike, though they read different cases.
        adjusted: by covariance, for each generalisation of `Analysis`.
        order: None where the modalities are not without and with.
    """

    readers: tuple[str, ...]
    modalities: tuple[str, ...]
    cases: tuple[int, ...]
    is_complete: bool
    classes: tuple[OneAgainstRest, ...]
    accuracy: OneFigure
    hand_till: OneFigure
    adjusted: Mapping[Covariance, tuple[Adjusted, ...]]
    order: ReadingOrder | None
    level: float

    @property
    def spreads(self) -> tuple[Spread, ...]:
        """Of every figure in every modality."""
        figures = (self.accuracy, *(each.figure for each in self.classes), self.hand_till)
        return tuple(spread for figure in figures for spread in figure.spreads)


def analyse_study(table: ReaderTable, *, washout_days: float | None = None, level: float = 0.95) -> ReaderStudy:
    """
    Analyse a study; what its size or design does not allow is NaN (one reader, one modality, a reader without a class).

    Three classes are three tests, so their p-values are adjusted; accuracy and Hand-Till M are one global test each.

    Args:
        washout_days: between two sessions, as the protocol states it.
        level: of all intervals.
    """
    places = grid(table)
    classes = tuple(analyse_ratings(against_rest(table, name), name=area_of(name), level=level) for name in CLASSES)
    has_pairs = set(table.modalities) == {WITHOUT, WITH}
    return ReaderStudy(
        table.readers,
        table.modalities,
        tuple(int((table.truth == k).sum()) for k in range(len(CLASSES))),
        places.is_complete,
        classes,
        _one_figure(ACCURACY, accuracy(places), {}, table.modalities, level),
        _one_figure(HAND_TILL, hand_till(places), {}, table.modalities, level),
        {method: _adjusted([each.figure.analyses[method] for each in classes]) for method in Covariance},
        reading_order(table, washout_days=washout_days, level=level) if has_pairs else None,
        level,
    )


def analyse_ratings(ratings: Ratings, *, name: str = "AUC", level: float = 0.95) -> OneAgainstRest:
    """Analyse a study of two classes, such as an iMRMC file holds."""
    covariances = {Covariance.DELONG: delong(ratings), Covariance.UNBIASED: unbiased(ratings)}
    return OneAgainstRest(
        _one_figure(name, areas(ratings), covariances, ratings.modalities, level),
        {estimator: mean_areas(ratings, estimator, level=level) for estimator in Estimator},
        pooled_roc(name, ratings),
    )


def _one_figure(
    name: str, figures: Figures, covariances: Mapping[Covariance, Floats], modalities: tuple[str, ...], level: float
) -> OneFigure:
    cases = int(figures.is_read.any(axis=(0, 1)).sum())
    analyses = {
        method: analyse(variance_components(figures.value, covariance, cases), modalities, level=level)
        for method, covariance in {**covariances, Covariance.JACKKNIFE: jackknife(figures)}.items()
    }
    quoted = (COMPLETE if figures.is_read.all() else INCOMPLETE) if covariances else Covariance.JACKKNIFE
    return OneFigure(name, figures.value, spreads(name, figures.value, modalities), analyses, quoted)


def _adjusted(analyses: list[Analysis]) -> tuple[Adjusted, ...]:
    found = []
    for kind in ("rrrc", "frrc", "frrc_unclipped", "rrfc"):
        tests: list[Generalisation] = [getattr(each, kind) for each in analyses]
        p = tuple(each.equality.p for each in tests)
        found.append(Adjusted(kind, p, holm(p)))
    return tuple(found)
