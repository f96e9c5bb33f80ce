"""Who chose which class for which case: the readings of a study, checked and in one dense array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import Floats

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Readings:
    """
    Who chose which class for which case: dense, so that a reading not made is a row of zeros.

    Attributes:
        chosen: (modalities, readers, cases, classes) 1 where that class was chosen; one modality, or without and with.
        truth: (cases,) true class, 0 ... classes - 1.
    """

    chosen: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.intp]

    @property
    def counts(self) -> Counts:
        """Each reader's confusion counts (modalities, readers, classes, classes), true class by chosen class."""
        is_class = self.truth == np.arange(self.chosen.shape[-1])[:, None]
        found: Counts = np.einsum("mijl,kj->mikl", self.chosen.astype(np.int64), is_class.astype(np.int64))
        return found


def readings(
    reader: npt.ArrayLike,
    case: npt.ArrayLike,
    chosen: npt.ArrayLike,
    truth: npt.ArrayLike,
    modality: npt.ArrayLike | None = None,
    *,
    classes: int = 3,
) -> Readings:
    """
    Put a list of readings, in any order and with any missing, into a `Readings`.

    Args:
        reader: (n,) 0 ... readers - 1; a classifier's own answers may be entered as one reader more.
        case: (n,) 0 ... cases - 1.
        chosen: (n,) the class the reader chose, 0 ... classes - 1.
        truth: (cases,) the true class of each case.
        modality: (n,) 0 read without help, 1 with; none given, or all 0, is a study of one modality.
    Raises:
        ValueError: an index out of range, a reader or a case without a reading, two readings in one place.
    """
    true_class = _indices("truth", truth, classes)
    of_case = _indices("case", case, len(true_class))
    n = len(of_case)
    of_reader = _indices("reader", reader, None, n)
    answer = _indices("chosen", chosen, classes, n)
    how = np.zeros(n, dtype=np.intp) if modality is None else _indices("modality", modality, 2, n)
    if n == 0:
        raise ValueError("no readings")
    shape = (int(how.max()) + 1, int(of_reader.max()) + 1, len(true_class))
    made = np.zeros(shape, dtype=np.int64)
    np.add.at(made, (how, of_reader, of_case), 1)
    if made.max() > 1:
        m, i, j = np.argwhere(made > 1)[0]
        raise ValueError(f"reader {i} has {made[m, i, j]} readings of case {j} in modality {m}")
    for name, axes in (("reader", (0, 2)), ("case", (0, 1))):
        if len(without := np.flatnonzero(made.sum(axis=axes) == 0)):
            raise ValueError(f"{name} {without[0]} has no reading")
    one_hot = np.zeros((*shape, classes), dtype=np.bool_)
    one_hot[how, of_reader, of_case, answer] = True
    return Readings(one_hot, true_class)


def drawn_readings(probability: Floats, is_made: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """
    Draw a class for every reading that is made.

    Args:
        probability: (..., classes) of each class.
        is_made: (...) whether there is such a reading.
    Returns:
        (..., classes) true at the class drawn, nowhere where no reading is made.
    """
    at = rng.random(probability.shape[:-1])[..., None]
    # the last class has all that rounding leaves
    until = np.cumsum(probability, axis=-1)[..., :-1]
    is_beyond = at >= until
    first = np.ones((*at.shape[:-1], 1), dtype=np.bool_)
    reached = np.concatenate([first, is_beyond], axis=-1)
    is_last = ~np.concatenate([is_beyond, ~first], axis=-1)
    found: npt.NDArray[np.bool_] = reached & is_last & np.asarray(is_made)[..., None]
    return found


def _indices(name: str, given: npt.ArrayLike, below: int | None, length: int | None = None) -> npt.NDArray[np.intp]:
    found = np.asarray(given)
    if found.ndim != 1 or (length is not None and len(found) != length):
        raise ValueError(f"{name}: shape {found.shape}, not ({'n' if length is None else length},)")
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"{name}: {found.dtype}, not whole numbers")
    if found.size and (found.min() < 0 or (below is not None and found.max() >= below)):
        raise ValueError(f"{name}: an index outside 0 ... {'' if below is None else below - 1}")
    return found.astype(np.intp)
