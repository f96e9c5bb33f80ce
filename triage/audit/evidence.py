"""Everything one judgement stands on: what was frozen, what the model said since, and what was found to be true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import Floats
from triage.audit.cases import Cases


@dataclass(frozen=True)
class AuditRules:
    """
    What a site declares before it looks.

    Attributes:
        margin: how much worse than the external validation, in accuracy or AUC, still counts as consistent with it.
        drop: the fall in accuracy since the local baseline that must be found.
        alarm_every: days with labels between false alarms, at least, on average.
        alpha_year: the year's error budget for naming a cause, a twelfth of it a month.
        threshold: odds at which one missed COVID weighs as much as false alarms, for the net benefit.
        effect: the change in the share of any input value that matters.
        sample_rate: share of unflagged studies drawn for an independent read.
        within_days: days after which a label is not waited for any more.
        recent_days: what counts as the present, for drift.
    """

    margin: float = 0.10
    drop: float = 0.10
    alarm_every: float = 1000.0
    alpha_year: float = 0.24
    threshold: float = 0.2
    effect: float = 0.15
    sample_rate: float = 0.04
    within_days: float = 60.0
    recent_days: int = 90
    draws: int = 500
    seed: int = 1


@dataclass(frozen=True)
class Model:
    """Which weights are judged, and their operating point."""

    name: str
    version: str
    card_sha256: str
    threshold: float


@dataclass(frozen=True, eq=False)
class Labelled:
    """
    What is known of the truth of each study of `Evidence.studies`, beside `Cases.truth`; all (n,).

    Attributes:
        delay: days from the study to its first label, NaN while it has none.
        age: days from the study to the instant of the report.
        source: place in `labels.SOURCES`, -1 without a label.
        reader_saw_ai: whether who gave the label had seen the result.
        design_weight: 1 / rate for studies of the random audit sample, else 0.
        amended: studies of which some source has named more than one class.
        conflicts: pairs of sources that label one study differently, in words and numbers.
    """

    delay: Floats
    age: Floats
    source: npt.NDArray[np.integer]
    reader_saw_ai: npt.NDArray[np.bool_]
    design_weight: Floats
    amended: int = 0
    conflicts: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, eq=False)
class Waits:
    """Instants of the reading, in seconds, of the studies that have them; for the part of the report on waiting."""

    eligible: Floats
    opened: Floats
    reported: Floats
    is_flagged: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Evidence:
    """
    What is judged.

    Attributes:
        as_of, period_from: instants in ISO form, UTC; nothing recorded after *as_of* is in here.
        external: the frozen external validation; None where a site has none but the published table.
        local: the local acceptance, labelled; what verdict B and all drift are held against. None before acceptance.
        studies: all studies since the local baseline (or since the period began), refused ones included.
        waits: None where nothing was read yet.
    """

    site: str
    as_of: str
    period_from: str
    as_of_day: int
    model: Model
    external: Cases | None
    local: Cases | None
    studies: Cases
    labelled: Labelled
    waits: Waits | None = None
    rules: AuditRules = field(default_factory=AuditRules)
    notes: tuple[str, ...] = ()
