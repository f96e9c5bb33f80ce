"""In which order the readings of a case were made, and whether the later one is better for being later."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from triage.audit.bootstrap import NAN, Floats
from triage.audit.mrmc_inference import Gain, gain
from triage.audit.reader_table import WITH, WITHOUT, Flags, ReaderTable, grid

WASHOUT_DAYS = 28
"""At least four weeks between readings of a case (FDA, Clinical Performance Assessment of CADe devices, 2022)."""
BALANCED = (0.4, 0.6)
"""Share of pairs read without the model first, within which the order is taken to be balanced."""


class Flag(StrEnum):
    """What a reader of the results must know of the order."""

    NO_PAIRS = "no reader read a case both without and with the model: the gain is between readers or between cases"
    SEQUENTIAL = "both readings of a case in one session: no washout, the second look remembers the first"
    ONE_ORDER = "one modality always came first: what the model adds cannot be told from what a second look adds"
    UNBALANCED = "one modality came first more often: part of the gain may be a second look's"
    WASHOUT_UNKNOWN = "no washout between the sessions is stated"
    WASHOUT_SHORT = f"a washout shorter than {WASHOUT_DAYS} days"
    ORDER_EFFECT = "later readings differ from earlier ones (p < 0.05) whatever the modality"


@dataclass(frozen=True)
class ReadingOrder:
    """
    How the two readings of a case by a reader followed each other.

    Attributes:
        pairs: readers by cases read both without and with the model.
        without_first, with_first, together: shares of the pairs; the last in one session.
        effect: what accuracy the later reading gains over the earlier, modality put aside; NaN where the order was not
            varied within at least two readers, or between at least two readers of each order.
    """

    pairs: int
    without_first: float
    with_first: float
    together: float
    effect: Gain
    flags: tuple[Flag, ...]


def reading_order(table: ReaderTable, *, washout_days: float | None = None, level: float = 0.95) -> ReadingOrder:
    """
    The order of the readings, with flags.

    Where without came first the gain is that of the model plus that of a second look, where with came first the model's
    less the second look's: half the difference of the two is the second look's (Hills & Armitage 1979). It is taken
    within readers and tested by t over them; if readers had one order each, between them, by Welch's t.

    Args:
        washout_days: between two sessions, as the protocol states it.
    Raises:
        ValueError: the table's modalities are not "without" and "with".
    """
    if set(table.modalities) != {WITHOUT, WITH}:
        raise ValueError("reading order: the modalities are not 'without' and 'with'")
    places = grid(table)
    without, with_ = table.modalities.index(WITHOUT), table.modalities.index(WITH)
    both = places.is_read[without] & places.is_read[with_]
    earlier = both & (places.session[without] < places.session[with_])
    later = both & (places.session[without] > places.session[with_])
    hit = (places.response == places.truth).astype(np.float64)
    effect = _effect(hit[with_] - hit[without], earlier, later, level)
    counts = (int(both.sum()), int(earlier.sum()), int(later.sum()))
    pairs, together = counts[0], counts[0] - counts[1] - counts[2]
    shares = tuple(count / pairs if pairs else NAN for count in (counts[1], counts[2], together))
    return ReadingOrder(pairs, shares[0], shares[1], shares[2], effect, _flags(*counts, washout_days, effect))


def _effect(gained: Floats, earlier: Flags, later: Flags, level: float) -> Gain:
    """*gained* (readers, cases): hit with the model less hit without."""
    first, second = (_means(gained, order) for order in (earlier, later))
    own = (first - second)[np.isfinite(first - second)] / 2
    if len(own) >= 2:
        return _gain(float(own.mean()), float(own.var(ddof=1)) / len(own), len(own) - 1.0, level)
    a, b = (x[np.isfinite(x) & ~np.isfinite(y)] / 2 for x, y in ((first, second), (second, first)))
    if min(len(a), len(b)) < 2:
        return _gain(NAN, NAN, NAN, level)
    v, w = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    df = (v + w) ** 2 / (v**2 / (len(a) - 1) + w**2 / (len(b) - 1)) if v + w > 0 else NAN
    return _gain(float(a.mean() - b.mean()), float(v + w), float(df), level)


def _gain(value: float, variance: float, df: float, level: float) -> Gain:
    return gain("later reading", "earlier reading", value, variance, df, level)


def _means(gained: Floats, order: Flags) -> Floats:
    """(readers,) mean over the cases in that order, NaN without one."""
    count = order.sum(axis=1)
    return np.where(count > 0, (gained * order).sum(axis=1) / np.maximum(count, 1), NAN)


def _flags(pairs: int, earlier: int, later: int, washout: float | None, effect: Gain) -> tuple[Flag, ...]:
    if not pairs:
        return (Flag.NO_PAIRS,)
    apart = earlier + later
    share = earlier / apart if apart else NAN
    raised = {
        Flag.SEQUENTIAL: apart < pairs,
        Flag.ONE_ORDER: share in (0.0, 1.0),
        Flag.UNBALANCED: 0 < share < BALANCED[0] or BALANCED[1] < share < 1,
        Flag.WASHOUT_UNKNOWN: apart > 0 and washout is None,
        Flag.WASHOUT_SHORT: apart > 0 and washout is not None and washout < WASHOUT_DAYS,
        Flag.ORDER_EFFECT: effect.p < 0.05,
    }
    return tuple(flag for flag, is_raised in raised.items() if is_raised)
