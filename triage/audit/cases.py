"""What the audit reads: one row a study, what the model said of it, what is known of it, and what was found later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import Floats
from triage.domain.finding import ChestClass

CLASSES = tuple(str(c) for c in ChestClass)
"""In the order of the probabilities' columns and of the truth's numbers."""
NORMAL, PNEUMONIA, COVID = range(3)
UNKNOWN, OTHER = -1, 3
"""Truths that name none of the three classes: nothing known, and something else found."""

Ints = npt.NDArray[np.integer]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Words:
    """A column of words: (n,) codes and what they stand for."""

    codes: Ints
    words: Mapping[int, str]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Words:
        """Numbered in alphabetical order."""
        names, codes = np.unique(np.asarray(texts, dtype=str), return_inverse=True)
        return cls(codes.astype(np.int64), dict(enumerate(names.tolist())))

    def where(self, chosen: npt.NDArray[np.bool_] | Ints) -> Words:
        """Some of the rows."""
        return Words(self.codes[chosen], self.words)

    def texts(self) -> npt.NDArray[np.str_]:
        """(n,) the words themselves."""
        names, inverse = np.unique(self.codes, return_inverse=True)
        return np.array([self.words.get(int(c), "") for c in names] or [""], dtype=str)[inverse]


@dataclass(frozen=True, eq=False)
class Cases:
    """
    Studies, one row each.

    Attributes:
        probability: (n, 3) calibrated, in the order of CLASSES; NaN where the study was refused.
        truth: (n,) class index, OTHER or UNKNOWN.
        patient: (n,) whose: studies of one patient are not independent.
        day: (n,) days since 1970, in UTC.
        is_flagged: (n,) whether the study was at or above the operating point.
        numbers: columns of numbers by name, (n,) each, NaN where not known: header, pixels, gate score.
        words: columns of words by name: manufacturer, view, sex, refusal.
        coordinates: (n, k) the embedding in few numbers, or (n, 0).
    """

    probability: Floats
    truth: Ints
    patient: Ints
    day: Ints
    is_flagged: Flags
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    words: Mapping[str, Words] = field(default_factory=dict)
    coordinates: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.truth)

    def where(self, chosen: Flags | Ints) -> Cases:
        """Some of the rows: by truth value or by number."""
        return replace(
            self,
            probability=self.probability[chosen],
            truth=self.truth[chosen],
            patient=self.patient[chosen],
            day=self.day[chosen],
            is_flagged=self.is_flagged[chosen],
            numbers={name: column[chosen] for name, column in self.numbers.items()},
            words={name: column.where(chosen) for name, column in self.words.items()},
            coordinates=self.coordinates[chosen] if len(self.coordinates) else self.coordinates,
        )

    @property
    def is_assessed(self) -> Flags:
        """(n,) whether the model spoke."""
        return np.isfinite(self.probability[:, COVID])

    @property
    def has_class(self) -> Flags:
        """(n,) assessed, and one of the three classes is known to be true."""
        return self.is_assessed & (self.truth >= 0) & (self.truth < len(CLASSES))

    @property
    def said(self) -> Ints:
        """(n,) the most probable class; UNKNOWN where the study was refused."""
        found: Ints = np.where(self.is_assessed, np.nan_to_num(self.probability).argmax(axis=1), UNKNOWN)
        return found

    @property
    def is_right(self) -> Flags:
        """(n,) whether the most probable class is the true one."""
        right: Flags = self.has_class & (self.said == self.truth)
        return right
