"""How often the whole desk may cry wolf: e-BH over many figures, and a ledger of what a year's alpha was spent on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isfinite

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Entry:
    """One spend: the part of *year*'s alpha that *test* of *family* may raise a false alarm with; never taken back."""

    year: int
    family: str
    test: str
    alpha: float


@dataclass(frozen=True)
class Ledger:
    """
    Alpha a year, how it is allotted to families of tests, and what was spent: a value, each spend makes a new one.

    By the union bound a year's false alarms have probability `alpha` at most, whatever the tests have to do with each
    other. Sums are exact in the decimals written, so 0.01 five times is 0.05.

    Attributes:
        allotted: (family, alpha a year), which together do not exceed `alpha`.
        entries: in the order they were made.
    """

    alpha: float
    allotted: tuple[tuple[str, float], ...]
    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a ledger that is over-spent, as one read from a table could be."""
        families = [family for family, _ in self.allotted]
        if len(set(families)) < len(families):
            raise ValueError("budget: a family is allotted twice")
        if any(not 0 < alpha <= 1 for alpha in (self.alpha, *dict(self.allotted).values())):
            raise ValueError("budget: an alpha lies outside (0, 1]")
        if _sum(dict(self.allotted).values()) > _exact(self.alpha):
            raise ValueError(f"budget: the families are allotted more than {self.alpha}")
        for entry in self.entries:
            if not (isfinite(entry.alpha) and entry.alpha > 0):
                raise ValueError(f"budget: {entry.test} of {entry.family} spends {entry.alpha}, not above 0")
        if len({(e.year, e.family, e.test) for e in self.entries}) < len(self.entries):
            raise ValueError("budget: a test is entered twice in a year")
        for year, family in {(e.year, e.family) for e in self.entries}:
            if self._left(year, family) < 0:
                raise ValueError(f"budget: {family} is over-spent in {year}")

    def left(self, year: int, family: str) -> float:
        """What *family* may still spend in *year*; nothing passes from one year to another."""
        return float(self._left(year, family))

    def spend(self, entry: Entry) -> Ledger:
        """
        The ledger with *entry*; the same one if just this entry is there, so that a report made again spends once.

        Raises:
            ValueError: the family would be over-spent, has no allotment, or the test stands there with another alpha.
        """
        return self if entry in self.entries else replace(self, entries=(*self.entries, entry))

    def _left(self, year: int, family: str) -> Fraction:
        of_family: Mapping[str, float] = dict(self.allotted)
        if family not in of_family:
            raise ValueError(f"budget: {family} has no allotment")
        return _exact(of_family[family]) - _sum(
            entry.alpha for entry in self.entries if (entry.year, entry.family) == (year, family)
        )


def e_bh(evidence: npt.ArrayLike, alpha: float = 0.05) -> npt.NDArray[np.bool_]:
    """
    Which of K e-values to believe, alpha of them falsely on average (e-BH; Wang & Ramdas, JRSS B 84, 2022).

    The k largest, k being the most for which the k-th largest is K / (alpha k) or more; under any dependence.

    Args:
        evidence: e-values (not logarithms) of any shape, metrics x subgroups say, each against its own null hypothesis
            and declared beforehand. NaN is a figure that could not be judged: it is never believed, but counts in K.
    Returns:
        The same shape.
    """
    e = np.nan_to_num(np.asarray(evidence, dtype=np.float64), nan=0.0, posinf=np.inf)
    if np.any(e < 0):
        raise ValueError("e-BH: an e-value lies below 0")
    largest_first = np.sort(e, axis=None)[::-1]
    rank = np.arange(1, e.size + 1)
    enough = np.flatnonzero(largest_first >= e.size / (alpha * rank))
    return e >= largest_first[enough[-1]] if len(enough) else np.zeros(e.shape, dtype=bool)


def _exact(alpha: float) -> Fraction:
    return Fraction(repr(float(alpha)))


def _sum(alphas: Iterable[float]) -> Fraction:
    return sum((_exact(alpha) for alpha in alphas), Fraction(0))
